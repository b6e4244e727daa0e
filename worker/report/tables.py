"""The three CSV files: every result, those that can be sent again, those that never could.

``failures.csv`` is valid input for a new run, where an empty face never means all of a person's
faces: the lines of whole persons themselves are not in it. ``facepurge resume`` and ``retry`` take
them up; the faces that were found for them are there like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from worker.model import REMEDY_COLUMN, RESULT_COLUMNS, Outcome
from worker.report.aim import Aim
from worker.report.columns import TextColumn, delimited, quoted
from worker.report.files import ReportFile
from worker.report.page import Page

_REJECTED = frozenset({Outcome.CONFLICT, Outcome.INVALID})

Columns = list[Sequence[str]]


class Tables:
    """Writes ``results.csv``, ``failures.csv`` and ``rejected.csv`` side by side.

    Lines of faces with an outcome that is ``sendable_again`` under the aim are failures.
    """

    def __init__(
        self,
        results: ReportFile,
        failures: ReportFile,
        rejected: ReportFile,
        carried_headers: Sequence[str],
        aim: Aim,
    ) -> None:
        self._results = results
        self._failures = failures
        self._rejected = rejected
        self._sendable_again = aim.sendable_again
        self._remedy = aim.remedy
        headers = [quoted(header) for header in carried_headers]
        results.write(delimited([[*RESULT_COLUMNS, *headers]]))
        failures.write(delimited([[*RESULT_COLUMNS, REMEDY_COLUMN, *headers]]))
        rejected.write(delimited([[*RESULT_COLUMNS, *headers]]))

    def add(self, page: Page, carried: Sequence[Sequence[str | None]]) -> None:
        """Write the lines of a page, with what they carry, to the tables in which they belong."""
        own: Columns = [
            page.labels.harmless(),
            page.sources.harmless(),
            page.lines,
            page.person_ids.exact(),
            page.face_ids.exact(),
            page.outcomes.harmless(),
            page.codes.harmless(),
            page.messages.harmless(),
            page.request_ids.harmless(),
            page.attempts,
            page.first_sent_at,
            page.finished_at,
            page.duplicates_of.harmless(),
        ]
        others: Columns = [
            TextColumn([value or "" for value in column]).harmless() for column in carried
        ]
        self._results.write(_rows([*own, *others]), len(page.lines))
        batch = page.batch
        occurring = set(batch.outcomes)
        if not self._sendable_again.isdisjoint(occurring):
            again = [
                outcome in self._sendable_again and face != ""
                for outcome, face in zip(batch.outcomes, batch.face_ids, strict=True)
            ]
            remedies = map(
                self._remedy, compress(batch.outcomes, again), compress(batch.codes, again)
            )
            rows = _rows([*_chosen(own, again), [*remedies], *_chosen(others, again)])
            self._failures.write(rows, sum(again))
        if not _REJECTED.isdisjoint(occurring):
            never = [outcome in _REJECTED for outcome in batch.outcomes]
            self._rejected.write(_rows(_chosen([*own, *others], never)), sum(never))


def _rows(columns: Columns) -> bytes:
    return delimited(zip(*columns, strict=True))


def _chosen(columns: Columns, chosen: Sequence[bool]) -> Columns:
    return [[*compress(column, chosen)] for column in columns]
