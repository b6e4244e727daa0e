"""Places that are not as they should be: where nobody may write, without room, without a home."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.program import PROGRAM, Ended, Program
from tests.e2e.service import FAST, serving
from worker.cli import planning
from worker.errors import GateClosed
from worker.settings import Settings

PAIRS = persons(6, 2)

READ_ONLY = 'mount --bind r r && mount -o remount,ro,bind r && exec "$@"'
"""The directory ``r`` becomes a read-only file system, for this process and its children only."""

SMALL = 'mount -t tmpfs -o size={size} none r && {{ "$@"; code=$?; ls -A r; exit $code; }}'
"""``r`` becomes a small disk, whose content is listed at the end."""

NO_FILES = 'mount -t tmpfs -o nr_inodes=2 none r && "$@"'
"""``r`` becomes a disk with room for one directory."""

UNSHARED = ("unshare", "--map-root-user", "--mount", "sh", "-c")


@pytest.fixture
def unsharing(tmp_path: Path) -> None:
    """Whether this machine lets us mount anything."""
    (tmp_path / "r").mkdir()
    probe = [*UNSHARED, READ_ONLY, "sh", "true"]
    if (
        not shutil.which("unshare")
        or subprocess.run(probe, cwd=tmp_path, capture_output=True, check=False).returncode
    ):
        pytest.skip("nothing can be mounted here")


async def mounted(
    program: Program, how: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(*UNSHARED, how, "sh", *PROGRAM, *arguments),
        cwd=program.directory,
        env={**program.environment, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.mark.usefixtures("unsharing")
async def test_an_archive_is_checked_and_not_written(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    ended = await program("run", "a.csv", "--sandbox", "--run-dir", "r", *FAST)
    assert ended.code == 0, ended.err
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    for lock in (True, False):
        if not lock:
            (tmp_path / "r" / "lock").unlink()
        ended = await mounted(program, READ_ONLY, "verify", "r", "--self")
        assert ended.code == 0, ended.err
        assert "the report is current" in ended.out
        assert ended.last_line == "nothing was sent; self-check: no violation found"
        for arguments in (("report", "r"), ("resume", "r"), ("verify", "r")):
            ended = await mounted(program, READ_ONLY, *arguments)
            assert ended.code == 3, ended.err
            assert "the lock cannot be taken (Read-only file system)" in ended.err
            assert "copy it first and name the copy" in ended.err
    del before[tmp_path / "r" / "lock"]
    assert before == {
        path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()
    }


@pytest.mark.usefixtures("unsharing")
async def test_what_is_not_in_the_ledger_yet_is_not_passed_over(
    program: Program, tmp_path: Path
) -> None:
    """The last words of a run that was killed are in a file beside it."""
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", "--rate", "2")
        async with program.started(*run) as running:
            await service.arrivals(1)
            ended = await mounted(program, READ_ONLY, "verify", "r", "--self")
            assert ended.code == 3, ended.err
            assert f"another process works on this run: process {running.pid} on " in ended.err
            running.send(signal.SIGKILL)
            await running.ended()
        (tmp_path / "r" / "ledger.sqlite3-shm").unlink(missing_ok=True)
        ended = await mounted(program, READ_ONLY, "verify", "r", "--self")
        assert ended.code == 3, ended.err
        assert "of an archive that nobody may write, take a copy first" in ended.err
        shutil.copytree(tmp_path / "r", tmp_path / "copy")
        ended = await program("verify", "copy", "--self")
        assert ended.code == 0, ended.err
        assert "DeleteFaces" in ended.out


@pytest.mark.usefixtures("unsharing")
@pytest.mark.parametrize(
    ("rows", "size", "what"),
    [
        (10, "100k", "planning: the plan"),
        (5000, "200k", "state.json: the rehearsal's library"),
    ],
)
async def test_no_room_for_a_rehearsal(
    program: Program, tmp_path: Path, rows: int, size: str, what: str
) -> None:
    """For the library that it begins with, or not even for the plan: nothing is left of either."""
    write_table(tmp_path / "a.csv", persons(rows))
    small = SMALL.format(size=size)
    ended = await mounted(program, small, "run", "a.csv", "--sandbox", "--run-dir", "r")
    assert ended.code == 3, ended.err
    assert f"{what} could not be written" in ended.err
    assert "make room or choose another place with --run-dir DIR, then start again" in ended.err
    assert ended.last_line == "nothing was sent"
    assert ended.out.split() in ([], ["lock"])  # a place where something is mounted stays


@pytest.mark.usefixtures("unsharing")
async def test_no_room_for_a_plan_that_is_only_looked_at(program: Program, tmp_path: Path) -> None:
    """It lies among the temporary files, and no other run directory would help."""
    write_table(tmp_path / "a.csv", PAIRS)
    full = {"TMPDIR": str(tmp_path / "r")}
    for arguments in (("plan", "a.csv"), ("run", "a.csv", "--sandbox", "--dry-run")):
        ended = await mounted(program, NO_FILES, *arguments, environment=full)
        assert ended.code == 3, ended.err
        assert "make room or choose another place with TMPDIR, then start again" in ended.err
        assert "--run-dir" not in ended.err
        assert ended.last_line == "nothing was sent"
        assert ended.out == ""


async def test_no_place_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(GateClosed, match="TMPDIR: the plan could not be written") as refused:
        planning.dry_run(Settings(), ["a.csv"], "r", "", json=False, quiet=False)
    assert "TMPDIR" in refused.value.remedy


async def test_a_state_directory_that_cannot_be_made_is_told_at_once(
    program: Program, tmp_path: Path
) -> None:
    """Before the plan is sealed: there is nothing to resume yet."""
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        for arguments in (("--yes", "--run-dir", "r"), ("--yes",)):
            ended = await program(
                *("run", "a.csv", "--endpoint", service.url, *arguments),
                environment={"XDG_STATE_HOME": "/proc/nothing"},
            )
            assert ended.code == 3, ended.err
            assert "/proc/nothing" in ended.err
            assert "XDG_STATE_HOME" in ended.err.splitlines()[-2]
            assert ended.last_line == "nothing was sent"
        assert service.entries == []
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "runs").exists()


async def test_a_rehearsal_whose_server_does_not_start_is_verified_again(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    ended = await program("run", "a.csv", "--sandbox", "--run-dir", "r", *FAST)
    assert ended.code == 0, ended.err
    (tmp_path / "r" / "sandbox" / "state.json").write_text("broken")
    ended = await program("verify", "r")
    assert ended.code == 1, ended.err
    assert ended.last_line == "nothing was sent; to go on type: facepurge verify r"
