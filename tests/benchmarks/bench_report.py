"""How fast a report is written, and in how much memory.

``python tests/benchmarks/bench_report.py`` writes a report over a million generated lines and
prints lines per second, the ratio to a plain ``csv.writer`` loop over the same lines in the same
process, and the peak memory above that of a ten-line report. ``--lines N --json`` prints the
figures of one report for a test to read.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.model import Outcome, SourceSummary, StopReason, Verb
from worker.report.interface import CallFigures, Line, RunHeader, Session, Verification
from worker.report.writing import write_report

START_US = 1_767_225_600_000_000
OUTCOMES = (Outcome.DELETED,) * 17 + (Outcome.REFUSED, Outcome.UNKNOWN, Outcome.INVALID)


@dataclass(frozen=True)
class GeneratedBooks:
    """Books of as many lines as wished, none of them held in memory."""

    count: int

    def header(self) -> RunHeader:
        return RunHeader(
            run_id="bench",
            program_version="0",
            planned_us=START_US,
            account="acct",
            endpoint="http://127.0.0.1:1",
            rehearsal=True,
            settings={"rate_per_second": 19.8},
            persons=self.count // 4,
            whole_persons=0,
            faces=self.count,
            calls=self.count // 4,
            repeats=0,
            rows=self.count,
            holds_sha256="",
        )

    def sources(self) -> list[SourceSummary]:
        return [SourceSummary("big.csv", "csv", "0" * 64, 1, 1, 1, 0, ("region", "note"))]

    def sessions(self) -> list[Session]:
        return [Session(Verb.RUN, START_US, START_US + 1, StopReason.FINISHED, "", {"quota": 1.0})]

    def lines(self) -> Iterator[Line]:
        for number in range(self.count):
            outcome = OUTCOMES[number % 20]
            yield Line(
                record_no=number,
                label=f"job-{number * 2_654_435_761 % self.count}",
                source="big.csv",
                line=number + 2,
                person_id=f"person-{number // 4}",
                face_id=f"{31842550077981745 + number}",
                outcome=outcome,
                code="200" if outcome is Outcome.DELETED else "400",
                message="OK",
                request_id=f"7A1C2B4E-{number // 4:012d}",
                attempts=1,
                first_sent_us=START_US + number * 12_500,
                finished_us=START_US + number * 12_500 + 80_000,
                duplicate_of="",
                carried=f'{{"region":"eu-{number % 7}","note":"row {number}"}}',
            )

    def found_lines(self) -> int:
        return 0

    def has_waiting_calls(self) -> bool:
        return False

    def verification(self) -> Verification:
        return Verification(0, 0)

    def call_figures(self) -> list[CallFigures]:
        return [CallFigures("DeleteFaces", self.count // 4, self.count // 4, 0, 0)]

    def sent_times_us(self, operation: str) -> Iterator[int]:
        return (START_US + call * 50_505 for call in range(self.count // 4))


def plain_seconds(books: GeneratedBooks, path: Path) -> float:
    """A bare ``csv.writer`` over the same lines: the yardstick."""
    begin = time.perf_counter()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(books.lines())
    return time.perf_counter() - begin


def report_figures(count: int) -> dict[str, float]:
    books = GeneratedBooks(count)
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        report = write_report(books, Path(scratch) / "report")
        seconds = time.perf_counter() - begin
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        plain = plain_seconds(books, Path(scratch) / "plain.csv")
    return {
        "lines": report.conclusion.rows,
        "exit_code": report.conclusion.exit_code,
        "seconds": seconds,
        "plain_seconds": plain,
        "peak_mb": peak_mb,
    }


def in_own_process(count: int) -> dict[str, float]:
    """The figures of a fresh process: peak memory never goes down again."""
    command = [sys.executable, __file__, "--json", "--lines", str(count)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.json:
        sys.stdout.write(json.dumps(report_figures(options.lines)))
        return
    few, many = in_own_process(10), in_own_process(options.lines)
    sys.stdout.write(
        f"{many['lines']:,.0f} lines: {many['lines'] / many['seconds']:,.0f} lines/s,"
        f" {many['seconds'] / many['plain_seconds']:.1f} times a plain csv.writer loop,"
        f" {many['peak_mb'] - few['peak_mb']:.1f} MB above a ten-line report\n"
    )


if __name__ == "__main__":
    main()
