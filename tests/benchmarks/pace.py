"""Pacing, measured where it counts: arrival times in the log of a server on a real socket.

Each series sends 1 200 calls (``--short``: 300, or ``--persons N``) to a sandbox process that allows 20 calls in any
sliding second and refuses the rest. A series passes when the server refused none, never saw more
than 20 in a second, and each busy stretch used at least 98.5 % of 20 calls/s. Run it alone:
``make pace``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp

from tests.core.rig import client_of, draft_run, opened_ledger, persons, pipeline_of, rows
from worker.pacing import Pacers
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings

CALLS = 1200
SHORT_CALLS = 300
ALLOWED = 20
SHARE = 0.985
PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Seen:
    """What the server saw."""

    calls: int
    throttled: int
    most_in_any_second: int
    shares: tuple[float, ...]
    """Of 20 calls/s, per busy stretch."""

    @property
    def good(self) -> bool:
        return (
            self.throttled == 0
            and self.most_in_any_second <= ALLOWED
            and bool(self.shares)
            and min(self.shares) >= SHARE
        )


def stretches(arrivals: Sequence[float]) -> Iterator[Sequence[float]]:
    """Parts of the series without a pause of more than a second."""
    start = 0
    for index in range(1, len(arrivals) + 1):
        if index == len(arrivals) or arrivals[index] - arrivals[index - 1] > 1.0:
            yield arrivals[start:index]
            start = index


def judge(log: Path) -> Seen:
    arrivals: list[float] = []
    throttled = 0
    with log.open() as file:
        for line in file:
            entry = json.loads(line)
            if entry["event"] == "arrival":
                arrivals.append(entry["seconds"])
                throttled += entry["status"] != 200
    arrivals.sort()
    most = first = 0
    for index, arrival in enumerate(arrivals):
        while arrivals[first] <= arrival - 1.0:
            first += 1
        most = max(most, index - first + 1)
    shares = tuple(
        (len(part) - 1) / (part[-1] - part[0]) / ALLOWED
        for part in stretches(arrivals)
        if len(part) >= 100
    )
    return Seen(len(arrivals), throttled, most, shares)


@contextmanager
def sandbox(directory: Path, state: Path, *options: str) -> Iterator[str]:
    log = directory / "log.jsonl"
    command = [sys.executable, "-m", "worker", "sandbox", "--state", str(state), "--log", str(log)]
    environment = {key: value for key, value in os.environ.items() if "ALIBABA" not in key}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def program(directory: Path, source: Path, url: str, meddle: Callable[[int], None]) -> None:
    """The whole program as a user runs it."""
    command = [sys.executable, "-m", "worker", "run", str(source), "--yes", "--quiet"]
    command += ["--endpoint", url, "--run-dir", str(directory / "run")]
    environment = dict(os.environ)
    environment["ALIBABA_CLOUD_ACCESS_KEY_ID"] = SANDBOX_ACCESS_KEY_ID
    environment["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] = SANDBOX_ACCESS_KEY_SECRET
    environment["XDG_STATE_HOME"] = str(directory)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        meddle(process.pid)
        code = process.wait()
    if code:
        raise SystemExit(f"facepurge ended with {code}")
    summary = json.loads((directory / "run" / "report" / "summary.json").read_text())
    print(
        f"      sender: at most {summary['max_calls_in_any_second']['DeleteFaces']} in a second,"
        f" mean {summary['mean_rate']}/s"
    )


def leave_alone(_pid: int) -> None:
    """Nothing happens to the process."""


def freeze(pid: int, after_seconds: float) -> None:
    """The process does not run for a while, and its event loop with it.

    On the clock of the wall: it is the real program whose arrivals are counted.
    """
    time.sleep(after_seconds)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    os.kill(pid, signal.SIGCONT)


class ColdConnector(aiohttp.TCPConnector):
    """Every call needs a new connection, and that takes 150 ms."""

    def __init__(self, **options: Any) -> None:
        del options["keepalive_timeout"]
        super().__init__(force_close=True, **options)

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        await asyncio.sleep(0.15)
        return await super().connect(*args, **options)


async def waves(directory: Path, url: str, counts: Sequence[int]) -> None:
    """Runs one after the other through the same pacers, with an idle pause between them."""
    pacers = Pacers(Settings().rate_per_second, outage_limit_seconds=60, shared=False)
    async with client_of(url, pacers) as client:
        done = 0
        for number, count in enumerate(counts):
            if number:
                await asyncio.sleep(PAUSE_SECONDS)
            run_dir = directory / f"wave{number}"
            draft_run(run_dir, [rows(persons(done + count)[done:])])
            done += count
            async with opened_ledger(run_dir) as ledger:
                await pipeline_of(ledger, client, pacers).run()


@dataclass(frozen=True)
class Series:
    """One way to send so many calls to a sandbox."""

    name: str
    options: Sequence[str]
    """Of the sandbox."""
    drive: Callable[[Path, Path, str], None]
    """Sends them: in a directory, from a source, to a URL."""


def all_series(count: int) -> list[Series]:
    """Every series of ``count`` calls."""

    def whole(directory: Path, source: Path, url: str) -> None:
        program(directory, source, url, leave_alone)

    def frozen(directory: Path, source: Path, url: str) -> None:
        program(directory, source, url, partial(freeze, after_seconds=count / ALLOWED / 2))

    def cold(directory: Path, _source: Path, url: str) -> None:
        with patch("aiohttp.TCPConnector", ColdConnector):
            asyncio.run(waves(directory, url, [count]))

    def idle(directory: Path, _source: Path, url: str) -> None:
        asyncio.run(waves(directory, url, [count // 2, count - count // 2]))

    return [
        Series("latency 50 ms", ("--latency", "fixed:0.05"), whole),
        Series("latency 1 s", ("--latency", "fixed:1"), whole),
        Series("latency log-normal", ("--latency", "lognormal:0.08:1.0"), whole),
        Series("cold connections, 150 ms", ("--latency", "fixed:0.05"), cold),
        Series("idle pause of 5 s", ("--latency", "fixed:0.05"), idle),
        Series("stalled loop, 5 s", ("--latency", "fixed:0.05"), frozen),
    ]


def seen_of(series: Series, count: int) -> Seen:
    """Send ``count`` calls; what the server saw."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        pairs = persons(count)
        state = directory / "state.json"
        state.write_text(json.dumps({"persons": {person: [face] for person, face in pairs}}))
        source = directory / "faces.csv"
        source.write_text("person_id,face_id\n" + "".join(f"{p},{f}\n" for p, f in pairs))
        with sandbox(directory, state, *series.options) as url:
            series.drive(directory, source, url)
        return judge(directory / "log.jsonl")


def measured(name: str, seen: Seen) -> bool:
    share = f"{min(seen.shares):.2%}" if seen.shares else "no busy stretch"
    print(
        f"  {'ok  ' if seen.good else 'FAIL'}  {name:<28} {seen.calls:>5} calls,"
        f" {seen.throttled} throttled, at most {seen.most_in_any_second} in a second, {share} of 20/s",
        flush=True,
    )
    return seen.good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=CALLS)
    parser.add_argument(
        "--short",
        action="store_const",
        dest="persons",
        const=SHORT_CALLS,
        help=f"{SHORT_CALLS} calls in each series",
    )
    parser.add_argument("--only", default="", help="a part of the series' names")
    arguments = parser.parse_args()
    count: int = arguments.persons
    chosen = [series for series in all_series(count) if arguments.only in series.name]
    verdicts = [measured(series.name, seen_of(series, count)) for series in chosen]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
