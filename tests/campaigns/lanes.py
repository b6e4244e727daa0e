"""Programs of a campaign: each in a fresh directory before a fresh service, several at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.campaigns.fate import Fate
from tests.campaigns.forks import DEADLINE_SECONDS, ROOT, Forks, Launch, forking
from tests.campaigns.judgement import Violation
from tests.campaigns.trace import Trace, read_trace
from tests.e2e.inputs import persons, write_table
from tests.e2e.program import Program
from tests.e2e.service import Pair, Service, serving
from worker.ledger.database import FILE_NAME
from worker.sandbox.latency import FixedLatency

T = TypeVar("T")
R = TypeVar("R")

QUICK = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.05"}
"""How long lookups wait for one another is not what a campaign is about."""

KEPT = 5
"""Directories of violated runs that a campaign puts aside; more would say the same."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the program is to do: an input, and a service that takes its time."""

    persons: int
    faces: int = 2
    rate_per_second: int = 1000
    concurrency: int = 8
    latency_seconds: float = 0.02

    @property
    def pairs(self) -> list[Pair]:
        return persons(self.persons, self.faces)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it did and said until then."""

    code: int
    """Negative for a signal that killed it."""
    trace: Trace
    err: str

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


class Trial:
    """One job in its directory, with the service it talks to."""

    def __init__(self, job: Job, directory: Path, service: Service, lane: Lane) -> None:
        self.pairs = job.pairs
        self.service = service
        self.directory = directory
        self.run_dir = directory / "r"
        self.environment = {**Program(directory).environment, **QUICK}
        self.run = (
            *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r"),
            *("--raised-quota", "--rate", str(job.rate_per_second)),
            *("--concurrency", str(job.concurrency)),
        )
        self._lane = lane
        self._numbers = count(1)
        write_table(directory / "a.csv", self.pairs)

    @property
    def planned(self) -> bool:
        """Whether the plan has become a ledger."""
        return (self.run_dir / FILE_NAME).exists()

    @property
    def continuation(self) -> tuple[str, ...]:
        """What a person types after the process has gone: start again where there is no plan."""
        return ("resume", "r", "--yes") if self.planned else self.run

    async def launch(self, *arguments: str, fate: Fate | None = None) -> Ended:
        """Fork a program under ``fate``, by default without any, and wait for its end."""
        trace, out, err = self._files()
        code = await self._lane.forks.launch(
            Launch(
                directory=str(self.directory),
                environment=self.environment,
                arguments=list(arguments),
                fate=fate or Fate(),
                trace=str(trace),
                out=str(out),
                err=str(err),
            )
        )
        return Ended(code, read_trace(trace), err.read_text())

    async def execute(
        self,
        *arguments: str,
        meanwhile: Callable[[asyncio.subprocess.Process], Awaitable[object]] | None = None,
        under: Sequence[str] = (),
        stdout: Path | None = None,
    ) -> Ended:
        """The same in a fresh interpreter, with nothing imported, ``under`` another command.

        ``meanwhile`` may do something to the process; ``stdout`` is a file it writes to.
        """
        trace, out, err = self._files()
        fate = self.directory / "fate"
        fate.write_bytes(msgspec.json.encode(Fate()))
        launcher = (sys.executable, "-m", "tests.campaigns.launcher", str(fate), str(trace), "--")
        with (stdout or out).open("wb") as out_file, err.open("wb") as err_file:
            process = await asyncio.create_subprocess_exec(
                *(*under, *launcher, *arguments),
                cwd=self.directory,
                env={**self.environment, "PYTHONPATH": str(ROOT)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
            )
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    if meanwhile is not None:
                        await meanwhile(process)
                    code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return Ended(code, read_trace(trace), err.read_text())

    def _files(self) -> tuple[Path, Path, Path]:
        number = next(self._numbers)
        trace, out, err = (self.directory / f"{number}.{name}" for name in ("trace", "out", "err"))
        return trace, out, err

    def keep(self, violations: Sequence[Violation]) -> str:
        """Put the directory of a violated run aside; where it is, or ``""`` if there are enough."""
        if not violations or self._lane.kept.full:
            return ""
        kept = self._lane.kept.directory()
        shutil.copytree(self.directory, kept, dirs_exist_ok=True)
        lines = "".join(f"{line}\n" for line in self.service.journal.lines)
        (kept / "service.log").write_text(lines)
        (kept / "violations").write_text("".join(f"{v.kind}: {v.what}\n" for v in violations))
        return str(kept)


class Kept:
    """Where violated runs are put aside for whoever looks into them."""

    def __init__(self) -> None:
        self._left = KEPT

    @property
    def full(self) -> bool:
        return self._left == 0

    def directory(self) -> Path:
        self._left -= 1
        return Path(tempfile.mkdtemp(prefix="facepurge-violation-"))


class Lane:
    """Tries one job after another."""

    def __init__(self, directory: Path, forks: Forks, kept: Kept) -> None:
        self.forks = forks
        self.kept = kept
        self._directory = directory
        self._numbers = count(1)

    @asynccontextmanager
    async def trial(self, job: Job) -> AsyncIterator[Trial]:
        """The job in a directory of its own, which is gone afterwards."""
        directory = self._directory / str(next(self._numbers))
        directory.mkdir()
        latency = FixedLatency(job.latency_seconds)
        try:
            async with serving(job.pairs, latency=latency) as service:
                yield Trial(job, directory, service, self)
        finally:
            shutil.rmtree(directory)


async def in_lanes(
    tasks: Iterable[T], work: Callable[[Lane, T], Awaitable[R]], *, lanes: int = 0
) -> list[R]:
    """``work`` for each of ``tasks``.

    By default on two lanes a core, because a run waits half of its time; on fewer for a few tasks,
    because a lane takes a while to begin.
    """
    if not lanes:
        lanes = 2 * (os.cpu_count() or 1)
        if isinstance(tasks, Sized):
            lanes = min(lanes, -(-len(tasks) // 4))
    queue = iter(tasks)
    kept = Kept()
    results: list[R] = []

    async def follow(directory: Path) -> None:
        async with forking() as forks:
            lane = Lane(directory, forks, kept)
            for task in queue:
                results.append(await work(lane, task))  # noqa: PERF401 (other lanes append, too)

    with tempfile.TemporaryDirectory(prefix="facepurge-campaign-") as scratch:
        async with asyncio.TaskGroup() as group:
            for number in range(lanes):
                directory = Path(scratch) / str(number)
                directory.mkdir()
                group.create_task(follow(directory))
    return results
