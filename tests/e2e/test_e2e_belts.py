"""Runs that stop, pause or ramp up by themselves, and go on when somebody lets them."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge, served_twice
from tests.e2e.program import Program
from tests.e2e.service import FAST, Service, serving
from worker.sandbox.faults import parse_rule
from worker.sandbox.latency import FixedLatency

PAIRS = persons(40, 2)
SOON = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.2"}


def run(url: str, *flags: str) -> tuple[str, ...]:
    return ("run", "a.csv", "--endpoint", url, "--yes", "--run-dir", "r", *flags)


def deleted_persons(service: Service) -> list[str]:
    """Whose faces were asked to be deleted, in the order of arrival."""
    return [x.person_id for x in service.entries if x.operation == "DeleteFaces"]


# --canary


async def test_a_service_that_lies_gets_no_further_than_the_canary(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, faults=(parse_rule("lie count=0"),)) as service:
        ended = await program(*run(service.url, "--canary", "1,20", *FAST), environment=SOON)
        assert ended.code == 6, ended.err
        assert [(x.operation, x.person_id) for x in service.entries] == [
            ("DeleteFaces", "person-0"),
            ("GetPerson", "person-0"),
        ]
        assert (
            "canary: stage 1 of 2 failed: the face at a.csv:2 is present (reappeared); nothing"
            " beyond this stage was sent" in ended.last_line
        )
        assert (
            "type: facepurge retry r (to go on without one: facepurge resume r --canary none)"
            in (ended.last_line)
        )
        assert "next: ask the support of Alibaba Cloud, quoting request ID " in ended.out
        assert "; find out whether somebody adds them; then type: facepurge retry r" in ended.out
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"present": 2, "unsent": 78}
        assert report.summary["stop_reason"] == "canary"
        assert report.summary["exit_code"] == 6
        # A resume looks at what is known, and asks for nothing.
        seen = len(service.entries)
        ended = await program("resume", "r", "--yes", environment=SOON)
        assert ended.code == 6, ended.err
        assert len(service.entries) == seen
        assert (await program("verify", "r", "--self")).code == 0


async def test_a_failed_stage_is_tried_again_by_a_new_round(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, faults=(parse_rule("lie count=1"),)) as service:
        flags = ("--canary", "1,20", *FAST)
        ended = await program(*run(service.url, *flags), environment=SOON)
        assert ended.code == 6, ended.err
        ended = await program("retry", "r", "--confirm", "79", environment=SOON)
        assert ended.code == 3
        assert "80 faces" in ended.err
        ended = await program("retry", "r", "--confirm", "80", environment=SOON)
        assert ended.code == 0, ended.err
        assert "canary: stage 1 of 2 passed: 1 person is settled and verified" in ended.err
        assert "canary: stage 2 of 2 passed: 21 persons are settled and verified" in ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 80}
        order = [(x.operation, x.person_id) for x in service.entries]
        for end in (1, 21):
            looked = max(order.index(("GetPerson", f"person-{n}")) for n in range(end))
            assert looked < order.index(("DeleteFaces", f"person-{end}"))
        assert service.deleted == set(PAIRS)


async def test_a_canary_lifted_by_a_resume(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    refusal = parse_rule("service-code code=404 person=person-3 count=0 applies=never")
    async with serving(PAIRS, faults=(refusal,)) as service:
        ended = await program(*run(service.url, "--canary", "10", *FAST), environment=SOON)
        assert ended.code in (6, 8), ended.err
        assert "canary: stage 1 of 1 failed: the face at a.csv:8 is" in ended.last_line
        assert set(deleted_persons(service)) <= {f"person-{n}" for n in range(10)}
        ended = await program("resume", "r", "--yes", "--canary", "none", environment=SOON)
        assert ended.code in (4, 6), ended.err
        assert set(deleted_persons(service)) == {f"person-{n}" for n in range(40)}


async def test_a_killed_canary_goes_on_in_its_stage(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.1)) as service:
        begun = program.started(*run(service.url, "--canary", "1,20"), environment=SOON)
        async with begun as running:
            await service.arrivals(6)
            running.send(signal.SIGKILL)
            await running.ended()
        assert set(deleted_persons(service)) <= {f"person-{n}" for n in range(21)}
        seen = len(service.entries)
        ended = await program("resume", "r", "--yes", *FAST, environment=SOON)
        assert ended.code == 0, ended.err
        assert "stage 2 of 2 passed" in ended.err
        assert "stage 1 of 2" not in ended.err
        later = [(x.operation, x.person_id) for x in service.entries[seen:]]
        rest = later.index(("DeleteFaces", "person-21"))
        assert (
            max(
                index
                for index, (operation, person) in enumerate(later)
                if operation == "GetPerson" and int(person.removeprefix("person-")) < 21
            )
            < rest
        )
        judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert not served_twice(service.journal.lines)


# --halt


async def test_a_run_that_goes_badly_halts_soon(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    refusal = parse_rule("service-code code=403 nth=5 count=0 applies=never")
    async with serving(PAIRS, faults=(refusal,), latency=FixedLatency(0.1)) as service:
        ended = await program(*run(service.url, "--halt", "soon,fail=5"))
        assert ended.code == 8, ended.err
        assert "stopped: --halt soon,fail=5: of " in ended.last_line
        assert "type: facepurge resume r (adding --halt never for no such stop)" in ended.last_line
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts["deleted"] == 8
        assert 6 <= report.counts["refused"] < 20
        assert report.counts["unknown"] == 0
        assert report.summary["stop_reason"] == "halt"
        assert (await program("report", "r")).code == 8
        assert (await program("verify", "r", "--self")).code == 0
        refused = report.counts["refused"]
        ended = await program("resume", "r", "--yes", "--halt", "never", *FAST)
        assert ended.code == 4, ended.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts["refused"] == 72
        assert refused < 72


async def test_a_run_that_goes_badly_halts_now(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    refusal = parse_rule("service-code code=403 applies=never")
    async with serving(PAIRS, faults=(refusal,), latency=FixedLatency(0.6)) as service:
        ended = await program(*run(service.url, "--halt", "now,fail=1"), environment=SOON)
        assert ended.code == 8, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts["refused"] == 2
        assert report.counts["unknown"] >= 8
        assert "cancelled" in {x["code"] for x in report.results if x["outcome"] == "unknown"}
        ended = await program("resume", "r", "--yes", *FAST, environment=SOON)
        assert ended.code == 4, ended.err
        counts = judge(tmp_path / "r", PAIRS, service.journal.lines).counts
        assert counts["refused"] == 2
        assert counts["deleted"] + counts["absent"] == 78
        assert not served_twice(service.journal.lines)


# --reserve


async def test_a_reserve_is_left_alone_once_it_is_known_what_the_service_allows(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(28)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        ended = await program(*run(service.url, "--rate", "10", "--reserve", "5"))
        assert ended.code == 0, ended.err
        times = [x.seconds - service.entries[0].seconds for x in service.entries]
        assert sum(x < 1 for x in times) > 5
        later = [x for x in times if x > 2.2]
        assert len(later) > 5
        assert all(sum(x - 1 < y <= x for y in later) <= 6 for x in later)
        judge(tmp_path / "r", pairs, service.journal.lines)


# --max-duration and --window


async def test_a_session_that_has_lasted_long_enough(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.2)) as service:
        ended = await program(*run(service.url, "--max-duration", "1s"))
        assert ended.code == 10, ended.err
        assert "stopped: this session has lasted --max-duration 1s" in ended.last_line
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        sent = set(deleted_persons(service))
        assert 0 < len(sent) <= 22
        assert report.counts == {"deleted": 2 * len(sent), "unsent": 80 - 2 * len(sent)}
        assert report.summary["exit_code"] == 10
        ended = await program("resume", "r", "--yes", "--max-duration", "none", *FAST)
        assert ended.code == 0, ended.err


def window(begin_hours: float, end_hours: float) -> str:
    """From so many hours from now, in UTC."""
    now = datetime.now(UTC)
    return "-".join(f"{now + timedelta(hours=x):%H:%M}" for x in (begin_hours, end_hours))


async def test_outside_of_the_window_nothing_is_sent(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    closed = window(2, 4)
    zone = ("--time-zone", "UTC")
    async with serving(PAIRS) as service:
        ended = await program(*run(service.url, "--window", closed, *zone))
        assert ended.code == 3, ended.err
        until = closed.partition("-")[0]
        assert f"the window {closed} is closed now, opens {until} UTC" in ended.err
        assert ended.last_line == "nothing was sent"
        assert not (tmp_path / "r").exists()
        flags = (*zone, "--outside-window", "wait", "--log-format", "json")
        async with program.started(*run(service.url, "--window", closed, *flags)) as running:
            await running.said(f"the window {closed} is closed until {until} UTC: no call is made")
            running.send(signal.SIGTERM)
            assert (await running.ended()).code == 143
        ended = await program("resume", "r", "--yes", "--outside-window", "stop")
        assert ended.code == 10, ended.err
        assert f"; stopped: the window {closed} is closed until {until} UTC" in ended.last_line
        assert service.entries == []
        # A flag of a resume counts more than what the run was planned with.
        ended = await program("resume", "r", "--yes", "--window", window(-1, 1), *FAST)
        assert ended.code == 0, ended.err
        judge(tmp_path / "r", PAIRS, service.journal.lines)


# --stop-file and --pause-file


async def test_a_stop_file(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    stop_file = tmp_path / "stop"
    stop_file.touch()
    async with serving(PAIRS) as service:
        ended = await program(*run(service.url, "--stop-file", "stop"))
        assert ended.code == 3, ended.err
        assert f"{stop_file}: the stop file exists, and no call would be made" in ended.err
        assert ended.last_line == "nothing was sent"
        assert service.entries == []
        assert not (tmp_path / "r").exists()
        stop_file.unlink()
        async with program.started(*run(service.url, "--stop-file", "stop")) as running:
            await service.arrivals(3)
            stop_file.touch()
            touched = time.monotonic()
            ended = await running.ended()
        assert ended.code == 10, ended.err
        assert all(entry.seconds <= touched + 1.5 for entry in service.entries)
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts["unknown"] == 0
        assert report.counts["unsent"] > 0
        seen = len(service.entries)
        ended = await program("resume", "r", "--yes")
        assert ended.code == 10, ended.err
        assert f"stopped: the stop file {stop_file} exists; remove it" in ended.last_line
        assert len(service.entries) == seen
        stop_file.unlink()
        assert (await program("resume", "r", "--yes", *FAST)).code == 0


async def test_a_pause_file(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    pause_file = tmp_path / "pause"
    pause_file.touch()
    async with serving(PAIRS) as service:
        flags = ("--pause-file", "pause", *FAST)
        async with program.started(*run(service.url, *flags)) as running:
            await running.said(f"paused by a file: {pause_file} exists")
            assert service.entries == []
            pause_file.unlink()
            ended = await running.ended()
        assert ended.code == 0, ended.err
        assert "no file keeps the run paused any more" in ended.err
        judge(tmp_path / "r", PAIRS, service.journal.lines)


# What cannot be meant


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--halt", "soon,fial=20%"), "did you mean fail?"),
        (("--halt", "fail=20%"), "--halt: it begins with 'fail=20%'"),
        (("--canary", "0"), "--canary: found '0'"),
        (("--reserve", "19"), "--reserve: 19 of 19.8 calls per second leave 0.8"),
        (("--max-duration", "90"), "--max-duration: '90' is not a duration"),
        (("--window", "25:00-06:00"), "--window: 25:00 in '25:00-06:00' is no time of the day"),
        (("--window", "06:00-06:00"), "--window: '06:00-06:00' is empty"),
        (
            ("--window", "22:00-06:00", "--time-zone", "Europe/Berlim"),
            "remedy: did you mean Europe/Berlin?",
        ),
        (("--time-zone", "UTC"), "--time-zone: it says something about a time window"),
        (("--outside-window", "wait"), "--outside-window: it says something about a time window"),
        (("--stop-file", "x", "--pause-file", "x"), "--pause-file: the file is the stop file"),
    ],
)
async def test_belts_that_cannot_be_meant(
    program: Program, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    ended = await program(*run("http://127.0.0.1:9", *flags))
    assert ended.code == 2
    assert said in ended.err
    assert ended.last_line == "nothing was sent"
    assert not (tmp_path / "r").exists()
