"""Gates before the first call: every one of them closed, and nothing was sent."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
from pathlib import Path

import apsw
import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge
from tests.e2e.program import PROGRAM, Ended, Program
from tests.e2e.service import FAST, Service, serving
from worker.locks import quota_lock
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID
from worker.sandbox.latency import FixedLatency

PAIRS = persons(10, 3)
NOTHING_SENT = "nothing was sent"
AT_ONCE = 3


def closed(ended: Ended, code: int = 3) -> None:
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "facepurge: " in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line == NOTHING_SENT


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ((), 3, "give --confirm 30"),
        (("--confirm", "29"), 3, "--confirm says 29"),
        (("--yes", "--max-delete", "29"), 3, "--max-delete allows 29"),
        (("--yes", "--max-persons", "9"), 3, "--max-persons allows 9"),
        (("--yes", "--rate", "25"), 3, "--raised-quota"),
        (("--yes", "--run-dir", "full"), 3, "the directory is not empty"),
        (("--yes", "--run-dir", "link"), 3, "symbolic link"),
        (("--yes", "--exclude-from", "nowhere"), 2, "--exclude-from"),
        (("--yes", "--confirm", "30"), 2, "contradict"),
    ],
)
async def test_a_gate_that_is_closed(
    program: Program, tmp_path: Path, flags: tuple[str, ...], code: int, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "link").symlink_to("full")
    async with serving(PAIRS) as service:
        ended = await program("run", "a.csv", "--endpoint", service.url, *flags)
        closed(ended, code)
        assert said in ended.err
        assert service.entries == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "codes", "said"),
    [
        ((), {2}, "neither a region nor an endpoint"),
        (("--endpoint", "http://green.cn-shanghai.aliyuncs.com"), {2, 3}, "in the clear"),
        (("--endpoint", "https://example.com"), {3}, "--allow-endpoint"),
        (("--sandbox", "--endpoint", "http://127.0.0.1:1"), {2}, "contradict"),
        (("--sandbox", "--region", "cn-shanghai"), {2}, "contradict"),
    ],
)
async def test_an_endpoint_that_is_not_accepted(
    program: Program, tmp_path: Path, flags: tuple[str, ...], codes: set[int], said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    ended = await program("run", "a.csv", "--yes", *flags)
    assert ended.code in codes
    closed(ended, ended.code)
    assert said in ended.err


async def test_no_key_or_half_of_one_is_refused_before_anything_is_read(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes")
        half = await program(*run, environment={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""})
        closed(half, 2)
        none = await program(
            *run,
            environment={
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "",
            },
        )
        assert none.code == 7, none.err
        assert none.last_line == NOTHING_SENT
        assert service.entries == []


async def test_more_faces_than_a_person_can_have_need_a_word(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(1, 45)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        closed(await program(*run))
        assert service.entries == []
        ended = await program(*run, "--allow-oversized-persons")
        assert ended.code == 0, ended.err
        judge(tmp_path / "r", pairs, service.journal.lines)
        assert [len(entry.face_ids) for entry in service.entries] == [20, 20, 5]


async def test_the_right_number_opens_the_gate(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [*PAIRS, PAIRS[0]])
    async with serving(PAIRS) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--run-dir", "r", *FAST)
        ended = await program(*run, "--confirm", "30")
        assert ended.code == 0, ended.err
        seen = len(service.entries)
        closed(await program(*run, "--confirm", "30"))  # the run directory is taken
        assert len(service.entries) == seen == 10


async def test_one_run_per_account_and_endpoint_and_one_process_per_run(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(2.0)) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", *FAST, "--run-dir")
        async with program.started(*run, "r1") as first:
            await service.arrivals(10)
            first.send(signal.SIGSTOP)  # however slow the others start, it is still there
            second, twin, report = await asyncio.gather(
                program(*run, "r2"), program("resume", "r1", "--yes"), program("report", "r1")
            )
            for ended in (second, twin, report):
                assert ended.code == 3, ended.err
                assert f"process {first.pid} on " in ended.err
                assert str(tmp_path / "r1") in ended.err
            assert len(service.entries) == 10
            first.send(signal.SIGCONT)
            ended = await first.ended()
            assert ended.code == 0, ended.err
            assert second.last_line == NOTHING_SENT
            assert "persons" not in second.err, "it has read the input before it was refused"
            assert not (tmp_path / "r2").exists()
        judge(tmp_path / "r1", PAIRS, service.journal.lines)
        # The second one can be typed again once the first has gone.
        before = len(service.entries)
        ended = await program(*run, "r2")
        assert ended.code == 0, ended.err
        assert len(service.entries) == before + 20
        report_2 = judge(tmp_path / "r2", PAIRS, service.journal.lines[before + 1 :])
        assert report_2.counts == {"absent": len(PAIRS)}


async def _planned(program: Program, tmp_path: Path, service: Service) -> Path:
    """A run that was sealed and stopped before its first call."""
    write_table(tmp_path / "a.csv", PAIRS)
    await service.refuse()
    run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
    async with program.started(*run) as running:
        await running.said("not_sent")
        running.send(signal.SIGTERM)
        ended = await running.ended()
    assert ended.code == 143, ended.err
    assert ended.last_line.startswith(NOTHING_SENT)
    await service.listen()
    assert service.entries == []
    return tmp_path / "r"


def _flipped(table: str) -> str:
    """The last byte of each block is another."""
    return f"UPDATE {table} SET data = CAST(substr(data, 1, length(data) - 1) || x'A5' AS BLOB)"  # noqa: S608


async def test_a_ledger_that_is_not_whole_or_not_ours_is_refused(
    program: Program, tmp_path: Path
) -> None:
    async with serving(PAIRS) as service:
        run_dir = await _planned(program, tmp_path, service)
        whole = (run_dir / "ledger.sqlite3").read_bytes()
        assert {path.name for path in run_dir.iterdir()} == {"ledger.sqlite3", "lock", "report"}

        def damaged(name: str, data: bytes) -> str:
            shutil.copytree(run_dir, tmp_path / name)
            (tmp_path / name / "ledger.sqlite3").write_bytes(data)
            return name

        def altered(name: str, sql: str) -> str:
            damaged(name, whole)
            connection = apsw.Connection(str(tmp_path / name / "ledger.sqlite3"))
            connection.execute(sql)
            connection.close()
            return name

        flipped = bytearray(whole)
        flipped[4096 * 3 : 4096 * 3 + 64] = bytes(64)
        cases = {
            damaged("truncated", whole[: len(whole) // 2]): 3,
            damaged("empty", b""): 3,
            damaged("text", b"this is no database\n" * 500): 3,
            damaged("flipped", bytes(flipped)): 3,
            altered("newer", "PRAGMA user_version = 99"): 3,
            altered("foreign", "PRAGMA application_id = 7"): 3,
            altered("other-rows", _flipped("row_block")): 3,
            altered("other-plan", _flipped("plan_block")): 3,
            altered("fewer-rows", "UPDATE row_block SET rows = rows - 1"): 3,
            altered("fewer-calls", "UPDATE plan_block SET calls = calls - 1"): 3,
            altered("later-calls", "UPDATE plan_block SET first_call_no = first_call_no + 1"): 3,
            altered("other-face", "UPDATE face SET face_id = '1' || face_id WHERE call_no = 0"): 3,
            altered("other-person", "UPDATE call SET person_id = 'x' WHERE call_no = 0"): 7,
            altered(
                "other-run",
                "UPDATE run SET value = '\"20200101T000000Z-000000\"' WHERE key = 'run_id'",
            ): 3,
        }
        missing = tmp_path / "missing"
        missing.mkdir()
        cases["missing"] = 3
        cases["nowhere"] = 3
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(name: str, code: int) -> None:
            async with limit:
                # A state directory each: they would wait for one another's quota.
                own = {"XDG_STATE_HOME": str(tmp_path / "state" / name)}
                ended = await program("resume", name, "--yes", environment=own)
            assert ended.code == code, (name, ended.err)
            assert "  remedy: " in ended.err
            assert ("facepurge: " if code == 3 else "is not what was planned") in ended.err

        async with asyncio.TaskGroup() as group:
            for name, code in cases.items():
                group.create_task(one(name, code))
        assert service.entries == []
        empty = await program("status", "empty")
        assert "empty/ledger.sqlite3: the ledger is an empty file" in empty.err
        for name in ("truncated", "newer", "foreign"):
            assert (await program("report", name)).code == 3


async def test_a_run_belongs_to_its_endpoint_and_account(program: Program, tmp_path: Path) -> None:
    async with serving(PAIRS) as service, serving(PAIRS) as other:
        run_dir = await _planned(program, tmp_path, service)
        closed(await program("resume", run_dir, "--yes", "--endpoint", other.url))
        key = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-another"}
        closed(await program("resume", run_dir, "--yes", environment=key))
        closed(await program("resume", run_dir))
        closed(await program("resume", run_dir, "--confirm", "29"))
        assert service.entries == other.entries == []
        ended = await program("resume", run_dir, "--confirm", "30", *FAST)
        assert ended.code == 0, ended.err
        assert judge(run_dir, PAIRS, service.journal.lines).counts == {"deleted": 30}
        assert other.entries == []


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (b"30\n", 0, "30 faces deleted"),
        (b"10\n", 3, "not the number of faces"),
        (b"yes\n", 3, "not the number of faces"),
        (b"\n", 3, "no number was typed"),
        (b"\x04", 3, "no number was typed"),
        (b"\x03", 130, "interrupted"),
    ],
)
async def test_a_person_at_a_terminal_is_asked(
    program: Program, tmp_path: Path, typed: bytes, code: int, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        output, ended_code = await _at_a_terminal(
            program, typed, "run", "a.csv", "--endpoint", service.url, *FAST
        )
        assert ended_code == code, output
        assert said in output
        assert "persons             10" in output
        assert "faces               30" in output
        assert service.url in output
        assert len(service.entries) == (10 if code == 0 else 0)
        if code:
            assert NOTHING_SENT in output.splitlines()[-1]


async def _at_a_terminal(program: Program, typed: bytes, *arguments: str) -> tuple[str, int]:
    """Start the program as the foreground process of a terminal and type when it asks."""
    process, terminal = pty.fork()
    if process == 0:  # the child: only what is safe after a fork
        try:
            os.chdir(program.directory)
            os.execve(  # noqa: S606 (the program itself, behind a terminal)
                shutil.which("env") or "/usr/bin/env",
                ["env", *PROGRAM, *arguments],
                {**program.environment, "TERM": "dumb"},
            )
        finally:
            os._exit(99)
    loop = asyncio.get_running_loop()
    output = bytearray()
    over = loop.create_future()
    asked = False

    def readable() -> None:
        nonlocal asked
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: everybody at the other end has gone
            data = b""
        output.extend(data)
        if not data:
            loop.remove_reader(terminal)
            over.set_result(None)
        elif not asked and b"type the number" in output:
            asked = True
            os.write(terminal, typed)

    loop.add_reader(terminal, readable)
    try:
        async with asyncio.timeout(10):
            await over
    except TimeoutError:
        os.kill(process, 9)
        pytest.fail(f"the program hung after: {output.decode()}")
    finally:
        loop.remove_reader(terminal)
        os.close(terminal)
        _, status = await asyncio.to_thread(os.waitpid, process, 0)
    return output.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(status)


async def test_a_quota_in_use_is_told_before_anything_is_read_or_asked(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to type a number only to hear then that the account is busy."""
    monkeypatch.setenv("XDG_STATE_HOME", program.environment["XDG_STATE_HOME"])
    write_table(tmp_path / "a.csv", PAIRS)
    write_table(tmp_path / "nobody.csv", [("nobody", "1")])
    async with serving(PAIRS) as service:
        target = ("--endpoint", service.url)
        await _planned(program, tmp_path, service)
        done = ("run", "nobody.csv", *target, "--yes", "--run-dir", "done", *FAST)
        assert (await program(*done)).code == 4
        assert (await program("plan", "a.csv", *target, "-o", "p")).code == 0
        seen = len(service.entries)
        elsewhere = service.url.replace("127.0.0.1", "localhost")
        with quota_lock(SANDBOX_ACCESS_KEY_ID, elsewhere, tmp_path / "other"):
            refused = await asyncio.gather(
                program("run", "a.csv", *target, "--run-dir", "r2"),
                program("run", "p"),
                program("resume", "r"),
                program("verify", "done"),
            )
            for ended in (*refused, await program("retry", "done")):
                closed(ended)
                assert "another run uses the quota of this account (loopback:" in ended.err
                assert f"run {tmp_path / 'other'}" in ended.err
                assert "plan\n" not in ended.err
            # What calls nobody needs no quota.
            for ended in await asyncio.gather(
                program("plan", "a.csv", *target),
                program("run", "p", "--dry-run"),
                program("verify", "done", "--self"),
            ):
                assert ended.code == 0, ended.err
        assert len(service.entries) == seen
        assert not (tmp_path / "r2").exists()
        assert (await program("run", "p", "--yes", *FAST[:1])).code == 0


async def test_a_rehearsal_leaves_no_lock_of_a_quota(program: Program, tmp_path: Path) -> None:
    """It has a server, and a port, of its own."""
    state = tmp_path / "state"
    program.environment["XDG_STATE_HOME"] = str(state)
    write_table(tmp_path / "a.csv", PAIRS)
    ended = await program("run", "a.csv", "--sandbox", "--run-dir", "r", *FAST)
    assert ended.code == 0, ended.err
    ended = await program("verify", "r", *FAST)
    assert ended.code == 0, ended.err
    assert not state.exists()


@pytest.mark.parametrize("quiet", [(), ("-q",)])
async def test_a_gate_about_the_plan_shows_the_plan(
    program: Program, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    (tmp_path / "w.jsonl").write_text('{"personId": "person-1", "faces": "all"}\n')
    rehearsal = ("--sandbox", "--run-dir", "r", *quiet)
    for arguments, said in (
        (("run", "w.jsonl", *rehearsal), "look at the plan; if its number of persons is right"),
        (("run", "a.csv", "--max-delete", "5", *rehearsal), "--max-delete allows 5"),
        (("plan", "a.csv", "--sandbox", "--max-delete", "5", "-o", "r", *quiet), "allows 5"),
    ):
        ended = await program(*arguments)
        closed(ended)
        assert said in ended.err
        assert ended.err.count("plan\n  persons ") == 1
        assert ended.err.index("  persons ") < ended.err.index("facepurge: ")
        assert not (tmp_path / "r").exists()


async def _without_stdin(program: Program, *arguments: str) -> Ended:
    """Started by something that gives it no standard input at all."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" <&-', "sh", *PROGRAM, *arguments),
        cwd=program.directory,
        env=program.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_without_a_standard_input(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        await _planned(program, tmp_path, service)
        target = ("--endpoint", service.url, *FAST)
        for arguments in (("run", "a.csv", *target, "--run-dir", "r2"), ("resume", "r")):
            ended = await _without_stdin(program, *arguments)
            closed(ended)
            assert "30 faces would be deleted, and nobody can be asked here" in ended.err
        for verb in ("run", "plan"):
            ended = await _without_stdin(program, verb, "-", *target)
            closed(ended, 2)
            assert "-: standard input is closed" in ended.err
        assert service.entries == []
        assert (await _without_stdin(program, "plan", "a.csv")).code == 0
        ended = await _without_stdin(program, "resume", "r", "--yes", *FAST)
        assert ended.code == 0, ended.err
        assert service.deleted == set(PAIRS)
    ended = await _without_stdin(program, "run", "a.csv", "--sandbox", "--run-dir", "r3", *FAST)
    assert ended.code == 0, ended.err


async def test_evidence_without_its_ledger_is_left_as_it_is(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    again = ("run", "a.csv", "--sandbox", "--run-dir", "r", *FAST)
    assert (await program(*again)).code == 0
    (tmp_path / "r" / "ledger.sqlite3").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    for arguments in (again, ("plan", "a.csv", "--sandbox", "-o", "r")):
        ended = await program(*arguments)
        closed(ended)
        assert "a run has left report/failures.csv here, and its ledger" in ended.err
        assert {
            path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()
        } == before
