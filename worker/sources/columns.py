"""Plain blocks of a table to columns, without an object per row.

A block is plain if every cell can be told from bytes alone: strict UTF-8, a quote only around a
whole cell that would be the same without, every line feed the end of a row, as many cells in each
row as in the header. All of that is counted, and at the end every byte of the block is accounted
for. IDs are judged by their alphabet and their lengths. Whatever is in doubt is left to
``worker.sources.cells`` and ``worker.sources.table``, which know what to say about it.

It loads NumPy and Arrow: to be imported only where a source is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from worker.deadlines import Undated, due_us
from worker.model import Stretch
from worker.sources.header import Header
from worker.sources.identifiers import MOST_CHARACTERS, IdGrammar
from worker.sources.records import Grammars
from worker.sources.text import ByteBlock
from worker.texts import Texts

MOST_CARRIED_BYTES = 64 * 1024 * 1024
"""A block whose other columns would take more, by the length of their names, is not for memory."""


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """Reads blocks of a table with a face column, unless it is a report of ours.

    ``delimiter`` is an ASCII character; both ``grammars`` are the documented ones.
    """

    header: Header
    delimiter: str
    grammars: Grammars

    def stretch(self, block: ByteBlock, first_record: int) -> Stretch | None:
        """The rows of ``block``, of which the first has this number; None at the slightest doubt."""
        data = self._without_quotes(block.data)
        if data is None or not self._is_plain(data):
            return None
        columns = columns_of(data, len(self.header.names), self.delimiter)
        if columns is None:
            return None
        texts = {i: texts_of(columns[i]) for i in self._told}
        assert self.header.face is not None
        persons, faces = texts[self.header.person], texts[self.header.face]
        if not accepts(self.grammars.person, persons) or not accepts(self.grammars.face, faces):
            return None
        carried = None
        if self.header.carried:
            objects = self._objects(columns)
            if objects is None:
                return None
            carried = texts_of(objects)
        dues = None
        if self.header.due is not None:
            dues = dues_of(texts[self.header.due])
            if dues is None:
                return None
        return Stretch(
            record=first_record,
            lines=range(block.line, block.line + len(persons)),
            person_ids=persons,
            face_ids=faces,
            labels=None if self.header.job is None else texts[self.header.job],
            carried=carried,
            dues_us=dues,
        )

    @property
    def _told(self) -> list[int]:
        header = self.header
        roles = (header.person, header.face, header.job, header.due)
        return [i for i in roles if i is not None]

    def _without_quotes(self, data: bytes) -> bytes | None:
        """``data`` without the quotes around its cells, or None where one protects something."""
        if b'"' not in data:
            return data
        array = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(array == ord('"'))
        if quotes[-1] + 1 == len(data):
            return None
        ends = (array == ord(self.delimiter)) | (array == ord("\n")) | (array == ord("\r"))
        opening, closing = quotes[::2], quotes[1::2]
        # A cell begins at an opening quote and ends at the closing one; the very first follows
        # nothing, which array[-1], the last line feed, says just as well.
        if not ends[opening - 1].all() or not ends[closing + 1].all():
            return None
        # Between the two of a pair nothing ends: an even number of quotes is before every end, the
        # last one too, so none is left over.
        if (np.searchsorted(quotes, np.flatnonzero(ends)) % 2).any():
            return None
        return data.replace(b'"', b"")

    def _is_plain(self, data: bytes) -> bool:
        """Whether ``data``, which has no quotes, has nothing else to be careful about."""
        if not data.endswith(b"\n") or b"\0" in data:
            return False
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return False
        if _returns(data) != (data.count(b"\r\n") if b"\r" in data else 0):
            return False
        return not self.header.carried or self._needs_no_escape(data)

    def _needs_no_escape(self, data: bytes) -> bool:
        """Whether every cell can stand in a JSON string as it is."""
        structure = b"\r\n" + self.delimiter.encode()
        controls = np.count_nonzero(np.frombuffer(data, np.uint8) < ord(" "))
        known = sum(data.count(byte) for byte in structure if byte < ord(" "))
        return b"\\" not in data and controls == known

    def _objects(self, columns: list[Any]) -> Any | None:
        """A JSON object of the carried cells for each row, as an Arrow array."""
        opening = "{"
        parts: list[Any] = []
        for i in self.header.carried:
            parts += (f'{opening}{encode_basestring(self.header.names[i])}:"', columns[i])
            opening = '",'
        parts.append('"}')
        row_bytes = sum(len(part.encode()) for part in parts if isinstance(part, str))
        if row_bytes * len(columns[0]) > MOST_CARRIED_BYTES:
            return None
        return pa.compute.binary_join_element_wise(*parts, "")


def texts_of(array: Any) -> Texts:
    """The texts of an Arrow array of strings without nulls, which share its memory."""
    _, offsets, data = array.buffers()
    start, count = array.offset, len(array)
    return Texts(
        memoryview(b"" if data is None else data).cast("B"),
        memoryview(offsets).cast("B").cast("i")[start : start + count + 1],
    )


def accepts(grammar: IdGrammar, texts: Texts) -> bool:
    """Whether every text is an ID of the documented form."""
    assert grammar.alphabet is not None
    lengths = np.diff(np.frombuffer(texts.offsets, np.int32))
    if lengths.min() < 1 or lengths.max() > MOST_CHARACTERS:
        return False
    together = bytes(texts.data[texts.offsets[0] : texts.offsets[-1]])
    return not together.translate(None, grammar.alphabet)


def columns_of(data: bytes, width: int, delimiter: str) -> list[Any] | None:
    """The cells of plain ``data`` as Arrow arrays of strings; None unless all rows are as wide."""
    names = [str(i) for i in range(width)]
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(data),
            # One block, or rows would be cut where it ends.
            pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            pa.csv.ParseOptions(
                delimiter=delimiter, quote_char=False, escape_char=False, ignore_empty_lines=False
            ),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                check_utf8=False,  # It was decoded by the decoder that all other text goes through.
            ),
        )
    except pa.ArrowInvalid:
        return None
    if any(column.num_chunks != 1 for column in table.columns):
        return None
    columns = [column.chunk(0) for column in table.columns]
    rows = np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    told = sum(texts.offsets[-1] - texts.offsets[0] for texts in map(texts_of, columns))
    # Arrow drops a byte order mark, for one, which is part of the text amid a source.
    is_whole = len(table) == rows and told + rows * width + _returns(data) == len(data)
    return columns if is_whole else None


def _returns(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\r")))


def dues_of(texts: Texts) -> list[int | None] | None:
    """When each row is due, or None where a cell cannot be read."""
    cells = texts.strings()
    try:
        moments = {text: due_us(text) if text else None for text in set(cells)}
    except Undated:
        return None
    return [moments[text] for text in cells]
