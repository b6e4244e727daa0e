"""Tables (CSV, TSV) to chunks, by column where a whole chunk is good, otherwise row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from json.encoder import encode_basestring

from worker.deadlines import Undated, due_us
from worker.model import Chunk, Entry, Stretch
from worker.sources.carried import CarriedNames
from worker.sources.cells import CellReader, Rows
from worker.sources.header import Header, read_header
from worker.sources.place import Place
from worker.sources.records import (
    Grammars,
    IdColumns,
    RecordHead,
    Unreadable,
    entries_of,
    new_entry,
    whole_person,
)
from worker.sources.roles import RoleNames
from worker.sources.text import ByteBlock

_LINE_OF_A_PERSON = (
    "face ID is empty, as on the line of a report that is about a whole person: what is open there "
    "is settled in its own run (facepurge resume or retry), or the person is asked for anew"
)

# What our reports put in front of a text cell that a spreadsheet would run.
_NEUTRALISED = re.compile(r"'(?=\s*[=+\-@＝＋－＠])")


class TableReader:
    """Reads the rows of one table; ``chunks`` raises ``InputRefused``."""

    def __init__(
        self,
        cells: CellReader,
        place: Place,
        columns: RoleNames,
        grammars: Grammars,
        carried_names: CarriedNames,
        *,
        whole_persons: bool = False,
    ) -> None:
        self._cells = cells
        self._place = place
        self._columns = columns
        self._grammars = grammars
        self._carried_names = carried_names
        self._whole_persons = whole_persons
        self.records = 0

    @property
    def blank_lines(self) -> int:
        return self._cells.blank_lines

    def chunks(self) -> Iterator[Chunk]:
        """The table's records in input order."""
        names = self._cells.header()
        if names is None:
            return
        line = self._cells.header_line
        header = read_header(
            names,
            line,
            self._place,
            self._columns,
            self._cells.delimiter,
            whole_persons=self._whole_persons,
        )
        self._carried_names.add([header.names[i] for i in header.carried], line)
        last = max(header.person, header.face or 0)

        def looks_like_row(cells: list[str]) -> bool:
            return (
                len(cells) > last
                and self._grammars.person.accepts_all((cells[header.person],))
                and (
                    header.face is None
                    or self._grammars.face.accepts_all(_parts(cells[header.face], header))
                )
            )

        def by_column(block: ByteBlock) -> Stretch | None:
            if not self._has_columns(header):
                return None
            from worker.sources.columns import ColumnReader  # noqa: PLC0415 (only large sources)

            reader = ColumnReader(header, self._cells.delimiter, self._grammars)
            return reader.stretch(block, self.records)

        for part in self._cells.rows(looks_like_row, by_column):
            if isinstance(part, Stretch):
                self.records += len(part)
                yield part
            elif part.lines:
                yield self.entries(part, header)

    def _has_columns(self, header: Header) -> bool:
        """Whether blocks of such a table can be read by column."""
        return (
            header.face is not None
            and not header.report
            and self._cells.delimiter.isascii()
            and self._grammars.person.alphabet is not None
            and self._grammars.face.alphabet is not None
        )

    def entries(self, rows: Rows, header: Header) -> list[Entry]:
        """The entries of ``rows``, which count as records from here on."""
        dues = self._dues(rows, header)
        if (
            dues is not None
            and self._grammars.person.accepts_all(rows.columns[header.person])
            and (header.face is None or self._accepts_faces(rows.columns[header.face], header))
        ):
            made = self._good_entries(rows, header, dues)
        else:
            made = self.judged_entries(rows, header)
        self.records += len(rows.lines)
        return made

    def _dues(self, rows: Rows, header: Header) -> Iterable[int | None] | None:
        """When each row is due, or None where a cell cannot be read."""
        if header.due is None:
            return repeat(None)
        try:
            return [due_us(text) if text else None for text in self._due_texts(rows, header)]
        except Undated:
            return None

    def _accepts_faces(self, cells: list[str], header: Header) -> bool:
        """Whether every cell holds one good face."""
        single = not header.several or ";" not in "".join(cells)
        return single and self._grammars.face.accepts_all(cells)

    def _good_entries(self, rows: Rows, header: Header, dues: Iterable[int | None]) -> list[Entry]:
        """The entries of rows that each hold one good person, and one good face or no column."""
        numbers = range(self.records, self.records + len(rows.lines))
        return list(
            map(
                new_entry,
                zip(
                    numbers,
                    rows.lines,
                    self._labels(rows, header),
                    rows.columns[header.person],
                    repeat("") if header.face is None else rows.columns[header.face],
                    repeat(""),
                    repeat(""),
                    self._carried(rows, header),
                    repeat(header.face is None),
                    dues,
                    # repeat() has no end, so the shortest ends it: all others are equally long.
                    strict=False,
                ),
            )
        )

    def judged_entries(self, rows: Rows, header: Header) -> list[Entry]:
        """The entries of any rows, one by one, with reasons; equal to the others where both apply."""
        columns = IdColumns(
            header.names[header.person],
            "" if header.face is None else header.names[header.face],
            "" if header.due is None else header.names[header.due],
        )
        judged: list[Entry] = []
        for record, (line, label, person, cell, carried, due) in enumerate(
            zip(
                rows.lines,
                self._labels(rows, header),
                rows.columns[header.person],
                repeat("") if header.face is None else rows.columns[header.face],
                self._carried(rows, header),
                self._due_texts(rows, header),
                strict=False,
            ),
            self.records,
        ):
            head = RecordHead(record, line, label, carried, due)
            if header.face is None:
                judged.append(whole_person(head, person, columns, self._grammars))
            else:
                judged += entries_of(head, person, _faces(cell, header), columns, self._grammars)
        return judged

    def _labels(self, rows: Rows, header: Header) -> Iterable[str]:
        if header.job is None:
            return repeat("")
        return _texts(rows.columns[header.job], header)

    def _due_texts(self, rows: Rows, header: Header) -> Iterable[str]:
        return repeat("") if header.due is None else _texts(rows.columns[header.due], header)

    def _carried(self, rows: Rows, header: Header) -> Iterable[str]:
        if not header.carried:
            return repeat("")
        keys = [encode_basestring(header.names[i]).replace("%", "%%") for i in header.carried]
        template = "{" + ",".join(f"{key}:%s" for key in keys) + "}"
        columns = [map(encode_basestring, _texts(rows.columns[i], header)) for i in header.carried]
        return map(template.__mod__, zip(*columns, strict=True))


def _faces(cell: str, header: Header) -> Sequence[str | Unreadable]:
    if header.report and not cell:
        return (Unreadable("", _LINE_OF_A_PERSON),)
    return _parts(cell, header)


def _parts(cell: str, header: Header) -> list[str]:
    return cell.split(";") if header.several else [cell]


def _texts(column: list[str], header: Header) -> list[str]:
    if not header.report or not any(cell.startswith("'") for cell in column):
        return column
    return [cell[1:] if _NEUTRALISED.match(cell) else cell for cell in column]
