"""Parquet to entries: a row group at a time, in batches that fit into memory whatever they hold.

The rows of a file count from 1, as lines do elsewhere. The format is published at
parquet.apache.org; pages are checked against their checksums where they have any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from worker.errors import InputRefused
from worker.model import Chunk
from worker.sources.arrowjson import is_list
from worker.sources.arrowrows import BatchReader
from worker.sources.carried import CarriedNames
from worker.sources.expansion import check_caps
from worker.sources.interface import SourceOptions
from worker.sources.magic import HEAD_BYTES, recognise
from worker.sources.place import Place
from worker.sources.records import Grammars
from worker.texts import is_too_much

BATCH_ROWS = 65_536
BATCH_BYTES = 32 * 1024 * 1024
"""What the texts of a batch may take, as far as the file says beforehand."""

_BUFFER_BYTES = 1024 * 1024
_PREFIXED_ROWS = 256
"""Of an encoding that writes only how a text differs from the one before it."""

_CHUNKED = "chunked array outputs"
"""What pyarrow cannot do with nested columns of more than 2 GB."""

_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_WRITE_AGAIN = "copy or download the file again, or write it again, and compare the sizes"
_REASON_CHARACTERS = 200


class ParquetReader:
    """Reads ``file``, which can be read in any order; ``chunks`` raises ``InputRefused``.

    ``constants`` are the columns that the file's folder names, with the value of all rows; None
    stands for a null.
    """

    blank_lines = 0

    def __init__(
        self,
        file: BinaryIO,
        place: Place,
        grammars: Grammars,
        carried_names: CarriedNames,
        *,
        byte_count: int,
        options: SourceOptions,
        constants: Mapping[str, str | None],
    ) -> None:
        self._file = file
        self._byte_count = byte_count
        self._place = place
        self._grammars = grammars
        self._carried_names = carried_names
        self._options = options
        self._constants = dict(constants)
        self.records = 0

    def chunks(self) -> Iterator[Chunk]:
        """The file's entries in the order of its rows."""
        self._check_magic()
        try:
            content = self._opened()
        except pa.ArrowMemoryError:
            raise  # it says nothing about the file
        except (pa.ArrowException, OSError) as error:
            raise self._place.refused(
                f"its footer, which says where everything is, cannot be read ({_why(error)})",
                _WRITE_AGAIN,
            ) from error
        metadata = content.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        self._check_caps(sum(group.total_byte_size for group in groups))
        rows = BatchReader(
            content.schema_arrow,
            self._place,
            self._grammars,
            self._carried_names,
            options=self._options,
            constants=self._constants,
        )
        # The same file, with texts as references into the dictionary of their row group.
        leaves = [content.schema.column(i) for i in range(len(content.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        dictionaries = self._opened(metadata=metadata, read_dictionary=texts)
        expanded_bytes = 0
        for number, group in enumerate(groups):
            before = self.records
            for batch in self._batches(content, dictionaries, number, group):
                expanded_bytes += batch.nbytes
                self._check_caps(expanded_bytes)
                first_record, self.records = self.records, self.records + batch.num_rows
                yield from self._told(rows, batch, first_record)
            if self.records - before != group.num_rows:
                raise self._unreadable(
                    number,
                    len(groups),
                    f"it has {self.records - before} rows in the place of {group.num_rows}",
                )

    def _told(self, rows: BatchReader, batch: Any, first_record: int) -> Iterator[Chunk]:
        """The entries of a batch, in parts where it would be more text than an array holds."""
        try:
            chunk = rows.chunk(batch, first_record)
        except Exception as error:
            if not is_too_much(error):
                raise
            half = batch.num_rows // 2
            if not half:
                raise self._place.refused(
                    "the values of the row are more than 2 GB of text",
                    "check that the file is what its name says, and leave out columns that the report"
                    " does not need",
                    first_record + 1,
                ) from error
        else:
            yield chunk
            return
        yield from self._told(rows, batch.slice(0, half), first_record)
        yield from self._told(rows, batch.slice(half), first_record + half)

    def _opened(self, **more: Any) -> Any:
        return pq.ParquetFile(
            self._file,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
            # In nanoseconds the usual "for ever" of old writers would turn into another date.
            coerce_int96_timestamp_unit="us",
            **more,
        )

    def _check_magic(self) -> None:
        head = self._head(len(_MAGIC))
        if head == _ENCRYPTED_MAGIC:
            raise self._place.refused(
                "it is an encrypted Parquet file, and this program has no key for it",
                "write it again without encryption, to a place that is encrypted itself",
            )
        if head == _MAGIC:
            return
        signature = recognise(self._head(HEAD_BYTES))
        what = signature.kind if signature else "no Parquet file"
        raise self._place.refused(
            f"it is to be read as Parquet, and the content is {what}",
            "give it the extension that its content has, or name the format with --format",
        )

    def _head(self, size: int) -> bytes:
        self._file.seek(0)
        return self._file.read(size)

    def _check_caps(self, expanded_bytes: int) -> None:
        check_caps(self._place, self._byte_count, expanded_bytes, self._options)

    def _batches(self, content: Any, dictionaries: Any, number: int, group: Any) -> Iterator[Any]:
        groups = content.metadata.num_row_groups
        try:
            rows = self._batch_rows(dictionaries, number, group)
            for batch in content.iter_batches(rows, row_groups=[number]):
                if not batch.num_rows:
                    continue
                batch.validate(full=True)
                yield batch
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if is_too_much(error) or _CHUNKED in str(error):
                raise self._place.refused(
                    f"row group {number + 1} of {groups} holds more text than can be read at a time",
                    "write it again with smaller row groups, or with a column less",
                ) from error
            raise self._unreadable(number, groups, _why(error)) from error

    def _batch_rows(self, dictionaries: Any, number: int, group: Any) -> int:
        """How many rows of a row group fit into memory together.

        A dictionary holds a long text once, however many rows refer to it.
        """
        if not group.num_rows:
            return 1
        row_bytes = group.total_byte_size // group.num_rows
        first = next(dictionaries.iter_batches(1, row_groups=[number]))
        for column in first.columns:
            row_bytes += _longest_text(column)
        chunks = [group.column(i) for i in range(group.num_columns)]
        rows: int = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes)))
        if any("DELTA_BYTE_ARRAY" in chunk.encodings for chunk in chunks):
            return min(rows, _PREFIXED_ROWS)
        return rows

    def _unreadable(self, number: int, groups: int, why: str) -> InputRefused:
        return self._place.refused(
            f"row group {number + 1} of {groups} cannot be read ({why})", _WRITE_AGAIN
        )


def _longest_text(array: Any) -> int:
    """Bytes of the longest text to which a row group's rows can refer, times how often a row may."""
    type_ = array.type
    if pa.types.is_dictionary(type_):
        return int(pc.max(pc.binary_length(array.dictionary)).as_py() or 0)
    if pa.types.is_struct(type_):
        return sum([_longest_text(field) for field in array.flatten()], 0)
    if is_list(type_) or pa.types.is_map(type_):
        times: int = max(1, len(array.values))
        return times * _longest_text(array.values)
    return 0


def _why(error: Exception) -> str:
    """One printable line of what a library says about bytes; it never quotes texts of the file."""
    text = " ".join(str(error).split())
    return "".join(c for c in text if c.isprintable())[:_REASON_CHARACTERS] or type(error).__name__
