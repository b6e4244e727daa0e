"""``results.parquet``: the lines of ``results.csv`` with types, for tools that read columns.

No spreadsheet runs what is in it, so all text is exact, as in ``results.jsonl``. Times are whole to the
microsecond. What a record carries under a name is text as it is, anything else as the JSON text that the
record held, and null where it holds nothing under that name.

The same books give the same bytes with the same version of pyarrow, which the file names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from worker.model import RESULT_COLUMNS
from worker.report.batches import Batch
from worker.report.files import ReportFile

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 100_000
_BYTES = 64 * 1024 * 1024
"""What of a row group waits in memory at most, where lines are long."""

_FEW_VALUES = ["source", "outcome", "code", "message", "duplicate_of"]
"""A dictionary of what differs from line to line makes a file larger, and takes longer."""


class ParquetTable:
    """Writes ``results.parquet``; as a context it ends the file, or leaves it where something failed.

    ``metadata`` is what the file says of itself. ``file`` raises ``worker.errors.ReportFailed`` through
    every method.
    """

    def __init__(
        self, file: ReportFile, carried_headers: Sequence[str], metadata: dict[str, str]
    ) -> None:
        # Heavy, and only for whom asks for this file.
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415 (heavy)

        types = {
            "line": pa.int64(),
            "attempts": pa.int32(),
            "first_sent_at": pa.timestamp("us", "UTC"),
            "finished_at": pa.timestamp("us", "UTC"),
        }
        self._schema = pa.schema(
            [
                *(pa.field(name, types.get(name, pa.string())) for name in RESULT_COLUMNS),
                *(pa.field(header, pa.string()) for header in carried_headers),
            ],
            metadata=metadata,
        )
        self._sink = _Sink(file)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            self._schema,
            compression="zstd",
            use_dictionary=_FEW_VALUES,
        )
        self._file = file
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self._write()
                self._writer.close()
            except BaseException:
                self._leave()
                raise
        else:
            self._leave()

    def add(self, batch: Batch, carried: Sequence[Sequence[str | None]]) -> None:
        """Write the lines of a batch, with what they carry."""
        import pyarrow as pa  # noqa: PLC0415 (imported by now)

        columns = [*batch[1:-1], *carried]
        record_batch = pa.RecordBatch.from_arrays(
            [
                pa.array(column, type=field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ],
            schema=self._schema,
        )
        self._waiting.append(record_batch)
        self._rows += record_batch.num_rows
        self._bytes += record_batch.nbytes
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            self._write()

    def _write(self) -> None:
        """What waits becomes a row group."""
        import pyarrow as pa  # noqa: PLC0415 (imported by now)

        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table, row_group_size=self._rows)
            self._file.rows += self._rows
        self._waiting = []
        self._rows = self._bytes = 0

    def _leave(self) -> None:
        """Without a writer that would end the file when it is collected."""
        self._sink.is_left = True
        with contextlib.suppress(Exception):
            self._writer.close()


class _Sink:
    """The report's file as pyarrow sees it."""

    closed = False

    def __init__(self, file: ReportFile) -> None:
        self._file = file
        self.is_left = False

    def write(self, data: bytes) -> int:
        if not self.is_left:
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """The report closes its files itself."""
