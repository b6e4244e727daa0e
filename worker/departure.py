"""Why a request did not leave."""

from __future__ import annotations


class NotDeparted(Exception):
    """Raised in place of a pacing slot: nothing of the request may be written.

    ``reason`` is a word for the ledger: ``stopped`` (the run is ending) or ``held`` (the service
    asked everybody to wait while this request was in line).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
