"""The row map: every row of the input in its order, written once, and what planning made of it.

The rows are written while they are read. What shows only when all of them are known, which row repeats
another one, is held or in conflict, follows in blocks of its own: amendments, by row too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apsw

from worker.ledger.ahead import Ahead
from worker.ledger.columns import (
    Column,
    Numbers,
    integers,
    numbers,
    packed,
    seal_of,
    strings,
    unpacked,
)
from worker.ledger.database import damaged, query
from worker.model import Stretch
from worker.texts import Texts

ROWS_PER_BLOCK = 8_192

CHARACTERS_PER_BLOCK = 4 * 1024 * 1024
"""Beyond which a block of single entries is full, too."""

BYTES_PER_BLOCK = 64 * 1024 * 1024
"""Beyond which so many rows that come by column are several blocks: one takes a gigabyte at most."""

AMENDMENTS_PER_BLOCK = 8_192

WHOLE = "whole"
"""The fate of a row that asks for everything of its person; its face ID is ``""``."""

HELD = "held"
CONFLICT = "conflict"
INVALID = "invalid"

INSERT_ROWS = "INSERT INTO row_block VALUES (?, ?, ?, ?, ?)"
INSERT_AMENDMENTS = "INSERT INTO amendment_block VALUES (?, ?, ?, ?)"
ROWS = "SELECT first_row, rows, invalid, data, seal FROM row_block ORDER BY first_row"
INVALID_ROWS = """
SELECT first_row, rows, invalid, data, seal FROM row_block WHERE invalid > 0 ORDER BY first_row
"""
AMENDMENTS = "SELECT first_row, rows, data, seal FROM amendment_block ORDER BY first_row"


class Row(NamedTuple):
    """A row as it was read."""

    row_no: int
    record_no: int
    """0-based over all sources; rows of one record are adjacent."""
    source_no: int
    line: int
    label: str
    person_id: str
    face_id: str
    fate: str
    """``""`` for a face and ``whole`` for a person that may be sent, otherwise ``invalid``."""
    reason: str
    fault: str
    """The column or key at fault where the row is invalid."""
    carried: str


class Amendment(NamedTuple):
    """What planning made of a row."""

    row_no: int
    source_no: int
    line: int
    fate: str
    """``held`` or ``conflict``; ``""`` where it stays what it was."""
    first_row: int
    """The first row with the same person and face, with its place; -1 where this is that row."""
    first_source_no: int
    first_line: int
    other_source_no: int
    """Where a face in conflict first appears under another person; otherwise 0."""
    other_line: int


_ROW_COLUMNS = (
    "records",
    "sources",
    "lines",
    "labels",
    "person_ids",
    "face_ids",
    "fates",
    "reasons",
    "faults",
    "carried",
)
_TEXT_COLUMNS = frozenset(_ROW_COLUMNS[3:])


class RowWriter:
    """Packs rows into blocks while they are read; ``finish`` writes what is left."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._pending: list[Row] = []
        self._characters = 0
        self._packing: Ahead[tuple[int, int, int, bytes]] = Ahead()
        self.rows = 0

    def add_row(self, row: Row) -> None:
        """Append a row; its number is that of the rows before it."""
        self._pending.append(row)
        self.rows += 1
        texts = (row.label, row.person_id, row.face_id, row.reason, row.carried)
        self._characters += sum(map(len, texts))
        if len(self._pending) >= ROWS_PER_BLOCK or self._characters >= CHARACTERS_PER_BLOCK:
            self._flush()

    def add_stretch(self, record_no: int, source_no: int, stretch: Stretch) -> None:
        """Append good rows of one source, the first of them of record ``record_no``."""
        self._flush()
        stop = 0
        while stop < len(stretch):
            start, stop = stop, _stop(stretch, stop)
            self._write(
                stop - start,
                {
                    "records": range(record_no + start, record_no + stop),
                    "sources": source_no,
                    "lines": numbers(stretch.lines[start:stop]),
                    "labels": "" if stretch.labels is None else stretch.labels.part(start, stop),
                    "person_ids": stretch.person_ids.part(start, stop),
                    "face_ids": stretch.face_ids.part(start, stop),
                    "fates": "",
                    "reasons": "",
                    "faults": "",
                    "carried": "" if stretch.carried is None else stretch.carried.part(start, stop),
                },
                invalid=0,
            )

    def finish(self) -> None:
        """Write what is left."""
        self._flush()
        self._insert(self._packing.results())

    def close(self) -> None:
        """Forget what is not written yet."""
        self._packing.close()

    def _flush(self) -> None:
        if not self._pending:
            return
        by_column = list(zip(*self._pending, strict=True))[1:]
        columns: dict[str, Column] = {
            name: _texts(values) if name in _TEXT_COLUMNS else numbers(values)
            for name, values in zip(_ROW_COLUMNS, by_column, strict=True)
        }
        self.rows -= len(self._pending)
        invalid = sum(row.fate == INVALID for row in self._pending)
        self._write(len(self._pending), columns, invalid=invalid)
        self._pending.clear()
        self._characters = 0

    def _write(self, count: int, columns: dict[str, Column], *, invalid: int) -> None:
        first_row = self.rows
        self.rows += count
        self._insert(self._packing.submit(lambda: (first_row, count, invalid, packed(columns))))

    def _insert(self, blocks: Iterator[tuple[int, int, int, bytes]]) -> None:
        for *counts, data in blocks:
            sealed = seal_of("rows", "", counts, data)
            self._connection.execute(INSERT_ROWS, (*counts, data, sealed))


def _stop(stretch: Stretch, start: int) -> int:
    """Where the block ends that begins at ``start``."""
    columns = (stretch.labels, stretch.person_ids, stretch.face_ids, stretch.carried)
    offsets = [texts.offsets for texts in columns if texts is not None]
    stop = min(start + ROWS_PER_BLOCK, len(stretch))
    while stop - start > 1 and sum(ends[stop] - ends[start] for ends in offsets) > BYTES_PER_BLOCK:
        stop = start + (stop - start) // 2
    return stop


def write_amendments(connection: apsw.Connection, columns: Sequence[Numbers], count: int) -> None:
    """Append ``count`` amendments, by column; fates are their places in ``FATES``."""
    data = packed(dict(zip(Amendment._fields, columns, strict=True)))
    counts = (integers(columns[0], count)[0], count)
    sealed = seal_of("amendments", "", counts, data)
    connection.execute(INSERT_AMENDMENTS, (*counts, data, sealed))


FATES = ("", HELD, CONFLICT)


class RowMap:
    """Reads the row map of one ledger; memory does not grow with the number of rows.

    All raise ``GateClosed`` for a block that is not what was written.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self) -> Iterator[Row]:
        """Every row in input order, as it was read."""
        return self._rows(ROWS)

    def invalid_rows(self) -> Iterator[Row]:
        """Those that were refused, in input order."""
        return (row for row in self._rows(INVALID_ROWS) if row.fate == INVALID)

    def amendments(self) -> Iterator[Amendment]:
        """What planning made of rows, in input order."""
        for _, count, columns in self._blocks(AMENDMENTS, "amendments"):
            before, after = Amendment._fields[:3], Amendment._fields[4:]
            yield from map(
                Amendment,
                *(integers(columns[name], count) for name in before),
                map(FATES.__getitem__, integers(columns["fate"], count)),
                *(integers(columns[name], count) for name in after),
            )

    def amended(self) -> Iterator[tuple[Row, Amendment | None]]:
        """Every row with what was made of it."""
        amendments = self.amendments()
        following = next(amendments, None)
        for row in self.rows():
            if following is not None and following.row_no == row.row_no:
                yield row, following
                following = next(amendments, None)
            else:
                yield row, None

    def _rows(self, blocks: str) -> Iterator[Row]:
        for first_row, count, columns in self._blocks(blocks, "rows"):
            yield from map(
                Row,
                range(first_row, first_row + count),
                *(
                    strings(columns[name], count)
                    if name in _TEXT_COLUMNS
                    else integers(columns[name], count)
                    for name in _ROW_COLUMNS
                ),
            )

    def _blocks(self, blocks: str, kind: str) -> Iterator[tuple[int, int, dict[str, Column]]]:
        for *counts, data, sealed in query(self._connection, blocks):
            first_row, count = counts[:2]
            if seal_of(kind, "", counts, data) != sealed:
                raise damaged(
                    self._connection.filename,
                    f"the ledger is damaged (its rows from {first_row} on are not those that"
                    " were read)",
                )
            yield first_row, count, unpacked(data)


def reason_of(amendment: Amendment, source_names: Mapping[int, str]) -> str:
    """Why a row is not sent that planning has set aside, otherwise ``""``."""
    if amendment.fate == HELD:
        return "on the exclusion list"
    if amendment.fate == CONFLICT:
        other = f"{source_names[amendment.other_source_no]}:{amendment.other_line}"
        return f"the same face is under another person at {other}"
    return ""


def _texts(values: Sequence[str]) -> Column:
    first = values[0]
    return first if values.count(first) == len(values) else Texts.of(values)
