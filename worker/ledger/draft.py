"""The ledger while it is being planned: rows go in once, calls come out in a fixed order."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import apsw
import msgspec

from worker.deadlines import Schedule
from worker.errors import GateClosed
from worker.holds import Holds
from worker.ledger import dues
from worker.ledger.database import (
    DRAFT_NAME,
    FILE_NAME,
    WAITING,
    create_draft,
    facts_seal,
    query,
    seal,
)
from worker.model import Entry, Outcome, SourceSummary, Step
from worker.plan import SHOWN_REJECTIONS, PlanFigures, Rejection

BATCH_ROWS = 10_000

WHOLE = "whole"
"""The fate of a row that asks for everything of its person; its face ID is ``""``."""

FACES_MADE_UP = 3
"""For each whole person of a rehearsal of whom the input names no face."""

INSERT_DUE = "INSERT INTO due VALUES (?, ?)"
INSERT_ROW = "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Rows on the exclusion list, by person or by pair. A whole person is on it only as such: whether one
# of its faces is, shows when the face is found.
HOLD_ROWS = """
UPDATE row SET fate = 'held', reason = 'on the exclusion list'
WHERE fate IN ('', 'whole') AND (
  EXISTS (SELECT 1 FROM hold h WHERE h.person_id = row.person_id AND h.face_id = '')
  OR EXISTS (SELECT 1 FROM hold h WHERE h.person_id = row.person_id AND h.face_id = row.face_id))
"""

# Every readable pair, all its rows together, the first row first; a whole person has face_id ''.
SORTED_ROWS = """
SELECT person_id, face_id, row_no, fate FROM row WHERE fate IN ('', 'whole', 'held')
ORDER BY person_id, face_id, row_no
"""

# Distinct pairs; a face under two persons has two of them.
CREATE_PAIR = """
CREATE TEMP TABLE pair (
  person_id TEXT, face_id TEXT, first_row INTEGER, fate TEXT, PRIMARY KEY (person_id, face_id)
) STRICT, WITHOUT ROWID
"""
FIND_CLASHES = """
CREATE TEMP TABLE clash AS SELECT face_id, person_id, first_row FROM pair
WHERE face_id IN (
  SELECT face_id FROM pair WHERE face_id <> '' GROUP BY face_id HAVING COUNT(*) > 1)
"""
INDEX_CLASHES = "CREATE INDEX temp.clash_face ON clash (face_id, first_row)"
# Each row in conflict is told where the face first appears under somebody else.
MARK_CONFLICT_ROWS = """
UPDATE row SET fate = 'conflict', reason = 'the same face is under another person at ' || (
  SELECT s.name || ':' || r.line FROM clash c
  JOIN main.row r ON r.row_no = c.first_row JOIN source s ON s.source_no = r.source_no
  WHERE c.face_id = row.face_id AND c.person_id <> row.person_id ORDER BY c.first_row LIMIT 1)
WHERE fate = '' AND face_id IN (SELECT face_id FROM clash)
"""
DROP_CONFLICT_PAIRS = "DELETE FROM pair WHERE face_id IN (SELECT face_id FROM clash)"

# What is to be sent: persons in the order of their first row, faces likewise, and everything else of
# a person behind the faces that are named.
ORDERED_PAIRS = """
SELECT person_id, face_id, first_row,
       MIN(first_row) OVER (PARTITION BY person_id) AS person_first_row
FROM pair WHERE fate IN ('', 'whole') ORDER BY person_first_row, face_id <> '', first_row
"""
# The same, with those first who are due first, and without a due time last.
PAIRS_BY_DUE_TIME = """
SELECT person_id, face_id, first_row,
       MIN(first_row) OVER (PARTITION BY person_id) AS person_first_row
FROM pair LEFT JOIN person_due USING (person_id) WHERE fate IN ('', 'whole')
ORDER BY due_us IS NULL, due_us, person_first_row, face_id <> '', first_row
"""
INSERT_CALL = "INSERT INTO call VALUES (?, ?, ?, ?, ?, 0, ?)"
INSERT_FACE = "INSERT INTO face VALUES (?, ?, ?, ?, NULL, ?, 'unsent', '', 0, NULL, NULL)"

# Every face that is found for a whole person is looked for under all others, in the input and among
# what was found.
INDEX_FACES = """
CREATE INDEX row_face ON row (face_id);
CREATE INDEX face_face ON face (face_id);
"""

REJECTED_ROWS = """
SELECT s.name, r.line, r.fault, r.reason FROM row r LEFT JOIN source s USING (source_no)
WHERE r.fate IN ('invalid', 'conflict') ORDER BY r.row_no
"""

# Every readable person with every face the input names; '' for everything of the person.
WORLD = """
SELECT person_id, face_id, MIN(row_no) FROM row WHERE fate <> 'invalid'
GROUP BY person_id, face_id ORDER BY person_id, face_id
"""

# Of the stretches of :length numbers, counted from :base on, those with a number the input uses.
STRETCHES_IN_USE = """
SELECT DISTINCT (CAST(face_id AS INTEGER) - :base) / :length FROM row
WHERE length(face_id) = length(CAST(:base AS TEXT))
"""


def no_room_remedy(flag: str) -> str:
    """What to do where a plan does not fit; ``flag`` names another place for it.

    Big plans are sorted where temporary files go, which SQLite does not tell apart.
    """
    also = "" if flag == "TMPDIR" else "; sorting needs room where TMPDIR leads, too"
    return f"make room or choose another place with {flag}, then start again{also}"


class Queue(NamedTuple):
    """What was lined up, in the numbers of ``worker.plan.PlanFigures``."""

    persons: int
    whole_persons: int
    faces: int
    calls: int
    oversized_persons: int
    largest_person_faces: int


class LedgerDraft:
    """Implements ``worker.plan.Draft`` in a file that becomes the ledger only when sealed.

    Planning killed at any moment leaves a file under another name, which the next start throws
    away; a ledger that lacks rows never exists.
    """

    def __init__(self, run_dir: Path, *, flag: str = "--run-dir DIR") -> None:
        """In ``run_dir``; ``flag`` names another place."""
        self._run_dir = run_dir
        self._path = run_dir / DRAFT_NAME
        self._flag = flag
        self._rows = 0
        self._records = 0
        self._blank_lines = 0
        self._last_record: tuple[int, int] | None = None
        self._sealed = False

    def __enter__(self) -> Self:
        # Here, and not when it is constructed: a signal that comes in between would leave the file.
        try:
            with self._writing():
                self._connection = create_draft(self._path)
                self._connection.execute("BEGIN")
        except BaseException:
            with suppress(OSError):
                self._path.unlink()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._sealed:
            self._connection.close()
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, apsw.Error) as error:
            raise GateClosed(
                f"{self._path}: the plan could not be written ({error}); nothing was sent",
                no_room_remedy(self._flag),
            ) from error

    def add_entries(self, source_no: int, entries: Iterable[Entry]) -> None:
        """Append entries of one source, in input order."""
        batch = []
        due_times: list[tuple[int, int]] = []
        for entry in entries:
            record, line, label, person_id, face_id, reason, column, carried, whole, due_us = entry
            if self._last_record != (source_no, record):
                self._last_record = (source_no, record)
                self._records += 1
            batch.append(
                (
                    self._rows,
                    self._records - 1,
                    source_no,
                    line,
                    label,
                    person_id,
                    face_id,
                    "invalid" if reason else WHOLE if whole else "",
                    reason,
                    column,
                    carried,
                )
            )
            if due_us is not None:
                due_times.append((self._rows, due_us))
            self._rows += 1
        with self._writing():
            self._connection.executemany(INSERT_ROW, batch)
            self._connection.executemany(INSERT_DUE, due_times)

    def add_source(self, source_no: int, summary: SourceSummary) -> None:
        """Note what a source held, once it was read to its end."""
        self._blank_lines += summary.blank_lines
        with self._writing():
            self._connection.execute(
                "INSERT INTO source VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    source_no,
                    summary.name,
                    summary.format,
                    summary.sha256,
                    summary.byte_count,
                    summary.records,
                    summary.entries,
                    summary.blank_lines,
                    msgspec.json.encode(summary.carried_columns).decode(),
                ),
            )

    def add_holds(self, holds: Holds) -> None:
        """Take rows on the exclusion list out of the plan."""
        if holds.entries:
            with self._writing():
                self._connection.executemany(
                    "INSERT INTO hold VALUES (?, ?)", sorted(holds.entries)
                )
                self._connection.execute(HOLD_ROWS)

    def arrange(
        self, run_id: str, faces_per_call: int, schedule: Schedule | None = None
    ) -> PlanFigures:
        """Group, drop repeats, set conflicts aside, and put the calls into their order.

        With a ``schedule`` the figures say what becomes of the due times, if there are any.
        """
        forecast = None
        with self._writing():
            repeats = self._pair_up()
            self._set_conflicts_aside()
            has_dues = dues.collect(self._connection)
            queue = self._line_up(
                run_id, faces_per_call, PAIRS_BY_DUE_TIME if has_dues else ORDERED_PAIRS
            )
            if has_dues and schedule:
                forecast = dues.forecast(self._connection, schedule)
            if queue.whole_persons:
                self._connection.execute(INDEX_FACES)
        fates = dict(
            query(self._connection, "SELECT fate, COUNT(*) FROM row WHERE fate <> '' GROUP BY fate")
        )
        reasons = query(
            self._connection,
            "SELECT reason, COUNT(*) AS n FROM row WHERE fate = 'invalid' GROUP BY reason"
            " ORDER BY n DESC, reason",
        ).fetchall()
        first = [
            rejection
            for rejection, _ in zip(self.rejections(), range(SHOWN_REJECTIONS), strict=False)
        ]
        return PlanFigures(
            rows=self._rows,
            records=self._records,
            blank_lines=self._blank_lines,
            repeats=repeats,
            held=fates.get("held", 0),
            conflicts=fates.get("conflict", 0),
            invalid=fates.get("invalid", 0),
            invalid_by_reason=tuple((reason, count) for reason, count in reasons),
            rejections=tuple(first),
            forecast=forecast,
            **queue._asdict(),
        )

    def _pair_up(self) -> int:
        """Fill ``pair`` and ``repeat`` from the sorted rows; returns the number of repeats."""
        self._connection.execute(CREATE_PAIR)
        pairs: list[tuple[str, str, int, str]] = []
        repeats: list[tuple[int, int]] = []
        repeat_count = 0
        last: tuple[str, str] | None = None
        first_row = 0
        for person_id, face_id, row_no, fate in query(self._connection, SORTED_ROWS):
            if (person_id, face_id) == last:
                repeats.append((row_no, first_row))
                repeat_count += 1
            else:
                last, first_row = (person_id, face_id), row_no
                pairs.append((person_id, face_id, row_no, fate))
            if len(pairs) + len(repeats) >= BATCH_ROWS:
                self._store_pairs(pairs, repeats)
        self._store_pairs(pairs, repeats)
        return repeat_count

    def _store_pairs(
        self, pairs: list[tuple[str, str, int, str]], repeats: list[tuple[int, int]]
    ) -> None:
        self._connection.executemany("INSERT INTO pair VALUES (?, ?, ?, ?)", pairs)
        self._connection.executemany("INSERT INTO repeat VALUES (?, ?)", repeats)
        pairs.clear()
        repeats.clear()

    def _set_conflicts_aside(self) -> None:
        self._connection.execute(FIND_CLASHES)
        if self._connection.execute("SELECT 1 FROM clash LIMIT 1").fetchone():
            self._connection.execute(INDEX_CLASHES)
            self._connection.execute(MARK_CONFLICT_ROWS)
            self._connection.execute(DROP_CONFLICT_PAIRS)

    def _line_up(self, run_id: str, faces_per_call: int, order: str) -> Queue:
        """Write calls and faces in the ``order`` of a query for pairs.

        The line of a whole person is a face ``""``, the first of a call that holds all faces which
        the input names for that person: what is known of a face must not be in two places.
        """
        persons = whole_persons = face_no = call_no = oversized = largest = 0
        ordered = query(self._connection, order)
        for person_id, group in groupby(ordered, key=lambda pair: pair[0]):
            pairs = [(face_id, first_row) for _, face_id, first_row, _ in group]
            whole = not pairs[0][0]
            named = len(pairs) - whole
            persons += 1
            whole_persons += whole
            largest = max(largest, named)
            oversized += named > faces_per_call
            size = len(pairs) if whole else faces_per_call
            # What is named goes first; then somebody looks for the rest.
            step = Step.DELETE if named else Step.LOOKUP
            for start in range(0, len(pairs), size):
                part = pairs[start : start + size]
                sealed = seal(run_id, call_no, person_id, [face_id for face_id, _ in part])
                self._connection.execute(
                    INSERT_CALL, (call_no, person_id, int(whole), WAITING, step, sealed)
                )
                self._connection.executemany(
                    INSERT_FACE,
                    [
                        (
                            face_no + n,
                            call_no,
                            first_row,
                            face_id,
                            step if face_id or not named else "",
                        )
                        for n, (face_id, first_row) in enumerate(part)
                    ],
                )
                face_no += len(part)
                call_no += 1
        if face_no:
            self._connection.execute(
                "INSERT INTO tally VALUES (?, ?)", (str(Outcome.UNSENT), face_no)
            )
        return Queue(persons, whole_persons, face_no - whole_persons, call_no, oversized, largest)

    def rejections(self) -> Iterator[Rejection]:
        """Every row refused or in conflict, in input order."""
        for source, line, fault, reason in query(self._connection, REJECTED_ROWS):
            yield Rejection(f"{source}:{line}:{fault}" if fault else f"{source}:{line}", reason)

    def world(self) -> Iterator[tuple[str, list[str]]]:
        """Every readable person with all faces the input names: what a rehearsal begins with.

        A person of whom everything is to go and no face is named gets three made-up ones, so that
        there is something to find: thirteen digits, like the service's own samples, worked out from
        the number of the person's first row, and none of them a face of the input.
        """
        first_made_up = self._numbers_not_in_use()
        persons = groupby(query(self._connection, WORLD), key=lambda pair: pair[0])
        for person_id, group in persons:
            pairs = list(group)
            named = [face_id for _, face_id, _ in pairs if face_id]
            first = first_made_up + FACES_MADE_UP * pairs[0][2]
            yield person_id, named or [str(first + n) for n in range(FACES_MADE_UP)]

    def _numbers_not_in_use(self) -> int:
        """The first of enough numbers for every row, none of which the input has as a face ID."""
        base, length = 10**12, FACES_MADE_UP * self._rows
        stretches = query(self._connection, STRETCHES_IN_USE, {"base": base, "length": length})
        in_use = {stretch for (stretch,) in stretches}
        return base + length * next(n for n in itertools.count() if n not in in_use)

    def seal(self, header: Mapping[str, object]) -> None:
        """Make the plan durable: from here on the run can be resumed after anything.

        Raises ``GateClosed`` when the disk refuses; nothing was sent then.
        """
        with self._writing():
            self._connection.executemany(
                "INSERT INTO run VALUES (?, ?)",
                [(key, msgspec.json.encode(value).decode()) for key, value in header.items()],
            )
            self._connection.execute(
                "INSERT INTO run VALUES ('seal', ?)", (facts_seal(self._connection),)
            )
            self._connection.execute("COMMIT")
            self._connection.close()
            for path in (self._path, self._run_dir):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                if path == self._path:
                    path.rename(self._run_dir / FILE_NAME)
            self._sealed = True
