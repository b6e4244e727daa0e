"""Books held in memory, with everything a test does not care about filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from worker.model import SourceSummary, StopReason
from worker.report.conclusion import Conclusion, conclude
from worker.report.interface import CallFigures, Line, RunHeader, Session
from worker.report.statuses import Status
from worker.report.tally import Counting

NOON_US = 1_767_268_800_123_456
"""2026-01-01T12:00:00.123456Z."""


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


def session(reason: StopReason = StopReason.FINISHED, **changes: Any) -> Session:
    return dataclasses.replace(
        Session(NOON_US, NOON_US + 9_000_000, reason, "", {"quota": 1.5, "answers": 0.25}),
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

    def header(self) -> RunHeader:
        return RunHeader(
            run_id="20260101T120000Z-abcdef",
            program_version="0.1.0",
            planned_us=NOON_US - 1_000_000,
            account="1234567890",
            endpoint="https://green.cn-shanghai.aliyuncs.com",
            rehearsal=self.rehearsal,
            settings={"region": "cn-shanghai", "rate_per_second": 19.8},
            persons=1,
            faces=len(self.given),
            calls=2,
            repeats=0,
            rows=len(self.given) if self.rows < 0 else self.rows,
            holds_sha256="",
        )

    def sources(self) -> list[SourceSummary]:
        count = len(self.given)
        return [SourceSummary("in.csv", "csv", "ab" * 32, 100, count, count, 0, self.columns)]

    def sessions(self) -> Sequence[Session]:
        return self.reads

    def lines(self) -> Iterator[Line]:
        return iter(self.given)

    def call_figures(self) -> Sequence[CallFigures]:
        return self.figures

    def sent_times_us(self, operation: str) -> Iterator[int]:
        return iter(self.sent)


def concluded(books: FakeBooks) -> Conclusion:
    """What the books amount to, without writing a report."""
    counting = Counting()
    counting.add(list(books.lines()))
    tally = counting.tally(dict.fromkeys(Status, 0), len(books.given))
    return conclude(books.header(), books.sessions(), books.call_figures(), tally)
