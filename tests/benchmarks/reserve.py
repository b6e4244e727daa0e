"""A batch with ``--reserve 5`` beside a production client on the same quota, over real sockets.

The production client makes 5 calls a second, evenly but for up to 20 ms of jitter. A series passes
when from two seconds after the batch's first call on none of them is throttled, and the batch makes
12.5 calls a second where the service counts each second by itself, 14 where it has a token bucket.
Run it alone: ``make pace``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.pace import sandbox
from tests.core.rig import client_of, persons
from worker.model import Call
from worker.pacing import Pacers
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET

PRODUCTION_PER_SECOND = 5.0
JITTER_SECONDS = 0.02
SETTLED_SECONDS = 2.0
"""After its first call the batch may still try what the service allows."""

PRODUCTION = "production"


@dataclass(frozen=True)
class Seen:
    """What the server saw."""

    calls: int
    rate_per_second: float
    """Accepted calls of the batch."""
    throttles: int
    """Of the batch."""
    early: int
    """Throttles of the production client before it is settled."""
    late: int
    """Those after it."""
    most_in_any_second: int
    """Of the batch."""


def judge(log: Path) -> Seen:
    batch: list[tuple[float, bool]] = []
    production: list[tuple[float, bool]] = []
    with log.open() as file:
        for line in file:
            entry = json.loads(line)
            if entry["event"] == "arrival" and entry["operation"] == "DeleteFaces":
                of = production if entry["person_id"].startswith(PRODUCTION) else batch
                of.append((entry["seconds"], entry["status"] == 200))
    batch.sort()
    began, ended = batch[0][0], batch[-1][0]
    accepted = [seconds for seconds, good in batch if good]
    refused = [seconds - began for seconds, good in production if not good and seconds <= ended]
    most = first = 0
    for index, (seconds, _) in enumerate(batch):
        while batch[first][0] <= seconds - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return Seen(
        len(batch),
        (len(accepted) - 1) / (accepted[-1] - accepted[0]),
        len(batch) - len(accepted),
        sum(seconds <= SETTLED_SECONDS for seconds in refused),
        sum(seconds > SETTLED_SECONDS for seconds in refused),
        most,
    )


async def produce(url: str, seed: int) -> None:
    """Call after call, each on time and not when the one before is answered, until cancelled."""
    chance = random.Random(seed)
    pacers = Pacers(1000.0, outage_limit_seconds=3600, shared=False)
    loop = asyncio.get_running_loop()
    async with client_of(url, pacers) as client, asyncio.TaskGroup() as group:
        at, number = loop.time(), 0
        while True:
            at += 1 / PRODUCTION_PER_SECOND
            late = chance.uniform(-JITTER_SECONDS, JITTER_SECONDS)
            await asyncio.sleep(max(0.0, at + late - loop.time()))
            number += 1
            call = Call(number, f"{PRODUCTION}{number}", ("1",), ("",))
            group.create_task(client.send(client.prepare(call)))


async def side_by_side(directory: Path, source: Path, url: str, seed: int) -> None:
    environment = {
        **os.environ,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": SANDBOX_ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SANDBOX_ACCESS_KEY_SECRET,
        "XDG_STATE_HOME": str(directory),
    }
    production = asyncio.create_task(produce(url, seed))
    await asyncio.sleep(3)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "run", str(source), "--yes", "--quiet"),
        *("--endpoint", url, "--run-dir", str(directory / "run"), "--reserve", "5"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    code = await process.wait()
    production.cancel()
    await asyncio.gather(production, return_exceptions=True)
    if code:
        raise SystemExit(f"facepurge ended with {code}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=900)
    parser.add_argument("--only", default="", help="a part of the series' names")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    series: Sequence[tuple[str, float, Sequence[str]]] = [
        ("sliding second, 50 ms", 12.5, ("--latency", "fixed:0.05")),
        ("sliding second, 300 ms", 12.5, ("--latency", "fixed:0.3")),
        ("calendar second, 50 ms", 12.5, ("--latency", "fixed:0.05", "--quota", "calendar")),
        ("token bucket, 50 ms", 14.0, ("--latency", "fixed:0.05", "--quota", "bucket")),
        ("token bucket, 300 ms", 14.0, ("--latency", "fixed:0.3", "--quota", "bucket")),
    ]
    good = True
    for name, least, options in series:
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch)
            pairs = persons(arguments.persons)
            state = directory / "state.json"
            state.write_text(json.dumps({"persons": {person: [face] for person, face in pairs}}))
            source = directory / "faces.csv"
            source.write_text("person_id,face_id\n" + "".join(f"{p},{f}\n" for p, f in pairs))
            with sandbox(directory, state, *options) as url:
                asyncio.run(side_by_side(directory, source, url, arguments.seed))
            seen = judge(directory / "log.jsonl")
        passed = seen.late == 0 and seen.rate_per_second >= least and seen.most_in_any_second <= 20
        good &= passed
        print(
            f"  {'ok  ' if passed else 'FAIL'}  reserve 5: {name:<22} {seen.rate_per_second:.2f}/s"
            f" of {seen.calls} calls, {seen.throttles} throttled, at most {seen.most_in_any_second} in"
            f" a second; production: {seen.early} throttled in the first 2 s, {seen.late} after",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
