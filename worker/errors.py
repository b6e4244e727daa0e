"""Errors a person sees. Each names the place, the cause and the remedy, and knows its exit code."""

from __future__ import annotations

from typing import ClassVar


class FacepurgeError(Exception):
    """An error of the program itself.

    ``cause`` is a sentence that begins with the place (a file, a key, a flag); ``remedy`` says
    what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class UsageRefused(FacepurgeError):
    """Flags or configuration that cannot be acted upon; nothing was sent."""

    exit_code = 2


class InputRefused(FacepurgeError):
    """A source whose content cannot be trusted as a whole; nothing was sent."""

    exit_code = 2


class GateClosed(FacepurgeError):
    """A safety gate, a lock, or a damaged or foreign run directory; nothing was sent."""

    exit_code = 3


class LedgerFailed(FacepurgeError):
    """The ledger cannot be written or read any more; nothing new is sent."""

    exit_code = 7


class LedgerDamaged(LedgerFailed):
    """Something in the ledger is not what was planned; what is in flight can still be recorded."""


class LimitReached(FacepurgeError):
    """More faces were found than may be deleted; nothing beyond the limit is sent."""

    exit_code = 8


class RunStopped(FacepurgeError):
    """A cause that concerns every call of the run; what was not sent stays ``unsent``."""

    exit_code = 7


class ReportFailed(FacepurgeError):
    """The ledger is whole, but a report file could not be written; ``report`` does it later."""

    exit_code = 1
