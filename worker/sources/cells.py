"""Text to rows of cells: RFC 4180 with any delimiter, and nothing beyond it.

A quote belongs at both ends of a cell or, doubled, inside a quoted one; a row ends with LF or
CRLF; every row has as many cells as the header. Anything else refuses the source, because the
rows after it cannot be trusted.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from worker.errors import InputRefused
from worker.model import Stretch
from worker.sources.intake import PIECE_BYTES
from worker.sources.place import Place
from worker.sources.text import (
    LEAST_BYTES,
    Block,
    ByteBlock,
    check_carriage_returns,
    lone_carriage_return,
)

_CLOSE_QUOTE = "close the quote, or double it where it is part of the text"


class Row(NamedTuple):
    """One record."""

    line: int
    """1-based line on which it begins."""
    cells: list[str]


class Rows(NamedTuple):
    """Records as wide as the header, by column; rows without any content are left out."""

    lines: Sequence[int]
    columns: list[list[str]]


class CellReader:
    """Cuts the blocks of one source into rows: ``header`` once, then ``rows`` to the end.

    Both raise ``InputRefused``. A record may span lines, up to ``max_record_bytes``.
    """

    def __init__(
        self, blocks: Iterator[ByteBlock], place: Place, delimiter: str, max_record_bytes: int
    ) -> None:
        self._blocks = blocks
        self._place = place
        self.delimiter = delimiter
        self._max_record_bytes = max_record_bytes
        d = re.escape(delimiter)
        self._plain = re.compile(rf'[^"\r\n{d}]*+')
        self._quoted = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
        self._cell = re.compile(rf"(?:{self._quoted.pattern}|({self._plain.pattern}))({d}|\r?\n)")
        bare = rf'[^"\r\n{d}]*+'
        self._idle_quotes = re.compile(rf'(?:(?:"{bare}"|{bare})(?:{d}|\r?\n))*+')
        self._pending = Block("", 1)
        self._behind_header = Block("", 1)
        self._width = 0
        self._looks_like_row: Callable[[list[str]], bool] = bool
        self.header_line = 0
        """1-based; 0 before the header was read."""
        self.blank_lines = 0

    def header(self) -> list[str] | None:
        """The first row with any content, or None where the source has none."""
        for block in self._blocks:
            rows = self._scanned(self._joined(self._decoded(block)), limit=1)
            if rows:
                self.header_line, names = rows[0]
                self._width = len(names)
                return names
        self._refuse_pending()
        return None

    def rows(
        self,
        looks_like_row: Callable[[list[str]], bool],
        by_column: Callable[[ByteBlock], Stretch | None] = lambda _: None,
    ) -> Iterator[Rows | Stretch]:
        """What follows the header.

        ``looks_like_row`` says whether the cells of a line inside a quoted cell could be a row of
        their own: then the quote was most likely never closed, and rows would be lost in it.

        ``by_column`` is offered every large block that begins with a row. It gives exactly what
        the block's rows are, or None at the slightest doubt: then the block is read here.
        """
        self._looks_like_row = looks_like_row
        if self._behind_header.text:
            yield self.rows_of(self._behind_header)
        for block in self._blocks:
            yield from self._read(block, by_column)
        self._refuse_pending()

    def _read(
        self, block: ByteBlock, by_column: Callable[[ByteBlock], Stretch | None]
    ) -> Iterator[Rows | Stretch]:
        if len(block.data) < LEAST_BYTES:
            yield self.rows_of(self._joined(self._decoded(block)))
            return
        stretch = None if self._pending.text else by_column(block)
        if stretch is not None:
            yield stretch
            return
        # What is in doubt may be a single row, which is no reason to read all others one by one.
        for part in block.cut(PIECE_BYTES):
            stretch = None if self._pending.text else by_column(part)
            if stretch is None:
                yield self.rows_of(self._joined(self._decoded(part)))
            else:
                yield stretch

    def _decoded(self, block: ByteBlock) -> Block:
        return _whole_lines(block.decoded(self._place), self._place)

    def rows_of(self, block: Block) -> Rows:
        """The rows of a block, by the shortest way that cannot be mistaken."""
        if '"' not in block.text:
            return self.plain_rows(block)
        if self._idle_quotes.fullmatch(block.text):
            # Every quote is in its place, and none protects anything: the cells are what is left.
            return self.plain_rows(Block(block.text.replace('"', ""), block.line))
        return self.quoted_rows(block)

    def plain_rows(self, block: Block) -> Rows:
        """The rows of a block without quotes: every delimiter and every line feed counts."""
        check_carriage_returns(block.text, block.line, self._place)
        text = block.text.replace("\r\n", "\n")
        lines = text.removesuffix("\n").split("\n")
        numbers: Sequence[int] = range(block.line, block.line + len(lines))
        between = self._width - 1
        delimiters = set(map(operator.methodcaller("count", self.delimiter), lines))
        empty = self.delimiter * between + "\n"
        if delimiters != {between} or text.startswith(empty) or f"\n{empty}" in text:
            filled = [n for n, line in enumerate(lines) if line.strip(self.delimiter)]
            self.blank_lines += len(lines) - len(filled)
            numbers = [block.line + n for n in filled]
            lines = [lines[n] for n in filled]
            for number, line in zip(numbers, lines, strict=True):
                if line.count(self.delimiter) != between:
                    raise self._ragged(number, line.count(self.delimiter) + 1)
        cells = self.delimiter.join(lines).split(self.delimiter) if lines else []
        return Rows(numbers, [cells[i :: self._width] for i in range(self._width)])

    def quoted_rows(self, block: Block) -> Rows:
        """The rows of any block, cell by cell; an unfinished one waits for the next block."""
        rows = self._scanned(block)
        for line, cells in rows:
            if len(cells) != self._width:
                raise self._ragged(line, len(cells))
        return Rows(
            [row.line for row in rows],
            [[row.cells[i] for row in rows] for i in range(self._width)],
        )

    def _joined(self, block: Block) -> Block:
        if not self._pending.text:
            return block
        joined = Block(self._pending.text + block.text, self._pending.line)
        self._pending = Block("", 1)
        return joined

    def _scanned(self, block: Block, limit: int = 0) -> list[Row]:
        text, line = block
        rows: list[Row] = []
        cells: list[str] = []
        start = end = 0
        for match in self._cell.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            quoted, plain, stop = match.groups()
            cells.append(plain if quoted is None else quoted.replace('""', '"'))
            if stop == self.delimiter:
                continue
            if any(cells):
                rows.append(Row(line, cells))
            else:
                self.blank_lines += 1
            line += self._lines_of(text[start:end], cells, line)
            start, cells = end, []
            if limit and len(rows) == limit:
                self._behind_header = Block(text[end:], line)
                return rows
        if start < len(text):
            self._postpone(text, start, end, line)
        return rows

    def _lines_of(self, record: str, cells: list[str], line: int) -> int:
        """How many lines ``record`` takes; refuses one that is too long or hides rows."""
        count = record.count("\n")
        if count > 1:
            self._check_size(record, line)
            for cell in cells:
                if "\n" in cell:
                    self._check_hidden_rows(cell, line)
        return count

    def _check_size(self, record: str, line: int) -> None:
        if len(record.encode()) > self._max_record_bytes:
            raise self._place.refused(
                f"a quote opened in the row that begins here is not closed within "
                f"{self._max_record_bytes} bytes",
                f"{_CLOSE_QUOTE}; if such rows are meant, raise max_line_bytes in the configuration",
                line,
            )

    def _check_hidden_rows(self, cell: str, line: int) -> None:
        *whole, last = cell.split("\n")[1:]
        rows = [text.removesuffix("\r").split(self.delimiter) for text in whole]
        suspects = [cells for cells in rows if len(cells) == self._width]
        if last.endswith(self.delimiter):
            # The next quote of the source is where a cell begins: it follows a delimiter.
            suspects.append(last.split(self.delimiter))
        if any(map(self._looks_like_row, suspects)):
            raise self._place.refused(
                "a quoted cell of this row spans lines that look like rows themselves, as after a "
                "quote that was never closed",
                _CLOSE_QUOTE,
                line,
            )

    def _postpone(self, text: str, start: int, end: int, line: int) -> None:
        """Keep an unfinished record for the next block, or refuse what can never become one."""
        quoted = self._quoted.match(text, end)
        if text[end] == '"' and quoted is None:
            self._pending = Block(text[start:], line)
            self._check_size(self._pending.text, line)
            return
        plain = self._plain.match(text, end)
        stop = quoted.end() if quoted else plain.end() if plain else end
        line += text.count("\n", start, stop)
        if text[stop] == "\r":
            raise lone_carriage_return(self._place, line)
        raise self._place.refused(
            "text follows a closing quote" if quoted else "a quote stands in the middle of a cell",
            "put the whole cell in quotes, and double the quotes inside it",
            line,
        )

    def _refuse_pending(self) -> None:
        if self._pending.text:
            raise self._place.refused(
                "a quote opened in the row that begins here is never closed",
                _CLOSE_QUOTE,
                self._pending.line,
            )

    def _ragged(self, line: int, cells: int) -> InputRefused:
        return self._place.refused(
            f"the row is too {'short' if cells < self._width else 'long'}: it has {cells} "
            f"{'cell' if cells == 1 else 'cells'}, "
            f"and the header on line {self.header_line} has {self._width}",
            "complete the row, or put cells that hold the delimiter in quotes",
            line,
        )


def _whole_lines(block: Block, place: Place) -> Block:
    """``block``, ending with a line feed also where it is the last one."""
    if block.text.endswith("\n"):
        return block
    if place.stream:
        last = block.text[block.text.rfind("\n") + 1 :]
        if '"' not in last:
            check_carriage_returns(last, block.line + block.text.count("\n"), place)
        # Half of an ID may look like a whole one: nobody can tell it from another face's.
        raise place.refused(
            "it ends in the middle of a line, so the program that writes it may have died",
            "check that program; if the line is complete, end it with a line feed",
            block.line + block.text.count("\n"),
        )
    # Behind a carriage return a line feed would make a line end of what stands alone.
    return block if block.text.endswith("\r") else Block(block.text + "\n", block.line)
