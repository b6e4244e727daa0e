"""The three CSV files: every result, those that can be sent again, those that never could.

``failures.csv`` is valid input for a new run, where an empty face never means all of a person's
faces: the lines of whole persons themselves are not in it. ``facepurge resume`` and ``retry`` take
them up; the faces that were found for them are there like any other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from worker.model import REMEDY_COLUMN, RESULT_COLUMNS, Outcome
from worker.report.aim import Aim
from worker.report.carried import carried_cells, carried_headers
from worker.report.cells import harmless_column
from worker.report.files import ReportFile
from worker.report.interface import Line
from worker.report.times import iso_utc

_REJECTED = frozenset({Outcome.CONFLICT, Outcome.INVALID})
_OUTCOME = RESULT_COLUMNS.index("outcome")
_CODE = RESULT_COLUMNS.index("code")
_OWN = len(RESULT_COLUMNS)

Row = tuple[str | int, ...]


class Tables:
    """Writes ``results.csv``, ``failures.csv`` and ``rejected.csv`` side by side.

    Lines of faces with an outcome that is ``sendable_again`` under the aim are failures.
    """

    def __init__(
        self,
        results: ReportFile,
        failures: ReportFile,
        rejected: ReportFile,
        carried_columns: Iterable[str],
        aim: Aim,
    ) -> None:
        self._results = results
        self._failures = failures
        self._rejected = rejected
        self._sendable_again = aim.sendable_again
        self._remedy = aim.remedy
        self._names = tuple(dict.fromkeys(carried_columns))
        self._record_no = -1
        self._cells: tuple[str, ...] = ()
        headers = carried_headers(self._names)
        results.write(_encoded([(*RESULT_COLUMNS, *headers)]))
        failures.write(_encoded([(*RESULT_COLUMNS, REMEDY_COLUMN, *headers)]))
        rejected.write(_encoded([(*RESULT_COLUMNS, *headers)]))

    def add(self, batch: Sequence[Line]) -> None:
        """Write the lines of one batch to the tables in which they belong."""
        rows = self._rows(batch)
        self._results.write(_encoded(rows), len(rows))
        sendable_again = self._sendable_again
        again = [
            (*row[:_OWN], self._remedy(line.outcome, line.code), *row[_OWN:])
            for line, row in zip(batch, rows, strict=True)
            if line.outcome in sendable_again and line.face_id
        ]
        if again:
            self._failures.write(_encoded(again), len(again))
        never = [row for row in rows if row[_OUTCOME] in _REJECTED]
        if never:
            self._rejected.write(_encoded(never), len(never))

    def _rows(self, batch: Sequence[Line]) -> list[Row]:
        (
            _,
            labels,
            sources,
            numbers,
            persons,
            faces,
            outcomes,
            codes,
            messages,
            request_ids,
            attempts,
            first_sent,
            finished,
            duplicates,
            _,
        ) = zip(*batch, strict=True)
        return list(
            zip(
                harmless_column(labels),
                harmless_column(sources),
                numbers,
                persons,
                faces,
                harmless_column(outcomes),
                harmless_column(codes),
                harmless_column(messages),
                harmless_column(request_ids),
                attempts,
                ["" if us is None else iso_utc(us) for us in first_sent],
                ["" if us is None else iso_utc(us) for us in finished],
                harmless_column(duplicates),
                *map(harmless_column, self._carried(batch)),
                strict=True,
            )
        )

    def _carried(self, batch: Sequence[Line]) -> Iterable[tuple[str, ...]]:
        if not self._names:
            return ()
        cells = []
        for line in batch:
            if line.record_no != self._record_no:
                self._record_no = line.record_no
                self._cells = carried_cells(line.carried, self._names)
            cells.append(self._cells)
        return zip(*cells, strict=True)


def _encoded(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    encoded = text.getvalue()
    if "\r" in encoded:
        # Only an ID can hold one, and up to Python 3.12 the writer would not quote it for that.
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
        encoded = text.getvalue()
    return encoded.encode()
