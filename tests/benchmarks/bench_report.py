"""How fast a report is written, and in how much memory, against a plain ``csv.writer`` loop.

``python -m tests.benchmarks.bench_report`` writes the lines of generated books, a million or ``--lines N``
(``--scale large``: ten million), in three ways: with nothing but ``csv.writer``, as a report (CSV and
JSONL, labels, figures, digests), and as one with ``results.parquet``. Making up the lines is in all of them.
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.comparison import Contestant, compare
from tests.benchmarks.measurement import HOUR_SECONDS, Ended
from tests.benchmarks.sitting import Sitting, parser
from worker.model import Outcome, SourceSummary, StopReason, Verb
from worker.report.interface import CallFigures, Line, RunHeader, Session, Verification
from worker.report.writing import write_report

START_US = 1_767_225_600_000_000
OUTCOMES = (Outcome.DELETED,) * 17 + (Outcome.REFUSED, Outcome.UNKNOWN, Outcome.INVALID)


@dataclass(frozen=True)
class GeneratedBooks:
    """Books of as many lines as wished, none of them held in memory.

    Every record has a label of its own, and every line times of its own.
    """

    count: int
    faces_per_record: int = 1

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
            record, face = divmod(number, self.faces_per_record)
            yield Line(
                record_no=record,
                label=f"job-{record * 2_654_435_761 % self.count}",
                source="big.csv",
                line=record + 2,
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
                carried="" if face else f'{{"region":"eu-{number % 7}","note":"row {number}"}}',
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


QUESTION = "How long does a report take, and how much memory?"
LINES = {"quick": 20_000, "small": 1_000_000, "large": 10_000_000}
BUDGET_SECONDS = {"small": 60.0, "large": 600.0}

PLAIN = "csv.writer"
REPORT = "report"
PARQUET = "report with results.parquet"
CONTESTANTS = (PLAIN, REPORT, PARQUET)


def figures_of(contestant: str, books: GeneratedBooks, directory: Path) -> dict[str, float]:
    """What one of ``CONTESTANTS`` took in this process, which does nothing else."""
    begin = time.perf_counter()
    if contestant == PLAIN:
        with (directory / "plain.csv").open("w", newline="") as file:
            csv.writer(file).writerows(books.lines())
    else:
        report = write_report(books, directory / "report", with_parquet=contestant == PARQUET)
        assert report.conclusion.rows == report.conclusion.tally.written == books.count
    return {
        "wall_seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def writes(contestant: str, lines: int, faces_per_record: int, directory: Path) -> Contestant:
    """One of ``CONTESTANTS`` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_report", "--only", contestant]
    command += ["--lines", str(lines), "--faces-per-record", str(faces_per_record)]

    def check(ended: Ended) -> Mapping[str, float]:
        return {"lines_per_second": lines / float(json.loads(ended.out)["wall_seconds"])}

    return Contestant(contestant, [*command, "--directory", directory], check)


def main() -> None:
    given = parser(__doc__)
    given.add_argument("--lines", type=int)
    given.add_argument("--faces-per-record", type=int, default=1)
    given.add_argument("--directory", type=Path, help="where to write; the disk that is measured")
    given.add_argument("--only", choices=CONTESTANTS, help="one of them, once, in this process")
    options = given.parse_args()
    lines = options.lines or LINES[options.scale]
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        if options.only:
            books = GeneratedBooks(lines, options.faces_per_record)
            print(json.dumps(figures_of(options.only, books, Path(scratch))))
            return
        with Sitting("report", QUESTION, options.json) as sitting:
            for count in (10, lines):
                sitting.add(
                    compare(
                        f"{count:,} lines",
                        [
                            writes(contestant, count, options.faces_per_record, Path(scratch))
                            for contestant in CONTESTANTS
                        ],
                        baseline=PLAIN,
                        rounds=options.rounds,
                        budget_seconds=BUDGET_SECONDS.get(options.scale, HOUR_SECONDS),
                        to_reach="CSV and JSONL in 180 s" if count >= 10_000_000 else "",
                    )
                )


if __name__ == "__main__":
    main()
