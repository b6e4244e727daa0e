"""The face library of a simulation: the sandbox's, with lookups that may lag behind deletions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.simulation.simulated_loop import now_seconds
from worker.sandbox.world import Change, World


class Library(World):
    """What the service has, and what it had lately.

    While ``lagging`` is set, a person still shows faces deleted in the last ``lag_seconds``.
    """

    def __init__(self, persons: Mapping[str, Sequence[str]], lag_seconds: float) -> None:
        super().__init__(persons)
        self.lag_seconds = lag_seconds
        self.lagging = False
        self.gone: dict[tuple[str, str], float] = {}
        """When each face was deleted that is not there now, in that order."""

    def held(self, person_id: str) -> tuple[str, ...] | None:
        """The faces that are really there; None for an unknown person."""
        return super().faces(person_id) if person_id in self else None

    def faces(self, person_id: str) -> tuple[str, ...]:
        held = super().faces(person_id)
        if not self.lagging:
            return held
        since = now_seconds() - self.lag_seconds
        return held + tuple(
            face for (person, face), at in self.gone.items() if person == person_id and at > since
        )

    def apply(self, change: Change) -> None:
        before = super().faces(change.person_id)
        super().apply(change)
        after = frozenset(super().faces(change.person_id))
        for face in before:
            if face not in after:
                self.gone[change.person_id, face] = now_seconds()
        for face in change.added:
            self.gone.pop((change.person_id, face), None)
