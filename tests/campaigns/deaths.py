"""One death of the program: what it left, how the run went on, and what of that must not be."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from tests.campaigns.fate import Fate
from tests.campaigns.judgement import Violation, closed_after_crash, judge_completed
from tests.campaigns.lanes import Ended, Job, Lane, Trial, in_lanes

COUNTING_RUNS = 3
"""How many points there are differs a little from run to run: what is queued shares a commit."""


@dataclass(frozen=True, slots=True)
class Death:
    """One process that was to die, and what became of its run."""

    struck: str
    """Deed and place, or ``""`` where the point was not reached."""
    counted: int
    """Points that the process passed."""
    in_flight: int
    left_open: int
    violations: tuple[Violation, ...]
    kept: str
    """Where the directory of a violated run is, or ``""``."""


async def die(lane: Lane, fate: Fate, *, job: Job) -> Death:
    """Start the job under ``fate``, go on after its death, and judge."""
    async with lane.trial(job) as one:
        ended = await one.launch(*one.run, fate=fate)
        return await aftermath(one, ended, str(ended.trace.struck))


async def be_killed(lane: Lane, after_seconds: float, *, job: Job) -> Death:
    """Start the job in a fresh interpreter, kill it, go on, and judge."""

    async def kill(process: asyncio.subprocess.Process) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(after_seconds):
                await process.wait()
                return
        process.kill()

    async with lane.trial(job) as one:
        ended = await one.execute(*one.run, meanwhile=kill)
        return await aftermath(one, ended, "SIGKILL")


async def aftermath(one: Trial, ended: Ended, struck: str) -> Death:
    """Go on after ``ended``, and judge."""
    violations: list[Violation] = []
    left_open = 0
    if ended.code == -signal.SIGKILL:
        if ended.trace.requests_seconds and not one.planned:
            violations.append(Violation("other", "a request before the plan was durable"))
        ended_again = await one.launch(*one.continuation)
        if ended_again.code != 0:
            said = f"exit code {ended_again.code}: {ended_again.last_line}"
            violations.append(Violation("other", said))
        left_open = closed_after_crash(one.run_dir) if one.planned else 0
        if left_open > ended.trace.in_flight:
            said = f"{left_open} left open, {ended.trace.in_flight} in flight"
            violations.append(Violation("open", said))
    elif ended.code == 0:
        struck = ""
    else:
        violations.append(Violation("other", f"exit code {ended.code}: {ended.last_line}"))
    violations += judge_completed(one.run_dir, one.pairs, one.service)
    return Death(
        struck,
        ended.trace.counted,
        ended.trace.in_flight,
        left_open,
        tuple(violations),
        one.keep(violations),
    )


async def existing(fate: Fate, job: Job) -> int:
    """How many points that ``fate`` counts a run of the job passes, at most."""
    counting = [msgspec.structs.replace(fate, point=0)] * COUNTING_RUNS
    deaths = await in_lanes(counting, partial(die, job=job))
    return max(death.counted for death in deaths)
