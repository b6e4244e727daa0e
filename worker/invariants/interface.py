"""What the checker wants to know of the server's side; whoever has a server's log provides it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it arrived, and what really happened to it."""

    number: int
    """Counts arrivals from 1."""
    arrived_us: int
    """The server's wall clock: microseconds since the epoch, UTC."""
    seconds: float
    """A monotonic clock, the same for all arrivals."""
    operation: str
    """The action name, or ``""`` for something that is none."""
    person_id: str
    face_ids: tuple[str, ...]
    """The faces that the request names, as received."""
    nonce: str
    served: bool
    """Let through by gateway and quota."""
    deleted: tuple[str, ...] = ()
    """Faces really deleted before the answer left."""
    added: tuple[str, ...] = ()
    person: Literal["", "added", "deleted"] = ""
    """What became of the person's record."""
    lies: bool = False
    """Whether its answer says what is not so: nothing that rests on it is held against a claim."""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What a request did after its client had given up."""

    number: int
    """Of the arrival it belongs to."""
    person_id: str
    deleted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    person: Literal["", "added", "deleted"] = ""


@dataclass(frozen=True, slots=True)
class Server:
    """Everything a server knows about a run."""

    events: Iterable[Arrival | Afterwards]
    """In the order in which they changed its world, from the first request of the run on."""
    holdings: Iterable[tuple[str, Sequence[str]]] | None = None
    """What it held at first: each person once, with all faces; None where nobody knows."""
    complete: bool = True
    """Whether nobody changes its world behind ``events``."""
    most_arrivals_in_any_second: int = 0
    """What the quota allows of each operation; 0 where that is not to be judged."""
