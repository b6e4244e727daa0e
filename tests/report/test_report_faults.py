from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.report.fake_books import FakeBooks, line
from worker.errors import LedgerFailed, ReportFailed
from worker.report.files import ReportDirectory
from worker.report.interface import Line
from worker.report.writing import NAMES, write_report

OLD = FakeBooks([line(0)])
NEW = FakeBooks([line(number, outcome="refused", code="400") for number in range(3000)])
HUGE_RECORD = FakeBooks([line(0, face_id=str(number)) for number in range(5000)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


REAL_CLOSE = os.close


class Fault:
    """Lets ``allowed`` calls of an operating-system function through and fails the next ones."""

    def __init__(self, real: Callable[..., Any], allowed: int, error: int) -> None:
        self._real = real
        self._allowed = allowed
        self._error = error
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls > self._allowed:
            if self._real is REAL_CLOSE:
                REAL_CLOSE(*args)  # a failed close has let go of the file all the same
            raise OSError(self._error, os.strerror(self._error))
        return self._real(*args, **kwargs)


@pytest.mark.parametrize("function", ["open", "write", "fsync", "rename", "fchmod", "close"])
def test_a_fault_at_any_call_leaves_every_file_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    folder = tmp_path / "report"
    write_report(NEW, folder)
    new = content(folder)
    real = getattr(os, function)
    points = 0
    while True:
        write_report(OLD, folder)
        old = content(folder)
        fault = Fault(real, points, errno.ENOSPC)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fault)
            try:
                write_report(NEW, folder)
            except (ReportFailed, OSError) as error:
                failure = error
            else:
                break
        if function != "close":
            assert isinstance(failure, ReportFailed)
            assert str(folder) in failure.cause
            assert "No space left on device" in failure.cause
            assert f"facepurge report {tmp_path}" in failure.remedy
        seen = content(folder)
        if function not in ("close", "rename", "fsync"):
            assert {name: seen[name] for name in NAMES} == old
        for name in NAMES:
            assert seen[name] in (old[name], new[name])
        points += 1
    assert (
        points
        >= {"open": 7, "write": 8, "fsync": 7, "rename": 6, "fchmod": 7, "close": 6}[function]
    )
    assert content(folder) == new


def test_a_fault_in_the_first_report_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Fault(os.fsync, 2, errno.EIO))
    with pytest.raises(ReportFailed, match="Input/output error"):
        write_report(NEW, tmp_path / "report")
    assert content(tmp_path / "report") == {}


def test_a_full_disk_under_a_scratch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return

    monkeypatch.setattr(ReportDirectory, "scratch", lambda self: Full())
    with pytest.raises(ReportFailed, match=r"results\.jsonl.*No space left"):
        write_report(HUGE_RECORD, tmp_path / "report")


LIMITED = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.report.fake_books import FakeBooks, line
from worker.errors import ReportFailed
from worker.report.writing import write_report
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_report(
        FakeBooks([line(n, label=f"l{n}") for n in range(int(sys.argv[4]))]), Path(sys.argv[2])
    )
except ReportFailed as error:
    print(error.cause)
    print(error.remedy)
"""


@pytest.mark.parametrize(
    ("limit", "lines", "place"),
    [(100_000, 5000, "results.csv"), (400_000, 21_000, "")],
)
def test_a_limit_on_file_size_of_the_real_system(
    tmp_path: Path, limit: int, lines: int, place: str
) -> None:
    folder = tmp_path / "report"
    write_report(OLD, folder)
    old = content(folder)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, here, str(folder), str(limit), str(lines)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(folder / place) in done.stdout
    assert f"free some space on that disk, then type: facepurge report {tmp_path}" in done.stdout
    assert content(folder) == old


def test_a_full_disk_under_the_labels_is_a_failed_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.report.labels._IN_MEMORY", 1)
    books = FakeBooks([line(n, label=f"{n}") for n in range(3)])
    with Path("/dev/full").open("w+b") as full:
        monkeypatch.setattr(ReportDirectory, "scratch", lambda self: full)
        with pytest.raises(ReportFailed, match="No space left") as caught:
            write_report(books, tmp_path / "r")
    assert "free some space" in caught.value.remedy
    assert content(tmp_path / "r") == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / name).symlink_to(victim)
    with pytest.raises(ReportFailed, match="is a link"):
        write_report(OLD, folder)
    assert victim.read_text() == "precious"
    assert set(content(folder)) == {name}


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "report").symlink_to(tmp_path / "real")
    with pytest.raises(ReportFailed, match="symbolic link"):
        write_report(OLD, tmp_path / "report")
    assert content(tmp_path / "real") == {}


def test_a_link_laid_under_a_temporary_name_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (*NAMES, "labels", "scratch"):
        (folder / f".{name}.tmp").symlink_to(victim)
    many = [line(number, label=f"{number}") for number in range(20_001)]
    write_report(FakeBooks([*many, *HUGE_RECORD.given]), folder)
    assert victim.read_text() == "precious"


def test_a_missing_or_wrong_place_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed, match="No such file or directory"):
        write_report(OLD, tmp_path / "nowhere" / "report")
    (tmp_path / "report").write_text("a file")
    with pytest.raises(ReportFailed, match="Not a directory") as caught:
        write_report(OLD, tmp_path / "report")
    assert caught.value.remedy == f"mend that, then type: facepurge report {tmp_path}"


def test_what_a_killed_writer_left_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir(mode=0o755)
    for name in NAMES:
        (folder / f".{name}.tmp").write_text("half")
    write_report(OLD, folder)
    assert set(content(folder)) == set(NAMES)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_trouble_with_the_books_passes_through_and_leaves_the_old_report(tmp_path: Path) -> None:
    class Torn(FakeBooks):
        def lines(self) -> Iterator[Line]:
            yield line(0)
            raise LedgerFailed("ledger.sqlite3: malformed")

    folder = tmp_path / "report"
    write_report(OLD, folder)
    old = content(folder)
    with pytest.raises(LedgerFailed):
        write_report(Torn([line(0)]), folder)
    assert content(folder) == old


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    begun = threading.Event()

    def write() -> None:
        begun.set()
        write_report(NEW, folder)

    second = threading.Thread(target=write, daemon=True)
    with ReportDirectory(folder, NAMES) as held:
        second.start()
        assert begun.wait(10)
        file = held.file("results.csv")
        file.write(b"first\n", 1)
        file.seal()
        held.publish()
        assert (folder / "results.csv").read_bytes() == b"first\n"
    second.join(20)
    assert not second.is_alive()
    assert (folder / "results.csv").read_bytes().count(b"\n") == 3001


ROOT = Path(__file__).parents[2]
BENCHMARK = "tests.benchmarks.bench_report"


def test_memory_stays_flat() -> None:
    def peak_mb(lines: int) -> float:
        command = [sys.executable, "-m", BENCHMARK, "--only", "report", "--lines", str(lines)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)["peak_mb"])

    assert peak_mb(150_000) - peak_mb(10) < 48
