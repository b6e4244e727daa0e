"""Columns of text as the files of a report write them.

Files are written column by column because that is what a report of millions of lines has time for:
most columns can be written as they are, which a look at all of their text together shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from worker.report.cells import harmless

_MAY_BEGIN_A_FORMULA = frozenset("=+-@＝＋－＠ ")

# Legal inside JSON text, but a terminal obeys some and `str.splitlines` breaks lines at others.
_UNWANTED = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class TextColumn:
    """One column of a batch, looked through once and written several times."""

    __slots__ = ("_cells", "_distinct", "_is_printable", "_joined")

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells = cells
        self._distinct = set(cells)
        self._joined = "".join(self._distinct)
        self._is_printable = self._joined.isprintable()

    def exact(self) -> Sequence[str]:
        """Cells of a CSV file with the exact text."""
        return self._changed(quoted) if _needs_quotes(self._joined) else self._cells

    def harmless(self) -> Sequence[str]:
        """Cells of a CSV file that neither a spreadsheet nor a terminal acts upon."""
        if self._is_printable and _MAY_BEGIN_A_FORMULA.isdisjoint({x[:1] for x in self._distinct}):
            return self.exact()
        return self._changed(_harmless_and_quoted)

    def in_json(self) -> Sequence[str]:
        """What stands between the quotes of JSON text."""
        if self._is_printable and '"' not in self._joined and "\\" not in self._joined:
            return self._cells
        return self._changed(_in_json)

    def _changed(self, change: Callable[[str], str]) -> Sequence[str]:
        changed = {cell: change(cell) for cell in self._distinct}
        return [changed[cell] for cell in self._cells]


def quoted(cell: str) -> str:
    """A CSV cell, in quotes if it holds a delimiter, a quote or a line end."""
    return '"' + cell.replace('"', '""') + '"' if _needs_quotes(cell) else cell


def delimited(rows: Iterable[Sequence[str]]) -> bytes:
    """Lines of a CSV file from at least two cells each, quoted where they have to be."""
    text = "\n".join(map(",".join, rows))
    return f"{text}\n".encode() if text else b""


def visible_json(text: str) -> str:
    """JSON without a character that a terminal obeys or that may be taken for a line break."""
    if text.isprintable():
        return text
    # A line break outside of JSON text is white space; inside it would be an escape.
    one_line = text.replace("\r", " ").replace("\n", " ")
    return _UNWANTED.sub(lambda found: f"\\u{ord(found[0]):04x}", one_line)


def _needs_quotes(text: str) -> bool:
    return "," in text or '"' in text or "\n" in text or "\r" in text


def _harmless_and_quoted(cell: str) -> str:
    return quoted(harmless(cell))


def _in_json(text: str) -> str:
    return visible_json(msgspec.json.encode(text).decode())[1:-1]
