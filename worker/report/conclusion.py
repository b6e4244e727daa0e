"""How a run ended: the exit code and the figures that every last word is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.model import UNFINISHED, WANTED, Outcome, StopReason
from worker.report.interface import CallFigures, RunHeader, Session
from worker.report.tally import Tally

_STOPPED_BY_A_CAUSE = frozenset(
    {
        StopReason.FATAL,
        StopReason.SWAPPED,
        StopReason.DAMAGED,
        StopReason.BREAKER,
        StopReason.LEDGER,
        StopReason.HOLDS,
    }
)
_SIGNALS = {StopReason.SIGINT: 130, StopReason.SIGTERM: 143}
_NOT_FAILED = WANTED | UNFINISHED | {Outcome.HELD}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run established, and the code with which its process ends."""

    exit_code: int
    """Per the table of exit codes in the README."""
    lines: Mapping[str, int]
    """Lines of ``results.csv`` per outcome."""
    faces: Mapping[str, int]
    """Distinct faces per outcome."""
    rows: int
    """Faces read plus records without a readable face: what the lines must add up to."""
    reappeared: int
    """Distinct faces that are there again after they were deleted."""
    calls_sent: int
    """Requests that left this machine, or may have."""
    stop_reason: StopReason | None
    """Why the last session ended; None before the first."""
    detail: str
    """The last session's sentence with cause and remedy, or ``""``."""
    books_balance: bool
    rehearsal: bool

    @property
    def unfinished(self) -> int:
        """Lines that ``resume`` may settle."""
        return sum(self.lines[outcome] for outcome in UNFINISHED)

    @property
    def failed(self) -> int:
        """Lines that are final and not in a wanted state; ``held`` is not among them."""
        return sum(count for outcome, count in self.lines.items() if outcome not in _NOT_FAILED)


def conclude(
    header: RunHeader,
    sessions: Sequence[Session],
    figures: Sequence[CallFigures],
    tally: Tally,
) -> Conclusion:
    """Judge a run by its books alone, so that a report written later says the same."""
    last = sessions[-1] if sessions else None
    stop_reason = last.stop_reason if last else None
    books_balance = tally.written == header.rows == sum(tally.lines.values())
    return Conclusion(
        exit_code=_exit_code(stop_reason, tally, books_balance=books_balance),
        lines=tally.lines,
        faces=tally.faces,
        rows=header.rows,
        reappeared=tally.reappeared,
        calls_sent=sum(operation.sent for operation in figures),
        stop_reason=stop_reason,
        detail=last.detail if last else "",
        books_balance=books_balance,
        rehearsal=header.rehearsal,
    )


def _exit_code(stop_reason: StopReason | None, tally: Tally, *, books_balance: bool) -> int:
    """The first that applies, in the order 1, 7, signal, 6, 5, 4, 0."""
    if not books_balance:
        return 1
    if stop_reason in _STOPPED_BY_A_CAUSE:
        return 7
    if stop_reason in _SIGNALS:
        return _SIGNALS[stop_reason]
    if tally.reappeared:
        return 6
    if any(tally.lines[outcome] for outcome in UNFINISHED):
        return 5
    if any(count for outcome, count in tally.lines.items() if outcome not in _NOT_FAILED):
        return 4
    return 0
