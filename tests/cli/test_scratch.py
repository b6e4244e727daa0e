"""What a plan that is only looked at leaves among the temporary files, however its process ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.cli import planning, scratch
from worker.errors import GateClosed
from worker.ledger.database import DRAFT_NAME, FILE_NAME, PARTS_NAME
from worker.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@contextmanager
def planning_elsewhere(temporary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the rest of its input, with everything it makes in ``temporary``."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "plan", "-", "--format", "csv"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin is not None
            # More than a pipe holds: when this has been taken, it is being read.
            process.stdin.write(b"person_id,face_id\n" + b"somebody,123456\n" * 20_000)
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_a_killed_process_has_left_is_removed_by_the_next(
    tmp_path: Path, temporary: Path
) -> None:
    with planning_elsewhere(temporary) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = temporary.iterdir()
    assert DRAFT_NAME in names(left)
    (left / PARTS_NAME).mkdir()
    (left / PARTS_NAME / "rows.0").write_bytes(b"rows")
    table = tmp_path / "a.csv"
    table.write_text("person_id,face_id\np,1\n")
    assert planning.dry_run(Settings(), [str(table)], "r", "", json=False, quiet=True) == 0
    assert names(temporary) == []


def test_what_a_living_process_holds_is_left_alone(temporary: Path) -> None:
    with planning_elsewhere(temporary):
        held = names(temporary)
        assert len(held) == 1
        with scratch.scratch() as mine:
            assert names(temporary) == sorted([*held, mine.name])
        assert names(temporary) == held


def test_what_was_not_made_here_is_left_alone(tmp_path: Path, temporary: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / DRAFT_NAME).touch()
    (temporary / f"{scratch.PREFIX}12345678").symlink_to(elsewhere)
    (temporary / f"{scratch.PREFIX}abcdefgh").touch()
    plan = temporary / f"{scratch.PREFIX}november"
    plan.mkdir()
    (plan / FILE_NAME).touch()
    (temporary / f"{scratch.PREFIX}of-somebody").mkdir()
    before = names(temporary)
    with scratch.scratch():
        pass
    assert names(temporary) == before
    assert names(plan) == [FILE_NAME]
    assert names(elsewhere) == [DRAFT_NAME]


def test_one_that_is_removed_before_it_was_held_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = tempfile.mkdtemp

    def swept(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) < scratch.ATTEMPTS:
            scratch._remove_left()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    with scratch.scratch() as directory:
        assert str(directory) == made[-1]
        assert len(made) == scratch.ATTEMPTS
        assert [path.name for path in temporary.iterdir()] == [directory.name]
    monkeypatch.setattr(scratch, "ATTEMPTS", 0)
    with pytest.raises(GateClosed, match=r"TMPDIR: .*other processes remove"), scratch.scratch():
        pass


def test_where_no_lock_can_be_had_a_plan_can_be_looked_at_and_nothing_is_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = temporary / f"{scratch.PREFIX}abcdefgh"
    left.mkdir()

    def none(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with scratch.scratch() as mine:
        assert mine.is_dir()
    assert names(temporary) == [left.name]
