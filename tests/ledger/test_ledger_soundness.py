"""A big ledger is read through beside the work: it is stopped at once, and never raises into it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from tests.core.rig import draft_run, persons, rows
from worker.errors import GateClosed
from worker.ledger import soundness
from worker.ledger.database import FILE_NAME, open_beside

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT COUNT(*) FROM n"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    draft_run(tmp_path / "run", [rows(persons(12, 3))])
    return tmp_path / "run"


async def test_nothing_is_wrong_with_a_whole_one(run_dir: Path) -> None:
    assert await soundness.damage(run_dir) is None


async def test_one_that_cannot_be_opened_is_told(run_dir: Path) -> None:
    ledger = run_dir / FILE_NAME
    ledger.write_bytes(ledger.read_bytes()[:-1])
    damaged = await soundness.damage(run_dir)
    assert isinstance(damaged, GateClosed)
    assert "a part of it is missing at its end" in damaged.cause


@pytest.mark.parametrize("kind", [apsw.CorruptError, apsw.IOError])
async def test_one_that_cannot_be_read_any_more_is_told(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: type[apsw.Error]
) -> None:
    def failing(_connection: apsw.Connection, _path: Path) -> None:
        raise kind("unreadable")

    monkeypatch.setattr(soundness, "read_through", failing)
    damaged = await soundness.damage(run_dir)
    assert isinstance(damaged, GateClosed)
    assert damaged.cause.endswith("the ledger is damaged (unreadable)")


async def test_it_is_stopped_also_between_two_statements(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def reading(connection: apsw.Connection, _path: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        may_go_on.wait()
        connection.execute(ENDLESS).fetchall()

    monkeypatch.setattr(soundness, "read_through", reading)
    task = asyncio.create_task(soundness.damage(run_dir))
    await begun.wait()
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)  # it is interrupted while there is nothing to interrupt
    may_go_on.set()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("opened", [False, True], ids=["not open yet", "just opened"])
async def test_stopped_while_it_is_opened_it_leaves_no_connection(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, *, opened: bool
) -> None:
    begun, may_go_on, done = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    connections: list[apsw.Connection] = []

    def opening(run_dir: Path, *, read_only: bool) -> apsw.Connection:
        loop.call_soon_threadsafe(begun.set)
        may_go_on.wait()
        connections.append(open_beside(run_dir, read_only=read_only))
        done.set()
        return connections[0]

    monkeypatch.setattr(soundness, "open_beside", opening)
    task = asyncio.create_task(soundness.damage(run_dir))
    await begun.wait()
    if opened:
        # The loop is kept from hearing of it before it hears of the end.
        may_go_on.set()
        assert done.wait(30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    await loop.shutdown_default_executor()
    with pytest.raises(apsw.ConnectionClosedError):
        connections[0].pragma("user_version")
