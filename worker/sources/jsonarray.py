"""A JSON array of jobs to entries, element by element, however its lines are broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from worker.errors import InputRefused
from worker.model import Entry
from worker.sources.jsonrecords import JsonRecords
from worker.sources.jsonvalues import JsonScanner
from worker.sources.place import Place
from worker.sources.text import check_carriage_returns

_CHUNK_ENTRIES = 5000
_BLANK = re.compile(r"[ \t\r\n]*+")
_COMMA = re.compile(r"[ \t\r\n]*+,[ \t\r\n]*+(?=[^ \t\r\n])")
_AFTER_ELEMENT = frozenset(" \t\r\n,]")
# A literal or an escape that the end of the buffer cuts is reported a few characters before it.
_CUT_CHARACTERS = 16


class JsonArrayReader:
    """Reads the decoded pieces of one source; ``chunks`` raises ``InputRefused``.

    A syntax error refuses the source, and so does an element longer than ``max_record_bytes``
    (counted in characters): where one element ends decides what all others mean.
    """

    def __init__(
        self, pieces: Iterator[str], place: Place, max_record_bytes: int, records: JsonRecords
    ) -> None:
        self._pieces = _whole_line_ends(pieces, place)
        self._place = place
        self._max_record_bytes = max_record_bytes
        self._records = records
        self._scanner = JsonScanner()
        self._text = ""
        self._at = 0
        self._dropped_characters = 0
        self._line = 1
        self._ended = False
        self.blank_lines = 0

    @property
    def records(self) -> int:
        return self._records.records

    def chunks(self) -> Iterator[list[Entry]]:
        """The source's entries in input order."""
        opening = self._next_sign()
        if not opening:
            return
        if opening != "[":
            raise self._refused(
                "the content is not a JSON array of jobs",
                "put the jobs into [ ], separated by commas; for one job per line use --format jsonl",
            )
        self._step()
        entries: list[Entry] = []
        more = self._next_sign() != "]"
        while more:
            line, value = self._line, self._element()
            entries += self._records.entries(
                value, line, foreign_constant=self._scanner.foreign_constant
            )
            if len(entries) >= _CHUNK_ENTRIES:
                yield entries
                entries = []
            more = self._find_next_element()
        self._step()
        if self._next_sign():
            raise self._broken("Extra data after the closing bracket")
        if entries:
            yield entries

    def _find_next_element(self) -> bool:
        """Move to the next element, or to the closing bracket and say that there is none."""
        comma = _COMMA.match(self._text, self._at)
        if comma:
            self._advance(comma.end())
            return True
        sign = self._next_sign()
        if sign == "]":
            return False
        if sign != ",":
            raise self._broken("Expecting ',' or ']' after an element")
        self._step()
        self._next_sign()
        return True

    def _element(self) -> Any:
        """The element at the current position, reading on while the buffer cuts it."""
        while True:
            try:
                value, end = self._scanner.scan(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _CUT_CHARACTERS or "Unterminated" in error.msg
                if not cut or self._ended:
                    raise self._broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._refused(
                    "an element is nested too deeply to be read", "check what wrote the file"
                ) from error
            else:
                # A number cut by the end of the buffer may read as a shorter one: 1e for 1e5.
                complete = self._text[end : end + 1] in _AFTER_ELEMENT
                if complete or end < len(self._text) - _CUT_CHARACTERS or self._ended:
                    self._check_size(end - self._at)
                    self._advance(end)
                    return value
            self._check_size(len(self._text) - self._at)
            self._read_more(2 * (len(self._text) - self._at))

    def _check_size(self, characters: int) -> None:
        if characters > self._max_record_bytes:
            raise self._refused(
                f"an element is longer than {self._max_record_bytes} bytes",
                "check that the file is what its name says; if such jobs are meant, raise "
                "max_line_bytes in the configuration",
            )

    def _next_sign(self) -> str:
        """The next character that is not white space, still unread; ``""`` at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._advance(blank.end() if blank else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read_more(1)

    def _step(self) -> None:
        self._at += 1

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _read_more(self, characters: int) -> None:
        """Have at least ``characters`` unread ones in the buffer, if the source has them."""
        self._dropped_characters += self._at
        parts = [self._text[self._at :]]
        size = len(parts[0])
        while size < characters and not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
            else:
                parts.append(piece)
                size += len(piece)
        self._text, self._at = "".join(parts), 0

    def _broken(self, why: str, at: int = -1) -> InputRefused:
        if self._ended and max(at, self._at) >= len(self._text) - _CUT_CHARACTERS:
            return self._refused(
                f"the content ends in the middle of the array ({why})",
                "copy or export the file again; whatever wrote it may have died",
            )
        self._advance(max(at, self._at))
        return self._refused(
            f"the content is not JSON ({why}, character {self._dropped_characters + self._at + 1})",
            "have a program write the array; for one job per line use --format jsonl",
        )

    def _refused(self, cause: str, remedy: str) -> InputRefused:
        return self._place.refused(cause, remedy, self._line)


def _whole_line_ends(pieces: Iterator[str], place: Place) -> Iterator[str]:
    """``pieces``, cut so that no CRLF is torn apart, free of lone carriage returns."""
    held = ""
    line = 1
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        check_carriage_returns(text, line, place)
        line += text.count("\n")
        yield text
    check_carriage_returns(held, line, place)
