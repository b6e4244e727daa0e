"""A run of any size of which most is done, made in minutes and not in the days it would take.

The plan is the program's own, and so is the first call, which is carried out through the ledger. What
that call left in the tables is then repeated for as many calls as are to be done, by SQL that knows
only which columns count up. ``test_bench_half_done.py`` holds it to a ledger that did every call itself.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import apsw

from tests.ledger.errands import Errands, World, unsynced_ledger
from worker.ledger.database import FILE_NAME, query, seal
from worker.model import Outcome, Step, StopReason, Verb

FIRST_FACE = 31842550077981745
FACE_STEP = 7
CHUNK_ROWS = 100_000

PERSON = "printf('person_%09d', n.n)"
FACE = f"CAST({FIRST_FACE} + {FACE_STEP} * n.n AS TEXT)"

# How the row of the first call becomes that of the call n.n; a column that is not here stays as it is.
COUNTING: Mapping[str, Mapping[str, str]] = {
    "call": {
        "call_no": "n.n",
        "person_id": PERSON,
        "seal": f"call_seal(n.n, {PERSON}, {FACE})",
    },
    "face": {
        "face_no": "face_no + n.n",
        "call_no": "n.n",
        "first_row": "n.n",
        "line": "line + n.n",
        "face_id": FACE,
        "first_sent_us": "first_sent_us + 1000 * n.n",
        "decided_by": "decided_by + 2 * n.n",
    },
    "attempt": {
        "seq": "seq + 2 * n.n",
        "call_no": "n.n",
        "nonce": "printf('%032x', n.n)",
        "face_ids": f"json_array({FACE})",
        "opened_us": "opened_us + 1000 * n.n",
    },
    "ending": {
        "seq": "seq + 2 * n.n",
        "attempt_seq": "attempt_seq + 2 * n.n",
        "ended_us": "ended_us + 1000 * n.n",
        "sent_us": "sent_us + 1000 * n.n",
        "listed": f"json_array({FACE})",
    },
}
REPEAT = """
WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < :last)
INSERT OR REPLACE INTO {table} SELECT {columns} FROM n, (SELECT * FROM {table} WHERE {key} = :first)
"""
FIRST_ROWS = {"call": "call_no", "face": "call_no", "attempt": "call_no", "ending": "attempt_seq"}
COUNT = "UPDATE tally SET faces = faces + :more WHERE outcome = :outcome"
TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"


def person_of(call_no: int) -> str:
    return f"person_{call_no:09d}"


def face_of(call_no: int) -> str:
    """Its only face."""
    return str(FIRST_FACE + FACE_STEP * call_no)


def write_manifest(path: Path, calls: int) -> None:
    """A person with one face on each line."""
    with path.open("w") as file:
        file.write("person_id,face_id\n")
        for start in range(0, calls, CHUNK_ROWS):
            numbers = range(start, min(calls, start + CHUNK_ROWS))
            file.write("".join(f"{person_of(n)},{face_of(n)}\n" for n in numbers))


def make(run_dir: Path, calls: int, done: int, url: str, environment: Mapping[str, str]) -> None:
    """Plan ``calls`` calls to ``url`` in ``run_dir``, and have the first ``done`` of them done."""
    plan(run_dir, calls, url, environment)
    asyncio.run(carry_out(run_dir, 1))
    repeat_first(run_dir, done)


def plan(run_dir: Path, calls: int, url: str, environment: Mapping[str, str]) -> None:
    """As a user does it; raises ``CalledProcessError``."""
    source = run_dir.with_suffix(".csv")
    write_manifest(source, calls)
    subprocess.run(
        [sys.executable, "-m", "worker", "plan", source, "-o", run_dir, "--endpoint", url, "-q"],
        env=environment,
        check=True,
        capture_output=True,
    )


async def carry_out(run_dir: Path, calls: int) -> None:
    """A session that deletes the faces of so many calls, and ends as if it had been stopped."""
    world = World({person_of(n): [face_of(n)] for n in range(calls)})
    async with unsynced_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1_000_000)
        errands = Errands(ledger, world.answer)
        for _ in range(calls):
            await errands.one((Step.DELETE,))
        await ledger.end_session(errands.now_us, StopReason.SIGTERM, "", {})


def repeat_first(run_dir: Path, done: int) -> None:
    """Of the calls, ``done`` are now as the first one is."""
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -256000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    run_id = query(connection, "SELECT json_extract(value, '$') FROM run WHERE key = 'run_id'")
    ((named,),) = run_id.fetchall()

    def call_seal(*values: apsw.SQLiteValue) -> bytes:
        call_no, person_id, face_id = values
        assert isinstance(call_no, int)
        return seal(named, call_no, str(person_id), [str(face_id)])

    connection.create_scalar_function("call_seal", call_seal)
    ((first_seq,),) = query(connection, "SELECT MIN(seq) FROM attempt").fetchall()
    connection.execute("BEGIN")
    for table, counting in COUNTING.items():
        names = [row[1] for row in query(connection, f"PRAGMA table_info({table})")]
        # Both are names of this schema.
        connection.execute(
            REPEAT.format(
                table=table,
                columns=", ".join(counting.get(name, name) for name in names),
                key=FIRST_ROWS[table],
            ),
            {"last": done - 1, "first": first_seq if table == "ending" else 0},
        )
    for outcome, more in ((Outcome.DELETED, done - 1), (Outcome.UNSENT, 1 - done)):
        connection.execute(COUNT, {"more": more, "outcome": str(outcome)})
    if ("frontier",) in query(connection, TABLES).fetchall():
        connection.execute("UPDATE frontier SET call_no = ?", (done,))
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.close()
