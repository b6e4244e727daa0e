"""What to do about a line that can be tried again, in one word for the ``remedy`` column."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from worker.model import Outcome


class Remedy(StrEnum):
    """The words, in the order in which they are followed."""

    RESUME = "resume"
    """``facepurge resume`` settles it."""
    RETRY = "retry"
    """``facepurge retry`` tries again."""
    PERMISSION = "permission"
    """Mend key, rights or account; then ``facepurge retry`` tries again."""
    DATA = "data"
    """Check person, face, account and region."""
    SUPPORT = "support"
    """Ask the service's support with the ``request_id``."""


_BY_OUTCOME = {
    Outcome.UNKNOWN: Remedy.RESUME,
    Outcome.UNSENT: Remedy.RESUME,
    Outcome.PRESENT: Remedy.RETRY,
    Outcome.NO_PERSON: Remedy.DATA,
}

# Documented on "Common return codes" of Content Moderation.
_BY_SERVICE_CODE = {
    "400": Remedy.DATA,
    "401": Remedy.PERMISSION,
    "403": Remedy.PERMISSION,
    "404": Remedy.DATA,
    "480": Remedy.DATA,
    "500": Remedy.RETRY,
    "580": Remedy.RETRY,
    "581": Remedy.RETRY,
    "585": Remedy.RETRY,
    "588": Remedy.RETRY,
    "589": Remedy.DATA,
    "590": Remedy.DATA,
    "592": Remedy.DATA,
    "594": Remedy.DATA,
    "595": Remedy.DATA,
    "596": Remedy.PERMISSION,
}

# Documented on "API error diagnosis" of the OpenAPI portal.
_BY_GATEWAY_PREFIX = (
    ("Forbidden", Remedy.PERMISSION),
    ("NoPermission", Remedy.PERMISSION),
    ("InvalidAccessKeyId", Remedy.PERMISSION),
    ("InvalidSecurityToken", Remedy.PERMISSION),
    ("MissingSecurityToken", Remedy.PERMISSION),
    ("SignatureDoesNotMatch", Remedy.PERMISSION),
    ("IncompleteSignature", Remedy.PERMISSION),
    ("SignatureNonceUsed", Remedy.RETRY),
    ("InvalidTimeStamp", Remedy.RETRY),
    ("Throttling", Remedy.RETRY),
    ("ServiceUnavailable", Remedy.RETRY),
    ("InternalError", Remedy.RETRY),
    ("InvalidParameter", Remedy.DATA),
    ("MissingParameter", Remedy.DATA),
)


@lru_cache(maxsize=1024)
def remedy_for(outcome: str, code: str) -> Remedy:
    """The word for a line with this outcome and code; ``support`` where nothing better is known."""
    return _BY_OUTCOME.get(Outcome(outcome)) or remedy_of_code(code)


def remedy_of_code(code: str) -> Remedy:
    """What a code of the service or its gateway asks for, whatever became of the face."""
    if code in _BY_SERVICE_CODE:
        return _BY_SERVICE_CODE[code]
    return next(
        (word for prefix, word in _BY_GATEWAY_PREFIX if code.startswith(prefix)), Remedy.SUPPORT
    )
