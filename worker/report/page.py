"""A batch of lines as the files of a report share it: every cell is made ready once."""

from __future__ import annotations

from dataclasses import dataclass

from worker.report.batches import Batch
from worker.report.columns import TextColumn
from worker.report.times import iso_utc_column


@dataclass(frozen=True, slots=True)
class Page:
    """The columns of ``batch`` on their way into text."""

    batch: Batch
    starts: list[int]
    """Where records begin; lines before the first are of a record that began on the page before."""
    labels: TextColumn
    sources: TextColumn
    lines: list[str]
    person_ids: TextColumn
    face_ids: TextColumn
    outcomes: TextColumn
    codes: TextColumn
    messages: TextColumn
    request_ids: TextColumn
    attempts: list[str]
    first_sent_at: list[str]
    """``""`` where there is no such time."""
    finished_at: list[str]
    duplicates_of: TextColumn

    @classmethod
    def of(cls, batch: Batch, record_before: int | None) -> Page:
        """``record_before`` is the record of the line before the first of ``batch``, if any."""
        return cls(
            batch,
            batch.starts(record_before),
            TextColumn(batch.labels),
            TextColumn(batch.sources),
            [*map(str, batch.lines)],
            TextColumn(batch.person_ids),
            TextColumn(batch.face_ids),
            TextColumn(batch.outcomes),
            TextColumn(batch.codes),
            TextColumn(batch.messages),
            TextColumn(batch.request_ids),
            [*map(str, batch.attempts)],
            iso_utc_column(batch.first_sent_us),
            iso_utc_column(batch.finished_us),
            TextColumn(batch.duplicates_of),
        )
