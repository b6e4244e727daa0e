"""Judges a finished run: its report against its input, and both against the server's own log."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.service import Pair, truly_deleted
from worker.model import SENDABLE_AGAIN, Outcome
from worker.sandbox.child import LOG_NAME
from worker.sandbox.journal import Entry, Line, read_log

TABLES = ("results.csv", "failures.csv", "rejected.csv")
FILES = {*TABLES, "results.jsonl", "summary.json", "index.json"}

NEVER_SENT = {"held", "conflict", "invalid"}
NOT_GONE = {"refused", "unsent", *NEVER_SENT}
"""Outcomes that a face which is really deleted must never have."""

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


def judge(run_dir: Path, pairs: Sequence[Pair] | None, lines: Iterable[Line]) -> Report:
    """Assert everything that must be true of any run, however it ended; returns its report.

    ``pairs`` are the faces of the input in its order (None where the caller looks at the order
    itself), ``lines`` the log of the server.
    """
    report = Report(run_dir)
    lines = list(lines)
    _judge_files(report)
    if pairs is not None:
        assert report.pairs == list(pairs)
    _judge_requests(report, [line for line in lines if isinstance(line, Entry)])
    _judge_claims(report, truly_deleted(lines))
    return report


def judge_rehearsal(run_dir: Path, pairs: Sequence[Pair] | None) -> Report:
    """The same for a run with ``--sandbox``, from the log that its sandbox left."""
    return judge(run_dir, pairs, read_log(run_dir / "sandbox" / LOG_NAME))


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
    again = [row for row in report.results if row["outcome"] in SENDABLE_AGAIN]
    assert [{k: v for k, v in row.items() if k != "remedy"} for row in report.failures] == again
    assert all(re.fullmatch("[a-z]+", row["remedy"]) for row in report.failures)
    never = [row for row in report.results if row["outcome"] in {"conflict", "invalid"}]
    assert report.rejected == never
    assert set(report.counts) <= set(Outcome)
    outcomes = {name: count for name, count in report.summary["outcomes"].items() if count}
    assert outcomes == report.counts
    assert report.summary["books_balance"] is True
    assert sum(outcomes.values()) == report.summary["plan"]["rows"]


def _judge_requests(report: Report, entries: Sequence[Entry]) -> None:
    """S1 and S2: only what the input names, one person a call, nothing twice, never an empty list."""
    wanted: dict[str, set[str]] = {}
    for row in report.results:
        if row["outcome"] not in NEVER_SENT:
            wanted.setdefault(row["person_id"], set()).add(row["face_id"])
    for entry in entries:
        assert entry.operation == "DeleteFaces"
        assert entry.face_ids
        assert len(set(entry.face_ids)) == len(entry.face_ids)
        assert set(entry.face_ids) <= wanted.get(entry.person_id, set())
    nonces = [entry.nonce for entry in entries]
    assert all(nonces)
    assert len(set(nonces)) == len(nonces)
    sent = report.summary["calls"].get("DeleteFaces", {}).get("sent", 0)
    assert len(entries) <= sent


def _judge_claims(report: Report, deleted: set[Pair]) -> None:
    """No face is called deleted that is not, and none that is gone is called anything safe."""
    assert report.of("deleted") <= deleted
    for outcome in NOT_GONE:
        assert not report.of(outcome) & deleted, outcome
    first: dict[Pair, Row] = {}
    for row in report.results:
        pair = (row["person_id"], row["face_id"])
        origin = first.setdefault(pair, row)
        if row is origin or row["outcome"] in NEVER_SENT:
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
