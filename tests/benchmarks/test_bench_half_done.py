"""A ledger that was filled is the ledger of a run that did every call, but for what nobody can foresee."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import apsw

from tests.benchmarks import half_done
from tests.benchmarks.agreeable_service import KEYS
from worker.ledger.database import FILE_NAME, query

CALLS, DONE = 60, 45
DRAWN = {"nonce", "body_sha256"}
"""The errands of a test have a nonce and a body of their own."""
MADE_OF_RUN = ("call", "face", "attempt", "ending", "tally", "frontier")


def _environment(directory: Path) -> dict[str, str]:
    return {**KEYS, "XDG_STATE_HOME": str(directory)}


def _rows(run_dir: Path, table: str) -> list[dict[str, object]]:
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    try:
        if not query(connection, f"PRAGMA table_info({table})").fetchall():
            return []
        cursor = query(connection, f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608 (a name from above)
        names = [column[0] for column in cursor.get_description()]
        return [
            {name: value for name, value in zip(names, row, strict=True) if name not in DRAWN}
            for row in cursor
        ]
    finally:
        connection.close()


def test_filling_it_is_the_same_as_doing_it(tmp_path: Path) -> None:
    filled, done = tmp_path / "filled", tmp_path / "done"
    half_done.plan(filled, CALLS, "http://127.0.0.1:9", _environment(tmp_path))
    shutil.copytree(filled, done)  # the same run, and so the same seals
    asyncio.run(half_done.carry_out(filled, 1))
    half_done.repeat_first(filled, DONE)
    asyncio.run(half_done.carry_out(done, DONE))
    for table in MADE_OF_RUN:
        assert _rows(filled, table) == _rows(done, table), table


def test_status_counts_what_is_done(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    half_done.make(run_dir, CALLS, DONE, "http://127.0.0.1:9", _environment(tmp_path))
    command = [sys.executable, "-m", "worker", "status", str(run_dir), "--json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    outcomes = {name: count for name, count in json.loads(told)["outcomes"].items() if count}
    assert outcomes == {"deleted": DONE, "unsent": CALLS - DONE}
