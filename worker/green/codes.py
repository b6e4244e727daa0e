"""Every code the service and its gateway are known to answer, and what each proves.

Service codes: "Common response parameters" of Content Moderation (596 in an older copy of it).
Gateway codes: "API error diagnosis" of Alibaba Cloud OpenAPI and the products' error lists. A code
that means a server-side failure proves nothing: the deletion may have been applied before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.model import Kind


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code proves about the attempt, and what a person has to do about it."""

    kind: Kind
    remedy: str = ""
    """Only for ``FATAL``."""


OK = 200
"""The service's code for success, outside and inside ``data``."""
NOT_FOUND = 404
"""Documented for content; what it means for a person or a face is not."""
BAD_REQUEST = 400

AMBIGUOUS = Meaning(Kind.AMBIGUOUS)
"""Also the meaning of every code that is not listed here."""

_REFUSED = Meaning(Kind.REFUSED)
_THROTTLED = Meaning(Kind.THROTTLED)

_CHECK_KEY = (
    "check the AccessKey pair that the credential chain finds (an old key in the environment "
    "wins over all other places)"
)
_CHECK_PAIR = (
    "copy the secret of this AccessKey ID again: it is not the one that goes with it (an old pair in "
    "the environment wins over all other places)"
)
_CHECK_TOKEN = "get a new STS token, or let the chain find a role that renews itself"  # noqa: S105 (a sentence, not a token)
_CHECK_POLICY = "attach the system policy AliyunYundunGreenWebFullAccess to the RAM user or role"
_CHECK_ACCOUNT = "activate Content Moderation for the account, settle overdue bills, lift bans"
_CHECK_CLOCK = "set this machine's clock (NTP)"
_CHECK_ENDPOINT = "check --region and --endpoint: this address does not offer what was asked"

SERVICE_CODES = {
    280: AMBIGUOUS,  # PROCESSING
    BAD_REQUEST: _REFUSED,
    401: _REFUSED,  # NOT_ALLOWED
    403: _REFUSED,  # FORBIDDEN
    NOT_FOUND: _REFUSED,
    480: _REFUSED,  # DOWNLOAD_FAILED
    500: AMBIGUOUS,  # GENERAL_ERROR
    503: AMBIGUOUS,  # ServiceUnavailable
    580: AMBIGUOUS,  # DB_FAILED
    581: AMBIGUOUS,  # TIMEOUT
    585: AMBIGUOUS,  # CACHE_FAILED
    586: AMBIGUOUS,  # ALGO_FAILED
    587: AMBIGUOUS,  # MQ_FAILED
    588: _THROTTLED,  # EXCEED_QUOTA
    589: _REFUSED,  # TOO_LARGE
    590: _REFUSED,  # BAD_FORMAT
    591: AMBIGUOUS,  # CONNECTION_POOL_FULL
    592: _REFUSED,  # DOWNLOAD_TIMEOUT
    594: _REFUSED,  # EXPIRED
    595: _REFUSED,  # CATCH_FRAME_FAILED
    596: Meaning(Kind.FATAL, _CHECK_ACCOUNT),  # PERMISSION_DENY
}
"""Integer ``code``, outside or inside ``data``; 200 is judged by the whole answer."""

GATEWAY_CODES = {
    "Throttling": _THROTTLED,  # .User, .Api
    "ServiceUnavailable": AMBIGUOUS,
    "InternalError": AMBIGUOUS,
    # A packet sent twice by the network: the first copy may have been applied.
    "SignatureNonceUsed": AMBIGUOUS,
    "SignatureDoesNotMatch": Meaning(Kind.FATAL, _CHECK_PAIR),
    "IncompleteSignature": Meaning(Kind.FATAL, _CHECK_KEY),
    "InvalidAccessKeyId": Meaning(Kind.FATAL, _CHECK_KEY),  # .NotFound, .Inactive
    "InvalidSecurityToken": Meaning(Kind.FATAL, _CHECK_TOKEN),  # .Expired, .Malformed, .Mismatch...
    "MissingSecurityToken": Meaning(Kind.FATAL, _CHECK_TOKEN),
    "InvalidTimeStamp": Meaning(Kind.FATAL, _CHECK_CLOCK),  # .Expired, .Format
    "Forbidden": Meaning(Kind.FATAL, _CHECK_POLICY),  # .RAM
    "Forbidden.RiskControl": Meaning(Kind.FATAL, _CHECK_ACCOUNT),
    "NoPermission": Meaning(Kind.FATAL, _CHECK_POLICY),
    "InvalidAction": Meaning(Kind.FATAL, _CHECK_ENDPOINT),  # .NotFound
    "InvalidProduct": Meaning(Kind.FATAL, _CHECK_ENDPOINT),  # .NotFound
    "InvalidProtocol": Meaning(Kind.FATAL, "use an https:// endpoint"),  # .NeedSsl
}
"""String ``Code``; a name without a dot stands for its whole family."""

_STALE_CREDENTIAL = frozenset(
    {"InvalidAccessKeyId", "InvalidSecurityToken", "MissingSecurityToken", "SignatureDoesNotMatch"}
)


def service_meaning(code: int) -> Meaning:
    """What a service code other than 200 proves."""
    return SERVICE_CODES.get(code, AMBIGUOUS)


def gateway_meaning(code: str) -> Meaning:
    """What a gateway code proves: the exact name first, then its family."""
    return GATEWAY_CODES.get(code) or GATEWAY_CODES.get(code.partition(".")[0], AMBIGUOUS)


def credential_may_be_stale(code: str) -> bool:
    """Whether a rotated key or an expired token explains this refusal."""
    return code.partition(".")[0] in _STALE_CREDENTIAL


def clock_is_skewed(code: str) -> bool:
    """Whether the request's time was more than 15 minutes from the server's."""
    return code == "InvalidTimeStamp.Expired"


RETRYABLE_CODES = frozenset({"401", "403"})
"""Refused deletions whose cause lies outside the input: what was forbidden may be allowed later."""


def not_found_codes(unknown_person: str) -> frozenset[str]:
    """Codes of refused deletions that may say that the service has nothing to delete.

    ``unknown_person`` is what this account is known to answer about a person it does not know
    (``worker.settings``); what 404 means for a deletion is not documented.
    """
    codes = {str(NOT_FOUND)} | ({str(BAD_REQUEST)} if unknown_person == "code-400" else set())
    return frozenset(codes)
