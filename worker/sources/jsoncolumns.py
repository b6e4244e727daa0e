"""JSON Lines that are plainly alike to columns, without an object per record.

One program writes the same keys in the same order and spacing on every line, and only the texts
between quotes differ. The first line of a block says what is between these texts. The block is
taken apart by that alone: each such literal is replaced by a control character of its own, which
JSON text cannot hold. If these follow one another in the same order on every line, putting the
literals back would give the block again, so the lines are the first line with other texts, and no
text holds a quote or an escape. Whatever is in doubt is left to ``worker.sources.jsonlines``.

It loads NumPy and Arrow: to be imported only where a source is large.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from worker.model import Stretch
from worker.sources.columns import MOST_CARRIED_BYTES, accepts, columns_of, dues_of, texts_of
from worker.sources.jsonrecords import JsonRecords, Layout, shape_defect
from worker.sources.jsonvalues import JsonScanner, json_text
from worker.sources.text import ByteBlock

# Of a line without escapes: a key, and a text, a list of one text, or a value of fixed form.
_MEMBER = re.compile(
    r'[{,] *"([^"]*)" *: *(?:"([^"]*)"|\[ *"([^"]*)" *\]|([-0-9.eE+]+|true|false|null)) *'
)
_SIGNS = bytes(code for code in range(1, 32) if chr(code) not in "\n\r")
_DELIMITER = "\x1f"


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is the same on every line."""

    literals: tuple[bytes, ...]
    """Before the first text, between two, and behind the last."""
    cells: dict[int, int]
    """Number of a member to the number of its text; what is not here has a fixed value."""
    members: tuple[tuple[str, Any], ...]
    """Those of the first line."""
    layout: Layout


class JsonColumns:
    """Reads blocks of lines with one face on each; the grammars of ``records`` are documented."""

    def __init__(self, records: JsonRecords, scanner: JsonScanner) -> None:
        self._records = records
        self._scanner = scanner

    def stretch(self, block: ByteBlock) -> Stretch | None:
        """The records of ``block``, the next ones; None at the slightest doubt."""
        data = block.data
        array = np.frombuffer(data, np.uint8)
        rows = int(np.count_nonzero(array == ord("\n")))
        if not data.endswith(b"\n") or b"\\" in data or np.count_nonzero(array < 32) != rows:
            return None
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return None
        shape = self._shape(data[: data.index(b"\n")].decode(), block.line)
        if shape is None:
            return None
        cells = _cells(data, rows, shape.literals)
        if cells is None:
            return None
        layout, grammars = shape.layout, self._records.grammars
        texts = {
            i: texts_of(cells[shape.cells[i]])
            for i in (layout.person, layout.face, layout.job, layout.due)
            if i is not None
        }
        assert layout.person is not None
        assert layout.face is not None
        persons, faces = texts[layout.person], texts[layout.face]
        if not accepts(grammars.person, persons) or not accepts(grammars.face, faces):
            return None
        dues = None
        if layout.due is not None:
            dues = dues_of(texts[layout.due])
            if dues is None:
                return None
        carried = None
        if layout.carried:
            objects = _objects(shape, cells)
            if objects is None:
                return None
            carried = texts_of(objects)
        return Stretch(
            record=self._records.records,
            lines=range(block.line, block.line + rows),
            person_ids=persons,
            face_ids=faces,
            labels=None if layout.job is None else texts[layout.job],
            carried=carried,
            dues_us=dues,
        )

    def _shape(self, line: str, number: int) -> _Shape | None:
        """The shape of ``line``, if it is a record of texts and fixed values."""
        try:
            members, end = self._scanner.scan(line, 0)
        except (json.JSONDecodeError, RecursionError):
            return None
        if end < len(line) or self._scanner.foreign_constant or type(members) is not tuple:
            return None
        literals: list[str] = []
        cells: dict[int, int] = {}
        keys: list[str] = []
        at = begin = 0
        while match := _MEMBER.match(line, at):
            if match[4] is None:
                group = 2 if match[2] is not None else 3
                cells[len(keys)] = len(literals)
                literals.append(line[begin : match.start(group)])
                begin = match.end(group)
            keys.append(match[1])
            at = match.end()
        literals.append(line[begin:])
        if line[at:].rstrip(" ") != "}" or tuple(keys) != tuple(key for key, _ in members):
            return None
        layout = self._records.layout(tuple(keys), number)
        if layout is None or layout.reason or layout.face is None or len(literals) > len(_SIGNS):
            return None
        roles = {i for i in (layout.person, layout.face, layout.job, layout.due) if i is not None}
        # Of one shape, all have a defect or none has: texts stay texts, lists stay lists.
        if not roles <= cells.keys() or shape_defect(members, layout)[0]:
            return None
        return _Shape(tuple(text.encode() for text in literals), cells, members, layout)


def _cells(data: bytes, rows: int, literals: tuple[bytes, ...]) -> list[Any] | None:
    """What is between the literals on each line, as Arrow arrays of strings."""
    first, *inner, last = literals
    turn = last + b"\n" + first
    if not data.startswith(first) or not data.endswith(last + b"\n"):
        return None
    # Most of what is not alike ends here already.
    if data.count(turn) != rows - 1:
        return None
    signs = _SIGNS[: len(literals) - 1]
    body = data[len(first) : len(data) - len(last) - 1]
    for literal, sign in zip((*inner, turn), signs, strict=True):
        body = body.replace(literal, bytes((sign,)))
    body += signs[-1:]
    array = np.frombuffer(body, np.uint8)
    found = array[array < 32]
    if b'"' in body or len(found) != rows * len(signs):
        return None
    if (found.reshape(rows, -1) != np.frombuffer(signs, np.uint8)).any():
        return None
    delimiters = _DELIMITER.encode() * (len(signs) - 1) + b"\n"
    return columns_of(body.translate(bytes.maketrans(signs, delimiters)), len(signs), _DELIMITER)


def _objects(shape: _Shape, cells: list[Any]) -> Any | None:
    """A JSON object of the carried values of each line, as an Arrow array."""
    parts: list[Any] = []
    literal = "{"
    for number, (i, key) in enumerate(shape.layout.carried):
        value = shape.members[i][1]
        literal += f"{',' if number else ''}{key}:"
        if i in shape.cells:
            opening, closing = ('["', '"]') if type(value) is list else ('"', '"')
            parts += (literal + opening, cells[shape.cells[i]])
            literal = closing
        else:
            literal += json_text(value)
    parts.append(literal + "}")
    row_bytes = sum(len(part.encode()) for part in parts if isinstance(part, str))
    if row_bytes * len(cells[0]) > MOST_CARRIED_BYTES:
        return None
    if len(parts) == 1:
        return pa.array([parts[0]] * len(cells[0]), pa.string())
    return pa.compute.binary_join_element_wise(*parts, "")
