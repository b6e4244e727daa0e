"""Room and speed of a disk, and editions, as ``doctor`` looks at them."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import apsw
import pytest

from worker.cli import editions, storage
from worker.cli.editions import examine_versions
from worker.cli.finding import Grade
from worker.cli.storage import BYTES_PER_ROW, SLOW_SYNC_SECONDS, examine_disk

Room = namedtuple("Room", ["f_bavail", "f_frsize"])  # noqa: PYI024 (what os.statvfs gives, in short)


def with_room(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Room(count, 1))


def test_the_place_is_the_first_that_exists_and_is_left_as_it_was(tmp_path: Path) -> None:
    found = examine_disk(tmp_path / "runs" / "not" / "yet", 10)
    assert found.sentence.startswith(f"{tmp_path} has ")
    assert "a sync takes " in found.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("room", "grade"),
    [(999, Grade.FAIL), (1_000, Grade.WARN), (1_999, Grade.WARN), (2_000, Grade.OK)],
)
def test_the_room_for_the_planned_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, grade: Grade
) -> None:
    monkeypatch.setattr(storage, "_kind_of", lambda _: "ext4")
    with_room(monkeypatch, room * 10_000 * BYTES_PER_ROW)
    found = examine_disk(tmp_path, 10_000_000)
    assert found.grade is grade, found
    assert bool(found.remedy) == (grade is not Grade.OK)
    assert "10,000,000 rows may take about 19 GiB" in found.sentence


@pytest.mark.parametrize(
    ("kind", "grade"),
    [("nfs4", Grade.FAIL), ("fuse.sshfs", Grade.FAIL), ("tmpfs", Grade.WARN), ("xfs", Grade.OK)],
)
def test_the_kind_of_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, grade: Grade
) -> None:
    monkeypatch.setattr(storage, "_kind_of", lambda _: kind)
    with_room(monkeypatch, 10**12)
    assert examine_disk(tmp_path, None).grade is grade


def test_a_mount_is_found_by_the_longest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = "a / ext4 rw 0 0\nb /data nfs4 rw 0 0\nc /data/own\\040disk xfs rw 0 0\nbroken\n"
    monkeypatch.setattr(Path, "read_text", lambda *_: mounts)
    monkeypatch.setattr(Path, "resolve", lambda path: path)
    kinds = [storage._kind_of(Path(name)) for name in ("/home", "/data/x", "/data/own disk/y")]
    assert kinds == ["ext4", "nfs4", "xfs"]


def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_kind_of", lambda _: "ext4")
    monkeypatch.setattr(storage, "_sync_seconds", lambda _: SLOW_SYNC_SECONDS * 2)
    found = examine_disk(tmp_path, None)
    assert (found.grade, "a sync takes 200.0 ms" in found.sentence) == (Grade.WARN, True)


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = examine_disk(tmp_path, None)
    assert found.grade is Grade.FAIL
    assert found.sentence == f"{tmp_path}: nothing can be written there (No space left on device)"


def test_these_editions_are_new_enough() -> None:
    found = examine_versions()
    assert found.grade is Grade.OK, found
    for name in ("facepurge", "Python", "SQLite", "aiohttp", "click", "zstandard"):
        assert f"{name} " in found.sentence


@pytest.mark.parametrize(
    ("sqlite", "sound"),
    [
        ("3.40.1", False),
        ("3.51.2", False),
        ("3.50.6", False),
        ("3.51.3", True),
        ("3.50.7", True),
        ("3.44.6", True),
        ("3.45.9", False),
        ("4.0.0", True),
    ],
)
def test_an_sqlite_that_can_damage_a_ledger(
    monkeypatch: pytest.MonkeyPatch, sqlite: str, *, sound: bool
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: sqlite)
    found = examine_versions()
    assert found.grade is (Grade.OK if sound else Grade.FAIL)
    assert ("too old: SQLite" in found.sentence) is not sound


def test_a_package_that_is_too_old_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [("aiohttp", "99.0"), ("no-such-package", "1.0")]
    monkeypatch.setattr(editions, "_requirements", lambda: needed)
    found = examine_versions()
    assert found.grade is Grade.FAIL
    assert "aiohttp (needs 99.0), no-such-package (needs 1.0)" in found.sentence
    assert "no-such-package missing" in found.sentence
