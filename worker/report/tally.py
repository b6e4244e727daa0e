"""What is counted while the lines of a report stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.erasure import NOT_REMOVED
from worker.fold import REAPPEARED
from worker.model import Outcome
from worker.report.aim import Aim
from worker.report.batches import Batch
from worker.report.causes import Cause, Causes
from worker.report.remedies import Remedy
from worker.report.statuses import STATUSES, Status

_INVALID = str(Outcome.INVALID)
_PRESENT = str(Outcome.PRESENT)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over all lines of a run; every outcome, status and remedy is a key."""

    lines: Mapping[str, int]
    """Lines of ``results.csv`` per outcome."""
    faces: Mapping[str, int]
    """Distinct (person, face) pairs per outcome; lines with an empty face have none."""
    whole_persons: Mapping[str, int]
    """Distinct whole persons per outcome of the line that is their own."""
    jobs: Mapping[str, int]
    """Records of the input per status."""
    labels: Mapping[str, int]
    """Labels per status; a label over many records counts once."""
    remedies: Mapping[str, int]
    """Lines that can be tried again per word of what to do about them."""
    reappeared: int
    """Distinct faces that are there again after they were established as gone."""
    refilled: int
    """Distinct whole persons that have faces again after they were empty."""
    unremoved: int
    """Distinct whole persons that are ``present`` without faces: their record could not go."""
    failures: int
    """Lines of faces, the only ones that ``failures.csv`` holds, among those of ``remedies``."""
    causes: tuple[Cause, ...]
    """Why lines are in no wanted state, what concerns most of them first."""
    written: int
    """Lines that ``results.csv`` holds, counted where they were written."""


class Counting:
    """A ``Tally`` in the making."""

    def __init__(self, aim: Aim) -> None:
        self._sendable_again = aim.sendable_again
        self._remedy = aim.remedy
        self._lines: Counter[str] = Counter()
        self._faces: Counter[str] = Counter()
        self._whole_persons: Counter[str] = Counter()
        self._present: Counter[tuple[bool, str]] = Counter()
        self._remedies: Counter[str] = Counter()
        self._jobs: Counter[int] = Counter()
        self._causes = Causes(aim.wanted | {Outcome.HELD}, aim.remedy)
        self._failures = 0

    def add(self, batch: Batch) -> None:
        """Count the lines of one batch."""
        self._causes.add(batch)
        kinds_of_lines = zip(
            batch.outcomes,
            batch.codes,
            map(bool, batch.face_ids),
            map(bool, batch.duplicates_of),
            strict=True,
        )
        for (outcome, code, is_face, is_repeated), lines in Counter(kinds_of_lines).items():
            self._lines[outcome] += lines
            if outcome in self._sendable_again:
                self._remedies[self._remedy(outcome, code)] += lines
                self._failures += lines if is_face else 0
            # A repeated line says what its first one says.
            if is_repeated:
                continue
            if is_face:
                self._faces[outcome] += lines
            elif outcome != _INVALID:
                self._whole_persons[outcome] += lines
            if outcome == _PRESENT:
                self._present[is_face, code] += lines

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
            whole_persons={outcome.value: self._whole_persons[outcome] for outcome in Outcome},
            jobs={status.value: jobs[status] for status in Status},
            labels={status.value: labels[status] for status in Status},
            remedies={remedy.value: self._remedies[remedy] for remedy in Remedy},
            reappeared=self._present[True, REAPPEARED],
            refilled=self._present[False, REAPPEARED],
            unremoved=self._present[False, NOT_REMOVED],
            failures=self._failures,
            causes=self._causes.causes(),
            written=written,
        )
