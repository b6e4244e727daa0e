"""What an answer proves: a pure function from request and answer to evidence.

``LISTED`` needs everything that "delete-face" of Content Moderation documents for a success; an
HTTP status alone never proves anything but a 429; whatever contradicts itself is ambiguous.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from worker.green.codes import OK, SERVICE_CODES, Meaning, gateway_meaning, service_meaning
from worker.green.hints import retry_after_seconds
from worker.green.interface import Reply
from worker.green.redaction import redacted
from worker.model import Evidence, Kind, Request

_SWAPPED_REMEDY = (
    "Do not resume. The service answered about something nobody asked for: check for a proxy or "
    "cache on the way, keep the ledger, and ask Alibaba Cloud support with the request ID."
)


_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")


@dataclass(frozen=True, slots=True)
class _Finding:
    kind: Kind
    code: str
    message: str = ""
    listed: tuple[str, ...] = ()
    remedy: str = ""


class _Unreadable(Exception):
    """The body is not one complete JSON object; the argument says why."""


def judge(request: Request, reply: Reply, *, retry_after_cap_seconds: float) -> Evidence:
    """What ``reply`` proves about ``request``; never raises, whatever the answer holds."""
    try:
        document = _json_object(reply)
    except _Unreadable as unreadable:
        document = {}
        finding = _unreadable(reply, str(unreadable))
    else:
        finding = _envelope(request, reply, document)
    throttled = finding.kind is Kind.THROTTLED
    return Evidence(
        kind=finding.kind,
        ended_us=reply.ended_us,
        sent_us=reply.sent_us,
        http_status=reply.status,
        code=finding.code,
        message=redacted(finding.message, persons=[request.person_id], faces=request.face_ids),
        request_id=_request_id(request, reply, document),
        listed=finding.listed,
        retry_after_seconds=retry_after_seconds(
            reply.headers, reply.ended_us, retry_after_cap_seconds
        )
        if throttled
        else None,
        remedy=finding.remedy,
    )


def _json_object(reply: Reply) -> dict[str, Any]:
    """The body as one JSON object: strict UTF-8, no duplicate keys, no ``NaN``, exact integers."""
    if "html" in reply.headers.get("content-type", "").lower():
        raise _Unreadable("an HTML page")
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise _Unreadable("an encoded body that nobody asked for")
    try:
        document = _JSON.decode(reply.body.decode("utf-8"))
    # RecursionError: 100 000 opening brackets are an answer too.
    except (ValueError, RecursionError):
        raise _Unreadable(
            "not one complete JSON document" if reply.body else "an empty body"
        ) from None
    if not isinstance(document, dict):
        raise _Unreadable("JSON, but not an object")
    return document


def _request_id(request: Request, reply: Reply, document: dict[str, Any]) -> str:
    named = document.get("requestId", document.get("RequestId"))
    if not isinstance(named, str):
        named = reply.headers.get("x-acs-request-id", "")
    return named if _REQUEST_ID.fullmatch(named) and named not in _ids(request) else ""


def _ids(request: Request) -> tuple[str, ...]:
    return (request.person_id, *request.face_ids)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_JSON = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)


def _unreadable(reply: Reply, why: str) -> _Finding:
    if reply.status == 429:
        # By its definition not processed, whoever on the way said so.
        return _Finding(Kind.THROTTLED, "http_429", f"HTTP 429 with {why}.")
    if 300 <= reply.status < 400:
        return _Finding(
            Kind.AMBIGUOUS, "redirect", f"HTTP {reply.status}: redirects are not followed."
        )
    return _Finding(Kind.AMBIGUOUS, "unreadable_answer", f"HTTP {reply.status} with {why}.")


def _envelope(request: Request, reply: Reply, document: dict[str, Any]) -> _Finding:
    gateway_code, service_code = document.get("Code"), document.get("code")
    if isinstance(gateway_code, str) and "code" not in document:
        if not _CODE.fullmatch(gateway_code) or gateway_code in _ids(request):
            # Nothing that could be an ID or a secret may pass for a code.
            gateway_code = "unknown_code"
        return _gateway(reply, gateway_code, _text(document.get("Message")))
    if type(service_code) is int and 100 <= service_code <= 999 and "Code" not in document:
        return _service(request, reply, document, service_code)
    return _unreadable(reply, "JSON in neither the gateway's nor the service's form")


def _gateway(reply: Reply, code: str, message: str) -> _Finding:
    meaning = gateway_meaning(code)
    if reply.status == 429 and meaning.kind is Kind.AMBIGUOUS:
        return _Finding(Kind.THROTTLED, code, message)
    return _Finding(meaning.kind, code, message, remedy=meaning.remedy)


def _service(request: Request, reply: Reply, document: dict[str, Any], code: int) -> _Finding:
    message = _text(document.get("msg"))
    data = document.get("data")
    data = data if isinstance(data, dict) else {}
    if swapped := _swapped(request, data):
        return _Finding(Kind.SWAPPED, "swapped_answer", swapped, remedy=_SWAPPED_REMEDY)
    inner = data.get("code")
    inner = inner if type(inner) is int and 100 <= inner <= 999 else None
    if code == OK and inner == OK:
        return _success(request, reply, data)
    decisive = code if code != OK or inner is None else inner
    if decisive == OK:
        return _Finding(Kind.AMBIGUOUS, "incomplete_answer", "Code 200 without a data.code.")
    meaning = service_meaning(decisive)
    if _contradicts(meaning, code, inner, data):
        return _Finding(Kind.AMBIGUOUS, str(decisive), f"The answer contradicts itself. {message}")
    if reply.status == 429 and decisive not in SERVICE_CODES:
        # A code of the table wins over the status: 500 may have been applied all the same.
        return _Finding(Kind.THROTTLED, str(decisive), message)
    return _Finding(meaning.kind, str(decisive), message, remedy=meaning.remedy)


def _contradicts(meaning: Meaning, code: int, inner: int | None, data: dict[str, Any]) -> bool:
    """Whether an answer with an error code also reports success, or two different errors."""
    if data.get("faceIds") or data.get("deleteCount"):
        return True
    if inner is None and data.get("code") is not None:
        return True
    return code != OK and inner is not None and service_meaning(inner).kind is not meaning.kind


def _swapped(request: Request, data: dict[str, Any]) -> str:
    person = data.get("personId")
    if isinstance(person, str) and person != request.person_id:
        return "The answer is about another person than the request."
    faces = data.get("faceIds")
    if isinstance(faces, list) and any(
        text is not None and text not in request.face_ids for text in map(_id_text, faces)
    ):
        return "The answer lists a face that was not in the request."
    return ""


def _success(request: Request, reply: Reply, data: dict[str, Any]) -> _Finding:
    if reply.status != 200:
        return _Finding(
            Kind.AMBIGUOUS, "contradictory_answer", f"Code 200, but HTTP {reply.status}."
        )
    if data.get("personId") != request.person_id:
        return _Finding(Kind.AMBIGUOUS, "incomplete_answer", "The person is not echoed as text.")
    faces, count = data.get("faceIds"), data.get("deleteCount")
    if not isinstance(faces, list):
        return _Finding(Kind.AMBIGUOUS, "incomplete_answer", "data.faceIds is not a list.")
    listed = tuple(text for text in map(_id_text, faces) if text is not None)
    if len(listed) != len(faces):
        return _Finding(Kind.AMBIGUOUS, "incomplete_answer", "data.faceIds holds more than IDs.")
    if len(set(listed)) != len(listed):
        return _Finding(Kind.AMBIGUOUS, "contradictory_answer", "data.faceIds lists a face twice.")
    if type(count) is not int or count != len(listed):
        return _Finding(
            Kind.AMBIGUOUS,
            "count_mismatch",
            f"data.deleteCount is not the number of listed faces ({len(listed)}).",
        )
    return _Finding(Kind.LISTED, str(OK), listed=listed)


def _id_text(value: Any) -> str | None:
    """An ID as text; integers digit by digit, because other operations return face IDs as such."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
