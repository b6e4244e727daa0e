"""The ledger while it is being planned: rows go in once, calls come out in a fixed order."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import msgspec

from worker.deadlines import Schedule
from worker.errors import GateClosed
from worker.holds import NO_HOLDS, Holds
from worker.ledger import dues
from worker.ledger.collation import (
    Collation,
    Figures,
    MemoryCollation,
    Pair,
    Readable,
    TooManyFaces,
)
from worker.ledger.database import (
    DRAFT_NAME,
    FILE_NAME,
    PARTS_NAME,
    create_draft,
    facts_seal,
    open_draft,
    query,
)
from worker.ledger.postings import SET_FRONTIER
from worker.ledger.rowmap import (
    CONFLICT,
    INVALID,
    WHOLE,
    Row,
    RowMap,
    RowWriter,
    reason_of,
    write_amendments,
)
from worker.ledger.tape import Tape, write_blocks
from worker.ledger.unrolling import unroll_call
from worker.model import Chunk, Entry, Outcome, SourceSummary, Stretch
from worker.plan import SHOWN_REJECTIONS, PlanFigures, Rejection
from worker.texts import is_too_much

ROWS_IN_MEMORY = 100_000
"""Readable rows beyond which memory is not what holds them while they are collated."""

MOST_FACES = 250_000
"""Of one person, where persons with more than the documented number are not allowed: such a plan is
refused anyway, and one in which everybody is the same person would take memory without end before."""

OVERSIZED_REMEDY = (
    "check --columns; give --allow-oversized-persons if the account really has such persons"
)

FACES_MADE_UP = 3
"""For each whole person of a rehearsal of whom the input names no face."""

INSERT_NAMED = "INSERT OR IGNORE INTO named VALUES (?, ?, ?)"
INSERT_DUE = "INSERT INTO due VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

# Every face that is found for a whole person is looked for among what was found for others.
INDEX_FACES = "CREATE INDEX face_face ON face (face_id)"


def no_room_remedy(flag: str) -> str:
    """What to do where a plan does not fit; ``flag`` names another place for it."""
    return f"make room or choose another place with {flag}, then start again"


def discard_draft(run_dir: Path) -> None:
    """Remove what planning has written in ``run_dir``, as far as it is there and was not sealed."""
    shutil.rmtree(run_dir / PARTS_NAME, ignore_errors=True)
    with suppress(OSError):
        (run_dir / DRAFT_NAME).unlink()


class LedgerDraft:
    """Implements ``worker.plan.Draft`` in a file that becomes the ledger only when sealed.

    Planning killed at any moment leaves a file under another name, which the next start throws
    away; a ledger that lacks rows never exists.
    """

    def __init__(
        self, run_dir: Path, *, flag: str = "--run-dir DIR", allow_oversized: bool = True
    ) -> None:
        """In ``run_dir``; ``flag`` names another place.

        Unless persons with more faces than are documented are allowed, who has ``MOST_FACES`` and more
        may be refused before the plan is complete.
        """
        self._run_dir = run_dir
        self._path = run_dir / DRAFT_NAME
        self._parts = run_dir / PARTS_NAME
        self._flag = flag
        self._allow_oversized = allow_oversized
        self._records = 0
        self._blank_lines = 0
        self._last_record: tuple[int, int] | None = None
        self._collation: Collation = MemoryCollation()
        self._readable = 0
        self._invalid = Counter[str]()
        self._holds = NO_HOLDS
        self._conflicts = 0
        self._row_count = 0
        self._was_left = False
        self._keeps = False
        self._sealed = False

    @classmethod
    def left(cls, run_dir: Path, figures: PlanFigures, *, flag: str = "--run-dir DIR") -> Self:
        """The draft that another process has arranged and left, with its figures."""
        draft = cls(run_dir, flag=flag)
        draft._was_left = True
        draft._conflicts, draft._row_count = figures.conflicts, figures.rows
        return draft

    def leave(self) -> None:
        """Close the arranged draft for another process, which seals it or removes it."""
        with self._writing():
            self._connection.execute("COMMIT")
            self._connection.close()
        self._keeps = True

    def __enter__(self) -> Self:
        # Here, and not when it is constructed: a signal that comes in between would leave the file.
        try:
            with self._writing():
                if self._was_left:
                    self._connection = open_draft(self._path)
                else:
                    shutil.rmtree(self._parts, ignore_errors=True)
                    self._connection = create_draft(self._path)
                self._connection.execute("BEGIN")
                self._rows = RowWriter(self._connection)
        except BaseException:
            discard_draft(self._run_dir)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()
        if self._keeps:
            return
        if not self._sealed:
            self._connection.close()
        discard_draft(self._run_dir)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, apsw.Error) as error:
            if isinstance(error, apsw.NoMemError) or getattr(error, "errno", 0) == errno.ENOMEM:
                raise MemoryError from error
            remedy, why = no_room_remedy(self._flag), str(error)
            if isinstance(error, OSError) and error.errno is not None:
                why = os.strerror(error.errno)
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    remedy = "allow more open files (ulimit -n 1024), then start again"
            if isinstance(error, apsw.TooBigError):
                raise self._unwieldy() from error
            raise GateClosed(
                f"{self._path}: the plan could not be written ({why}); nothing was sent", remedy
            ) from error
        except Exception as error:
            if not is_too_much(error):
                raise
            raise self._unwieldy() from error

    def _unwieldy(self) -> GateClosed:
        return GateClosed(
            f"{self._path}: the plan could not be written (texts that belong together in it take more"
            " than a gigabyte); nothing was sent",
            "check --columns: a wrong column may hold such IDs; leave out columns that the report does"
            " not need, or give the input to several runs",
        )

    def add(self, source_no: int, chunk: Chunk) -> None:
        """Append rows of one source, in input order."""
        with self._writing():
            if isinstance(chunk, Stretch):
                self._add_stretch(source_no, chunk)
            else:
                self._add_entries(source_no, chunk)

    def _add_stretch(self, source_no: int, stretch: Stretch) -> None:
        row_no, record_no, count = self._rows.rows, self._records, len(stretch)
        self._records += count
        self._last_record = (source_no, stretch.record + count - 1)
        self._rows.add_stretch(record_no, source_no, stretch)
        self._make_room(count)
        self._collation.add_stretch(row_no, record_no, source_no, stretch)

    def _add_entries(self, source_no: int, entries: Sequence[Entry]) -> None:
        readable: list[Readable] = []
        for entry in entries:
            record, line, label, person_id, face_id, reason, column, carried, whole, due_us = entry
            if self._last_record != (source_no, record):
                self._last_record = (source_no, record)
                self._records += 1
            row_no, record_no = self._rows.rows, self._records - 1
            if reason:
                self._invalid[reason] += 1
            else:
                readable.append(
                    Readable(row_no, record_no, source_no, line, person_id, face_id, due_us)
                )
            fate = INVALID if reason else WHOLE if whole else ""
            self._rows.add_row(
                Row(
                    row_no,
                    record_no,
                    source_no,
                    line,
                    label,
                    person_id,
                    face_id,
                    fate,
                    reason,
                    column,
                    carried,
                )
            )
        self._make_room(len(readable))
        self._collation.add(readable)

    def _make_room(self, readable: int) -> None:
        """Leave memory for the disk where the next rows would be too many."""
        self._readable += readable
        if self._readable > ROWS_IN_MEMORY and isinstance(self._collation, MemoryCollation):
            from worker.ledger.grouping import PartedCollation  # noqa: PLC0415 (takes memory and time)

            rows = self._collation.rows
            self._collation = PartedCollation(self._parts)
            self._collation.add(rows)

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
        self._holds = holds
        with self._writing():
            self._connection.executemany("INSERT INTO hold VALUES (?, ?)", sorted(holds.entries))

    def arrange(
        self, run_id: str, faces_per_call: int, schedule: Schedule | None = None
    ) -> PlanFigures:
        """Group, drop repeats, set conflicts aside, and put the calls into their order.

        With a ``schedule`` the figures say what becomes of the due times, if there are any.
        Raises ``GateClosed``, also for a person with so many faces that memory might not hold them.
        """
        with self._writing():
            self._rows.finish()
            self._row_count = self._rows.rows
            try:
                figures = self._line_up(run_id, faces_per_call)
            except TooManyFaces as refused:
                raise self._oversized(refused, faces_per_call) from refused
            self._conflicts = figures.conflicts
            forecast = dues.forecast(self._connection, schedule) if schedule else None
            # To read is to write, too, where memory has to make room.
            first = tuple(islice(self.rejections(), SHOWN_REJECTIONS))
        return PlanFigures(
            rows=self._rows.rows,
            records=self._records,
            blank_lines=self._blank_lines,
            persons=figures.persons,
            whole_persons=figures.whole_persons,
            faces=figures.faces,
            calls=figures.calls,
            repeats=figures.repeats,
            held=figures.held,
            conflicts=figures.conflicts,
            invalid=self._invalid.total(),
            invalid_by_reason=tuple(
                sorted(self._invalid.items(), key=lambda reason: (-reason[1], reason[0]))
            ),
            rejections=first,
            oversized_persons=figures.oversized_persons,
            largest_person_faces=figures.largest_person_faces,
            forecast=forecast,
        )

    def _oversized(self, refused: TooManyFaces, documented: int) -> GateClosed:
        names = dict(query(self._connection, "SELECT source_no, name FROM source").fetchall())
        return GateClosed(
            f"{names[refused.source_no]}:{refused.line}: the person in this line has more than"
            f" {MOST_FACES:,} faces in the input, and {documented} are documented: a wrong column as"
            " person ID looks like this; nothing was sent",
            OVERSIZED_REMEDY,
        )

    def _line_up(self, run_id: str, faces_per_call: int) -> Figures:
        """Write the calls in their order, and what became of rows."""
        connection = self._connection
        most_faces = None if self._allow_oversized else MOST_FACES
        collated = self._collation.collate(self._holds.entries, faces_per_call, most_faces)
        for columns, count in collated.amendments():
            write_amendments(connection, columns, count)
        write_blocks(connection, run_id, collated.blocks())
        connection.executemany(INSERT_DUE, collated.dues())
        figures = collated.figures()
        unsent = figures.faces + figures.whole_persons
        if unsent:
            connection.execute("INSERT INTO tally VALUES (?, ?)", (str(Outcome.UNSENT), unsent))
        if figures.whole_persons:
            self._name_faces(run_id, figures.calls)
            connection.execute(INDEX_FACES)
        return figures

    def _name_faces(self, run_id: str, calls: int) -> None:
        """Begin the calls of whole persons, and say whose every face is that the input names."""
        connection = self._connection
        frontier = calls
        for planned in Tape(connection, run_id).calls():
            connection.executemany(
                INSERT_NAMED,
                [
                    (x.face_id, planned.person_id, planned.call_no)
                    for x in planned.faces
                    if x.face_id
                ],
            )
            if planned.whole:
                unroll_call(connection, run_id, planned)
            else:
                frontier = min(frontier, planned.call_no)
        connection.execute(SET_FRONTIER, (frontier,))
        connection.executemany(
            INSERT_NAMED,
            (
                (row.face_id, row.person_id, None)
                for row, amendment in RowMap(connection).amended()
                if amendment is not None and amendment.fate and row.face_id
            ),
        )

    def rejections(self) -> Iterator[Rejection]:
        """Every row refused or in conflict, in input order."""
        names = dict(query(self._connection, "SELECT source_no, name FROM source").fetchall())
        row_map = RowMap(self._connection)
        refused = (
            (row.row_no, f"{names[row.source_no]}:{row.line}", row.fault, row.reason)
            for row in row_map.invalid_rows()
        )
        conflicts = (
            (x.row_no, f"{names[x.source_no]}:{x.line}", "", reason_of(x, names))
            for x in (row_map.amendments() if self._conflicts else ())
            if x.fate == CONFLICT
        )
        for _, place, fault, reason in merge(refused, conflicts):
            yield Rejection(f"{place}:{fault}" if fault else place, reason)

    def world(self) -> Iterator[tuple[str, list[str]]]:
        """Every readable person with all faces the input names: what a rehearsal begins with.

        A person of whom everything is to go and no face is named gets three made-up ones, so that
        there is something to find: thirteen digits, like the service's own samples, worked out from
        the number of the person's first row, and none of them a face of the input.
        """
        first_made_up = self._numbers_not_in_use()
        for person_id, group in groupby(self._pairs(), key=lambda pair: pair.person_id):
            pairs = list(group)
            named = [pair.face_id for pair in pairs if pair.face_id]
            first = first_made_up + FACES_MADE_UP * pairs[0].first_row
            yield person_id, named or [str(first + n) for n in range(FACES_MADE_UP)]

    def _pairs(self) -> Iterator[Pair]:
        if not self._was_left:
            return self._collation.pairs()
        if self._parts.exists():
            from worker.ledger.grouping import pairs_in  # noqa: PLC0415 (takes memory and time)

            return pairs_in(self._parts)
        rows = MemoryCollation()
        readable = (row for row in RowMap(self._connection).rows() if row.fate != INVALID)
        rows.add([Readable(*row[:4], row.person_id, row.face_id, None) for row in readable])
        return rows.pairs()

    def _numbers_not_in_use(self) -> int:
        """The first of enough numbers for every row, none of which the input has as a face ID."""
        base, length = 10**12, FACES_MADE_UP * self._row_count
        in_use = {
            (int(pair.face_id) - base) // length
            for pair in self._pairs()
            if len(pair.face_id) == len(str(base)) and pair.face_id.isdecimal()
        }
        return base + length * next(n for n in itertools.count() if n not in in_use)

    def seal(self, header: Mapping[str, object]) -> None:
        """Make the plan durable: from here on the run can be resumed after anything.

        Raises ``GateClosed`` when the disk refuses; nothing was sent then.
        """
        # Now, for nobody removes it where the process dies after the plan was made durable.
        shutil.rmtree(self._parts, ignore_errors=True)
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
