"""The crash sweep one layer further down: killed by strace on entering a system call.

The launcher sees what Python asks for; strace sees what SQLite and the interpreter really do. But it
counts each thread's calls alone, and kills at the first thread that comes to the number: of all the
calls there are it reaches only as many as the busiest thread makes, and says so here.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

from tests.campaigns.deaths import Death, aftermath
from tests.campaigns.lanes import Job, Lane, in_lanes

CALLS = ("pwrite64", "fsync", "fdatasync", "sendto", "rename", "renameat")
INSTALL = "strace is not there, so nothing was killed at system calls: apt install strace"

_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\(")


def available() -> bool:
    """Whether this machine has strace."""
    return shutil.which("strace") is not None


def _strace(*options: str, output: Path | str = "/dev/null") -> tuple[str, ...]:
    return ("strace", "-f", "-qq", "-o", str(output), "-e", f"trace={','.join(CALLS)}", *options)


async def count(lane: Lane, _nothing: None, *, job: Job) -> dict[str, Counter[str]]:
    """Of each system call, how many each thread of a run makes."""
    async with lane.trial(job) as one:
        output = one.directory / "strace"
        ended = await one.execute(*one.run, under=_strace(output=output))
        if ended.code != 0:
            raise RuntimeError(f"under strace the run ended with {ended.code}: {ended.last_line}")
        counts: dict[str, Counter[str]] = {call: Counter() for call in CALLS}
        for line in output.read_text().splitlines():
            if found := _LINE.match(line):
                counts[found["call"]][found["thread"]] += 1
        return counts


async def be_killed_at(lane: Lane, at: tuple[str, int], *, job: Job) -> Death:
    """Die on entering the numbered system call of a thread, go on, and judge."""
    call, number = at
    async with lane.trial(job) as one:
        inject = _strace("-e", f"inject={call}:signal=SIGKILL:when={number}")
        ended = await one.execute(*one.run, under=inject)
        return await aftermath(one, ended, call)


async def sample(job: Job, points: int, seed: int) -> tuple[list[Death], int, int]:
    """Die at some of the system calls; the deaths, how many can be reached, how many there are."""
    (counts,) = await in_lanes([None], partial(count, job=job), lanes=1)
    reachable = [
        (call, number)
        for call, threads in counts.items()
        for number in range(1, max(threads.values(), default=0) + 1)
    ]
    there_are = sum(sum(threads.values()) for threads in counts.values())
    chosen = random.Random(seed).sample(reachable, min(points, len(reachable)))
    return await in_lanes(chosen, partial(be_killed_at, job=job)), len(reachable), there_are
