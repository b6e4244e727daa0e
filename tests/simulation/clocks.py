"""Wall clocks of a simulation: the true one, and those of workers, which may be off."""

from __future__ import annotations

from tests.simulation.simulated_loop import now_seconds

EPOCH_US = 1_795_000_000_000_000
"""When every simulation begins: an afternoon in November 2026."""


class TrueClock:
    """What the service goes by."""

    def now_us(self) -> int:
        return EPOCH_US + round(now_seconds() * 1e6)


class WorkerClock:
    """A worker's own clock; implements ``worker.clock.Clock``."""

    def __init__(self, ahead_seconds: float = 0.0) -> None:
        self.ahead_us = round(ahead_seconds * 1e6)

    def now_us(self) -> int:
        return EPOCH_US + round(now_seconds() * 1e6) + self.ahead_us

    def jump(self, seconds: float) -> None:
        """Set it forward, or back."""
        self.ahead_us += round(seconds * 1e6)
