"""Why a request did not leave."""

from __future__ import annotations


class NotDeparted(Exception):
    """Raised in place of a pacing slot: nothing of the request may be written.

    ``reason`` is a word for the ledger: ``stopped`` (the run is ending), ``held`` (the service or the
    operator asked everybody to wait while this request was in line), ``outage`` (it could not be used
    for too long) or ``closed_before_send`` (the connection was no longer open).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
