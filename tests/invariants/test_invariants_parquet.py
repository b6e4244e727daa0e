"""One thing is changed about results.parquet: the checker names the invariant it breaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.invariants.rehearsal import Rehearsal, opened, violations
from tests.report.fake_books import FakeBooks, line
from worker.invariants.parquet import check_parquet
from worker.invariants.violation import Findings
from worker.ledger.books import LedgerBooks
from worker.report.writing import INDEX, JOBS, PARQUET, SUMMARY, write_report

Copied = Callable[[], Rehearsal]

CARRIED = '{"note":"=1","n":1.10,"nested":{"a":[1,null]},"none":null,"half":"x\\ud800","code":"7"}'
NAMES = ("note", "n", "nested", "none", "half", "code", "gone")


def written(folder: Path) -> Path:
    lines = [
        line(0, label="=x,\n", message="\x1b", carried=CARRIED),
        line(0, label="=x,\n", face_id="2", outcome="refused"),
        line(1, outcome="unsent")._replace(first_sent_us=None, finished_us=None),
    ]
    return write_report(FakeBooks(lines, NAMES), folder, with_parquet=True).directory


def found(folder: Path) -> list[str]:
    findings = Findings()
    index, summary = (json.loads((folder / name).read_bytes()) for name in (INDEX, SUMMARY))
    check_parquet(folder, index, summary, findings)
    return [str(violation) for violation in findings.kept]


def listed_again(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_bytes())
    (entry,) = [entry for entry in index["files"] if entry["name"] == PARQUET]
    data = (folder / PARQUET).read_bytes()
    entry["sha256"], entry["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    (folder / INDEX).write_text(json.dumps(index))


def change(folder: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    table = pq.read_table(folder / PARQUET)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / PARQUET)
    listed_again(folder)


def test_a_run_with_one_breaks_nothing_and_a_changed_one_is_found(copied: Copied) -> None:
    run = copied()
    with opened(run.run_dir) as connection:
        write_report(LedgerBooks(connection), run.run_dir / "report", with_parquet=True)
    assert violations(run.run_dir) == []
    change(run.run_dir / "report", lambda rows: rows[0].update(outcome="absent"))
    assert {violation.invariant for violation in violations(run.run_dir)} == {"D6"}
    (run.run_dir / "report" / PARQUET).write_bytes(b"PAR1")
    assert {violation.invariant for violation in violations(run.run_dir)} == {"D6"}


def test_what_was_written_agrees(tmp_path: Path) -> None:
    assert found(written(tmp_path / "report")) == []


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [
        (0, "face_id", "031842550077981745"),
        (0, "job_id", "'=x,\\n"),
        (0, "line", 3),
        (1, "attempts", 2),
        (1, "outcome", "deleted"),
        (2, "first_sent_at", 0),
        (0, "note", "'=1"),
        (0, "n", "1.1"),
        (0, "none", None),
        (0, "gone", ""),
        (1, "input_code", "8"),
    ],
)
def test_another_value_is_found(tmp_path: Path, number: int, name: str, value: object) -> None:
    folder = written(tmp_path / "report")
    change(folder, lambda rows: rows[number].update({name: value}))
    place = "in.csv:3" if number == 2 else "in.csv:2"
    assert found(folder) == [f"D6 {place}: its line of results.parquet is not that of {JOBS}"]


def test_a_line_less_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    change(folder, lambda rows: rows.pop())
    assert found(folder) == [
        "D6 report/results.parquet: the index tells another number of rows",
        f"D6 report/results.parquet: it does not have a line for each of {JOBS}",
    ]


def test_a_file_that_is_missing_changed_or_none_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    whole = (folder / PARQUET).read_bytes()
    (folder / PARQUET).write_bytes(whole[:-1])
    assert found(folder) == [
        "D6 report/results.parquet: the file is not the one that the index lists"
    ]
    listed_again(folder)
    assert found(folder) == ["D6 report/results.parquet: the file is not what it should look like"]
    (folder / PARQUET).unlink()
    (missing,) = found(folder)
    write_report(FakeBooks([line(0)]), folder)
    (folder / PARQUET).write_bytes(whole)
    assert found(folder) == [missing]
    assert "one without the other" in missing
