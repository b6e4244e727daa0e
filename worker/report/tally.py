"""What is counted while the lines of a report stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.model import Outcome
from worker.report.interface import Line
from worker.report.statuses import STATUSES, Status

REAPPEARED = "reappeared"
"""The code of a face that was deleted and is listed again."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over all lines of a run; every outcome and status is a key."""

    lines: Mapping[str, int]
    """Lines of ``results.csv`` per outcome."""
    faces: Mapping[str, int]
    """Distinct (person, face) pairs per outcome; lines without a readable face have none."""
    jobs: Mapping[str, int]
    """Records of the input per status."""
    labels: Mapping[str, int]
    """Labels per status; a label over many records counts once."""
    reappeared: int
    """Distinct faces that are there again after they were deleted."""
    written: int
    """Lines that ``results.csv`` holds, counted where they were written."""


class Counting:
    """A ``Tally`` in the making."""

    def __init__(self) -> None:
        self._lines: Counter[str] = Counter()
        self._faces: Counter[str] = Counter()
        self._jobs: Counter[int] = Counter()
        self._reappeared = 0

    def add(self, batch: Sequence[Line]) -> None:
        """Count the lines of one batch."""
        self._lines.update([line.outcome for line in batch])
        self._faces.update([x.outcome for x in batch if x.face_id and not x.duplicate_of])
        self._reappeared += sum(
            line.code == REAPPEARED and line.outcome == Outcome.PRESENT and not line.duplicate_of
            for line in batch
        )

    def add_jobs(self, records: Iterable[tuple[str, int]]) -> None:
        """Count complete records: each a label and the ``Kinds`` of its faces."""
        self._jobs.update([kinds for _, kinds in records])

    def tally(self, labels: Mapping[Status, int], written: int) -> Tally:
        """Everything counted so far."""
        jobs = dict.fromkeys(Status, 0)
        for kinds, records in self._jobs.items():
            jobs[STATUSES[kinds]] += records
        return Tally(
            lines={outcome.value: self._lines[outcome] for outcome in Outcome},
            faces={outcome.value: self._faces[outcome] for outcome in Outcome},
            jobs={status.value: jobs[status] for status in Status},
            labels={status.value: labels[status] for status in Status},
            reappeared=self._reappeared,
            written=written,
        )
