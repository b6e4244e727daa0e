"""How long answers take: percentiles of the last minutes, in memory that never grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

_GROWTH: Final = 1.04
"""Each class is so much wider than the one before: a percentile is off by 2 % at most."""
_SHORTEST_SECONDS: Final = 0.0001
_CLASSES: Final = 1 + math.ceil(math.log(3600.0 / _SHORTEST_SECONDS, _GROWTH))
"""Up to an hour; what took longer counts as an hour."""

SPAN_SECONDS: Final = 300.0
"""What is shown covers this much time at least, and twice as much at most."""


class Percentiles(NamedTuple):
    """In seconds."""

    p50: float
    p95: float
    p99: float


class Latencies:
    """A histogram with classes of equal ratio, in two halves that take turns.

    The older half is emptied when the newer one covers ``SPAN_SECONDS``, so that a run of days
    shows what the service does now.
    """

    def __init__(self) -> None:
        self._older = [0] * _CLASSES
        self._newer = [0] * _CLASSES
        self._turned: float | None = None

    def add(self, seconds: float, now: float) -> None:
        """One answer; ``now`` comes from a clock that never goes back, in seconds."""
        self._turn(now)
        self._newer[_class_of(seconds)] += 1

    def percentiles(self, now: float) -> Percentiles | None:
        """Of what was added lately; None where there was nothing."""
        self._turn(now)
        upto = list(accumulate(map(sum, zip(self._older, self._newer, strict=True))))
        if not upto[-1]:
            return None
        return Percentiles(*(_at(upto, share) for share in (0.5, 0.95, 0.99)))

    def _turn(self, now: float) -> None:
        if self._turned is None:
            self._turned = now
        age = now - self._turned
        if age < SPAN_SECONDS:
            return
        self._older = self._newer if age < 2 * SPAN_SECONDS else [0] * _CLASSES
        self._newer = [0] * _CLASSES
        self._turned = now


def _class_of(seconds: float) -> int:
    if seconds <= _SHORTEST_SECONDS:
        return 0
    return min(_CLASSES - 1, math.ceil(math.log(seconds / _SHORTEST_SECONDS, _GROWTH)))


def _at(upto: Sequence[int], share: float) -> float:
    rank = math.ceil(share * upto[-1])
    number = next(number for number, count in enumerate(upto) if count >= rank)
    # The middle of the class, by ratio.
    return _SHORTEST_SECONDS * math.pow(_GROWTH, number - 0.5)
