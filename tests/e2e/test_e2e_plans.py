"""A plan that waits to be carried out: what was planned is what runs, or nothing does."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import trustme

from tests.e2e.altered import aged, altered
from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge, judge_rehearsal
from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, Service, serving
from tests.e2e.test_e2e_gates import _at_a_terminal
from worker.ledger.database import FILE_NAME

PAIRS = persons(10, 3)
NOTHING_SENT = "nothing was sent"


def closed(ended: Ended, said: str, code: int = 3) -> None:
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert said in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line == NOTHING_SENT


async def made(program: Program, service: Service, *flags: str | Path) -> Path:
    """A plan of ``a.csv`` in ``p``."""
    ended = await program("plan", "a.csv", "--endpoint", service.url, "-o", "p", *FAST, *flags)
    assert ended.code == 0, ended.err
    assert ended.last_line.endswith("to carry it out type: facepurge run p")
    assert service.entries == []
    return program.directory / "p"


async def test_the_pair_ends_like_a_direct_run(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [*PAIRS, PAIRS[4]])
    async with serving(PAIRS) as service, serving(PAIRS) as other:
        direct = ("run", "a.csv", "--endpoint", other.url, "--run-dir", "r", "--yes", *FAST)
        assert (await program(*direct)).code == 0
        plan = await made(program, service)
        assert plan.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in plan.iterdir()} == {FILE_NAME, "lock"}
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in plan.iterdir())
        shown = await program("run", "p", "--dry-run")
        assert shown.code == 0, shown.err
        assert "faces               30" in shown.out
        assert "valid until" in shown.out
        assert shown.last_line == (
            f"{NOTHING_SENT}; this was a dry run; to carry it out type: facepurge run p"
        )
        assert service.entries == []
        ended = await program("run", "p", "--confirm", "30")
        assert ended.code == 0, ended.err
        report = judge(plan, [*PAIRS, PAIRS[4]], service.journal.lines)
        twin = judge(tmp_path / "r", [*PAIRS, PAIRS[4]], other.journal.lines)
        columns = ("source", "line", "person_id", "face_id", "outcome", "code", "duplicate_of")
        assert [[row[x] for x in columns] for row in report.results] == [
            [row[x] for x in columns] for row in twin.results
        ]
        requests = [(entry.person_id, entry.face_ids) for entry in service.entries]
        assert sorted(requests) == sorted((x.person_id, x.face_ids) for x in other.entries)
        # What was begun is a run from then on, and its end is an end.
        closed(await program("run", "p", "--yes"), "a plan is begun only once")
        before = report.digests()
        assert (await program("resume", "p")).code == 0
        assert judge(plan, None, service.journal.lines).digests() == before
        assert len(service.entries) == 10


def _rewritten(directory: Path) -> None:
    text = (directory / "a.csv").read_text()
    (directory / "a.csv").write_text(text.replace("person-3,", "person-4,", 1))


async def test_a_difference_is_named_and_nothing_is_sent(program: Program, tmp_path: Path) -> None:
    """The others are in tests/cli/test_planned_run.py, without a process for each."""

    def prepare() -> None:
        write_table(tmp_path / "a.csv", PAIRS)
        (tmp_path / "holds").write_text("person-8\nperson-9\n")
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        (tmp_path / "parts").mkdir()
        write_table(tmp_path / "parts" / "1.csv", persons(1, first=20))

    prepare()
    key = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-another"}
    async with serving(PAIRS) as service, serving(PAIRS) as other:
        await made(program, service, "--exclude-from", "holds", "parts/*.csv")

        async def refused(said: str, *flags: str, **options: Any) -> None:
            closed(await program("run", "p", "-q", "--yes", *flags, **options), said)
            prepare()

        _rewritten(tmp_path)
        await refused("a.csv: the plan has read")
        write_table(tmp_path / "parts" / "2.csv", persons(1, first=21))
        await refused("parts/2.csv: the file is not in the plan")
        (tmp_path / "holds").write_text("person-8\n")
        await refused("1 entry of the exclusion list disappeared since the plan")
        await refused("the credentials now are LTAI-another", environment=key)
        await refused(f"the settings now say {other.url}", "--endpoint", other.url)
        await refused("--rate: the plan has 500, and this says 5", "--rate", "5")
        assert service.entries == other.entries == []
        # What does not change what is sent may be said anew, and so may what was said already.
        about = ("--concurrency", "3", "--max-persons", "500", "--plan-ttl", "1")
        ended = await program("run", "p", "--confirm", "25", *FAST, *about)
        assert ended.code == 4, ended.err  # the person of the parts is in no library
        assert len(service.deleted) == 24


async def test_a_plan_expires(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        plan = await made(program, service, "--plan-ttl", "2")
        aged(plan, 2.1)
        closed(await program("run", "p", "--yes"), "the plan has expired: it was made at")
        assert service.entries == []


async def test_a_list_that_has_grown_takes_its_rows_out_before_anybody_says_yes(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", [*PAIRS, PAIRS[-1]])
    holds = tmp_path / "holds"
    holds.write_text("# nobody yet\n")
    async with serving(PAIRS) as service:
        plan = await made(program, service, "--exclude-from", "holds")
        holds.write_text(f"person-9\nperson-0,{PAIRS[0][1]}\n")
        shown = await program("run", "p", "--dry-run")
        assert shown.code == 0, shown.err
        assert "faces               26" in shown.out
        assert "5 held" in shown.out
        assert "held                 5   rows of them since the plan" in shown.out
        closed(await program("run", "p", "-q", "--confirm", "30"), "the plan has 26 faces")
        # Neither has changed the plan: nobody has said yes to it.
        holds.write_text("# nobody yet\n")
        assert "faces               30" in (await program("run", "p", "--dry-run")).out
        holds.write_text(f"person-9\nperson-0,{PAIRS[0][1]}\n")
        ended = await program("run", "p", "--confirm", "26")
        assert ended.code == 0, ended.err
        report = judge(plan, [*PAIRS, PAIRS[-1]], service.journal.lines)
        assert report.counts == {"held": 5, "deleted": 26}
        assert "person-9" not in {entry.person_id for entry in service.entries}


async def test_a_plan_of_whole_persons(program: Program, tmp_path: Path) -> None:
    lines = [{"personId": f"person-{n}", "faces": "all"} for n in range(4)]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "holds").write_text("# nobody\n")
    async with serving(PAIRS) as service:
        plan = ("plan", "w.jsonl", "--endpoint", service.url, *FAST, "--exclude-from", "holds")
        closed(await program(*plan, "-o", "p"), "such a plan needs a ceiling")
        assert not (tmp_path / "p").exists()
        soon = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.05"}
        ended = await program(*plan, "-o", "p", "--max-persons", "4", environment=soon)
        assert ended.code == 0, ended.err
        assert "whole                4" in ended.out
        (tmp_path / "holds").write_text("person-3\n")
        closed(await program("run", "p", "-q", "--confirm", "4"), "the plan has 3 persons")
        ended = await program("run", "p", "--confirm", "3", "--max-delete", "7")
        # The ceiling that was put on is one of the run, also for whoever goes on with it.
        assert ended.code == 8, ended.err
        assert len(service.deleted) <= 7
        assert (await program("resume", "p", "--yes")).code == 8
        ended = await program("resume", "p", "--yes", "--max-delete", "9")
        assert ended.code == 0, ended.err
        assert service.deleted == {pair for pair in PAIRS if pair[0] in "person-0person-1person-2"}


async def test_what_was_read_from_a_pipe_cannot_be_compared_and_says_so(
    program: Program, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "a.csv", PAIRS).read_bytes()
    async with serving(PAIRS) as service:
        plan = ("plan", "-", "--endpoint", service.url, "-o", "p", *FAST)
        ended = await program(*plan, stdin=table)
        assert ended.code == 0, ended.err
        assert "standard input can be read only once" in ended.out
        shown = await program("run", "p", "--dry-run", "--json")
        document = json.loads(shown.out)
        assert document["plan"]["not_comparable"] == ["-"]
        assert document["faces"] == 30
        # Standard input is free again: somebody may be asked.
        said, code = await _at_a_terminal(program, b"30\n", "run", "p")
        assert code == 0, said
        assert "standard input can be read only once" in said
        assert "valid until" in said
        judge(tmp_path / "p", PAIRS, service.journal.lines)


async def test_a_plan_runs_from_wherever_it_is_called(program: Program, tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    write_table(tmp_path / "exports" / "1.csv", PAIRS)
    (tmp_path / "holds").write_text("person-0\n")
    (tmp_path / "elsewhere").mkdir()
    there = Program(tmp_path / "elsewhere")
    async with serving(PAIRS) as service:
        plan = ("plan", "exports/*.csv", "--endpoint", service.url, *FAST, "-o", "p")
        assert (await program(*plan, "--exclude-from", "holds")).code == 0
        write_table(tmp_path / "exports" / "2.csv", persons(1, first=50))
        closed(await there("run", "../p", "--yes"), "exports/2.csv: the file is not in the plan")
        (tmp_path / "exports" / "2.csv").unlink()
        ended = await there("run", "../p", "--confirm", "27")
        assert ended.code == 0, ended.err
        assert len(service.deleted) == 27


async def test_a_planning_that_is_killed_leaves_no_plan(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    os.mkfifo(tmp_path / "slow.csv")
    async with serving(PAIRS) as service:
        plan = ("plan", "slow.csv", "--endpoint", service.url, "-o", "p", *FAST)
        async with program.started(*plan) as running:
            writer = await asyncio.to_thread((tmp_path / "slow.csv").open, "wb", buffering=0)
            with writer:
                writer.write(b"person_id,face_id\nperson-0,1\n")
                ended = await program("run", "p", "--yes")
                closed(ended, f"process {running.pid} on ")
                running.send(signal.SIGKILL)
                await running.ended()
        closed(await program("run", "p", "--yes"), "the plan was never completed")
        assert service.entries == []
        await made(program, service)
        assert (await program("run", "p", "--yes")).code == 0
        judge(tmp_path / "p", PAIRS, service.journal.lines)


async def test_a_run_that_was_confirmed_in_one_go_is_no_plan(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        await service.refuse()
        run = ("run", "a.csv", "--endpoint", service.url, "--run-dir", "r", "--yes")
        async with program.started(*run) as running:
            await running.said("not_sent")
            running.send(signal.SIGKILL)
            await running.ended()
        altered(tmp_path / "r", "DELETE FROM session")
        closed(await program("run", "r", "--yes"), "facepurge resume r")
        assert service.entries == []


async def _killed_while_it_asks(program: Program) -> None:
    """With the holds of today in the ledger, and not committed; others may read it meanwhile."""
    master, slave = os.openpty()
    try:
        async with program.started("run", "p", stdin=slave, stderr=slave) as running:
            shown = b""
            async with asyncio.timeout(30):
                while b"type the number of faces to be deleted (27)" not in shown:
                    shown += await asyncio.to_thread(os.read, master, 65536)
            closed(await program("run", "p", "--yes"), f"process {running.pid} on ")
            status = await program("status", "p")
            assert "0 of 30" in status.out, status.err
            running.send(signal.SIGKILL)
            await running.ended()
    finally:
        os.close(master)
        os.close(slave)


async def test_a_plan_is_there_after_any_end_before_its_first_session(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    holds = tmp_path / "holds"
    holds.write_text("# nobody\n")
    async with serving(PAIRS) as service:
        await made(program, service, "--exclude-from", "holds")
        holds.write_text("person-8\n")
        await _killed_while_it_asks(program)
        holds.write_text("# nobody\n")
        write_table(tmp_path / "b.csv", persons(1, first=50))
        await service.refuse()
        other = ("run", "b.csv", "--endpoint", service.url, "--run-dir", "r", "--yes")
        async with program.started(*other) as running:
            await running.said("not_sent")
            # Somebody else has the quota: that is said before anybody is asked, and changes nothing.
            holds.write_text("person-8\n")
            closed(await program("run", "p", "--confirm", "27"), f"process {running.pid} on ")
            running.send(signal.SIGKILL)
            await running.ended()
        # Said yes to, and still a plan.
        holds.write_text("person-9\n")
        (tmp_path / "ca.pem").write_text("no certificate")
        spoilt = {"FACEPURGE_CA_FILE": "ca.pem"}
        ended = await program("run", "p", "--confirm", "27", environment=spoilt)
        assert ended.code == 2, ended.err
        assert ended.last_line == f"{NOTHING_SENT}; to carry the plan out type: facepurge run p"
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        closed(await program("resume", "p", "--yes"), "never begun")
        # The hold that was confirmed with it is the plan's now, and may only be added to.
        holds.write_text("# nobody\n")
        closed(await program("run", "p", "--yes"), "1 entry of the exclusion list disappeared")
        holds.write_text("person-9\n")
        async with program.started("run", "p", "--confirm", "27") as running:
            await running.said("not_sent")
            running.send(signal.SIGKILL)
            await running.ended()
        assert service.entries == []
        closed(await program("run", "p", "--yes"), "facepurge resume p")
        await service.listen()
        ended = await program("resume", "p", "--confirm", "27")
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "p", PAIRS, service.journal.lines)
        assert report.counts == {"held": 3, "deleted": 27}


async def test_nothing_goes_on_without_a_list_where_one_is_required_by_now(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    required = {"FACEPURGE_REQUIRE_EXCLUDES": "true"}
    async with serving(PAIRS) as service:
        await made(program, service)
        said = "no exclusion list is named"
        closed(await program("run", "p", "--yes", environment=required), said)
        await service.refuse()
        async with program.started("run", "p", "--yes") as running:
            await running.said("not_sent")
            running.send(signal.SIGTERM)
            await running.ended()
        await service.listen()
        closed(await program("resume", "p", "--yes", environment=required), said)
        assert service.entries == []


async def test_a_rehearsed_plan_has_its_own_world(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    nobody = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
    ended = await program("plan", "a.csv", "--sandbox", "-o", "p", *FAST, environment=nobody)
    assert ended.code == 0, ended.err
    closed(await program("run", "p", "--region", "cn-shanghai"), "the plan is a rehearsal and has")
    ended = await program("run", "p", environment=nobody)
    assert ended.code == 0, ended.err
    assert judge_rehearsal(tmp_path / "p", PAIRS).summary["rehearsal"] is True


async def test_a_plan_with_rows_that_can_never_be_sent_says_so_with_its_code(
    program: Program, tmp_path: Path
) -> None:
    pairs = [*PAIRS, ("person-77", PAIRS[0][1])]
    write_table(tmp_path / "a.csv", pairs)
    async with serving(PAIRS) as service:
        plan = ("plan", "a.csv", "--endpoint", service.url, "-o", "p", *FAST)
        assert (await program(*plan)).code == 4
        shown = await program("run", "p", "--dry-run")
        assert shown.code == 4
        assert "the same face is under another person" in shown.err
        # A row that was refused leaves no plan, and a list of what was refused.
        with (tmp_path / "a.csv").open("a", newline="") as file:
            csv.writer(file).writerow(["person-5", "no digits"])
        closed(await program(*plan[:4], "-o", "q"), "1 row that cannot be sent", 2)
        assert not (tmp_path / "q" / FILE_NAME).exists()
        assert service.entries == []
