"""What a run was after: the outcomes that count as reached, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.model import SENDABLE_AGAIN, UNFINISHED, WANTED, Outcome


@dataclass(frozen=True, slots=True)
class Aim:
    """The outcomes of a run that are wanted, unwanted, or still open."""

    wanted: frozenset[str]

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Aim:
        """The aim under a run's settings: ``treat_no_person_as_absent`` may add to it."""
        if settings.get("treat_no_person_as_absent"):
            return cls(WANTED | {Outcome.NO_PERSON})
        return cls(WANTED)

    @property
    def sendable_again(self) -> frozenset[str]:
        """Outcomes that somebody has to do something about, and that can be tried again."""
        return SENDABLE_AGAIN - self.wanted

    @property
    def not_failed(self) -> frozenset[str]:
        """Outcomes that are wanted, held back on request, or not final."""
        return self.wanted | UNFINISHED | {Outcome.HELD}
