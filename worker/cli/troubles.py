"""What went wrong, grouped by cause: how often, when last, and where; names no IDs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

MOST_KINDS: Final = 100
"""Codes come from the service: what it makes up beyond these is one kind."""
OTHER_KINDS: Final = "other kinds"

LINES_A_MINUTE: Final = 12


@dataclass(frozen=True, slots=True)
class Trouble:
    """One cause of trouble."""

    name: str
    """What it was and its code, e.g. ``refused 400``."""
    count: int
    last_seen: float
    """Seconds since the epoch, UTC."""
    place: str
    """``source:line`` of the first face of the latest call."""


class Troubles:
    """Counts of each kind, and a say in which occurrences are worth a line of their own."""

    def __init__(self) -> None:
        self._kinds: dict[str, Trouble] = {}
        self._told: deque[float] = deque(maxlen=LINES_A_MINUTE)
        self._left_out = 0

    def saw(self, name: str, place: str, epoch_seconds: float) -> int:
        """Take note of one more; returns how many of its kind there were."""
        if name not in self._kinds and len(self._kinds) >= MOST_KINDS:
            name = OTHER_KINDS
        before = self._kinds.get(name)
        count = before.count + 1 if before else 1
        self._kinds[name] = Trouble(name, count, epoch_seconds, place)
        return count

    def is_worth_a_line(self, count: int, now: float) -> bool:
        """Whether the ``count``-th of a kind is told: the first, the tenth, the hundredth, ...

        At most ``LINES_A_MINUTE``; ``now`` comes from a clock that never goes back, in seconds.
        """
        if str(count).rstrip("0") != "1":
            return False
        if len(self._told) == LINES_A_MINUTE and self._told[0] > now - 60:
            self._left_out += 1
            return False
        self._told.append(now)
        return True

    def left_out(self) -> int:
        """How many lines were not told since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count

    @property
    def most_first(self) -> list[Trouble]:
        """Every kind, what was seen most at the beginning: an order that rarely changes."""
        return sorted(self._kinds.values(), key=lambda x: (-x.count, x.name))
