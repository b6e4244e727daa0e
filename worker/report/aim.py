"""What a run was after: the outcomes that count as reached, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.model import SENDABLE_AGAIN, UNFINISHED, WANTED, Outcome, StopReason
from worker.report.interface import Session
from worker.report.remedies import Remedy, remedy_for


@dataclass(frozen=True)
class Aim:
    """The outcomes of a run that are wanted, unwanted, or still open, and what to do about them."""

    wanted: frozenset[str]
    is_unexplained: bool = False
    """Whether an answer about another person or face has stopped it, so that nobody may go on yet."""

    @classmethod
    def of(cls, settings: Mapping[str, object], sessions: Sequence[Session]) -> Aim:
        """The aim under a run's settings, to which ``treat_no_person_as_absent`` may add."""
        wanted = frozenset(WANTED)
        if settings.get("treat_no_person_as_absent"):
            wanted |= {Outcome.NO_PERSON}
        return cls(wanted, bool(sessions) and sessions[-1].stop_reason is StopReason.SWAPPED)

    def remedy(self, outcome: str, code: str) -> Remedy:
        """What to do about a line, in one word; ``resume`` only where nothing has to be explained."""
        remedy = remedy_for(outcome, code)
        if remedy is Remedy.RESUME and self.is_unexplained:
            return Remedy.SUPPORT
        return remedy

    @property
    def sendable_again(self) -> frozenset[str]:
        """Outcomes that somebody has to do something about, and that can be tried again."""
        return SENDABLE_AGAIN - self.wanted

    @property
    def not_failed(self) -> frozenset[str]:
        """Outcomes that are wanted, held back on request, or not final."""
        return self.wanted | UNFINISHED | {Outcome.HELD}
