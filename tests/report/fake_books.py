"""Books held in memory, with everything a test does not care about filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from worker.model import SourceSummary, StopReason, Verb
from worker.report.aim import Aim
from worker.report.batches import Batch
from worker.report.conclusion import Conclusion, conclude
from worker.report.interface import CallFigures, Line, RunHeader, Session, Verification
from worker.report.statuses import Status
from worker.report.tally import Counting

NOON_US = 1_767_268_800_123_456
"""2026-01-01T12:00:00.123456Z."""

UNVERIFIED = Verification(asked=0, answered=0)


def line(record_no: int = 0, **changes: Any) -> Line:
    return Line(
        record_no=record_no,
        label=f"in.csv:{record_no + 2}",
        source="in.csv",
        line=record_no + 2,
        person_id="p1",
        face_id=str(31842550077981745 + record_no),
        outcome="deleted",
        code="200",
        message="OK",
        request_id="7A1C",
        attempts=1,
        first_sent_us=NOON_US,
        finished_us=NOON_US + 80_000,
        duplicate_of="",
        carried="",
    )._replace(**changes)


def person_line(record_no: int = 0, **changes: Any) -> Line:
    """The line of a whole person itself; those of the faces that were found come before it."""
    return line(record_no, face_id="", outcome="person_empty", code="")._replace(**changes)


def session(reason: StopReason = StopReason.FINISHED, **changes: Any) -> Session:
    return dataclasses.replace(
        Session(
            Verb.RUN, NOON_US, NOON_US + 9_000_000, reason, "", {"quota": 1.5, "answers": 0.25}
        ),
        **changes,
    )


@dataclasses.dataclass
class FakeBooks:
    given: Sequence[Line]
    columns: tuple[str, ...] = ()
    reads: Sequence[Session] = (session(),)
    rows: int = -1
    figures: Sequence[CallFigures] = (CallFigures("DeleteFaces", 3, 2, 1, 1),)
    sent: Sequence[int] = (NOON_US, NOON_US + 50_000)
    rehearsal: bool = False
    found: int = 0
    """How many of the given lines are of faces that were found for whole persons."""
    whole_persons: int = 0
    verified: Verification = UNVERIFIED
    waiting: bool = False
    treat_no_person_as_absent: bool = False

    def header(self) -> RunHeader:
        return RunHeader(
            run_id="20260101T120000Z-abcdef",
            program_version="0.1.0",
            planned_us=NOON_US - 1_000_000,
            account="1234567890",
            endpoint="https://green.cn-shanghai.aliyuncs.com",
            rehearsal=self.rehearsal,
            settings={
                "region": "cn-shanghai",
                "rate_per_second": 19.8,
                "treat_no_person_as_absent": self.treat_no_person_as_absent,
            },
            persons=1,
            whole_persons=self.whole_persons,
            faces=len(self.given),
            calls=2,
            repeats=0,
            rows=len(self.given) - self.found if self.rows < 0 else self.rows,
            holds_sha256="",
        )

    def sources(self) -> list[SourceSummary]:
        count = len(self.given)
        return [SourceSummary("in.csv", "csv", "ab" * 32, 100, count, count, 0, self.columns)]

    def sessions(self) -> Sequence[Session]:
        return self.reads

    def lines(self) -> Iterator[Line]:
        return iter(self.given)

    def found_lines(self) -> int:
        return self.found

    def verification(self) -> Verification:
        return self.verified

    def has_waiting_calls(self) -> bool:
        return self.waiting

    def call_figures(self) -> Sequence[CallFigures]:
        return self.figures

    def sent_times_us(self, operation: str) -> Iterator[int]:
        return iter(self.sent)


def outcomes(
    *words: str, reason: StopReason | None = StopReason.FINISHED, rows: int = -1
) -> FakeBooks:
    """Books with a line for each outcome, and one session with this end or none at all."""
    lines = [line(number, outcome=word) for number, word in enumerate(words)]
    return FakeBooks(lines, reads=[session(reason)] if reason else [], rows=rows)


def concluded(books: FakeBooks) -> Conclusion:
    """What the books amount to, without writing a report."""
    aim = Aim.of(books.header().settings, books.sessions())
    counting = Counting(aim)
    counting.add(Batch.of(books.lines()))
    tally = counting.tally(dict.fromkeys(Status, 0), len(books.given))
    return conclude(books, tally, aim)
