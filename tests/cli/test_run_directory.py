"""The directory of a run: private, taken once, and where its name says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from worker.cli.run_directory import made_run_directory, make_run_directory, new_run_id
from worker.errors import GateClosed
from worker.ledger.database import DRAFT_NAME, FILE_NAME
from worker.locks import LOCK_NAME


def refusal(path: Path) -> GateClosed:
    with pytest.raises(GateClosed) as refused:
        make_run_directory(path)
    assert refused.value.cause.startswith(f"{path}: ")
    assert "--run-dir" in refused.value.remedy
    return refused.value


def test_the_name_of_a_run_leads_nowhere_else() -> None:
    """It becomes the name of a directory, and nothing in it may be a path."""
    names = {new_run_id() for _ in range(200)}
    assert len(names) == 200
    assert all(re.fullmatch("[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", name) for name in names)


def test_it_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_run_directory(tmp_path / "runs" / "one")
    finally:
        os.umask(before)
    assert (tmp_path / "runs" / "one").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o700


def test_an_empty_one_is_taken_over_and_made_private(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o755)
    make_run_directory(tmp_path / "r")
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700


def test_what_an_early_end_has_left_is_no_run(tmp_path: Path) -> None:
    make_run_directory(tmp_path)
    for name in (DRAFT_NAME, LOCK_NAME):
        (tmp_path / name).touch()
    for name in ("report/rejected.csv", "report/.rejected.csv.tmp", "sandbox/state.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sandbox" / ".state.json.4711").touch()
    make_run_directory(tmp_path)


@pytest.mark.parametrize(
    "left",
    [
        "report/index.json",
        "report/results.csv",
        "report/.results.csv.tmp",
        "sandbox/sandbox.jsonl",
        "sandbox/state.json/kept",
        "report",
    ],
)
def test_what_a_run_has_left_is_never_written_over(tmp_path: Path, left: str) -> None:
    """Its ledger was lost, so that it may be all the evidence there is."""
    place = tmp_path / "r" / left
    place.parent.mkdir(parents=True)
    place.write_text("399 faces deleted")
    refused = refusal(tmp_path / "r")
    assert f"a run has left {left.removesuffix('/kept')} here" in refused.cause
    assert place.read_text() == "399 faces deleted"


def test_a_link_to_the_report_of_another_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report").symlink_to(tmp_path / "elsewhere")
    assert "a run has left report here" in refusal(tmp_path / "r").cause


def test_a_run_that_lives_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"a ledger")
    assert "a run or a plan lives here already" in refusal(tmp_path).cause
    assert (tmp_path / FILE_NAME).read_bytes() == b"a ledger"


def test_the_flag_that_named_it_is_the_one_to_change(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with (
        pytest.raises(GateClosed) as refused,
        made_run_directory(tmp_path, "-o"),
    ):
        pytest.fail("a directory that is not empty was taken")
    assert refused.value.remedy == "choose a new or an empty directory with -o"


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    assert "not empty (there is 'notes')" in refusal(tmp_path).cause


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_link_is_no_run_directory(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(target)
    assert "symbolic link" in refusal(tmp_path / "link").cause
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "r").touch()
    assert "cannot be made (File exists)" in refusal(tmp_path / "r").cause


def test_without_a_plan_nothing_is_left(tmp_path: Path) -> None:
    def fail_with(name: str) -> None:
        (tmp_path / "r" / name).touch()
        raise ZeroDivisionError

    for name, stays in ((LOCK_NAME, False), (FILE_NAME, True)):
        with pytest.raises(ZeroDivisionError), made_run_directory(tmp_path / "r"):
            fail_with(name)
        assert (tmp_path / "r").exists() is stays
    with made_run_directory(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


def test_directories_on_the_way_go_with_it(tmp_path: Path) -> None:
    """Unless they were there before, or hold something else by now."""
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), made_run_directory(tmp_path / "there" / "runs" / "r"):
        raise ZeroDivisionError
    assert list((tmp_path / "there").iterdir()) == []
    with (
        pytest.raises(ZeroDivisionError),
        made_run_directory(tmp_path / "runs" / "one"),
        made_run_directory(tmp_path / "runs" / "two"),
    ):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()
    with made_run_directory(tmp_path / "there" / "a" / "kept"):
        pass
    with pytest.raises(ZeroDivisionError), made_run_directory(tmp_path / "there" / "a" / "r"):
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "there" / "a").iterdir()] == ["kept"]
