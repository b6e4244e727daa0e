"""Runs that end early: killed, told to stop, told twice; and what resume and report make of them."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import time
from pathlib import Path

import apsw
import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import Report, judge, judge_rehearsal, served_twice
from tests.e2e.program import Program
from tests.e2e.service import FAST, Pair, serving
from worker.sandbox.latency import FixedLatency

PAIRS = persons(20, 2)


def run(url: str, *flags: str) -> tuple[str, ...]:
    return ("run", "a.csv", "--endpoint", url, "--yes", "--run-dir", "r", *flags)


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


async def test_after_sigkill_only_what_was_in_flight_is_unknown(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.3)) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(12)
            running.send(signal.SIGKILL)
            assert (await running.ended()).code == -signal.SIGKILL
        sent = {(x.person_id, face) for x in service.entries for face in x.face_ids}
        ended = await program("report", "r")
        assert ended.code == 5, ended.err
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        killed = judge(tmp_path / "r", PAIRS, service.journal.lines)
        unknown = killed.of("unknown")
        assert unknown
        # An attempt may have been written down just before its first byte could leave.
        assert killed.of("unsent") | unknown >= set(PAIRS) - sent
        assert killed.of("deleted") == sent - unknown
        assert {r["code"] for r in killed.results if r["outcome"] == "unknown"} == {
            "closed_after_crash"
        }
        ended = await program("resume", "r", "--yes", *FAST)
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.of("absent") <= unknown
        assert report.of("deleted") | report.of("absent") == set(PAIRS)
        assert not served_twice(service.journal.lines)


async def test_a_plan_that_is_damaged_in_mid_run_leaves_a_report_of_what_was_done(
    program: Program, tmp_path: Path
) -> None:
    """It is more than one block of calls, of which each is read when the first of it is begun."""
    pairs = persons(600)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        async with program.started(*run(service.url, *FAST)) as running:
            await service.arrivals(1)
            connection = apsw.Connection(str(tmp_path / "r" / "ledger.sqlite3"))
            connection.set_busy_timeout(10_000)
            connection.execute("UPDATE plan_block SET faces = faces + 1 WHERE first_call_no = 512")
            connection.close()
            ended = await running.ended()
        assert ended.code == 7, ended.err
        with (tmp_path / "r" / "report" / "results.csv").open(newline="") as file:
            results = {(x["person_id"], x["face_id"]): x["outcome"] for x in csv.DictReader(file)}
        gone = {pair for pair, outcome in results.items() if outcome == "deleted"}
        assert gone == service.deleted
        assert 400 < len(gone) <= 512
        assert results == dict.fromkeys(pairs, "unsent") | dict.fromkeys(gone, "deleted")


async def test_a_rehearsal_killed_goes_on_in_the_same_world(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with program.started("run", "a.csv", "--sandbox", "--run-dir", "r", "-v") as running:
        await running.said("deleted ")
        running.send(signal.SIGKILL)
        await running.ended()
    ended = await program("resume", "r")
    report = judge_rehearsal(tmp_path / "r", PAIRS)
    assert ended.code == 0, ended.err
    assert report.of("deleted") | report.of("absent") == set(PAIRS)


async def test_a_rehearsal_whose_server_died_stops_at_once_and_goes_on_in_the_same_world(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with program.started("run", "a.csv", "--sandbox", "--run-dir", "r", "-v") as running:
        await running.said("deleted ")
        os.kill(only_child(running.pid), signal.SIGKILL)
        began = time.monotonic()
        stopped = await running.ended()
    assert time.monotonic() - began < 20  # outage_limit_minutes is an hour
    assert stopped.code == 5, stopped.err
    *_, remedy, last = stopped.err.splitlines()
    assert (
        remedy == "  remedy: resume the rehearsal: the sandbox is started again, in the same world"
    )
    assert "deleted" in last
    assert "stopped: the sandbox of this rehearsal is gone: it was killed by signal 9" in last
    assert last.endswith("to go on type: facepurge resume r")
    judge_rehearsal(tmp_path / "r", PAIRS)
    ended = await program("resume", "r")
    assert ended.code == 0, ended.err
    report = judge_rehearsal(tmp_path / "r", PAIRS)
    assert report.of("deleted") | report.of("absent") == set(PAIRS)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["SIGTERM", "SIGINT", "SIGHUP"],
)
async def test_one_signal_drains_and_resume_completes(
    program: Program, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.4)) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(6)
            told = running.send(number)
            ended = await running.ended()
        assert ended.code == code, ended.err
        assert all(entry.seconds <= told + 0.1 for entry in service.entries)
        assert number.name in ended.last_line
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        sent = {(x.person_id, face) for x in service.entries for face in x.face_ids}
        assert report.of("deleted") == sent
        assert report.of("unsent") == set(PAIRS) - sent
        assert report.summary["stop_reason"] == number.name.lower()
        assert (await program("report", "r")).code == code
        ended = await program("resume", "r", "--confirm", str(len(PAIRS) - len(sent)), *FAST)
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": len(PAIRS)}
        assert [x["verb"] for x in report.summary["sessions"]] == ["run", "resume"]
        assert len(service.entries) == 20


async def test_a_second_signal_ends_at_once(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(30.0)) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(5)
            running.send(signal.SIGTERM)
            await running.said("SIGTERM")
            told = running.send(signal.SIGTERM)
            ended = await running.ended()
        assert ended.code == 143
        assert time.monotonic() - told < 2
        assert ended.last_line.startswith("0 faces deleted so far; ended at once")
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        in_flight = {(x.person_id, face) for x in service.entries for face in x.face_ids}
        assert (await program("report", "r")).code == 5
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        # An attempt may have been written down just before its first byte could leave.
        assert report.of("unknown") >= in_flight
        assert report.counts["unsent"] > 20


async def test_a_terminal_that_is_closed_is_told_of_twice_and_drains_all_the_same(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.4)) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(5)
            running.send(signal.SIGHUP)
            await running.said("SIGHUP")
            running.send(signal.SIGHUP)
            ended = await running.ended()
        assert ended.code == 129
        assert "its terminal or connection was closed (SIGHUP)" in ended.last_line
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        sent = {(x.person_id, face) for x in service.entries for face in x.face_ids}
        assert report.of("deleted") == sent


async def test_what_does_not_answer_within_the_grace_period_is_unknown(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(30.0)) as service:
        grace = {"FACEPURGE_GRACE_SECONDS": "0.3"}
        async with program.started(*run(service.url), environment=grace) as running:
            await service.arrivals(5)
            told = running.send(signal.SIGTERM)
            ended = await running.ended()
        assert ended.code == 143, ended.err
        assert time.monotonic() - told < 5
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        in_flight = {(x.person_id, face) for x in service.entries for face in x.face_ids}
        assert report.of("unknown") == in_flight
        assert {r["code"] for r in report.results if r["outcome"] == "unknown"} == {"cancelled"}


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["SIGTERM", "SIGINT", "SIGHUP"],
)
async def test_a_signal_before_the_first_call_leaves_no_run(
    program: Program, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    async with serving(PAIRS) as service:
        # Standard input stays open: the plan waits for its end.
        async with program.started(
            *("run", "-", "--endpoint", service.url, "--yes", "--run-dir", "r", "--format", "csv")
        ) as running:
            while not (tmp_path / "r" / "ledger.sqlite3.planning").exists():  # noqa: ASYNC110 (a file announces nothing)
                await asyncio.sleep(0.01)
            running.send(number)
            ended = await running.ended()
        assert ended.code == code, ended.err
        assert ended.last_line == "nothing was sent"
        assert not list((tmp_path / "r").glob("ledger.sqlite3*"))
        assert service.entries == []


async def test_a_finished_run_is_never_sent_again(program: Program, tmp_path: Path) -> None:
    pairs: list[Pair] = [*PAIRS, *PAIRS[:3]]
    write_table(tmp_path / "a.csv", pairs)
    async with serving(PAIRS) as service:
        ended = await program(*run(service.url, *FAST))
        assert ended.code == 0, ended.err
        first = judge(tmp_path / "r", pairs, service.journal.lines)
        digests = first.digests()
        seen = len(service.entries)
        for again in (("resume", "r"), ("resume", "r", "--yes"), ("report", "r")):
            repeated = await program(*again)
            assert repeated.code == 0, repeated.err
            assert repeated.out == ended.out
            assert Report(tmp_path / "r").digests() == digests
        assert len(service.entries) == seen
        (tmp_path / "r" / "report" / "results.csv").unlink()
        assert (await program("report", "r", "--json")).out == (
            tmp_path / "r" / "report" / "summary.json"
        ).read_text()
        assert Report(tmp_path / "r").digests() == digests
