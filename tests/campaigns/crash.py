"""The crash sweep: a real process that dies at each of its writes, and is then resumed.

``make crash`` kills a run of 20 calls before every ledger, report and network write and every sync
there is, cuts the power there, and kills it after every network write; a run of 500 calls at
sampled points (``POINTS``, ``SEED``); and runs of 100 calls at random times from outside. After each
death the run goes on, and must end in the truth: no false ``deleted``, nothing lost, nothing sent
again without cause, and never more attempts left open than were in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from tests.campaigns import system_calls
from tests.campaigns.deaths import Death, be_killed, die, existing
from tests.campaigns.fate import Deed, Fate
from tests.campaigns.lanes import Job, Lane, in_lanes
from tests.campaigns.table import Table, held, say

SMALL = Job(20, rate_per_second=50, concurrency=4, latency_seconds=0.05)
"""Slow enough that calls seldom share a commit, and that there are about as many points each time."""

MIDDLE = Job(100)
BIG = Job(500, concurrency=16)

OVERSHOOT = 5
"""Points beyond all that were counted that no run reaches, after which a sweep is at its end."""

POWER_MATTERS = (Deed.SYNC, Deed.RENAME, Deed.DELETE, Deed.SEND)
"""Between these a power cut that loses everything unsynced leaves the same disk."""

FOREVER_SECONDS = 1e6

KINDS = ("false", "lost", "twice", "open", "other")


class Sweep:
    """Points 1, 2, 3 and so on, or only ``every`` so many, until there are no more.

    A point that a shorter run than others did not come to is tried once more.
    """

    def __init__(self, existing: int, fate: Fate, every: int) -> None:
        self.existing = existing
        self._fate = fate
        self._every = every
        self._missed: list[int] = []
        self._beyond = 0

    def __iter__(self) -> Iterator[Fate]:
        point = 1
        while point <= self.existing or self._beyond < OVERSHOOT:
            yield self._at(point)
            point += self._every if point < self.existing else 1
        for point in [point for point in self._missed if point <= self.existing]:
            yield self._at(point)

    def _at(self, point: int) -> Fate:
        return msgspec.structs.replace(self._fate, point=point, seed=point)

    async def die(self, lane: Lane, fate: Fate, *, job: Job) -> Death:
        """Die at one of the points."""
        death = await die(lane, fate, job=job)
        if death.struck:
            self._beyond = 0
            self.existing = max(self.existing, fate.point)
        else:
            self._missed.append(fate.point)
            self._beyond += fate.point > self.existing
        return death


# The stages


async def sweep(job: Job, fate: Fate, every: int = 1) -> tuple[list[Death], int]:
    """Die at every point there is; the deaths, and the number of points."""
    points = Sweep(await existing(fate, job), fate, every)
    deaths = await in_lanes(points, partial(points.die, job=job))
    return deaths, points.existing


WAYS = (
    Fate(),
    Fate(stroke="die after"),
    Fate(loss="unsynced"),
    Fate(loss="torn"),
)


class Sample:
    """Points drawn until so many were reached: a run that shares commits comes to fewer of them."""

    def __init__(self, existing: int, wanted: int, seed: int) -> None:
        self._wanted = min(wanted, existing)
        self._left = list(range(1, existing + 1))
        self._chance = random.Random(seed)
        self._reached = 0

    def __iter__(self) -> Iterator[Fate]:
        for _ in range(3 * self._wanted):
            if self._reached >= self._wanted or not self._left:
                return
            point = self._left.pop(self._chance.randrange(len(self._left)))
            yield msgspec.structs.replace(self._chance.choice(WAYS), point=point, seed=point)

    async def die(self, lane: Lane, fate: Fate, *, job: Job) -> Death:
        """Die at one of the points."""
        death = await die(lane, fate, job=job)
        self._reached += bool(death.struck)
        return death


async def sample(job: Job, points: int, seed: int) -> tuple[list[Death], int]:
    """Die at some of the points, in any of the ways; the deaths, and how many points there are."""
    there_are = await existing(Fate(), job)
    chosen = Sample(there_are, points, seed)
    return await in_lanes(chosen, partial(chosen.die, job=job)), there_are


async def kill(job: Job, times: int, seed: int) -> list[Death]:
    """Kill a fresh process at random times of its life."""
    chance = random.Random(seed)
    began = time.monotonic()
    await in_lanes([FOREVER_SECONDS], partial(be_killed, job=job))
    life_seconds = time.monotonic() - began
    moments = [chance.uniform(0.0, life_seconds) for _ in range(times)]
    return await in_lanes(moments, partial(be_killed, job=job))


def shown(table: Table, name: str, deaths: Sequence[Death], there_are: int, began: float) -> bool:
    """Show the line of a stage; False where something was violated."""
    died = [death for death in deaths if death.struck]
    kinds: Counter[str] = Counter(
        violation.kind for death in deaths for violation in death.violations
    )
    table.line(
        name,
        len(deaths),
        len(died),
        there_are or "",
        *(kinds[kind] for kind in KINDS),
        max((death.left_open for death in died), default=0),
        max((death.in_flight for death in died), default=0),
        f"{time.monotonic() - began:.0f}",
    )
    where = Counter(death.struck for death in died)
    say("    at " + ", ".join(f"{count} {struck}" for struck, count in where.most_common()))
    return held(deaths)


async def campaign(points: int, kills: int, seed: int, every: int) -> bool:
    """All stages; False where anything was violated."""
    say(f"seed {seed}; to repeat it: make crash POINTS={points} SEED={seed}")
    table = Table(("points", "reached", "existing", *KINDS, "left open", "in flight", "seconds"))
    good = True
    sweeps = (
        ("killed before each", Fate()),
        ("killed after each network write", Fate(stroke="die after", deeds=(Deed.SEND,))),
        ("power cut before each", Fate(loss="unsynced", deeds=POWER_MATTERS)),
        (
            "power cut after each network write",
            Fate(stroke="die after", loss="unsynced", deeds=(Deed.SEND,)),
        ),
        ("power cut, unsynced torn, before each", Fate(loss="torn")),
    )
    for name, fate in sweeps:
        began = time.monotonic()
        deaths, there_are = await sweep(SMALL, fate, every)
        good &= shown(table, f"20 calls, {name}", deaths, there_are, began)
    began = time.monotonic()
    deaths, there_are = await sample(BIG, points, seed)
    good &= shown(table, "500 calls, sampled, any of these", deaths, there_are, began)
    began = time.monotonic()
    deaths = await kill(MIDDLE, kills, seed)
    good &= shown(table, "100 calls, SIGKILL at random times", deaths, 0, began)
    if not system_calls.available():
        say(system_calls.INSTALL)
        return good
    began = time.monotonic()
    deaths, reachable, there_are = await system_calls.sample(SMALL, kills, seed)
    good &= shown(table, "20 calls, killed by strace", deaths, there_are, began)
    say(f"    strace counts by thread: it can reach {reachable} of the {there_are} system calls")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=300, help="sampled of the run of 500 calls")
    parser.add_argument("--kills", type=int, default=60, help="at random times")
    parser.add_argument("--every", type=int, default=1, help="of the points of the small run")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    given = parser.parse_args()
    seed: int = given.seed or random.SystemRandom().randrange(1, 1_000_000)
    return 0 if asyncio.run(campaign(given.points, given.kills, seed, given.every)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
