"""Begins attempts for a while, so many at a time, and tells how many became durable in a second.

``python -m tests.benchmarks.attempts apsw|ledger|watched AT_ONCE SECONDS``. ``apsw`` is the yardstick: the
same rows into the same tables by a loop that does nothing else. ``ledger`` is the ledger of a run as the
pipeline uses it, with its thread: it finds the next planned call, and claims it. ``watched`` is the same beside a process that looks at the run all the time.
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
from worker import ledger
from worker.ledger.database import FILE_NAME
from worker.model import Call, Request, Step

SCHEMA = Path(ledger.__file__).with_name("schema.sql").read_text()
INSERT_CALL = "INSERT INTO call VALUES (?, ?, 0, 1, 'delete', 0, ?)"
INSERT_FACE = """
INSERT INTO face (call_no, first_row, source_no, line, face_id, step, outcome, code, attempts)
VALUES (?, ?, 0, ?, ?, 'delete', 'unsent', '', 0)
"""
INSERT_ATTEMPT = "INSERT INTO attempt VALUES (?, ?, 'DeleteFaces', 'delete', ?, ?, ?, ?)"
MOVE_ON = "UPDATE frontier SET call_no = ?"

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
    time.sleep(0.02)  # fifty times a second
"""


MOST_A_SECOND = 60_000
"""More than any machine makes durable one by one: so many calls are planned."""


def prepare(call: Call) -> Request:
    body = json.dumps({"personId": call.person_id, "faceIds": call.face_ids}).encode()
    nonce = f"{call.call_no:032x}"
    return Request(
        "DeleteFaces", Step.DELETE, call.call_no, call.person_id, call.face_ids, body, nonce
    )


def by_apsw(directory: Path, at_once: int, seconds: float) -> float:
    """Records a second, with the durability of the ledger."""
    connection = apsw.Connection(str(directory / FILE_NAME))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(SCHEMA)
    planned = persons(WARMING_RECORDS + round(MOST_A_SECOND * seconds))

    def commit(numbers: Iterable[int]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for number in numbers:
            person_id, face_id = planned[number]
            made = prepare(Call(number, person_id, (face_id,), ()))
            digest = hashlib.sha256(made.body).hexdigest()
            connection.execute(INSERT_CALL, (number, person_id, digest[:16].encode()))
            connection.execute(INSERT_FACE, (number, number, number + 2, face_id))
            faces = json.dumps(made.face_ids)
            connection.execute(INSERT_ATTEMPT, (number, number, made.nonce, digest, faces, number))
        connection.execute(MOVE_ON, (number + 1,))
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
    async with opened_ledger(run_dir) as books:

        async def commit(numbers: Iterable[int]) -> None:
            begun = (books.begin([Step.DELETE], number, prepare) for number in numbers)
            assert None not in await asyncio.gather(*begun)

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
        draft_run(directory, [rows(persons(WARMING_RECORDS + round(MOST_A_SECOND * seconds)))])
        if who == "watched":
            with watched(directory):
                return asyncio.run(by_ledger(directory, at_once, seconds))
        return asyncio.run(by_ledger(directory, at_once, seconds))


if __name__ == "__main__":
    print(
        json.dumps({"records_per_second": main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))})
    )
