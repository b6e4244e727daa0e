"""How a run ended: the exit code and the figures that every last word is made of."""

from __future__ import annotations

from dataclasses import dataclass

from worker.model import UNFINISHED, Outcome, StopReason, Verb
from worker.report.aim import Aim
from worker.report.interface import Books, Verification
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
_SIGNALS = {StopReason.SIGHUP: 129, StopReason.SIGINT: 130, StopReason.SIGTERM: 143}


@dataclass(frozen=True, slots=True)
class Remains:
    """What the service has although it should be gone, and a run must not end quietly with.

    Distinct faces, and distinct whole persons by the line that is their own.
    """

    faces_again: int
    """There again after they were established as gone."""
    persons_again: int
    """Have faces again after they were empty."""
    faces_still: int
    """Still there, in a run that was verified; otherwise 0."""
    persons_still: int
    """Still have faces, in a run that was verified; otherwise 0."""

    @classmethod
    def of(cls, tally: Tally, verification: Verification) -> Remains:
        verified = verification.asked > 0
        faces = tally.faces[Outcome.PRESENT] - tally.reappeared
        persons = tally.whole_persons[Outcome.PRESENT] - tally.refilled - tally.unremoved
        return cls(
            faces_again=tally.reappeared,
            persons_again=tally.refilled,
            faces_still=faces if verified else 0,
            persons_still=persons if verified else 0,
        )

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING = Remains(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run established, and the code with which its process ends."""

    exit_code: int
    """Per the table of exit codes in the README."""
    tally: Tally
    wanted: frozenset[str]
    """The outcomes that the run was after."""
    rows: int
    """What the lines must add up to: the rows that were read, and ``found_lines``."""
    found_lines: int
    """Lines of faces that were found for whole persons, under each row that asks for them."""
    unfinished: int
    """Lines that ``resume`` may settle."""
    waits: bool
    """Whether anything waits for ``resume``: such lines, a new round cut short, a verification."""
    failed: int
    """Lines that are final and not in a wanted state; ``held`` is not among them."""
    remains: Remains
    calls_sent: int
    """Requests that left this machine, or may have: lookups too."""
    verification: Verification
    verb: Verb | None
    """What the last session was for; None before the first."""
    stop_reason: StopReason | None
    """Why the last session ended; None before the first."""
    detail: str
    """The last session's sentence with cause and remedy, or ``""``."""
    books_balance: bool
    rehearsal: bool


def conclude(books: Books, tally: Tally, aim: Aim) -> Conclusion:
    """Judge a run by its books alone, so that a report written later says the same.

    ``tally`` is of all lines of ``books``.
    """
    header = books.header()
    sessions = books.sessions()
    verification = books.verification()
    last = sessions[-1] if sessions else None
    stop_reason = last.stop_reason if last else None
    found_lines = books.found_lines()
    rows = header.rows + found_lines
    books_balance = tally.written == rows == sum(tally.lines.values())
    remains = Remains.of(tally, verification)
    unfinished = sum(tally.lines[outcome] for outcome in UNFINISHED)
    unverified = verification.asked - verification.answered
    waits = bool(unfinished or unverified or (sessions and books.has_waiting_calls()))
    failed = sum(count for outcome, count in tally.lines.items() if outcome not in aim.not_failed)
    return Conclusion(
        exit_code=_exit_code(
            stop_reason,
            books_balance=books_balance,
            remains=bool(remains),
            waits=waits,
            failed=bool(failed),
        ),
        tally=tally,
        wanted=aim.wanted,
        rows=rows,
        found_lines=found_lines,
        unfinished=unfinished,
        waits=waits,
        failed=failed,
        remains=remains,
        calls_sent=sum(operation.sent for operation in books.call_figures()),
        verification=verification,
        verb=last.verb if last else None,
        stop_reason=stop_reason,
        detail=last.detail if last else "",
        books_balance=books_balance,
        rehearsal=header.rehearsal,
    )


def _exit_code(
    stop_reason: StopReason | None,
    *,
    books_balance: bool,
    remains: bool,
    waits: bool,
    failed: bool,
) -> int:
    """The first that applies, in the order 1, 7, signal, 10, 8, 6, 5, 4, 0."""
    if not books_balance:
        return 1
    if stop_reason in _STOPPED_BY_A_CAUSE:
        return 7
    if stop_reason in _SIGNALS:
        return _SIGNALS[stop_reason]
    if stop_reason is StopReason.REQUEST:
        return 10
    if stop_reason in (StopReason.LIMIT, StopReason.HALT):
        return 8
    if remains:
        return 6
    if stop_reason is StopReason.CANARY:
        return 8
    if waits:
        return 5
    if failed:
        return 4
    return 0


def exit_code_of(stop_reason: StopReason) -> int:
    """What a session that ended so ends with, as far as it depends on that alone; 0 if it does not."""
    return _exit_code(stop_reason, books_balance=True, remains=False, waits=False, failed=False)
