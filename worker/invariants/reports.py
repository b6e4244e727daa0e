"""T4, T6, D6 and D7: the files of a report against themselves and against the ledger."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import apsw
import msgspec

from worker.errors import GateClosed
from worker.invariants.parquet import check_parquet, without_parquet
from worker.invariants.violation import Findings
from worker.ledger.books import LedgerBooks
from worker.ledger.database import query
from worker.locks import may_write
from worker.model import Outcome, StopReason
from worker.report.writing import (
    FAILURES,
    INDEX,
    JOBS,
    PARQUET,
    REJECTED,
    RESULTS,
    SUMMARY,
    write_report,
)

FILES = (RESULTS, JOBS, FAILURES, REJECTED, SUMMARY)

# What results.csv has to say, line by line: the checker's own reading of the ledger.
LINES = """
SELECT s.name || ':' || r.line, CAST(r.line AS TEXT), r.person_id,
       IFNULL(f.face_id, r.face_id), IFNULL(f.outcome, r.fate), CAST(IFNULL(f.attempts, 0) AS TEXT)
FROM row r CROSS JOIN source s USING (source_no) LEFT JOIN repeat d ON d.row_no = r.row_no
LEFT JOIN face f ON f.first_row = IFNULL(d.first_row, r.row_no)
ORDER BY r.row_no, f.face_id = '', f.face_no
"""
COLUMNS = ("line", "person_id", "face_id", "outcome", "attempts")

WAITING = "SELECT 1 FROM call WHERE state <> 2 LIMIT 1"
SESSIONS = "SELECT verb, ended_us, stop_reason FROM session ORDER BY session_no"

AGAIN = "SELECT 1 FROM face WHERE outcome = 'present' AND code = 'reappeared' LIMIT 1"
STILL = "SELECT 1 FROM face WHERE outcome = 'present' AND code <> 'not_removed' LIMIT 1"
VERIFIED = "SELECT 1 FROM verification LIMIT 1"

WANTED = {Outcome.DELETED, Outcome.ABSENT, Outcome.PERSON_EMPTY, Outcome.PERSON_DELETED}
CAUSES = {
    StopReason.FATAL,
    StopReason.SWAPPED,
    StopReason.DAMAGED,
    StopReason.BREAKER,
    StopReason.LEDGER,
    StopReason.HOLDS,
}
SIGNALS = {StopReason.SIGHUP: 129, StopReason.SIGINT: 130, StopReason.SIGTERM: 143}


@dataclass(frozen=True, slots=True)
class ReportState:
    """What there was to judge."""

    word: str
    """``current``, ``old`` or ``absent``; old is what a process left that died before the next."""
    lines: int
    is_readable: bool = False
    """Whether it can be compared with what the ledger gives: it is current, and has its form."""


ABSENT = ReportState("absent", 0)


def check_report(connection: apsw.Connection, directory: Path, findings: Findings) -> ReportState:
    """Judge the report in ``directory`` by itself and by the plan laid out."""
    there = _there(directory)
    if not there:
        return ABSENT
    for name in sorted({*FILES, INDEX} - there):
        findings.add(
            "D6", f"report/{name}", "the file is missing, and others of the report are not"
        )
    if INDEX not in there or SUMMARY not in there:
        return ReportState("current", 0)
    try:
        index = _document(directory / INDEX)
        summary = _document(directory / SUMMARY)
        lines = _check_index(directory, index, there, findings)
        if JOBS in there:
            check_parquet(directory, index, summary, findings)
        if _is_old(connection, summary):
            return ReportState("old", lines)
        if RESULTS in there:
            _check_results(connection, directory / RESULTS, summary, findings)
        _check_conclusion(connection, summary, findings)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
        findings.add("D6", "report", "a file of the report is not what it should look like")
        return ReportState("current", 0)
    return ReportState("current", lines, is_readable=True)


def _document(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())


def _check_index(directory: Path, index: Any, there: set[str], findings: Findings) -> int:
    """Each file is the one that the index lists; returns the lines of ``results.csv``."""
    listed = {entry["name"]: entry for entry in index["files"]}
    if set(listed) - {PARQUET} != set(FILES):
        findings.add("D6", f"report/{INDEX}", "the index does not list the files of a report")
    for name in there & set(listed):
        entry = listed[name]
        sha256, size = _digest(directory / name)
        if (entry["sha256"], entry["bytes"]) != (sha256, size):
            findings.add("D6", f"report/{name}", "the file is not the one that the index lists")
        if name != SUMMARY and entry["rows"] != _rows(directory / name):
            findings.add("D6", f"report/{name}", "the index tells another number of rows")
    return int(listed[RESULTS]["rows"]) if RESULTS in listed else 0


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def _rows(path: Path) -> int:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _is_old(connection: apsw.Connection, summary: Any) -> bool:
    """Whether the ledger has gone on since the report was written, or a process died in it."""
    told = [(session["verb"], session["ended_at"] is None) for session in summary["sessions"]]
    known = [(verb, ended is None) for verb, ended, _ in query(connection, SESSIONS)]
    return told != known or any(died for _, died in known[-1:])


def _check_results(
    connection: apsw.Connection, path: Path, summary: Any, findings: Findings
) -> None:
    counts: Counter[str] = Counter()
    with path.open(newline="", encoding="utf-8") as file:
        rows: Iterable[dict[str, str]] = csv.DictReader(file)
        for row, line in zip_longest(rows, query(connection, LINES)):
            if row is None or line is None:
                findings.add("T4", f"report/{RESULTS}", "it does not have a line for each row")
                break
            counts[row["outcome"]] += 1
            if tuple(row[name] for name in COLUMNS) != line[1:]:
                findings.add("T6", line[0], "its line of results.csv is not what the ledger says")
    told = {outcome: count for outcome, count in summary["outcomes"].items() if count}
    if told != counts:
        findings.add("T6", f"report/{SUMMARY}", "its outcomes are not those of results.csv")
    if sum(counts.values()) != summary["plan"]["rows"] + summary["found_faces"]:
        findings.add("T4", f"report/{RESULTS}", "the books do not balance")
    if summary["books_balance"] is not True:
        findings.add("T4", f"report/{SUMMARY}", "it says that the books do not balance")


def _check_conclusion(connection: apsw.Connection, summary: Any, findings: Findings) -> None:
    code = exit_code(connection, summary)
    if summary["exit_code"] != code:
        findings.add(
            "T4",
            f"report/{SUMMARY}",
            f"it ends with {summary['exit_code']}, and what it says amounts to {code}",
        )


def exit_code(connection: apsw.Connection, summary: Any) -> int:
    """The first that applies of 1, 7, a signal, 10, 8, 6, 5, 4 and 0."""
    sessions = query(connection, SESSIONS).fetchall()
    reason = sessions[-1][2] if sessions else ""
    left = {outcome for outcome, count in summary["outcomes"].items() if count}
    verified = summary["verification"]
    wanted = {str(outcome) for outcome in WANTED}
    if summary["settings"]["treat_no_person_as_absent"]:
        wanted.add("no_person")
    if summary["books_balance"] is not True:
        return 1
    if reason in CAUSES:
        return 7
    if reason in SIGNALS:
        return SIGNALS[StopReason(reason)]
    if reason == StopReason.REQUEST:
        return 10
    if reason in {StopReason.LIMIT, StopReason.HALT}:
        return 8
    if _any(connection, AGAIN) or (_any(connection, VERIFIED) and _any(connection, STILL)):
        return 6
    if reason == StopReason.CANARY:
        return 8
    if left & {"unknown", "unsent"} or (sessions and _any(connection, WAITING)):
        return 5
    if verified is not None and verified["answered"] < verified["asked"]:
        return 5
    return 4 if left - wanted - {"held"} else 0


def _any(connection: apsw.Connection, places: str) -> bool:
    return query(connection, places).fetchone() is not None


def compare_report(connection: apsw.Connection, directory: Path, findings: Findings) -> None:
    """Write the report again, and compare; needs as much room beside it for another one.

    Where nobody may write beside it, it needs that among the temporary files.
    """
    place = directory.parent if may_write(directory.parent) else None
    with tempfile.TemporaryDirectory(prefix=".self-check-", dir=place) as scratch:
        again = Path(scratch) / "report"
        try:
            write_report(LedgerBooks(connection), again)
        except GateClosed:
            findings.add("T4", "report", "it cannot be written again: faces are not of their rows")
            return
        for name in _different(directory, again, _there(directory)):
            findings.add("D7", f"report/{name}", "the ledger gives other bytes than the file has")


def _there(directory: Path) -> set[str]:
    return {name for name in (*FILES, INDEX) if (directory / name).is_file()}


def _different(directory: Path, again: Path, there: set[str]) -> Iterator[str]:
    for name in sorted(there):
        if name == INDEX and (directory / PARQUET).is_file():
            is_same = without_parquet(_document(directory / name)) == _document(again / name)
        else:
            is_same = _digest(directory / name) == _digest(again / name)
        if not is_same:
            yield name
