"""Steering a real run from other processes; the service's own log says what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.core.rig import draft_run, rows
from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge
from tests.e2e.program import PROGRAM, Ended, Program, Running
from tests.e2e.service import FAST, Service, serving
from worker.ledger.database import FILE_NAME
from worker.sandbox.latency import FixedLatency

PAIRS = persons(400)

AT_THE_SENDER, AT_THE_SERVER = 0.98, 0.9
"""Of a second: a busy machine brings one call late, and the next one in time."""

ON_ITS_WAY_SECONDS = 0.25
"""A call that was granted its departure just before an order may arrive as late as this. The next
one, at a far lower rate, comes later by far."""


@asynccontextmanager
async def at_work(
    program: Program, service: Service, *flags: str, arrivals: int = 10
) -> AsyncIterator[Running]:
    """A run of ``PAIRS`` in ``r`` that has made some calls."""
    write_table(program.directory / "a.csv", PAIRS)
    async with program.started(
        *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *flags)
    ) as running:
        await service.arrivals(arrivals)
        yield running


def arrived(service: Service) -> list[float]:
    return [entry.seconds for entry in service.entries]


def most_in(times: list[float], seconds: float, *, ends_after: float) -> int:
    """The most of ``times`` within so many seconds, the last of them after ``ends_after``."""
    return max(
        sum(end - seconds < time <= end for time in times) for end in times if end > ends_after
    )


def in_the_ledger(run_dir: Path, sql: str, *bindings: int) -> list[Any]:
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    try:
        return connection.execute(sql, bindings).fetchall()
    finally:
        connection.close()


def taken_seconds(run_dir: Path, seq: int) -> float:
    """When an order was taken, by the clock of the service's log."""
    ((taken_us,),) = in_the_ledger(
        run_dir, "SELECT taken_us FROM command_taken WHERE command_seq = ?", seq
    )
    return float(taken_us) / 1e6 - time.time() + time.monotonic()


async def standing(program: Program) -> dict[str, Any]:
    ended = await program("status", "r", "--json")
    assert ended.code == 0, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    return document


def closed(ended: Ended, said: str) -> None:
    assert ended.code == 3, ended.err
    assert ended.out == ""
    assert said in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line.endswith("to see how the run is type: facepurge status r")


async def test_rates_that_are_ordered_in_the_middle_of_a_run(
    program: Program, tmp_path: Path
) -> None:
    async with serving(PAIRS) as service, at_work(program, service, arrivals=30) as running:
        slower = await program("rate", "r", "5")
        assert slower.code == 0, slower.err
        assert slower.out == "the rate is 5 calls/s from the next call on (it was 19.8)\n"
        assert slower.last_line.endswith("to watch it type: facepurge status --watch r")
        await service.arrivals(len(service.entries) + 16)
        faster = await program("rate", "r", "20")
        assert faster.code == 0, faster.err
        await service.arrivals(len(service.entries) + 30)
        running.send(signal.SIGTERM)
        assert (await running.ended()).code == 143
        five, twenty = taken_seconds(tmp_path / "r", 1), taken_seconds(tmp_path / "r", 2)
        times = arrived(service)
        slow = [x for x in times if x <= twenty]
        assert most_in(slow, AT_THE_SERVER, ends_after=five + ON_ITS_WAY_SECONDS) <= 5
        steady = [x for x in slow if x > five + 1.5]
        assert (len(steady) - 1) / (steady[-1] - steady[0]) == pytest.approx(5.0, rel=0.2)
        assert sum(twenty < x <= twenty + 1.1 for x in times) >= 15
        assert most_in(times, AT_THE_SERVER, ends_after=0) <= 20
        sent = in_the_ledger(tmp_path / "r", "SELECT sent_us FROM ending WHERE sent_us > 0")
        sent_seconds = sorted(us / 1e6 - time.time() + time.monotonic() for (us,) in sent)
        slow = [x for x in sent_seconds if x <= twenty]
        assert most_in(slow, AT_THE_SENDER, ends_after=five + ON_ITS_WAY_SECONDS) <= 5
        assert most_in(sent_seconds, AT_THE_SENDER, ends_after=0) <= 20
        judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert (await program("resume", "r", "--yes", *FAST)).code == 0
        judge(tmp_path / "r", PAIRS, service.journal.lines)


async def test_a_paused_run_sends_nothing_goes_on_and_stops_on_request(
    program: Program, tmp_path: Path
) -> None:
    async with (
        serving(PAIRS, latency=FixedLatency(0.4)) as service,
        at_work(program, service, arrivals=25) as running,
    ):
        ended = await program("pause", "r")
        assert ended.code == 0, ended.err
        assert ended.out.startswith("paused; ")
        assert "in flight being finished" in ended.out
        paused = taken_seconds(tmp_path / "r", 1)
        await asyncio.sleep(1.5)
        told = await standing(program)
        assert (told["state"], told["waiting"], told["paused_by"]) == ("paused", "paused", "order")
        assert told["calls_in_flight"] == 0
        assert told["faces"] == {"done": told["outcomes"]["deleted"], "total": 400}
        assert told["faces"]["done"] == len(service.entries)
        again = await program("pause", "r")
        assert again.out.startswith("it was paused already")
        before = len(service.entries)
        on = await program("unpause", "r")
        assert on.out == "unpaused; calls go on at 19.8 calls/s\n"
        unpaused = taken_seconds(tmp_path / "r", 3)
        await service.arrivals(before + 10)
        assert not [x for x in arrived(service) if paused + ON_ITS_WAY_SECONDS < x < unpaused]
        await program("pause", "r")
        halt = await program("stop", "r")
        assert halt.code == 0, halt.err
        assert halt.out.startswith("stopping: no further call begins; ")
        assert halt.last_line.endswith("to go on type: facepurge resume r")
        stopped = await running.ended()
        assert stopped.code == 10, stopped.err
        assert "stopped: it was told to stop by " in stopped.last_line
        assert stopped.last_line.endswith("; to go on type: facepurge resume r")
        assert "unknown" not in stopped.out
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.summary["stop_reason"] == "request"
        assert report.summary["exit_code"] == 10
        assert report.summary["waits_seconds"]["paused"] >= 1.5
        assert report.counts.keys() == {"deleted", "unsent"}
        assert report.counts["deleted"] == len(service.entries)
        assert (await program("report", "r")).code == 10
        # Neither the pause nor the stop is for the next session.
        resumed = await program("resume", "r", "--yes", *FAST)
        assert resumed.code == 0, resumed.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 400}
        assert len(service.entries) == 400


async def test_two_controllers_at_once(program: Program, tmp_path: Path) -> None:
    async with serving(PAIRS) as service, at_work(program, service):
        both = await asyncio.gather(
            *(program("rate", "r", rate) for rate in ("3", "4")), program("status", "r")
        )
        assert [ended.code for ended in both] == [0, 0, 0], both
        told = await standing(program)
        first, second = told["orders"]
        assert {first["rate_per_second"], second["rate_per_second"]} == {3.0, 4.0}
        assert f"(it was {first['rate_per_second']:g})" in second["said"]
        assert first["given_by"] != second["given_by"]
        assert told["rate"]["configured"] == second["rate_per_second"]


CANNOT_BE_MEANT: list[tuple[tuple[str, ...], int, str]] = [
    (("rate", "r", "nan"), 2, "rate: found 'nan'"),
    (("rate", "r", "0"), 2, "rate: found '0'"),
    (("rate", "r", "-1"), 2, "-1"),
    (("rate", "r", "1e999"), 2, "rate: found '1e999'"),
    (("rate", "r", "inf"), 2, "rate: found 'inf'"),
    (("rate", "r", "0.0001"), 2, "a number of calls per second from 0.001 to"),
    (("rate", "r"), 2, "'N'"),
    (("rate", "r", "5", "6"), 2, "6"),
    (("rate", "r", "25"), 3, "25 calls per second is more than the 20"),
    (("pause", "nowhere"), 3, "there is no ledger of a run here"),
    (("stop", "a.csv"), 3, "there is no ledger of a run here"),
    (("status", "."), 3, "there is no ledger of a run here"),
    (("status", "foreign"), 3, "not a ledger of facepurge"),
    (("unpause", "old"), 3, "the ledger has format 1"),
    (("pause",), 2, "RUN_DIR"),
    (("pause", "r", "--watch"), 2, "--watch"),
]


async def test_what_cannot_be_meant(program: Program, tmp_path: Path) -> None:
    """Neither the run nor anything else takes harm of it."""
    draft_run(tmp_path / "old", [rows(PAIRS)])
    (tmp_path / "foreign").mkdir()
    for name, pragma in (("old", "user_version = 1"), ("foreign", "application_id = 7")):
        connection = apsw.Connection(str(tmp_path / name / FILE_NAME))
        connection.execute("CREATE TABLE IF NOT EXISTS mine (n)")
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
    async with serving(PAIRS) as service, at_work(program, service):
        # All at once: they must not get into one another's way either.
        ends = await asyncio.gather(*(program(*words) for words, _, _ in CANNOT_BE_MEANT))
        for (words, code, said), ended in zip(CANNOT_BE_MEANT, ends, strict=True):
            assert ended.code == code, (words, ended.err)
            assert ended.out == "", words
            assert said in ended.err, (words, ended.err)
            assert "  remedy: " in ended.err, words
        told = await standing(program)
        assert told["state"] == "running"
        assert told["rate"]["configured"] == 19.8
        assert [order["refused"] for order in told["orders"]] == [True]


async def test_a_raised_quota_allows_a_higher_rate(program: Program, tmp_path: Path) -> None:
    flags = ("--raised-quota", "--rate", "10")
    async with serving(PAIRS) as service, at_work(program, service, *flags) as running:
        ended = await program("rate", "r", "100")
        assert ended.code == 0, ended.err
        assert (await running.ended()).code == 0
        gaps = [later - earlier for earlier, later in pairwise(arrived(service)[-200:])]
        assert sum(gaps) / len(gaps) < 0.04, "100 a second, and not 10 any more"


async def test_the_standing_of_a_run_over_its_life(program: Program, tmp_path: Path) -> None:
    async with serving(PAIRS, latency=FixedLatency(0.05)) as service:
        async with at_work(program, service) as running:
            told = await standing(program)
            assert (told["state"], told["stop_reason"]) == ("running", None)
            assert f"process {running.pid} on " in told["process"]
            assert told["rate"]["configured"] == 19.8
            assert told["outcomes"].keys() == {"deleted", "unsent"}
            running.send(signal.SIGKILL)
            await running.ended()
        died = await program("status", "r")
        assert died.code == 0
        assert "state     died" in died.out
        assert died.last_line.endswith("the process died; to go on type: facepurge resume r")
        closed(await program("pause", "r"), "the process that worked on this run has died")
        async with program.started("resume", "r", "--yes") as running:
            await service.arrivals(len(service.entries) + 5)
            running.send(signal.SIGTERM)
            await running.ended()
        told = await standing(program)
        assert (told["state"], told["stop_reason"]) == ("stopped", "sigterm")
        assert [session["stop_reason"] for session in told["sessions"]] == ["killed", "sigterm"]
        assert (told["rate"], told["process"], told["ends_at"]) == (None, "", None)
        closed(await program("stop", "r"), "nobody works on this run at present")
        assert (await program("resume", "r", "--yes", *FAST)).code == 0
        done = await program("status", "r")
        assert "state     finished" in done.out
        assert "faces     400 of 400 (100.0 %) settled" in done.out
        assert done.last_line.endswith("finished; to see it all type: less r/report/summary.json")
        closed(await program("rate", "r", "5"), "the run is finished")
        assert {path.name for path in (tmp_path / "r").iterdir()} == {
            FILE_NAME,
            "lock",
            "report",
        }
        judge(tmp_path / "r", PAIRS, service.journal.lines)


async def test_a_run_that_was_only_planned(program: Program, tmp_path: Path) -> None:
    draft_run(tmp_path / "r", [rows(PAIRS)])
    ended = await program("status", "r")
    assert ended.code == 0
    assert "state     planned" in ended.out
    assert ended.last_line == "planned, and nothing was sent; to begin type: facepurge resume r"
    closed(await program("pause", "r"), "the run was planned and never begun")
    watched = await program("status", "r", "--watch")
    assert (watched.code, len(watched.out.splitlines())) == (0, 1)


async def test_a_run_that_is_still_being_planned(program: Program, tmp_path: Path) -> None:
    async with program.started(
        *("run", "-", "--endpoint", "http://127.0.0.1:9", "--yes", "--run-dir", "r"),
        *("--format", "csv"),
    ) as running:
        while not (tmp_path / "r" / "ledger.sqlite3.planning").exists():  # noqa: ASYNC110 (a file announces nothing)
            await asyncio.sleep(0.01)
        ended = await program("stop", "r")
        closed(ended, f"process {running.pid} on ")
        assert "is still planning this run" in ended.err


async def test_whoever_watches_a_pipe_gets_a_line_for_each_change(
    program: Program, tmp_path: Path
) -> None:
    async with (
        serving(PAIRS) as service,
        at_work(program, service),
        program.started("status", "r", "--watch") as lines,
        program.started("status", "r", "--watch", "--json") as documents,
    ):
        await program("pause", "r")
        await asyncio.sleep(2.5)
        await program("stop", "r")
        told, documented = await lines.ended(), await documents.ended()
    assert (told.code, documented.code) == (0, 0)
    shown = told.out.splitlines()
    assert " paused: " in "".join(shown)
    assert " stopped (request): it was told to stop by " in shown[-1]
    assert all(one[9:] != two[9:] for one, two in pairwise(shown)), "only what has changed"
    states = [json.loads(line)["state"] for line in documented.out.splitlines()]
    assert states[-1] == "stopped"
    assert "paused" in states
    assert told.last_line.endswith("stopped (request); to go on type: facepurge resume r")


async def test_whoever_watches_on_a_terminal_sees_it_redrawn(
    program: Program, tmp_path: Path
) -> None:
    async with serving(PAIRS) as service, at_work(program, service) as running:
        ours, theirs = pty.openpty()
        watcher = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "status", "r", "--watch"),
            cwd=tmp_path,
            env={**program.environment, "TERM": "xterm", "COLUMNS": "60", "LINES": "24"},
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        screen = bytearray()

        def read() -> None:
            try:
                screen.extend(os.read(ours, 65536))
            except OSError:
                asyncio.get_running_loop().remove_reader(ours)

        asyncio.get_running_loop().add_reader(ours, read)
        async with asyncio.timeout(30):
            while b"\x1b[" not in screen:  # noqa: ASYNC110 (a terminal announces nothing)
                await asyncio.sleep(0.05)
        running.send(signal.SIGTERM)
        assert await watcher.wait() == 0
        await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
    text = screen.decode()
    assert "state     running" in text
    assert "F\x1b[J" in text
    drawn = text.split("\x1b[J")[0].splitlines()
    assert all(len(line) <= 60 for line in drawn if "\x1b" not in line)
