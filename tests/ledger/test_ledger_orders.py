"""Orders come into the ledger from other processes, while the run's own writer goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import apsw.ext
import pytest

from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.ledger.errands import begin, begun
from tests.ledger.test_ledger_query_plans import plan_of
from worker.errors import GateClosed
from worker.ledger import books, journal
from worker.ledger.books import LedgerBooks
from worker.ledger.commands import give, note_death, session_goes_on, taken, withdraw
from worker.ledger.database import (
    FILE_NAME,
    PATIENCE_MS,
    SCHEMA_VERSION,
    WRITERS_PATIENCE_MS,
    open_beside,
    open_ledger,
)
from worker.ledger.journal import Ledger
from worker.model import Evidence, Kind, StopReason, Verb
from worker.orders import Ask, Condition, Order, Pulse, Taken

PAUSE = Order(Ask.PAUSE, 100, "ann@here, process 7")
SLOWER = Order(Ask.RATE, 101, "bob@there, process 8", 4.5)

PULSE = Pulse(
    condition=Condition.RUNNING,
    waiting="quota",
    paused_by="",
    rate_now_per_second=19.7,
    mean_rate_per_second=19.1,
    rate_configured_per_second=19.8,
    rate_allowed_per_second=12.5,
    calls_in_flight=3,
    calls_sent=400,
    ends_us=10**15,
    pid=7,
    host="here",
    beat_us=5,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    draft_run(tmp_path, [rows(persons(400, 2))])
    async with opened_ledger(tmp_path) as one:
        yield one


def given(run_dir: Path, order: Order) -> int | None:
    connection = open_beside(run_dir, read_only=False)
    try:
        return give(connection, order)
    finally:
        connection.close()


def files(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}


def written(run_dir: Path) -> list[tuple[int, int]]:
    """Size and time of the last change of the ledger and its log."""
    stats = [(run_dir / f"{FILE_NAME}{tail}").stat() for tail in ("", "-wal")]
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


async def test_orders_reach_the_session_at_work_in_their_order(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    assert await ledger.new_orders(0) == []
    assert (given(tmp_path, PAUSE), given(tmp_path, SLOWER)) == (1, 2)
    assert await ledger.new_orders(0) == [replace(PAUSE, seq=1), replace(SLOWER, seq=2)]
    assert await ledger.new_orders(1) == [replace(SLOWER, seq=2)]
    assert await ledger.new_orders(2) == []


async def test_an_order_is_for_no_later_session(ledger: Ledger, tmp_path: Path) -> None:
    assert given(tmp_path, PAUSE) is None
    await ledger.begin_session(Verb.RUN, 1)
    given(tmp_path, PAUSE)
    await ledger.end_session(2, StopReason.SIGTERM, "", {})
    assert given(tmp_path, SLOWER) is None
    await ledger.begin_session(Verb.RESUME, 3)
    assert await ledger.new_orders(0) == []
    given(tmp_path, SLOWER)
    assert await ledger.new_orders(0) == [replace(SLOWER, seq=2)]


async def test_whoever_gave_an_order_sees_what_became_of_it(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    beside = open_beside(tmp_path, read_only=False)
    for order in (PAUSE, SLOWER, PAUSE):
        give(beside, order)
    assert taken(beside, 1) is None
    first, second, third = await ledger.new_orders(0)
    done = Taken(200, "paused; no call is in flight")
    refused = Taken(201, "it is too much", "give less", refused=True)
    await ledger.note_taken(first, done)
    await ledger.note_taken(second, refused)
    assert (taken(beside, 1), taken(beside, 2), taken(beside, 3)) == (done, refused, None)
    assert session_goes_on(beside, 3)
    of_the_books = LedgerBooks(beside)
    assert of_the_books.given(latest=2) == [
        (1, second, refused, False),
        (1, third, None, False),
    ]
    assert [given.order for given in of_the_books.given(latest=9)] == [first, second, third]
    await ledger.end_session(2, StopReason.REQUEST, "it was told to stop", {"paused": 1.5})
    assert not session_goes_on(beside, 3)
    assert of_the_books.sessions()[0].stop_reason is StopReason.REQUEST
    beside.close()


async def test_whoever_comes_first_decides_whether_an_order_is_taken(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    beside = open_beside(tmp_path, read_only=False)
    for order in (PAUSE, SLOWER):
        give(beside, order)
    first, second = await ledger.new_orders(0)
    assert withdraw(beside, 1, 5)
    assert not await ledger.accept(first, 6)
    assert await ledger.accept(second, 6)
    assert not withdraw(beside, 2, 7)
    told = LedgerBooks(beside).given(latest=2)
    assert [(x.order.seq, x.is_withdrawn) for x in told] == [(1, True), (2, False)]
    beside.close()


async def test_the_pulse_is_one_row_and_the_last_sessions(ledger: Ledger, tmp_path: Path) -> None:
    beside = LedgerBooks(open_beside(tmp_path, read_only=True))
    assert beside.pulse() is None
    await ledger.begin_session(Verb.RUN, 1)
    assert beside.pulse() is None
    for pulse in (PULSE, replace(PULSE, condition=Condition.PAUSED, ends_us=None, beat_us=6)):
        await ledger.beat(pulse)
        assert beside.pulse() == pulse
    await ledger.begin_session(Verb.RESUME, 7)
    assert beside.pulse() is None
    beside.close()


async def test_looking_for_orders_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    given(tmp_path, PAUSE)
    before = written(tmp_path)
    for _ in range(50):
        assert len(await ledger.new_orders(0)) == 1
    assert written(tmp_path) == before


async def test_whether_a_call_waits(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    async with opened_ledger(tmp_path) as ledger:
        beside = LedgerBooks(open_beside(tmp_path, read_only=True))
        for _ in range(3):
            assert beside.has_waiting_calls()
            seq, call, _ = await begun(ledger)
            assert beside.has_waiting_calls(), "claimed counts too"
            await ledger.record(seq, call, Evidence(Kind.LISTED, 2, 1, listed=call.face_ids))
        assert not beside.has_waiting_calls()
        beside.close()


@pytest.mark.parametrize(
    ("ask", "rate"), [("halt", None), ("rate", None), ("rate", float("nan")), ("stop", 5.0)]
)
async def test_what_is_no_order_is_never_given(
    ledger: Ledger, tmp_path: Path, ask: str, rate: float | None
) -> None:
    """Nobody can leave something in the ledger that the run would trip over."""
    await ledger.begin_session(Verb.RUN, 1)
    order = replace(PAUSE, ask=ask, rate_per_second=rate)  # type: ignore[arg-type]
    with pytest.raises(apsw.ConstraintError):
        given(tmp_path, order)
    assert await ledger.new_orders(0) == []


# The run's own writer

GIVE_MANY = """
import sys
from pathlib import Path
from worker.ledger.commands import give
from worker.ledger.database import open_beside
from worker.orders import Ask, Order
for number in range(100):
    connection = open_beside(Path(sys.argv[1]), read_only=False)
    give(connection, Order(Ask.RATE, number, sys.argv[2], float(number + 1)))
    connection.close()
"""

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from worker.ledger.database import open_beside
connection = open_beside(Path(sys.argv[1]), read_only=False)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO command VALUES (99, 1, 'stop', NULL, 1, 'nobody')")
print("held", flush=True)
sys.stdin.read()
"""


async def test_many_controllers_at_once_never_make_the_run_fail(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    controllers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", GIVE_MANY, str(tmp_path), name, cwd=ROOT
        )
        for name in ("ann", "bob", "cyd")
    ]
    ends = asyncio.gather(*(controller.wait() for controller in controllers))
    seen: list[Order] = []
    number = 0
    while not ends.done() or len(seen) < 300:
        for order in await ledger.new_orders(len(seen)):
            seen.append(order)
            await ledger.note_taken(order, Taken(1, "done"))
        if (attempt := await begin(ledger)) is not None:
            seq, call, _ = attempt
            await ledger.record(seq, call, Evidence(Kind.LISTED, 2, 1, listed=call.face_ids))
            number += 1
    assert await ends == [0, 0, 0]
    assert [order.seq for order in seen] == list(range(1, 301))
    for name in ("ann", "bob", "cyd"):
        mine = [order.rate_per_second for order in seen if order.given_by == name]
        assert mine == [float(n + 1) for n in range(100)]
    expected = {"deleted": 2 * number, "unsent": 800 - 2 * number}
    # The tally has no line for what there is none of.
    assert await ledger.tally() == {outcome: count for outcome, count in expected.items() if count}


async def test_a_controller_that_dies_in_the_middle_leaves_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    waiting = asyncio.ensure_future(ledger.beat(PULSE))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done, "it waits for the lock"
    holder.kill()
    await holder.wait()
    await waiting
    assert await ledger.new_orders(0) == []
    assert given(tmp_path, PAUSE) == 1


def test_the_run_is_more_patient_than_anybody_else(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    own = open_ledger(tmp_path)
    beside = open_beside(tmp_path, read_only=False)
    assert own.pragma("busy_timeout") == WRITERS_PATIENCE_MS > 10 * PATIENCE_MS
    assert beside.pragma("busy_timeout") == PATIENCE_MS
    assert (own.pragma("synchronous"), beside.pragma("synchronous")) == (2, 1)
    assert beside.pragma("wal_autocheckpoint") == 0
    beside.close()
    own.close()


async def test_nobody_is_stopped_while_an_order_is_written(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.begin_session(Verb.RUN, 1)
    blocked: list[set[signal.Signals]] = []

    def look(*_: object) -> bool:
        blocked.append({*signal.pthread_sigmask(signal.SIG_BLOCK, [])})  # type: ignore[arg-type]
        return True

    beside = open_beside(tmp_path, read_only=False)
    beside.exec_trace = look
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    give(beside, PAUSE)
    beside.exec_trace = None
    beside.close()
    assert blocked
    assert all({signal.SIGTSTP, signal.SIGINT, signal.SIGTERM} <= one for one in blocked)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# Beside a run, or after it


async def test_a_look_at_a_finished_run_leaves_it_as_it_was(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        await ledger.end_session(2, StopReason.SIGTERM, "", {})
    before = files(tmp_path)
    assert set(before) == {FILE_NAME}
    beside = open_beside(tmp_path, read_only=True)
    assert LedgerBooks(beside).tally() == {"unsent": 3}
    with pytest.raises(apsw.ReadOnlyError):
        beside.execute("DELETE FROM face")
    beside.close()
    assert files(tmp_path) == before


async def test_a_look_at_a_run_that_died_leaves_its_log_to_the_resume(tmp_path: Path) -> None:
    (tmp_path / "alive").mkdir()
    draft_run(tmp_path / "alive", [rows(persons(3))])
    async with opened_ledger(tmp_path / "alive") as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        await ledger.beat(PULSE)
        # What a power cut leaves: the log, and nothing of the shared memory.
        shutil.copytree(
            tmp_path / "alive", tmp_path / "died", ignore=shutil.ignore_patterns("*-shm")
        )
    before = files(tmp_path / "died")
    assert before[f"{FILE_NAME}-wal"]
    beside = open_beside(tmp_path / "died", read_only=True)
    assert LedgerBooks(beside).pulse() == PULSE
    beside.close()
    after = files(tmp_path / "died")
    after.pop(f"{FILE_NAME}-shm", None)
    assert after == before


@pytest.mark.parametrize("damage", ["missing", "text", "newer", "cut"])
def test_what_is_no_ledger_is_refused_at_a_glance(tmp_path: Path, damage: str) -> None:
    draft_run(tmp_path, [rows(persons(30, 9))])
    path = tmp_path / FILE_NAME
    match damage:
        case "missing":
            path.unlink()
        case "text":
            path.write_text("person_id,face_id\n" * 99)
        case "newer":
            connection = apsw.Connection(str(path))
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
            connection.close()
        case "cut":
            os.truncate(path, 5000)
    with pytest.raises(GateClosed) as refused:
        open_beside(tmp_path, read_only=True)
    assert str(tmp_path) in refused.value.cause
    assert refused.value.remedy


@pytest.mark.parametrize("sql", [journal.NEW_ORDERS, books.ANY_WAITING, books.ORDERS, books.PULSE])
def test_a_glance_reads_no_large_table(tmp_path: Path, sql: str) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    connection = open_beside(tmp_path, read_only=True)
    for step in plan_of(connection, sql):
        if step.startswith("SCAN"):
            small = step.split()[1] in {"c", "pulse", "session"}
            assert small or step.split()[-1] in {"call_waiting", "call_claimed"}, step
    connection.close()


async def test_a_session_that_was_found_dead_takes_nothing_and_its_end_stays_unknown(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.begin_session(Verb.RUN, 10)
    seq = given(tmp_path, PAUSE)
    beside = open_beside(tmp_path, read_only=False)
    before = LedgerBooks(beside).sessions()
    assert seq is not None
    assert session_goes_on(beside, seq)
    assert LedgerBooks(beside).goes_on()
    note_death(tmp_path)
    assert not session_goes_on(beside, seq)
    assert not LedgerBooks(beside).goes_on()
    assert given(tmp_path, SLOWER) is None
    assert LedgerBooks(beside).sessions() == before
    assert (before[0].ended_us, before[0].stop_reason) == (None, StopReason.KILLED)
    await ledger.begin_session(Verb.RESUME, 20)
    assert given(tmp_path, SLOWER) == 2
    await ledger.end_session(30, StopReason.SIGTERM, "", {})
    note_death(tmp_path)
    second = LedgerBooks(beside).sessions()[1]
    assert (second.ended_us, second.stop_reason) == (30, StopReason.SIGTERM)
    beside.close()
