"""Judges a finished run: its report against its input, and both against the server's own log."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.e2e.service import Pair
from worker.invariants.checking import check
from worker.invariants.interface import Server
from worker.invariants.timeline import planned_terms
from worker.invariants.violation import Violation
from worker.ledger.database import open_ledger
from worker.model import SENDABLE_AGAIN, Outcome
from worker.sandbox.child import LOG_NAME
from worker.sandbox.journal import Entry, Line, read_log
from worker.sandbox.testimony import server_side

TABLES = ("results.csv", "failures.csv", "rejected.csv")
FILES = {*TABLES, "results.jsonl", "summary.json", "index.json"}

NEVER_SENT = {"held", "conflict", "invalid"}

Row = dict[str, str]


class Report:
    """The files of a report as a reader of them sees them."""

    def __init__(self, run_dir: Path) -> None:
        self.directory = run_dir / "report"
        self.results = self._table("results.csv")
        self.failures = self._table("failures.csv")
        self.rejected = self._table("rejected.csv")
        text = (self.directory / "results.jsonl").read_text(encoding="utf-8")
        self.jobs: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        self.summary: dict[str, Any] = json.loads((self.directory / "summary.json").read_bytes())
        self.index: dict[str, Any] = json.loads((self.directory / "index.json").read_bytes())

    def _table(self, name: str) -> list[Row]:
        with (self.directory / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def pairs(self) -> list[Pair]:
        return [(row["person_id"], row["face_id"]) for row in self.results]

    @property
    def counts(self) -> Counter[str]:
        """Lines per outcome."""
        return Counter(row["outcome"] for row in self.results)

    def of(self, outcome: str) -> set[Pair]:
        """The pairs of the lines with this outcome."""
        return {
            (row["person_id"], row["face_id"]) for row in self.results if row["outcome"] == outcome
        }

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file of the report."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.directory.iterdir()
        }


def judge(
    run_dir: Path,
    pairs: Sequence[Pair] | None,
    lines: Iterable[Line],
    *,
    same_settings: bool = True,
    holdings: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """Assert everything that must be true of any run, however it ended; returns its report.

    ``pairs`` are the lines of the report in their order (None where the caller looks at that
    itself), ``lines`` the log of the server, whose world a test may have changed behind it.
    ``same_settings``: every session was given those of the first, except perhaps another rate.
    ``holdings`` are what the server held at first, where nobody changed it behind the log.
    """
    report = Report(run_dir)
    _judge_files(report)
    if pairs is not None:
        assert report.pairs == list(pairs)
    _judge_lines(report)
    violations = violations_of(
        run_dir,
        # A whole person has lines for what was found: only without them lines are rows.
        pairs=None if report.summary["plan"]["whole_persons"] else pairs,
        server=server_side(
            lines,
            holdings=None if holdings is None else holdings.items(),
            complete=holdings is not None,
        ),
        same_settings=same_settings,
    )
    assert not violations, "\n".join(map(str, violations))
    return report


def violations_of(
    run_dir: Path,
    *,
    pairs: Iterable[Pair] | None = None,
    server: Server | None = None,
    finished: bool = False,
    same_settings: bool = True,
) -> list[Violation]:
    """What the checker finds in a run directory; the arguments are those of the checker."""
    connection = open_ledger(run_dir, read_only=True)
    try:
        later = replace(planned_terms(connection), rate_per_second=0.0) if same_settings else None
        return check(
            connection,
            pairs=pairs,
            server=server,
            report=run_dir / "report",
            finished=finished,
            later=later,
        )
    finally:
        connection.close()


def judge_rehearsal(run_dir: Path, pairs: Sequence[Pair] | None) -> Report:
    """The same for a run with ``--sandbox``, from the log and the state that its sandbox left."""
    state = json.loads((run_dir / "sandbox" / "state.json").read_bytes())
    lines = read_log(run_dir / "sandbox" / LOG_NAME)
    return judge(run_dir, pairs, lines, holdings=state["persons"])


def _judge_files(report: Report) -> None:
    """The index is right, the twins agree, the books balance."""
    names = {path.name for path in report.directory.iterdir()}
    assert names == FILES
    listed = {entry["name"]: entry for entry in report.index["files"]}
    assert set(listed) == FILES - {"index.json"}
    rows = {
        "results.csv": len(report.results),
        "failures.csv": len(report.failures),
        "rejected.csv": len(report.rejected),
        "results.jsonl": len(report.jobs),
        "summary.json": 1,
    }
    for name, entry in listed.items():
        data = (report.directory / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest(), name
        assert entry["bytes"] == len(data), name
        assert entry["rows"] == rows[name], name
    twins = [
        (job["source"], str(job["line"]), job["person_id"], face["face_id"], face["outcome"])
        for job in report.jobs
        for face in job["faces"]
    ]
    columns = ("source", "line", "person_id", "face_id", "outcome")
    assert twins == [tuple(row[name] for name in columns) for row in report.results]
    wanted = {"no_person"} if report.summary["settings"]["treat_no_person_as_absent"] else set()
    sendable = SENDABLE_AGAIN - wanted
    again = [row for row in report.results if row["outcome"] in sendable and row["face_id"]]
    assert [{k: v for k, v in row.items() if k != "remedy"} for row in report.failures] == again
    assert all(re.fullmatch("[a-z]+", row["remedy"]) for row in report.failures)
    never = [row for row in report.results if row["outcome"] in {"conflict", "invalid"}]
    assert report.rejected == never
    assert set(report.counts) <= set(Outcome)
    outcomes = {name: count for name, count in report.summary["outcomes"].items() if count}
    assert outcomes == report.counts
    assert report.summary["books_balance"] is True
    assert sum(outcomes.values()) == report.summary["plan"]["rows"] + report.summary["found_faces"]


def _judge_lines(report: Report) -> None:
    """What was never sent says so, and a repeated line says what its first one says."""
    first: dict[Pair, Row] = {}
    for row in report.results:
        assert row["outcome"] not in {"conflict", "invalid"} or row["attempts"] == "0"
        pair = (row["person_id"], row["face_id"])
        origin = first.setdefault(pair, row)
        # A face that is named may be found again for the whole person: that is no repetition.
        found = report.summary["found_faces"] and not row["duplicate_of"]
        if row is origin or found or row["outcome"] in NEVER_SENT:
            continue
        assert row["outcome"] == origin["outcome"]
        assert row["duplicate_of"] == f"{origin['source']}:{origin['line']}"


def served_twice(lines: Iterable[Line]) -> set[Pair]:
    """Pairs that more than one request asked for which the service let through."""
    asked = Counter(
        (line.person_id, face)
        for line in lines
        if isinstance(line, Entry) and line.served
        for face in line.face_ids
    )
    return {pair for pair, times in asked.items() if times > 1}


def files_with(directory: Path, words: bytes) -> list[Path]:
    """Files anywhere below that hold these words."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if words in path.read_bytes()]
