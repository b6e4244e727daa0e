"""Why faces are not in a wanted state: one entry for each cause, with its first places.

Counted in the pass over the lines that also makes the totals. A cause is an outcome and the code
behind it; of rows that were never usable, the reason. Memory does not grow with the lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from itertools import compress

from worker.model import Outcome
from worker.report.batches import Batch
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

    def lacks(self, *, names_requests: bool) -> bool:
        return len(self.places) < PLACES_KEPT or (
            names_requests and len(self.request_ids) < REQUEST_IDS_KEPT
        )


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

    def add(self, batch: Batch) -> None:
        """Count the lines of one batch."""
        if self._objectionable.isdisjoint(batch.outcomes):
            return
        chosen = [outcome in self._objectionable for outcome in batch.outcomes]
        outcomes = [*compress(batch.outcomes, chosen)]
        words = [
            *map(_word, outcomes, compress(batch.codes, chosen), compress(batch.messages, chosen))
        ]
        faces = compress(map(bool, batch.face_ids), chosen)
        repeated = compress(map(bool, batch.duplicates_of), chosen)
        for (outcome, word, is_face, is_repeated), lines in Counter(
            zip(outcomes, words, faces, repeated, strict=True)
        ).items():
            entry = self._entry(outcome, word)
            entry.lines += lines
            if not is_repeated:
                if is_face:
                    entry.faces += lines
                elif outcome != Outcome.INVALID:
                    entry.persons += lines
        self._keep_first(
            zip(
                outcomes,
                words,
                compress(batch.sources, chosen),
                compress(batch.lines, chosen),
                compress(batch.request_ids, chosen),
                strict=True,
            ),
            names_requests=any(batch.request_ids),
        )

    def _entry(self, outcome: str, word: str) -> _Entry:
        entry = self._entries.get((outcome, word))
        if entry is None:
            if len(self._entries) >= MOST_CAUSES:
                word = OTHER_CODES
            entry = self._entries.setdefault((outcome, word), _Entry())
        return entry

    def _keep_first(
        self, lines: Iterable[tuple[str, str, str, int, str]], *, names_requests: bool
    ) -> None:
        """``lines``: outcome, word, source, line and request ID of each."""
        if not any(entry.lacks(names_requests=names_requests) for entry in self._entries.values()):
            return
        for outcome, word, source, line, request_id in lines:
            entry = self._entry(outcome, word)
            if len(entry.places) < PLACES_KEPT:
                _keep(f"{source}:{line}", entry.places)
            if request_id and len(entry.request_ids) < REQUEST_IDS_KEPT:
                _keep(request_id, entry.request_ids)

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


def _word(outcome: str, code: str, message: str) -> str:
    """What tells causes with the same outcome apart."""
    if outcome == Outcome.INVALID:
        return message
    return "" if outcome == Outcome.UNSENT and code in _OWN_WILL else code


def _keep(text: str, kept: list[str]) -> None:
    if text not in kept:
        kept.append(text)
