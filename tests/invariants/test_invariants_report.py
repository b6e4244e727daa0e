"""One thing is changed in the files of a report: the checker names the invariant it breaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.invariants.rehearsal import Rehearsal, opened, plan, violations
from tests.invariants.rehearsal import report as write
from worker.invariants.checking import examine
from worker.invariants.reports import exit_code

Copied = Callable[[], Rehearsal]
Spoil = Callable[[Path], object]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def document(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def list_again(report: Path) -> None:
    """The index lists the files as they are now."""

    def change(index: Any) -> None:
        for entry in index["files"]:
            data = (report / entry["name"]).read_bytes()
            rows = data.count(b"\n") - (entry["name"].endswith(".csv"))
            entry["sha256"], entry["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
            if entry["name"] != "summary.json":
                entry["rows"] = rows

    document(report / "index.json", change)


def listed(spoil: Spoil) -> Spoil:
    """The same, with an index that fits."""

    def both(report: Path) -> None:
        spoil(report)
        list_again(report)

    return both


def summary(**values: object) -> Spoil:
    return listed(lambda r: document(r / "summary.json", lambda x: x.update(values)))


SPOILED: list[tuple[str, Spoil, set[str]]] = [
    ("a file that is missing", lambda r: (r / "failures.csv").unlink(), {"D6"}),
    ("an index that is missing", lambda r: (r / "index.json").unlink(), {"D6"}),
    ("a file cut short",
     lambda r: (r / "results.jsonl").write_bytes((r / "results.jsonl").read_bytes()[:-20]),
     {"D6", "D7"}),
    ("one byte in a file", lambda r: edit(r / "results.csv", "s0.csv", "s1.csv"), {"D6", "D7"}),
    ("an index that lists less",
     lambda r: document(r / "index.json", lambda x: x["files"].pop()), {"D6", "D7"}),
    ("an index with other rows",
     lambda r: document(r / "index.json", lambda x: x["files"][0].update(rows=1)), {"D6", "D7"}),
    ("an index that is none", lambda r: (r / "index.json").write_text("{}"), {"D6"}),
    ("a summary that is none", lambda r: (r / "summary.json").write_text("[]"), {"D6"}),
    ("a summary that is no JSON", lambda r: (r / "summary.json").write_text("{"), {"D6"}),
    ("another outcome in the results",
     listed(lambda r: edit(r / "results.csv", ",present,", ",absent,")), {"T6", "D7"}),
    ("another face in the results",
     listed(lambda r: edit(r / "results.csv", ",good,1,", ",good,01,")), {"T6", "D7"}),
    ("a line less in the results",
     listed(lambda r: edit(r / "results.csv", (r / "results.csv").read_text().splitlines()[5] + "\n",
                           "")), {"T4", "T6", "D7"}),
    ("a failure that is not told",
     listed(lambda r: edit(r / "failures.csv", (r / "failures.csv").read_text().splitlines()[1] + "\n",
                           "")), {"D7"}),
    ("another exit code", summary(exit_code=0), {"T4", "D7"}),
    ("books that do not balance", summary(books_balance=False), {"T4", "D7"}),
    ("another stop reason", summary(stop_reason="sigint"), {"D7"}),
    ("other counts of outcomes", summary(outcomes={"deleted": 99}), {"T4", "T6", "D7"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "broken"), [pytest.param(x, y, id=name) for name, x, y in SPOILED]
)
def test_a_report_that_was_changed_is_found(copied: Copied, spoil: Spoil, broken: set[str]) -> None:
    run = copied()
    spoil(run.run_dir / "report")
    found = violations(run.run_dir)
    assert {violation.invariant for violation in found} == broken, "\n".join(map(str, found))


def test_listing_files_again_changes_nothing(copied: Copied) -> None:
    run = copied()
    document(run.run_dir / "report" / "index.json", lambda _: None)
    before = json.loads((run.run_dir / "report" / "index.json").read_bytes())
    list_again(run.run_dir / "report")
    assert json.loads((run.run_dir / "report" / "index.json").read_bytes()) == before


def test_a_report_older_than_its_ledger_is_no_violation_and_told(copied: Copied) -> None:
    run = copied()
    with opened(run.run_dir) as connection:
        connection.execute(
            "INSERT INTO session VALUES (3, 'verify', '{}', (SELECT MAX(seq) FROM ending), 1, 2,"
            " 'finished', '', '{}')"
        )
        found = examine(connection, report=run.run_dir / "report")
        assert (found.violations, found.report.word) == ([], "old")


def test_no_report_is_no_violation_and_told(copied: Copied) -> None:
    run = copied()
    for path in (run.run_dir / "report").iterdir():
        path.unlink()
    with opened(run.run_dir) as connection:
        found = examine(connection, report=run.run_dir / "report")
    assert (found.violations, found.report.word) == ([], "absent")


def test_the_second_report_is_written_beside_the_first_and_removed(copied: Copied) -> None:
    run = copied()
    before = {path.name: path.stat().st_mtime_ns for path in (run.run_dir / "report").iterdir()}
    names = {path.name for path in run.run_dir.iterdir()}
    assert violations(run.run_dir) == []
    after = {path.name: path.stat().st_mtime_ns for path in (run.run_dir / "report").iterdir()}
    assert after == before
    assert {path.name for path in run.run_dir.iterdir()} - names <= {
        "ledger.sqlite3-wal",
        "ledger.sqlite3-shm",
    }


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("finished", 4),
        ("sigint", 130),
        ("sigterm", 143),
        ("limit", 8),
        ("fatal", 7),
        ("swapped", 7),
        ("outage", 4),
    ],
)
def test_the_exit_code_follows_from_why_it_stopped(copied: Copied, reason: str, code: int) -> None:
    run = copied()
    with opened(run.run_dir) as connection:
        connection.execute("UPDATE session SET stop_reason = ? WHERE session_no = 2", (reason,))
    write(run.run_dir)
    assert violations(run.run_dir) == []
    document = json.loads((run.run_dir / "report" / "summary.json").read_bytes())
    assert document["exit_code"] == code


WANTED_ALSO = {"treat_no_person_as_absent": True}
SUMMARY = {
    "outcomes": {"no_person": 1, "deleted": 0},
    "books_balance": True,
    "verification": None,
}


def test_whether_no_person_is_wanted_decides_about_the_exit_code(tmp_path: Path) -> None:
    plan(tmp_path / "r", [("nobody", "1")])
    with opened(tmp_path / "r") as connection:
        assert exit_code(connection, {**SUMMARY, "settings": WANTED_ALSO}) == 0
        neither = {"treat_no_person_as_absent": False}
        assert exit_code(connection, {**SUMMARY, "settings": neither}) == 4


def test_a_run_that_was_only_planned_breaks_nothing(tmp_path: Path) -> None:
    plan(tmp_path / "r", [("p", "1"), ("q", "")])
    write(tmp_path / "r")
    assert violations(tmp_path / "r") == []
