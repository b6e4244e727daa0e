"""Writes attempts for a while, so many at a time, and tells how many became durable in a second.

``python -m tests.benchmarks.attempts apsw|ledger|watched AT_ONCE SECONDS``. ``apsw`` is the yardstick: the
same rows into the same table by a loop that does nothing else. ``ledger`` is the ledger of a run as the
pipeline uses it, with its thread. ``watched`` is the same beside a process that looks at the run all the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from tests.core.rig import draft_run, opened_ledger, persons, rows
from worker.ledger.database import FILE_NAME
from worker.model import Request, Step

TABLE = """
CREATE TABLE attempt (
  seq INTEGER PRIMARY KEY, call_no INTEGER NOT NULL, operation TEXT NOT NULL, step TEXT NOT NULL,
  nonce TEXT NOT NULL, body_sha256 TEXT NOT NULL, face_ids TEXT NOT NULL, opened_us INTEGER NOT NULL
) STRICT;
CREATE INDEX attempt_call ON attempt (call_no);
"""
INSERT = "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

WARMING_RECORDS = 15_000
"""As many as fill the write-ahead log once: a log that still grows takes several times as long to sync."""

LOOKS_ALL_THE_TIME = """
import sys, time
from pathlib import Path
from worker.cli.standing import look
look(Path(sys.argv[1]))
print(flush=True)
while True:
    look(Path(sys.argv[1]))
    time.sleep(0.02)
"""


def request(number: int) -> Request:
    faces = tuple(f"{31842550077981745 + 5 * number + face}" for face in range(5))
    body = json.dumps({"personId": f"person{number}", "faceIds": faces}).encode()
    return Request(
        "DeleteFaces", Step.DELETE, number, f"person{number}", faces, body, f"{number:032x}"
    )


def by_apsw(directory: Path, at_once: int, seconds: float) -> float:
    """Records a second, with the durability of the ledger."""
    connection = apsw.Connection(str(directory / FILE_NAME))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)

    def commit(numbers: Iterable[int]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for number in numbers:
            made = request(number)
            digest = hashlib.sha256(made.body).hexdigest()
            faces = json.dumps(made.face_ids)
            connection.execute(
                INSERT,
                (number, number, made.operation, made.step, made.nonce, digest, faces, number),
            )
        connection.execute("COMMIT")

    commit(range(WARMING_RECORDS))
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        first = WARMING_RECORDS + count
        commit(range(first, first + at_once))
        count += at_once
    connection.close()
    return count / passed


async def by_ledger(run_dir: Path, at_once: int, seconds: float) -> float:
    """Records a second; so many callers wait at a time."""
    async with opened_ledger(run_dir) as ledger:

        async def commit(numbers: Iterable[int]) -> None:
            made = [request(number) for number in numbers]
            await asyncio.gather(*(ledger.open_attempt(one, one.call_no) for one in made))

        await commit(range(WARMING_RECORDS))
        began, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            first = WARMING_RECORDS + count
            await commit(range(first, first + at_once))
            count += at_once
    return count / passed


@contextmanager
def watched(run_dir: Path) -> Iterator[None]:
    """Somebody looks fifty times a second."""
    with subprocess.Popen(
        [sys.executable, "-c", LOOKS_ALL_THE_TIME, str(run_dir)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has looked once
        try:
            yield
        finally:
            process.kill()


def main(who: str, at_once: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        if who == "apsw":
            return by_apsw(directory, at_once, seconds)
        draft_run(directory, [rows(persons(1000))])
        if who == "watched":
            with watched(directory):
                return asyncio.run(by_ledger(directory, at_once, seconds))
        return asyncio.run(by_ledger(directory, at_once, seconds))


if __name__ == "__main__":
    print(
        json.dumps({"records_per_second": main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))})
    )
