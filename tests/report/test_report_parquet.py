from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report.fake_books import NOON_US, FakeBooks, line
from tests.report.test_report_faults import Fault, content
from worker.errors import LedgerFailed, ReportFailed
from worker.model import RESULT_COLUMNS
from worker.report.interface import Line
from worker.report.writing import NAMES, PARQUET, write_report

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_every_line_with_its_types_and_the_exact_text(tmp_path: Path) -> None:
    hostile = '=1+1,"\x1b\n\u2028'
    carried = '{"note":"=2","n":1.10,"code":"x","none":null,"half":"\\ud800"}'
    lines = [
        line(0, label=hostile, person_id="007", message=hostile, carried=carried),
        line(0, face_id="2", outcome="refused", duplicate_of="in.csv:9"),
        line(2**40, attempts=0, outcome="unsent")._replace(first_sent_us=None, finished_us=None),
    ]
    books = FakeBooks(lines, ("note", "n", "code", "none", "half"), rehearsal=True)
    folder = write_report(books, tmp_path / "report", with_parquet=True).directory
    table = pq.read_table(folder / PARQUET)

    types = {field.name: str(field.type) for field in table.schema}
    assert list(types) == [*RESULT_COLUMNS, "note", "n", "input_code", "none", "half"]
    assert {name: kind for name, kind in types.items() if kind != "string"} == {
        "line": "int64",
        "attempts": "int32",
        "first_sent_at": "timestamp[us, tz=UTC]",
        "finished_at": "timestamp[us, tz=UTC]",
    }
    first, second, third = table.to_pylist()
    assert first == {
        "job_id": hostile,
        "source": "in.csv",
        "line": 2,
        "person_id": "007",
        "face_id": "31842550077981745",
        "outcome": "deleted",
        "code": "200",
        "message": hostile,
        "request_id": "7A1C",
        "attempts": 1,
        "first_sent_at": NOON,
        "finished_at": NOON + timedelta(milliseconds=80),
        "duplicate_of": "",
        "note": "=2",
        "n": "1.10",
        "input_code": "x",
        "none": "null",
        "half": r"\ud800",
    }
    assert (second["duplicate_of"], second["note"]) == ("in.csv:9", "=2")
    assert (third["line"], third["first_sent_at"], third["note"]) == (2**40 + 2, None, None)
    assert table.schema.metadata == {
        b"facepurge.format": b"facepurge-report",
        b"facepurge.version": b"1",
        b"facepurge.run_id": b"20260101T120000Z-abcdef",
        b"facepurge.rehearsal": b"true",
    }


def test_it_is_compressed_in_row_groups_and_listed_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.report.parquet._ROWS", 2000)
    books = FakeBooks([line(number) for number in range(5000)])
    folder = write_report(books, tmp_path / "report", with_parquet=True).directory
    metadata = pq.read_metadata(folder / PARQUET)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [2000, 2000, 1000]
    assert {groups[0].column(n).compression for n in range(len(RESULT_COLUMNS))} == {"ZSTD"}
    assert pq.read_table(folder / PARQUET)["face_id"].to_pylist() == [
        given.face_id for given in books.given
    ]
    entries = json.loads((folder / "index.json").read_bytes())["files"]
    assert [entry["name"] for entry in entries] == [*NAMES[:4], PARQUET, "summary.json"]
    data = (folder / PARQUET).read_bytes()
    assert entries[4] == {
        "name": PARQUET,
        "rows": 5000,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_long_lines_do_not_wait_for_a_whole_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.report.parquet._BYTES", 100_000)
    carried = json.dumps({"note": "x" * 10_000})
    books = FakeBooks([line(number, carried=carried) for number in range(500)], ("note",))
    folder = write_report(books, tmp_path / "report", with_parquet=True).directory
    assert pq.read_metadata(folder / PARQUET).num_row_groups > 2
    assert pq.read_table(folder / PARQUET).num_rows == 500


def test_a_report_without_lines_has_the_columns(tmp_path: Path) -> None:
    books = FakeBooks([], ("note",))
    folder = write_report(books, tmp_path / "report", with_parquet=True).directory
    table = pq.read_table(folder / PARQUET)
    assert (table.num_rows, table.column_names) == (0, [*RESULT_COLUMNS, "note"])


def test_the_same_books_give_the_same_bytes_and_the_other_files_do_not_change(
    tmp_path: Path,
) -> None:
    books = FakeBooks([line(number, carried='{"a":"1"}') for number in range(3000)], ("a",))
    first = content(write_report(books, tmp_path / "1", with_parquet=True).directory)
    assert content(write_report(books, tmp_path / "2", with_parquet=True).directory) == first
    plain = content(write_report(books, tmp_path / "3").directory)
    assert {name for name in first if first[name] != plain.get(name)} == {PARQUET, "index.json"}


def test_a_report_without_it_leaves_none_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write_report(FakeBooks([line(0)]), folder, with_parquet=True)
    assert set(content(folder)) == {*NAMES, PARQUET}
    write_report(FakeBooks([line(0)]), folder)
    assert set(content(folder)) == set(NAMES)


def test_a_failed_report_keeps_that_of_the_earlier_one(tmp_path: Path) -> None:
    class Torn(FakeBooks):
        def lines(self) -> Iterator[Line]:
            yield from (line(number) for number in range(2500))
            raise LedgerFailed("ledger.sqlite3: malformed")

    folder = tmp_path / "report"
    write_report(FakeBooks([line(0)]), folder, with_parquet=True)
    old = content(folder)
    for with_parquet in (True, False):
        with pytest.raises(LedgerFailed):
            write_report(Torn([]), folder, with_parquet=with_parquet)
        assert content(folder) == old


@pytest.mark.parametrize("function", ["open", "write", "fsync", "rename", "unlink"])
def test_a_fault_at_any_call_leaves_every_file_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    folder = tmp_path / "report"
    old_books = FakeBooks([line(0)])
    new_books = FakeBooks([line(n, outcome="refused", code="400") for n in range(1500)])
    new = content(write_report(new_books, folder, with_parquet=True).directory)
    real = getattr(os, function)
    for points in range(100):
        write_report(old_books, folder, with_parquet=True)
        old = content(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, Fault(real, points, errno.ENOSPC))
            try:
                write_report(new_books, folder, with_parquet=True)
            except ReportFailed:
                seen = content(folder)
            else:
                break
        for name in (*NAMES, PARQUET):
            assert seen[name] in (old[name], new[name])
    assert points > 5
    assert content(folder) == new


def test_a_fault_while_the_earlier_one_goes_is_a_failed_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "report"
    write_report(FakeBooks([line(0)]), folder, with_parquet=True)
    real = os.unlink

    def unlink(name: str, **place: Any) -> None:
        if name == PARQUET:
            raise OSError(errno.EIO, "Input/output error")
        real(name, **place)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(ReportFailed, match=r"results\.parquet.*Input/output error"):
        write_report(FakeBooks([line(0)]), folder)


@pytest.mark.parametrize("with_parquet", [False, True])
def test_a_link_in_its_place_is_refused(tmp_path: Path, with_parquet: bool) -> None:  # noqa: FBT001
    folder = tmp_path / "report"
    folder.mkdir()
    (tmp_path / "victim").write_text("precious")
    (folder / PARQUET).symlink_to(tmp_path / "victim")
    with pytest.raises(ReportFailed, match="is a link"):
        write_report(FakeBooks([line(0)]), folder, with_parquet=with_parquet)
    assert (tmp_path / "victim").read_text() == "precious"


IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.report.fake_books import FakeBooks, line
from worker.report.writing import write_report
write_report(FakeBooks([line(0)]), Path(sys.argv[2]))
print(*sorted({"pyarrow", "numpy", "duckdb"} & set(sys.modules)))
"""


def test_who_does_not_ask_for_it_does_not_load_its_library(tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent.parent)
    command = [sys.executable, "-c", IMPORTS, root, str(tmp_path / "report")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_times_are_whole(tmp_path: Path) -> None:
    books = FakeBooks([line(0)._replace(first_sent_us=NOON_US - 1, finished_us=-1)])
    folder = write_report(books, tmp_path / "report", with_parquet=True).directory
    table = pq.read_table(folder / PARQUET)
    assert table["first_sent_at"].cast(pa.int64()).to_pylist() == [NOON_US - 1]
    assert table["finished_at"].cast(pa.int64()).to_pylist() == [-1]


def test_what_ends_the_program_passes_through_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is raised wherever the program is, also where pyarrow calls it to write."""

    class Ended(BaseException):
        pass

    calls = allowed = 0
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls > allowed:
            monkeypatch.setattr(os, "write", real)
            raise Ended
        return real(descriptor, data)

    books = FakeBooks([line(number) for number in range(1500)])
    while True:
        calls = 0
        monkeypatch.setattr(os, "write", write)
        try:
            write_report(books, tmp_path / "report", with_parquet=True)
        except Ended:
            assert content(tmp_path / "report") == {}
            allowed += 1
        else:
            break
    assert allowed > 20
    assert set(content(tmp_path / "report")) == {*NAMES, PARQUET}
