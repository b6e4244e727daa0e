"""How long ``facepurge status`` takes on a large ledger, and what it costs the run beside it.

To reach: 0.3 s at ten million planned calls, as at a few.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worker.cli.standing import look
from worker.ledger.database import FILE_NAME, create_draft, facts_seal, open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import ThreadWriter
from worker.model import Verb
from worker.orders import Condition, Pulse

REPEATS = 9
CALLS = int(os.environ.get("BENCH_CALLS", "1_000_000"))

FILL = """
WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < {last})
INSERT INTO {table} SELECT {columns} FROM n
"""
TABLES = {
    "row": "i, i, 0, i + 2, '', 'person' || i, printf('%013d', i), '', '', '', ''",
    # Half of them are settled.
    "call": "i, 'person' || i, 0, CASE WHEN i % 2 THEN 0 ELSE 2 END,"
    " CASE WHEN i % 2 THEN 'delete' ELSE '' END, 0, randomblob(16)",
    "face": "i, i, i, printf('%013d', i), NULL, CASE WHEN i % 2 THEN 'delete' ELSE '' END,"
    " CASE WHEN i % 2 THEN 'unsent' ELSE 'deleted' END, '', 1, 1, NULL",
}
FACTS = {
    "run_id": '"20261123T000000Z-abcdef"',
    "program_version": '"0.0.0"',
    "planned_us": "1",
    "account": '"account"',
    "endpoint": '"http://127.0.0.1"',
    "rehearsal": "false",
    "settings": '{"max_attempts": 3}',
    "persons": str(CALLS),
    "whole_persons": "0",
    "faces": str(CALLS),
    "calls": str(CALLS),
    "repeats": "0",
    "rows": str(CALLS),
    "holds_sha256": '""',
}

PULSE = Pulse(Condition.RUNNING, "quota", "", 19.8, 19.8, 19.8, 19.8, 1, 1, None, 1, "here", 1)


def planned(run_dir: Path, calls: int) -> None:
    """A ledger of that many calls, half of them settled."""
    connection = create_draft(run_dir / FILE_NAME)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO source VALUES (0, 'a.csv', 'csv', '', 1, 1, 1, 0, '[]')")
    for table, columns in TABLES.items():
        connection.execute(FILL.format(table=table, columns=columns, last=calls - 1))
    for outcome in ("unsent", "deleted"):
        connection.execute("INSERT INTO tally VALUES (?, ?)", (outcome, calls // 2))
    connection.executemany("INSERT INTO run VALUES (?, ?)", FACTS.items())
    connection.execute("INSERT INTO run VALUES ('seal', ?)", (facts_seal(connection),))
    connection.execute("COMMIT")
    connection.close()


def best_seconds(run_dir: Path) -> tuple[float, float]:
    """Best of several: the whole command, and the look alone."""
    command, alone = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "worker", "status", str(run_dir), "--json"],
            check=True,
            capture_output=True,
        )
        command.append(time.perf_counter() - began)
        began = time.perf_counter()
        look(run_dir)
        alone.append(time.perf_counter() - began)
    return min(command), min(alone)


async def commits_per_second(run_dir: Path, *, watched: bool) -> float:
    """How fast the run's own writer is, with and without somebody who looks all the time."""
    ledger = Ledger(open_ledger(run_dir, checked=True), ThreadWriter)
    await ledger.begin_session(Verb.RUN, 1)
    watcher = None
    if watched:
        script = (
            "import sys, time\nfrom pathlib import Path\nfrom worker.cli.standing import look\n"
            "while True: look(Path(sys.argv[1])); time.sleep(0.02)"
        )
        watcher = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(run_dir))
        await asyncio.sleep(1)
    began, commits = time.perf_counter(), 0
    while time.perf_counter() - began < 3:
        await ledger.beat(PULSE)
        commits += 1
    seconds = time.perf_counter() - began
    if watcher is not None:
        watcher.kill()
        await watcher.wait()
    await ledger.close()
    return commits / seconds


def main() -> None:
    for calls in (1_000, CALLS):
        with tempfile.TemporaryDirectory() as directory:
            run_dir = Path(directory)
            began = time.perf_counter()
            planned(run_dir, calls)
            made = time.perf_counter() - began
            size = (run_dir / FILE_NAME).stat().st_size / 1e6
            command, alone = best_seconds(run_dir)
            print(
                f"{calls:>12,} calls ({size:,.0f} MB, made in {made:.1f} s): status {command:.3f} s,"
                f" of which looking {alone * 1000:.1f} ms"
            )
            for watched in (False, True):
                speed = asyncio.run(commits_per_second(run_dir, watched=watched))
                who = "while somebody looks 50 times a second" if watched else "by itself"
                print(f"{'':>12} the run's writer makes {speed:,.0f} commits/s {who}")


if __name__ == "__main__":
    main()
