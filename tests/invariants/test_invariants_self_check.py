"""``facepurge verify --self`` as a person types it."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, serving
from tests.invariants.rehearsal import opened, report, reseal
from worker.sandbox.latency import FixedLatency

PAIRS = persons(12, 2)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    write_table(tmp_path / "a.csv", PAIRS)
    return Program(tmp_path)


async def self_check(program: Program, *flags: str) -> Ended:
    return await program("verify", "r", "--self", *flags)


async def rehearse(program: Program) -> None:
    ended = await program("run", "a.csv", "--sandbox", "--run-dir", "r", *FAST)
    assert ended.code == 0, ended.err


async def test_a_rehearsal_is_checked_with_the_log_of_its_server(program: Program) -> None:
    await rehearse(program)
    ended = await self_check(program)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == "checked"
    assert ended.out.splitlines()[-1] == "no violation found"
    assert "24   12 persons, 12 calls, 24 faces" in ended.out
    assert "12   12 DeleteFaces" in ended.out
    assert "24   the report is current" in ended.out
    assert "12   in the log of the rehearsal's server" in ended.out
    assert ended.last_line == "nothing was sent; self-check: no violation found"


async def test_a_real_run_says_what_only_the_service_knows(
    program: Program, tmp_path: Path
) -> None:
    async with serving(PAIRS) as service:
        ended = await program(
            "run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *FAST
        )
        assert ended.code == 0, ended.err
        requests = len(service.entries)
        await service.refuse()  # nobody is there to be asked
        ended = await self_check(program, "--json")
        assert len(service.entries) == requests
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert document["exit_code"] == 0
    assert document["violations"] == []
    assert document["violations_per_invariant"] == {}
    assert document["checked"] == {
        "rows": 24,
        "persons": 12,
        "calls": 12,
        "faces": 24,
        "attempts": {"DeleteFaces": 12},
        "requests": 0,
        "report": "current",
        "report_lines": 24,
    }
    assert any("facepurge verify r" in sentence for sentence in document["not_known"])
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "ledger.sqlite3",
        "lock",
        "report",
    }
    for path in (tmp_path / "r").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


async def test_a_claim_that_nothing_bears_out_is_exit_3(program: Program, tmp_path: Path) -> None:
    await rehearse(program)
    with opened(tmp_path / "r") as connection:
        connection.execute("UPDATE face SET outcome = 'absent' WHERE face_no <= 2")
        reseal(connection)
    report(tmp_path / "r")
    ended = await self_check(program)
    assert ended.code == 3
    assert "T2 a.csv:2: absent, and complete lookups have not shown that" in ended.out
    assert "violated 2 times: T2, " in ended.out
    assert "no violation found" not in ended.out
    assert "remedy: keep the run directory as it is" in ended.err
    assert ended.last_line.startswith("nothing was sent; self-check: ")
    for person, face in PAIRS:
        assert person not in ended.out + ended.err
        assert face not in ended.out + ended.err
    document = json.loads((await self_check(program, "--json")).out)
    assert document["exit_code"] == 3
    assert document["violations"][0]["invariant"] in document["violations_per_invariant"]


async def test_only_the_first_twenty_are_shown_and_all_are_counted(
    program: Program, tmp_path: Path
) -> None:
    await rehearse(program)
    with opened(tmp_path / "r") as connection:
        connection.execute("UPDATE face SET attempts = attempts + 1")
        reseal(connection)
    report(tmp_path / "r")
    ended = await self_check(program)
    assert ended.code == 3
    assert sum(line.startswith("T6 a.csv:") for line in ended.out.splitlines()) == 20
    assert "violated 24 times: T6" in ended.out


async def test_a_run_that_was_killed_breaks_nothing_before_and_after_its_resume(
    program: Program, tmp_path: Path
) -> None:
    async with serving(PAIRS, latency=FixedLatency(0.2)) as service:
        arguments = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        async with program.started(*arguments) as running:
            await service.arrivals(6)
            running.send(signal.SIGKILL)
            await running.ended()
        ended = await self_check(program)
        assert ended.code == 0, ended.out
        assert "the report is absent" in ended.out
        assert "to write it type: facepurge report r" in ended.out
        interval = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.1"}
        ended = await program("resume", "r", "--yes", *FAST, environment=interval)
        assert ended.code == 0, ended.err
    ended = await self_check(program)
    assert ended.code == 0, ended.out
    assert "the settings of 1 later sessions" in ended.out


async def test_a_ledger_that_is_not_what_was_planned_is_refused(
    program: Program, tmp_path: Path
) -> None:
    await rehearse(program)
    with opened(tmp_path / "r") as connection:
        connection.execute("UPDATE run SET value = '1' WHERE key = 'rows'")
    ended = await self_check(program)
    assert ended.code == 3
    assert "the ledger is damaged" in ended.err
    assert ended.last_line == "nothing was sent"


@pytest.mark.parametrize("table", ["row_block", "amendment_block", "plan_block"])
async def test_a_block_in_which_a_bit_flipped_ends_every_verb_with_a_sentence(
    program: Program, tmp_path: Path, table: str
) -> None:
    write_table(tmp_path / "a.csv", [*PAIRS, PAIRS[0]])
    await rehearse(program)
    with opened(tmp_path / "r") as connection:
        ((data,),) = connection.execute(f"SELECT data FROM {table}").fetchall()  # noqa: S608
        assert isinstance(data, bytes)
        flipped = bytes([*data[:-1], data[-1] ^ 1])
        connection.execute(f"UPDATE {table} SET data = ?", (flipped,))  # noqa: S608
    ended = await self_check(program)
    assert (ended.code, ended.last_line) == (3, "nothing was sent")
    assert "r/ledger.sqlite3: the ledger is damaged (its " in ended.err
    assert "remedy: restore the run directory from a copy" in ended.err
    for verb in ("status", "report"):
        ended = await program(verb, "r")
        assert "Traceback" not in ended.err
        assert "an error of the program itself" not in ended.err
        assert ended.code in (0, 3), ended.err
    # Its tape alone tells a status what is left; all that was begun it has beside it.
    assert (await program("report", "r")).code == 3
