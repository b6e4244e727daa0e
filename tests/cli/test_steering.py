"""What whoever steers or looks is told where the run does not answer as it should."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

import worker.cli
from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.core.test_locks import RUN_LOCK, holder
from worker import telemetry
from worker.cli import purge, standing, stderr, stdout, steering, watching
from worker.cli.portrait import brief, document, last_line, lines
from worker.cli.reopening import reopened
from worker.cli.standing import SILENT_AFTER_SECONDS, State, look
from worker.clock import SystemClock
from worker.errors import GateClosed
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, open_beside
from worker.locks import holder_of_run, run_lock
from worker.model import StopReason, Verb
from worker.orders import Ask, Condition, Pulse

PULSE = Pulse(
    condition=Condition.RUNNING,
    waiting="quota",
    paused_by="",
    rate_now_per_second=4.94,
    mean_rate_per_second=9.06,
    rate_configured_per_second=5.0,
    rate_allowed_per_second=5.0,
    calls_in_flight=1_002,
    calls_sent=12_345,
    ends_us=None,
    pid=7,
    host="here",
    beat_us=0,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "my run"
    draft_run(directory, [rows(persons(3, 2))])
    return directory


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(watching, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(stdout._state, "lost", "")


async def begun(run_dir: Path, *pulses: Pulse, ended: StopReason | None = None) -> None:
    """A session at work on the run, or one that has ended."""
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, SystemClock().now_us())
        for pulse in pulses:
            await ledger.beat(pulse)
        if ended is not None:
            await ledger.end_session(SystemClock().now_us(), ended, "a sentence.", {})


def refusal(run_dir: Path, ask: Ask = Ask.PAUSE) -> GateClosed:
    with pytest.raises(GateClosed) as refused:
        steering.steer(run_dir, ask, json=False)
    assert str(run_dir) in refused.value.cause
    assert refused.value.remedy
    assert "the order was not taken" in refused.value.__notes__[0]
    return refused.value


async def test_a_process_that_was_stopped_takes_no_order(run_dir: Path) -> None:
    await begun(run_dir)
    with holder(RUN_LOCK, run_dir) as process:
        process.send_signal(signal.SIGSTOP)
        refused = refusal(run_dir)
        assert f"process {process.pid} on " in refused.cause
        assert "has not taken the order within 0.3 seconds; it was withdrawn" in refused.cause
        assert "Ctrl-Z" in refused.remedy
        (given,) = look(run_dir).orders
        assert given.taken is None
        assert given.is_withdrawn
        assert "pause by " in lines(look(run_dir))[-1]
        assert lines(look(run_dir))[-1].endswith(": withdrawn before it was taken")


async def test_a_process_that_is_starting_or_reporting_takes_none(run_dir: Path) -> None:
    with holder(RUN_LOCK, run_dir):
        refused = refusal(run_dir)
        assert "makes no calls at the moment" in refused.cause
        assert f"facepurge status {shlex.quote(str(run_dir))};" in refused.remedy
        assert look(run_dir).state is State.PLANNED
        await begun(run_dir, ended=StopReason.SIGTERM)
        assert "makes no calls at the moment" in refusal(run_dir).cause
        told = look(run_dir)
        assert told.state is State.STOPPED
        assert any("it is starting, or writing the report" in line for line in lines(told))
        assert not told.orders, "nothing is left for whoever comes later"


async def test_a_session_that_died_takes_no_order_once_a_later_process_has_the_run(
    run_dir: Path,
) -> None:
    """A resume may look at its lists, and wait for a person, for hours before its session begins."""
    await begun(run_dir, replace(PULSE, beat_us=SystemClock().now_us()))
    died = look(run_dir)
    assert (died.state, died.stop_reason) == (State.DIED, StopReason.KILLED)
    with reopened(run_dir):
        for ask in (Ask.STOP, Ask.PAUSE):
            refused = refusal(run_dir, ask)
            assert "makes no calls at the moment: it is starting" in refused.cause
        told = look(run_dir)
        assert (told.state, told.stop_reason) == (State.DIED, StopReason.KILLED)
        assert not told.orders, "nothing is left for a session that nobody is in"
        assert told.ends_us is None
        text = "\n".join(lines(told))
        assert "; it is starting, or writing the report" in text
        assert "calls/s" not in text, "the figures are those of the process that died"
        assert f"process {os.getpid()} on " in told.holder
        assert "; a process is starting, or writing the report; to watch it type: " in last_line(
            told
        )
        assert brief(told).endswith("a process is starting, or writing the report")
    assert told.sessions == died.sessions, "when it died is known no better than before"
    with holder(RUN_LOCK, run_dir):
        await begun(run_dir)
        assert look(run_dir).state is State.RUNNING
        (first, second) = look(run_dir).sessions
        assert (first.ended_us, first.stop_reason) == (None, StopReason.KILLED)
        assert second.ended_us is None


async def test_whoever_writes_the_report_of_a_run_that_died_takes_no_orders(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(run_dir)
    refused: list[str] = []

    async def close(_: Path) -> None:
        refused.append(refusal(run_dir, Ask.STOP).cause)
        raise GateClosed("it is enough", "none")

    monkeypatch.setattr(purge, "close_left_behind", close)
    monkeypatch.setattr(telemetry, "configure", lambda *_: None)
    monkeypatch.setattr(stderr._state, "as_json", False)

    def report() -> None:
        before = os.umask(0o077)
        try:
            with pytest.raises(SystemExit):
                worker.cli.main(("report", str(run_dir)))
        finally:
            os.umask(before)

    await asyncio.to_thread(report)
    assert ["makes no calls at the moment" in cause for cause in refused] == [True]


async def test_who_only_reads_a_run_that_died_writes_nothing(run_dir: Path) -> None:
    await begun(run_dir)
    before = (run_dir / FILE_NAME).read_bytes()
    with reopened(run_dir, to_read=True):
        pass
    assert (run_dir / FILE_NAME).read_bytes() == before


async def test_a_run_that_is_being_planned_is_known_by_its_lock(
    run_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await begun(run_dir)
    planned = tmp_path / "not yet"
    planned.mkdir()
    with pytest.raises(GateClosed, match="there is no ledger of a run here"):
        watching.tell(planned, json=False)
    with holder(RUN_LOCK, planned) as process:
        assert watching.tell(planned, json=False) == 0
        out, err = capsys.readouterr()
        state, at_it = out.splitlines()
        assert state == "state     planning, or waiting for confirmation"
        assert at_it.startswith(f"process   process {process.pid} on ")
        assert "; nothing was sent; " in err
        assert err.endswith(f"type: facepurge status --watch '{planned}'\n")
        assert watching.tell(planned, json=True) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["state"], told["run_dir"]) == ("planning", str(planned))
        assert set(told) == set(document(look(run_dir)))

        def sleep(_: float) -> None:
            process.kill()
            process.wait()

        # It dies between two looks, not while the first is still to come.
        monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))
        with pytest.raises(GateClosed):
            watching.watch(planned, json=False)
        said = capsys.readouterr().out.splitlines()
        assert len(said) == 1
        assert "planning, or waiting for confirmation: process " in said[0]


async def test_a_refusal_is_a_document_where_one_is_asked_for(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def said_by(asked: Callable[[], int]) -> None:
        with pytest.raises(GateClosed) as refused:
            asked()
        assert json.loads(capsys.readouterr().out) == {
            "refused": True,
            "said": refused.value.cause,
            "remedy": refused.value.remedy,
        }

    nowhere = tmp_path / "nowhere"
    await said_by(lambda: watching.tell(nowhere, json=True))
    await said_by(lambda: watching.watch(nowhere, json=True))
    await said_by(lambda: steering.steer(nowhere, Ask.STOP, json=True))
    await begun(run_dir)
    await said_by(lambda: steering.steer(run_dir, Ask.STOP, json=True))
    with holder(RUN_LOCK, run_dir) as process:
        process.send_signal(signal.SIGSTOP)
        await said_by(lambda: steering.steer(run_dir, Ask.PAUSE, json=True))
    with pytest.raises(GateClosed):
        steering.steer(nowhere, Ask.STOP, json=False)
    assert capsys.readouterr().out == ""


async def test_an_order_that_the_run_has_begun_to_take_is_not_said_to_be_withdrawn(
    run_dir: Path,
) -> None:
    await begun(run_dir)
    accepted = threading.Event()

    def accept() -> None:
        with ordered(run_dir) as beside:
            beside.execute("INSERT INTO command_decided VALUES (1, 0, 5)")
            accepted.set()

    with holder(RUN_LOCK, run_dir), meanwhile(accept):
        with pytest.raises(GateClosed) as refused:
            steering.steer(run_dir, Ask.PAUSE, json=False)
        assert accepted.is_set()
        assert "but has begun to" in refused.value.cause
        assert refused.value.__notes__[0].startswith("the order may still be taken; ")
        assert lines(look(run_dir))[-1].endswith(": not taken yet")
    assert lines(look(run_dir))[-1].endswith(": not taken")


async def test_whoever_waits_no_longer_takes_the_order_back(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(run_dir)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with holder(RUN_LOCK, run_dir):
        with monkeypatch.context() as patch:
            patch.setattr("worker.cli.steering.time.sleep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                steering.steer(run_dir, Ask.STOP, json=False)
        (given,) = look(run_dir).orders
        assert given.is_withdrawn


@contextmanager
def ordered(run_dir: Path) -> Iterator[apsw.Connection]:
    """The ledger, as soon as an order is in it: another thread writes that."""
    beside = open_beside(run_dir, read_only=False)
    try:
        while not LedgerBooks(beside).given(latest=1):
            time.sleep(0.01)
        yield beside
    finally:
        beside.close()


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


async def test_a_run_that_ends_before_it_takes_the_order(run_dir: Path) -> None:
    await begun(run_dir)

    def end() -> None:
        with ordered(run_dir) as beside:
            beside.execute("UPDATE session SET ended_us = 9, stop_reason = 'finished'")

    with holder(RUN_LOCK, run_dir), meanwhile(end):
        assert "the run ended before it took the order" in refusal(run_dir).cause


async def test_a_process_that_dies_before_it_takes_the_order(run_dir: Path) -> None:
    await begun(run_dir)
    with holder(RUN_LOCK, run_dir) as process:

        def die() -> None:
            with ordered(run_dir):
                process.kill()

        with meanwhile(die):
            assert "died" in refusal(run_dir).cause


async def test_what_the_run_refuses_is_passed_on(run_dir: Path) -> None:
    await begun(run_dir)

    def take() -> None:
        with ordered(run_dir) as beside:
            beside.execute(
                "INSERT INTO command_taken VALUES (1, 5, 'it is too much', 'give less', 1)"
            )

    with holder(RUN_LOCK, run_dir), meanwhile(take):
        refused = refusal(run_dir, Ask.STOP)
    assert (refused.cause, refused.remedy) == (f"{run_dir}: it is too much", "give less")


async def test_a_locked_ledger_is_said_with_another_way(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.database.PATIENCE_MS", 50)
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        beside = open_beside(run_dir, read_only=False)
        beside.execute("BEGIN IMMEDIATE")
        with holder(RUN_LOCK, run_dir):
            refused = refusal(run_dir)
        beside.execute("ROLLBACK")
        beside.close()
    assert "could not be written to the ledger" in refused.cause
    assert "SIGTERM" in refused.remedy


def test_the_giver_is_who_it_is_and_not_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    assert "somebody-else" not in steering._giver()
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    assert steering._giver().startswith("uid 4000000000@")


# Standing


async def test_a_process_that_says_nothing_is_told_from_one_that_works(run_dir: Path) -> None:
    now_us = SystemClock().now_us()
    long_ago_us = now_us - round((SILENT_AFTER_SECONDS + 40) * 1e6)
    with holder(RUN_LOCK, run_dir):
        await begun(run_dir, replace(PULSE, beat_us=now_us - 11_000_000))
        assert look(run_dir).silent_seconds == 0
        connection = open_beside(run_dir, read_only=False)
        connection.execute("UPDATE pulse SET beat_us = ?", (long_ago_us,))
        connection.close()
        told = look(run_dir)
        assert told.silent_seconds == pytest.approx(SILENT_AFTER_SECONDS + 40, abs=5)
        (said,) = [line for line in lines(told) if line.startswith("process")]
        assert "it has said nothing for 1 min: it was stopped, or waits for its disk" in said
    assert look(run_dir).silent_seconds == 0, "it has died"


async def test_a_session_that_began_after_the_lock_was_looked_at_has_not_died(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(run_dir, PULSE)
    seen: list[str] = []

    def at_first_nobody(_: Path) -> str:
        seen.append("process 7" if seen else "")
        return seen[-1]

    monkeypatch.setattr(standing, "holder_of_run", at_first_nobody)
    assert look(run_dir).state is State.RUNNING
    assert seen == ["", "process 7"]


@pytest.mark.parametrize("condition", list(Condition))
async def test_every_condition_in_words_and_as_a_document(
    run_dir: Path, condition: Condition
) -> None:
    now_us = SystemClock().now_us()
    paused = condition is Condition.PAUSED
    pulse = replace(
        PULSE,
        condition=condition,
        beat_us=now_us,
        ends_us=now_us + 7_260_000_000,
        waiting="paused" if paused else "throttled",
        paused_by="order, window" if paused else "",
        rate_allowed_per_second=2.5,
    )
    with holder(RUN_LOCK, run_dir):
        await begun(run_dir, pulse)
        told = look(run_dir)
    text = "\n".join(lines(told))
    assert f"state     {condition}\n" in text
    assert "faces     0 of 6 (0.0 %) settled\noutcomes  unsent 6\n" in text
    assert "4.9 calls/s now, 9.1 in the mean, 5 for each operation set, 2.5 at present" in text
    assert "calls     12,345 sent in this session, 1,002 in flight" in text
    assert ("waiting   paused by order, window" if paused else "waiting   throttled") in text
    ends = "ends      about " in text
    assert ends is (condition is Condition.RUNNING)
    assert not ends or "(in 2 h 0" in text
    assert brief(told).startswith(
        f"{condition}: 0 of 6 (0.0 %) faces settled, 4.9 calls/s, waiting: "
    )
    written = json.loads(json.dumps(document(told)))
    assert (written["state"], written["rate"]["allowed"]) == (condition, 2.5)
    assert (written["ends_at"] is not None) is (condition is Condition.RUNNING)
    assert "r" in last_line(told).split()[-1]
    assert ("; paused; its window is closed; to go on type: " in last_line(told)) is paused
    # E2: what stands in the ledger for people to read names no IDs.
    assert not [x for x in ("person0", "0000000") if x in text + json.dumps(written)]


async def test_what_is_left_unknown_is_not_finished(run_dir: Path) -> None:
    await begun(run_dir, ended=StopReason.FINISHED)
    assert look(run_dir).state is State.STOPPED
    connection = open_beside(run_dir, read_only=False)
    connection.execute("UPDATE frontier SET call_no = (SELECT SUM(calls) FROM plan_block)")
    connection.execute("UPDATE tally SET outcome = 'unknown'")
    assert look(run_dir).state is State.STOPPED
    connection.execute("UPDATE tally SET outcome = 'deleted'")
    connection.close()
    told = look(run_dir)
    assert told.state is State.FINISHED
    assert last_line(told).startswith("6 faces deleted; finished; ")


@pytest.mark.parametrize(
    ("reason", "outcome", "command"),
    [
        (StopReason.SWAPPED, "unknown", "to see what came type: less {}/report/failures.csv"),
        (StopReason.CANARY, "present", "type: facepurge retry {} (to go on without one: "),
        (StopReason.CANARY, "unknown", "to look again, and go on if all is gone, type: facepurge"),
        (StopReason.LIMIT, "unsent", "type: facepurge resume {} --max-delete N"),
        (StopReason.HALT, "refused", "type: facepurge resume {} (adding --halt never "),
        (StopReason.SIGINT, "unsent", "to go on type: facepurge resume {}"),
    ],
)
async def test_a_stopped_run_goes_on_as_its_own_last_line_says(
    run_dir: Path, reason: StopReason, outcome: str, command: str
) -> None:
    await begun(run_dir, ended=reason)
    connection = open_beside(run_dir, read_only=False)
    connection.execute("UPDATE tally SET outcome = ?", (outcome,))
    connection.close()
    told = look(run_dir)
    assert told.state is State.STOPPED
    assert command.format(shlex.quote(str(run_dir))) in last_line(told)


def test_a_watcher_ends_when_nobody_reads_it(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(_text: str) -> None:
        stdout._state.lost = "the pipe is closed"

    monkeypatch.setattr(stdout, "write", lost)
    with holder(RUN_LOCK, run_dir):
        assert watching.watch(run_dir, json=False) == 0
    assert "planned, and nothing was sent" in capsys.readouterr().err


def test_the_terminal_has_room_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    assert watching._fitting(["x" * 50] * 9) == ["x" * 19] * 3


# The lock


def test_a_look_at_the_lock_neither_takes_it_nor_is_in_the_way(run_dir: Path) -> None:
    assert holder_of_run(run_dir) == ""
    assert not (run_dir / "lock").exists()
    with holder(RUN_LOCK, run_dir) as process:
        assert holder_of_run(run_dir).startswith(f"process {process.pid} on ")
    assert holder_of_run(run_dir) == ""
    looks_on = True

    def look_on() -> None:
        while looks_on:
            holder_of_run(run_dir)
            time.sleep(0.001)

    with meanwhile(look_on):
        try:
            for _ in range(200):
                with run_lock(run_dir):
                    pass
        finally:
            looks_on = False


def test_a_lock_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(GateClosed, match="the lock cannot be looked at") as refused:
        holder_of_run(tmp_path)
    assert refused.value.remedy
