"""Why faces are not in a wanted state: one entry for each cause, with its first places.

Counted in the pass over the lines that also makes the totals. A cause is an outcome and the code
behind it; of rows that were never usable, the reason. Memory does not grow with the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from worker.model import Outcome
from worker.report.interface import Line
from worker.report.remedies import Remedy

PLACES_KEPT = 3
REQUEST_IDS_KEPT = 3
MOST_CAUSES = 64
"""Codes come from the service: what it makes up beyond these is counted together per outcome."""
OTHER_CODES = "other codes"

_OWN_WILL = frozenset({"stopped", "held", "outage"})
"""Codes of attempts that this program kept from leaving: they say no more than ``unsent`` does."""

_NEVER_SENT = frozenset({Outcome.CONFLICT, Outcome.INVALID})


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause and whom it concerns; names places and request IDs, never persons or faces."""

    outcome: str
    code: str
    """The service's or gateway's code, a word of ours, or ``""``; of ``invalid`` rows the reason."""
    remedy: Remedy
    lines: int
    """Lines of ``results.csv``."""
    faces: int
    """Distinct (person, face) pairs among them."""
    persons: int
    """Distinct whole persons among them, by the line that is their own."""
    places: tuple[str, ...]
    """``source:line`` of the first lines, in input order."""
    request_ids: tuple[str, ...]
    """The first ones that the service gave, for its support."""


@dataclass(slots=True)
class _Entry:
    lines: int = 0
    faces: int = 0
    persons: int = 0
    places: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)


class Causes:
    """The causes of a report in the making."""

    def __init__(
        self, unobjectionable: Container[str], remedy: Callable[[str, str], Remedy]
    ) -> None:
        """``unobjectionable``: the outcomes that need no cause; ``remedy``: of outcome and code."""
        self._remedy = remedy
        # What is no outcome at all is not counted here: the books do not balance then.
        self._objectionable = frozenset(x.value for x in Outcome if x not in unobjectionable)
        self._entries: dict[tuple[str, str], _Entry] = {}

    def add(self, batch: Iterable[Line]) -> None:
        """Count the lines of one batch."""
        objectionable = self._objectionable
        for line in batch:
            if line.outcome in objectionable:
                self._count(line)

    def _count(self, line: Line) -> None:
        code = line.message if line.outcome == Outcome.INVALID else line.code
        if line.outcome == Outcome.UNSENT and code in _OWN_WILL:
            code = ""
        entry = self._entries.get((line.outcome, code))
        if entry is None:
            if len(self._entries) >= MOST_CAUSES:
                code = OTHER_CODES
            entry = self._entries.setdefault((line.outcome, code), _Entry())
        entry.lines += 1
        if not line.duplicate_of:
            if line.face_id:
                entry.faces += 1
            elif line.outcome != Outcome.INVALID:
                entry.persons += 1
        if len(entry.places) < PLACES_KEPT:
            _keep(f"{line.source}:{line.line}", entry.places)
        if line.request_id and len(entry.request_ids) < REQUEST_IDS_KEPT:
            _keep(line.request_id, entry.request_ids)

    def causes(self) -> tuple[Cause, ...]:
        """What was counted so far, what concerns most lines first."""
        found = [
            Cause(
                outcome,
                code,
                Remedy.DATA if outcome in _NEVER_SENT else self._remedy(outcome, code),
                entry.lines,
                entry.faces,
                entry.persons,
                tuple(entry.places),
                tuple(entry.request_ids),
            )
            for (outcome, code), entry in self._entries.items()
        ]
        return tuple(sorted(found, key=lambda cause: (-cause.lines, cause.outcome, cause.code)))


def _keep(text: str, kept: list[str]) -> None:
    if text not in kept:
        kept.append(text)
