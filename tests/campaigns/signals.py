"""The signal sweep: SIGTERM at random times of a run's life, and the way on from there.

``make signals`` (``POINTS``, ``SEED``) starts the program in a fresh interpreter for each signal. No
request may begin later than 0.1 s after the handler ran, the program ends within its grace period
with 143, and resume completes the run. A second stage sends a second signal shortly after the first:
then the program ends at once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

from tests.campaigns.judgement import Violation, judge_completed
from tests.campaigns.lanes import Ended, Job, Lane, Trial, in_lanes
from tests.campaigns.table import Table, held, say

JOB = Job(100, rate_per_second=100, latency_seconds=0.05)

LATEST_REQUEST_SECONDS = 0.1
"""L2: after SIGTERM's handler no request begins later than this."""

GRACE_SECONDS = 2.0
CONCLUDING_SECONDS = 2.0
"""For the end of the ledger, the report, and an interpreter on a busy machine."""

AT_ONCE_SECONDS = 1.0
BETWEEN_SIGNALS_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Told:
    """When a process is to be told to stop."""

    after_seconds: float
    """Since its start, or since so many requests have arrived:"""
    after_requests: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """One process that was told to stop, and what became of the run."""

    struck: str
    """The exit code, with what it means."""
    request_seconds: float | None
    """From the handler to the beginning of the last request after it; None without a handler."""
    arrival_seconds: float | None
    """The same at the server, where requests come in that had left before."""
    end_seconds: float | None
    """From the (last) handler to the end of the process."""
    violations: tuple[Violation, ...]
    kept: str


async def be_told(lane: Lane, told: Told, *, job: Job) -> Stop:
    """Start the job, tell it to stop, go on, and judge."""

    async with lane.trial(job) as one:

        async def tell(process: asyncio.subprocess.Process) -> None:
            if told.after_requests:
                await one.service.arrivals(told.after_requests)
            with suppress(TimeoutError):
                async with asyncio.timeout(told.after_seconds):
                    await process.wait()
            for _ in range(told.times):
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                await asyncio.sleep(BETWEEN_SIGNALS_SECONDS if told.times > 1 else 0.0)

        one.environment["FACEPURGE_GRACE_SECONDS"] = str(GRACE_SECONDS)
        ended = await one.execute(*one.run, meanwhile=tell)
        ended_seconds = time.monotonic()
        violations = _wrong_end(ended, told)
        request_seconds = arrival_seconds = end_seconds = None
        handled = ended.trace.signals_seconds
        if handled:
            begun = ended.trace.requests_seconds
            arrived = [entry.seconds for entry in one.service.entries]
            request_seconds = max(0.0, max(begun, default=0.0) - handled[0])
            arrival_seconds = max(0.0, max(arrived, default=0.0) - handled[0])
            end_seconds = ended_seconds - handled[-1]
            if request_seconds > LATEST_REQUEST_SECONDS or len(arrived) > len(begun):
                said = f"a request began {request_seconds:.3f} s after the handler"
                violations.append(Violation("other", said))
            limit = AT_ONCE_SECONDS if len(handled) > 1 else GRACE_SECONDS + CONCLUDING_SECONDS
            if end_seconds > limit:
                violations.append(Violation("other", f"the end came {end_seconds:.1f} s later"))
        violations += await _complete(one, ended)
        return Stop(
            _words(ended, one),
            request_seconds,
            arrival_seconds,
            end_seconds,
            tuple(violations),
            one.keep(violations),
        )


def _wrong_end(ended: Ended, told: Told) -> list[Violation]:
    """143; or 0 where the signal came too late; or the signal's own death where no handler was set,
    and then no call may have been in flight."""
    handled = bool(ended.trace.signals_seconds)
    match ended.code:
        case 143:
            right = handled
        case 0:
            right = True
        case code if code == -signal.SIGTERM:
            right = ended.trace.in_flight == 0
        case _:
            right = False
    if right:
        return []
    said = (
        f"exit code {ended.code} after {len(ended.trace.signals_seconds)} of {told.times} signals"
    )
    return [Violation("other", f"{said}: {ended.last_line}")]


async def _complete(one: Trial, ended: Ended) -> list[Violation]:
    """Whether resume, where anything is left to do, brings the run to its end."""
    violations: list[Violation] = []
    if ended.code != 0:
        resumed = await one.launch(*one.continuation)
        if resumed.code != 0:
            said = f"{one.continuation[0]} then: exit code {resumed.code}: {resumed.last_line}"
            violations.append(Violation("other", said))
    return violations + judge_completed(one.run_dir, one.pairs, one.service)


def _words(ended: Ended, one: Trial) -> str:
    if ended.code == 143:
        return "drained" if ended.trace.requests_seconds else "stopped before the first call"
    if ended.code == 0:
        return "finished before"
    if not ended.trace.points:
        return "killed while it started"
    return "killed with no handler and nothing in flight"


async def life_seconds(job: Job) -> tuple[float, float]:
    """When an undisturbed run begins to do something, and when it ends."""

    async def live(lane: Lane, _nothing: None) -> tuple[float, float]:
        async with lane.trial(job) as one:
            began = time.monotonic()
            ended = await one.execute(*one.run)
            return ended.trace.points[0].seconds - began, time.monotonic() - began

    lives = await in_lanes([None, None], live, lanes=1)
    return min(first for first, _ in lives), max(last for _, last in lives)


def milliseconds(values: Sequence[float | None]) -> str:
    """The median and the largest."""
    known = [value * 1000 for value in values if value is not None]
    return f"{median(known):.1f} / {max(known):.1f}" if known else ""


def shown(table: Table, name: str, stops: Sequence[Stop], began: float) -> bool:
    """Show the line of a stage; False where something was violated."""
    table.line(
        name,
        len(stops),
        sum(stop.request_seconds is not None for stop in stops),
        milliseconds([stop.request_seconds for stop in stops]),
        milliseconds([stop.arrival_seconds for stop in stops]),
        milliseconds([stop.end_seconds for stop in stops]),
        sum(len(stop.violations) for stop in stops),
        f"{time.monotonic() - began:.0f}",
    )
    ways = Counter(stop.struck for stop in stops)
    say("    " + ", ".join(f"{count} {way}" for way, count in ways.most_common()))
    return held(stops)


async def campaign(points: int, seed: int) -> bool:
    """All stages; False where anything was violated."""
    say(f"seed {seed}; to repeat it: make signals POINTS={points} SEED={seed}")
    say("milliseconds after the handler ran, median / largest:")
    table = Table(
        ("signals", "handled", "request begun", "arrival", "end", "violations", "seconds")
    )
    chance = random.Random(seed)
    first_seconds, last_seconds = await life_seconds(JOB)
    good = True
    for name, count, times in (
        ("SIGTERM at random times", points, 1),
        ("SIGTERM twice at random times", points // 5, 2),
    ):
        began = time.monotonic()
        told = [
            Told(chance.uniform(0.9 * first_seconds, last_seconds), times=times)
            for _ in range(count)
        ]
        good &= shown(table, name, await in_lanes(told, partial(be_told, job=JOB)), began)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200, help="signals at random times")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    given = parser.parse_args()
    seed: int = given.seed or random.SystemRandom().randrange(1, 1_000_000)
    return 0 if asyncio.run(campaign(given.points, seed)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
