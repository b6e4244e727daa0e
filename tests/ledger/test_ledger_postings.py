"""Rows that wait for the end of their transaction, and what must not have to wait for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.ledger.audit import rows as select
from tests.ledger.errands import begin, begun, prepare, put_back, unsynced_ledger
from worker.errors import LedgerDamaged
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.postings import ROWS_AT_ONCE, write_rows
from worker.ledger.writer import T, Write, commit_batch
from worker.model import Attempt, Call, Evidence, Kind, Request, Step

INSERT = "INSERT INTO pair VALUES {}"


async def deleted(ledger: Ledger, attempt: Attempt) -> None:
    good = Evidence(Kind.LISTED, 3, 2, 200, "200", listed=attempt.call.face_ids)
    assert await ledger.record(attempt.seq, attempt.call, good) is None


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 31, 32, 33, 71, 100])
def test_every_row_is_written_once_in_few_statements(count: int) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE pair (one INTEGER, other TEXT)")
    statements = []
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    given = [(n, f"0{n}") for n in range(count)]
    write_rows(connection, INSERT, given)
    connection.trace_v2(0)
    assert select(connection, "SELECT one, other FROM pair ORDER BY rowid") == given
    most, some, _ = ROWS_AT_ONCE
    assert len(statements) == count // most + count % most // some + count % most % some


async def test_a_busy_transaction_says_the_same_as_many_quiet_ones(tmp_path: Path) -> None:
    """Calls begun and settled in one transaction, by the dozen, stand as if each came alone."""

    async def work(run_dir: Path, at_once: int) -> list[list[tuple[object, ...]]]:
        draft_run(run_dir, [rows(persons(100, 3))])
        connection = open_ledger(run_dir)
        ledger = Ledger(connection, Together)
        attempts: list[Attempt] = []
        while len(attempts) < 100:
            wanted = min(at_once, 100 - len(attempts))
            asked = [ledger.begin([Step.DELETE], 1, prepare) for _ in range(wanted)]
            attempts += [one for one in await asyncio.gather(*asked) if one is not None]
        for first in range(0, 100, at_once):
            await asyncio.gather(*(deleted(ledger, x) for x in attempts[first : first + at_once]))
        assert await ledger.is_finished()
        told = [
            select(connection, sql)
            for sql in (
                "SELECT call_no, person_id, whole, state, step, not_before_us FROM call ORDER BY 1",
                "SELECT call_no, face_id, step, outcome, code, attempts, first_sent_us FROM face",
                "SELECT seq, call_no, step, face_ids, opened_us FROM attempt ORDER BY seq",
                "SELECT call_no, kind, listed FROM ending, attempt a ON a.seq = attempt_seq ORDER BY 1",
                "SELECT * FROM tally WHERE faces <> 0 ORDER BY 1",
                "SELECT * FROM frontier",
            )
        ]
        decided = "SELECT COUNT(*) FROM face JOIN ending e ON e.seq = decided_by JOIN attempt a"
        decided += " ON a.seq = e.attempt_seq WHERE a.call_no = face.call_no"
        assert select(connection, decided) == [(300,)]
        await ledger.close()
        return told

    assert await work(tmp_path / "one", 1) == await work(tmp_path / "dozens", 50)


class Together:
    """Carries out in one transaction what is submitted in one turn of the event loop."""

    def __init__(self, connection: apsw.Connection, last: Write[None]) -> None:
        self._connection, self._last = connection, last
        self._waiting: list[tuple[Write[Any], asyncio.Future[Any]]] = []

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._carry_out)
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((write, future))
        return future

    def _carry_out(self) -> None:
        waiting, self._waiting = self._waiting, []
        results = commit_batch(self._connection, [write for write, _ in waiting], self._last)
        for (_, future), result in zip(waiting, results, strict=True):
            future.set_result(result)

    async def close(self) -> None:
        self._connection.close()


async def test_the_next_call_of_a_person_goes_before_the_rest_of_the_plan(tmp_path: Path) -> None:
    pairs = [("big", "1"), ("big", "2"), *persons(9)]
    draft_run(tmp_path, [rows(pairs)], faces_per_call=1)
    async with unsynced_ledger(tmp_path) as ledger:
        first, other = await begun(ledger), await begun(ledger)
        assert [first.call.call_no, other.call.call_no] == [0, 2]
        await deleted(ledger, other)
        assert (await begun(ledger)).call.call_no == 3
        await deleted(ledger, first)
        assert (await begun(ledger)).call.call_no == 1


async def test_who_is_cancelled_while_an_attempt_is_written_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    """Nobody is there to send it: that is known, and nothing has to be looked up."""
    draft_run(tmp_path, [rows(persons(2))])
    async with opened_ledger(tmp_path) as ledger:
        caller = asyncio.create_task(begin(ledger))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert await ledger.close_open_attempts(9) == 0
        again = await begun(ledger)
        assert again.call.call_no == 0
        await deleted(ledger, again)
        assert await ledger.tally() == {"deleted": 1, "unsent": 1}
    connection = open_ledger(tmp_path, read_only=True)
    assert select(connection, "SELECT attempt_seq, kind, code FROM ending ORDER BY seq") == [
        (1, "not_sent", "cancelled"),
        (again.seq, "listed", "200"),
    ]
    connection.close()


async def test_a_request_that_cannot_be_made_undoes_nothing_of_others(tmp_path: Path) -> None:
    """Both in one transaction: the answer that another loop has is kept."""
    draft_run(tmp_path, [rows(persons(2))])

    def impossible(_: Call) -> Request:
        raise MemoryError

    connection = open_ledger(tmp_path)
    ledger = Ledger(connection, Together)
    in_flight = await begun(ledger)
    results = await asyncio.gather(
        deleted(ledger, in_flight),
        ledger.begin([Step.DELETE], 1, impossible),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], MemoryError)
    assert await ledger.tally() == {"deleted": 1, "unsent": 1}
    assert (await begun(ledger)).call.call_no == 1
    await ledger.close()


async def test_a_call_that_waits_for_what_none_of_its_faces_does_is_damaged(tmp_path: Path) -> None:
    """A deletion that names no face might mean every face."""
    draft_run(tmp_path, [rows(persons(2))])
    async with unsynced_ledger(tmp_path) as ledger:
        await put_back(ledger, [await begun(ledger)])
        connection = open_ledger(tmp_path)
        connection.execute("UPDATE face SET step = 'lookup' WHERE call_no = 0")
        connection.close()
        for _ in range(2):
            with pytest.raises(LedgerDamaged, match="waits for delete, and none of its faces does"):
                await begin(ledger)


async def test_a_cancelled_caller_for_whom_nothing_was_left_takes_nothing_back(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    async with opened_ledger(tmp_path) as ledger:
        in_flight = await begun(ledger)
        caller = asyncio.create_task(begin(ledger))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        await put_back(ledger, [in_flight])
        assert (await begun(ledger)).call == in_flight.call
