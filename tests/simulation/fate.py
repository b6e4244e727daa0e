"""What befalls one life of the program, drawn before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.simulation.disk import Deed, DiskTrouble
from worker.model import StopReason

DEEDS: tuple[Deed, ...] = ("die-before-commit", "die-after-commit", "disk-full", "commit-in-doubt")


@dataclass(frozen=True, slots=True)
class Fate:
    """Times count from the start of the life."""

    disk: DiskTrouble | None = None
    dies_after_seconds: float | None = None
    signal: StopReason | None = None
    signal_after_seconds: float = 0.0
    second_signal_after_seconds: float | None = None
    """After the first one; it ends the process at once."""
    clock_ahead_seconds: float = 0.0
    clock_jumps: tuple[tuple[float, float], ...] = ()
    """(after, forward by) in seconds."""
    stale_credentials: bool = False


PEACE = Fate()


def draw_fate(random: Random, eventful: float) -> Fate:
    """``eventful`` is the share of lives to which each kind of thing happens."""

    def happens() -> bool:
        return random.random() < eventful

    disk = None
    if happens():
        # Early commits belong to the start of a session, the others to its work.
        disk = DiskTrouble(random.choice(DEEDS), 1 + int(random.expovariate(1 / 25.0)))
    signal = random.choice((StopReason.SIGTERM, StopReason.SIGINT)) if happens() else None
    ahead_seconds = 0.0
    if happens():
        ahead_seconds = random.choice((-2.0, 3.5, -30.0, 600.0, -1200.0, 1800.0))
    jumps: tuple[tuple[float, float], ...] = ()
    if happens():
        jumps = tuple(
            (random.uniform(0, 20), random.choice((-6.0, -2.5, -0.2, 0.2, 3.1, 7.0)))
            for _ in range(random.randint(1, 6))
        )
    return Fate(
        disk=disk,
        dies_after_seconds=random.expovariate(1 / 6.0) if happens() else None,
        signal=signal,
        signal_after_seconds=random.expovariate(1 / 5.0),
        second_signal_after_seconds=random.uniform(0, 3) if random.random() < 0.3 else None,
        clock_ahead_seconds=ahead_seconds,
        clock_jumps=jumps,
        stale_credentials=happens(),
    )
