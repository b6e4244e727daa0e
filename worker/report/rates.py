"""How fast the sender was, from the moments at which its calls left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

_SECOND_US = 1_000_000
IDLE_SECONDS = 5.0
"""A longer gap between two calls (a pause, a hold, the night before a resume) is not busy time."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Figures over the calls that left, at the sender."""

    sent: int
    max_in_any_second: int
    """Most calls within any half-open second [t, t + 1 s)."""
    busy_seconds: float
    """From the first to the last call of each busy stretch, summed."""
    per_second: float | None
    """Steps from one call to the next within busy stretches, per busy second; None below two calls."""


def measure(sent_times_us: Iterable[int], rate_per_second: float) -> Rate:
    """Figures over ascending times, in one pass; ``rate_per_second`` is the configured rate.

    At a configured rate so slow that calls are seconds apart, a gap is idle from three of those
    steps on.
    """
    idle_us = int(max(IDLE_SECONDS, 3.0 / rate_per_second if rate_per_second > 0 else 0.0) * 1e6)
    # The last calls, as many as there have been in any second so far.
    window: deque[int] = deque()
    sent = steps = busy_us = 0
    previous: int | None = None
    for now in sent_times_us:
        sent += 1
        if previous is not None and now - previous <= idle_us:
            steps += 1
            busy_us += now - previous
        previous = now
        window.append(now)
        if now - window[0] >= _SECOND_US:
            window.popleft()
    return Rate(
        sent=sent,
        max_in_any_second=len(window),
        busy_seconds=busy_us / 1e6,
        per_second=steps * 1e6 / busy_us if busy_us else None,
    )
