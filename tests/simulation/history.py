"""What really happened at the service: the truth that claims are held against."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

Pair = tuple[str, str]
"""(person ID, face ID)."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request at the service, and how things stood right after it."""

    at_seconds: float
    run: str
    """Whose request it was."""
    nonce: str
    operation: str
    person_id: str
    served: bool
    """Let through by gateway and quota."""
    throttled: bool
    """Refused by the quota."""
    deleted: tuple[str, ...]
    """Faces that it really deleted."""
    removed: bool
    """Whether it removed the person."""
    left: tuple[str, ...] | None
    """The person's faces afterwards; None where there is no such person (any more)."""
    shown: tuple[str, ...]
    """The faces that a lookup was shown, which may lag behind."""
    prompt: bool
    """Not delayed and not repeated on the way: its time tells how the sender is paced."""


class History:
    """All arrivals, oldest first, and by nonce."""

    def __init__(self) -> None:
        self.arrivals: list[Arrived] = []
        self._by_nonce: defaultdict[str, list[Arrived]] = defaultdict(list)
        self._deleted_by: defaultdict[str, set[Pair]] = defaultdict(set)

    def note(self, arrived: Arrived) -> None:
        """Append one."""
        self.arrivals.append(arrived)
        self._by_nonce[arrived.nonce].append(arrived)
        pairs = ((arrived.person_id, face) for face in arrived.deleted)
        self._deleted_by[arrived.run].update(pairs)

    def of(self, nonce: str) -> list[Arrived]:
        """What became of the request with ``nonce``; more than one where a packet was repeated."""
        return self._by_nonce.get(nonce, [])

    def deleted_by(self, run: str) -> set[Pair]:
        """Every face that a request of ``run`` really deleted."""
        return self._deleted_by[run]
