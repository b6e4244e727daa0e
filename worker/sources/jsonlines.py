"""JSON Lines to chunks: one record on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from worker.errors import InputRefused
from worker.model import Chunk, Entry, Stretch
from worker.sources.intake import PIECE_BYTES
from worker.sources.jsonrecords import TOO_DEEP, JsonRecords
from worker.sources.jsonvalues import JsonScanner
from worker.sources.place import Place
from worker.sources.text import LEAST_BYTES, ByteBlock, check_carriage_returns

_WHITE_SPACE = " \t\r"


class JsonLinesReader:
    """Reads the blocks of one source; ``chunks`` raises ``InputRefused``.

    A line that is no JSON text refuses the source: nobody knows what was meant to be on it. A
    record of the wrong shape refuses only itself.
    """

    def __init__(self, blocks: Iterator[ByteBlock], place: Place, records: JsonRecords) -> None:
        self._blocks = blocks
        self._place = place
        self._records = records
        self._scanner = JsonScanner()
        self.blank_lines = 0

    @property
    def records(self) -> int:
        return self._records.records

    def chunks(self) -> Iterator[Chunk]:
        """The source's records in input order."""
        for block in self._blocks:
            if len(block.data) < LEAST_BYTES:
                yield from self._read(block)
                continue
            stretch = self._by_column(block)
            if stretch is not None:
                yield stretch
                continue
            # What is in doubt may be a single line.
            for part in block.cut(PIECE_BYTES):
                stretch = self._by_column(part)
                if stretch is not None:
                    yield stretch
                else:
                    yield from self._read(part)

    def _by_column(self, block: ByteBlock) -> Stretch | None:
        """What is on the lines if all of them are plainly alike, otherwise None."""
        grammars = self._records.grammars
        if grammars.person.alphabet is None or grammars.face.alphabet is None:
            return None
        from worker.sources.jsoncolumns import JsonColumns  # noqa: PLC0415 (only large sources)

        stretch = JsonColumns(self._records, self._scanner).stretch(block)
        if stretch is not None:
            self._records.records += len(stretch)
        return stretch

    def _read(self, block: ByteBlock) -> Iterator[list[Entry]]:
        """What is on the lines, one by one."""
        text, first_line = block.decoded(self._place)
        check_carriage_returns(text, first_line, self._place)
        entries: list[Entry] = []
        ends_with_line = text.endswith("\n")
        lines = text.removesuffix("\n").split("\n")
        last_line = first_line + len(lines) - 1
        for number, content in enumerate(lines, first_line):
            record = content.strip(_WHITE_SPACE)
            if record:
                cut = not ends_with_line and number == last_line
                entries += self._record(record, number, cut=cut)
            else:
                self.blank_lines += 1
        if entries:
            yield entries

    def _record(self, record: str, line: int, *, cut: bool) -> list[Entry]:
        try:
            value, end = self._scanner.scan(record, 0)
        except json.JSONDecodeError as error:
            raise self._broken(error.msg, error.pos, line, cut=cut) from error
        except RecursionError:
            return self._records.refused(line, TOO_DEEP)
        if end < len(record):
            raise self._broken("Extra data", end, line, cut=False)
        return self._records.entries(value, line, foreign_constant=self._scanner.foreign_constant)

    def _broken(self, why: str, at: int, line: int, *, cut: bool) -> InputRefused:
        if cut and self._place.stream:
            return self._place.refused(
                "it ends in the middle of a record, so the program that writes it may have died",
                "check that program and run again",
                line,
            )
        return self._place.refused(
            f"the line is not JSON ({why}, at character {at + 1} of the record)",
            "write one complete JSON object per line; for an array of jobs use --format json",
            line,
        )
