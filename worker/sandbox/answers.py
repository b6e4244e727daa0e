"""Answers of the two layers: the gateway's (capitalised keys) and the service's (lower-case keys).

Shapes documented on "Common response parameters" and "API error diagnosis" of Alibaba Cloud.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from worker.sandbox.facts import Facts

SERVICE_MESSAGES = {
    200: "OK",
    280: "PROCESSING",
    400: "BAD_REQUEST",
    401: "NOT_ALLOWED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    480: "DOWNLOAD_FAILED",
    500: "GENERAL_ERROR",
    503: "ServiceUnavailable",
    580: "DB_FAILED",
    581: "TIMEOUT",
    585: "CACHE_FAILED",
    586: "ALGO_FAILED",
    587: "MQ_FAILED",
    588: "EXCEED_QUOTA",
    589: "TOO_LARGE",
    590: "BAD_FORMAT",
    591: "CONNECTION_POOL_FULL",
    592: "DOWNLOAD_TIMEOUT",
    594: "EXPIRED",
    595: "CATCH_FRAME_FAILED",
    596: "PERMISSION_DENY",
}
"""The service's codes (documented on "Common error codes"; 596 only in an older copy of it)."""

GATEWAY_ERRORS = {
    "Throttling": (400, "Request was denied due to request throttling."),
    "Throttling.Api": (400, "Request was denied due to api flow control."),
    "Throttling.User": (400, "Request was denied due to user flow control."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
    "InternalError": (500, "The request processing has failed due to some unknown error."),
    "SignatureDoesNotMatch": (400, "Specified signature is not matched with our calculation."),
    "ContentMD5NotMatched": (400, "Specified Content-MD5 is not matched with the request body."),
    "IncompleteSignature": (400, "The request signature does not conform to Aliyun standards."),
    "MissingAuthorization": (400, "The Authorization header is missing."),
    "SignatureNonceUsed": (400, "Specified signature nonce was used already."),
    "MissingSignatureNonce": (400, "x-acs-signature-nonce is mandatory for this action."),
    "InvalidTimeStamp.Expired": (400, "Specified time stamp or date value is expired."),
    "InvalidTimeStamp.Format": (400, "Specified time stamp or date value is not well formatted."),
    "InvalidAccessKeyId.NotFound": (404, "Specified access key is not found."),
    "InvalidAccessKeyId.Inactive": (400, "Specified access key is disabled."),
    "InvalidSecurityToken.Expired": (400, "Specified SecurityToken is expired."),
    "InvalidSecurityToken.Malformed": (400, "Specified SecurityToken is malformed."),
    "InvalidSecurityToken.MismatchWithAccessKey": (
        400,
        "Specified SecurityToken is not issued with the specified access key.",
    ),
    "MissingSecurityToken": (400, "SecurityToken is mandatory for this access key."),
    "Forbidden.RAM": (403, "User not authorized to operate on the specified resource."),
    "NoPermission": (403, "User not authorized to operate on the specified resource."),
    "Forbidden.RiskControl": (403, "This operation is forbidden by risk control."),
    "InvalidAction.NotFound": (
        400,
        "Specified api is not found, please check your url and method.",
    ),
    "InvalidProduct.NotFound": (404, "Cannot find product according to your specified domain."),
    "InvalidProtocol.NeedSsl": (404, "Your request is denied as lack of ssl protect."),
    "InvalidContentType": (400, "Specified content type is not application/json."),
    "InvalidClientInfo": (400, "Specified client info parameter is not supported."),
}
"""Gateway codes with their usual HTTP status and message."""

JSON_TYPE = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the gateway: the service never saw the request."""

    code: str
    status: int = 0
    """0 stands for the code's usual HTTP status."""
    detail: str = ""
    """Added to the usual message."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the service."""

    code: int = 200
    msg: str = ""
    """``""`` stands for the code's documented message."""
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer, before anything happens to it on the wire."""

    status: int
    body: bytes
    code: str
    """What the request log records: the service's or the gateway's code."""
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = field(default=())


def gateway_answer(refusal: Refusal, request_id: str, host: str) -> Answer:
    """A gateway's refusal: ``Code`` is text, keys are capitalised."""
    status, message = GATEWAY_ERRORS.get(refusal.code, (400, "The request was refused."))
    body = {
        "RequestId": request_id,
        "HostId": host,
        "Code": refusal.code,
        "Message": f"{message} {refusal.detail}".strip(),
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={refusal.code}",
    }
    return Answer(refusal.status or status, msgspec.json.encode(body), refusal.code)


def service_answer(reply: Reply, request_id: str, facts: Facts) -> Answer:
    """The service's answer: ``code`` is an integer, keys are in lower case."""
    code, data = reply.code, reply.data
    msg = reply.msg or SERVICE_MESSAGES.get(code, "GENERAL_ERROR")
    status = 200
    if code != 200:
        if facts.service_error_place != "outer":
            data = {"code": code, **(data or {})}
        if facts.service_error_place == "inner":
            code = 200
        if facts.service_error_status == "code":
            status = reply.code
    body = {"msg": msg, "code": code, "requestId": request_id, "data": {} if data is None else data}
    return Answer(status, msgspec.json.encode(body), str(reply.code))
