"""What to do about a face that can be sent again, in one word for the ``remedy`` column.

``retry``: send it again. ``resume``: ``facepurge resume`` settles it. ``permission``: mend key,
rights or account first. ``data``: check person, face, account and region. ``support``: ask the
service's support with the ``request_id``.
"""

from __future__ import annotations

from functools import lru_cache

from worker.model import Outcome

_BY_OUTCOME = {
    Outcome.UNKNOWN: "resume",
    Outcome.UNSENT: "resume",
    Outcome.PRESENT: "retry",
    Outcome.NO_PERSON: "data",
}

# Documented on "Common return codes" of Content Moderation.
_BY_SERVICE_CODE = {
    "400": "data",
    "401": "permission",
    "403": "permission",
    "404": "data",
    "480": "data",
    "500": "retry",
    "580": "retry",
    "581": "retry",
    "585": "retry",
    "588": "retry",
    "589": "data",
    "590": "data",
    "592": "data",
    "594": "data",
    "595": "data",
    "596": "permission",
}

# Documented on "API error diagnosis" of the OpenAPI portal.
_BY_GATEWAY_PREFIX = (
    ("Forbidden", "permission"),
    ("NoPermission", "permission"),
    ("InvalidAccessKeyId", "permission"),
    ("InvalidSecurityToken", "permission"),
    ("MissingSecurityToken", "permission"),
    ("SignatureDoesNotMatch", "permission"),
    ("IncompleteSignature", "permission"),
    ("SignatureNonceUsed", "retry"),
    ("InvalidTimeStamp", "retry"),
    ("Throttling", "retry"),
    ("ServiceUnavailable", "retry"),
    ("InternalError", "retry"),
    ("InvalidParameter", "data"),
    ("MissingParameter", "data"),
)


@lru_cache(maxsize=1024)
def remedy_for(outcome: str, code: str) -> str:
    """The word for a line of ``failures.csv``; ``support`` where nothing better is known."""
    known = _BY_OUTCOME.get(Outcome(outcome))
    if known is not None:
        return known
    if code in _BY_SERVICE_CODE:
        return _BY_SERVICE_CODE[code]
    return next((word for prefix, word in _BY_GATEWAY_PREFIX if code.startswith(prefix)), "support")
