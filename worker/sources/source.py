"""One source of jobs, from its raw bytes to its chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import BinaryIO, Protocol

from worker.errors import InputRefused
from worker.model import Chunk, SourceSummary
from worker.sources.carried import CarriedNames
from worker.sources.cells import CellReader
from worker.sources.expansion import expanded
from worker.sources.folder import Part
from worker.sources.formats import Format, NamedFormat, sniffed_format
from worker.sources.intake import Intake
from worker.sources.interface import SourceOptions
from worker.sources.jsonarray import JsonArrayReader
from worker.sources.jsonlines import JsonLinesReader
from worker.sources.jsonrecords import JsonRecords
from worker.sources.magic import HEAD_BYTES, recognise, remedy
from worker.sources.place import Place
from worker.sources.records import Grammars
from worker.sources.roles import RoleNames
from worker.sources.table import TableReader
from worker.sources.text import byte_blocks, decoded_pieces, gathered


class _Reader(Protocol):
    @property
    def records(self) -> int: ...
    @property
    def blank_lines(self) -> int: ...
    def chunks(self) -> Iterator[Chunk]: ...


class JobSource:
    """A file or stream of jobs; implements ``worker.sources.interface.Source``.

    Where ``named`` has no format, the content tells it (standard input, a pipe without extension).
    ``part`` says that it is a part of a folder.
    """

    def __init__(
        self,
        place: Place,
        opened: Callable[[], BinaryIO],
        named: NamedFormat,
        options: SourceOptions,
        grammars: Grammars,
        *,
        part: Part | None = None,
    ) -> None:
        self.name = place.name
        self._place = replace(place, compressed=bool(named.compression))
        self._intake = Intake(self._place, opened)
        self._format = named.format
        self._compression = named.compression
        self._options = options
        self._grammars = grammars
        self._part = part
        self._summary: SourceSummary | None = None

    def chunks(self) -> Iterator[Chunk]:
        """What it holds, in input order; raises ``InputRefused``; to be read once."""
        if self._format == "parquet" and not self._place.stream:
            with self._intake.resting() as file:
                yield from self._of_parquet(file)
            return
        pieces, head = _headed(self._intake.pieces())
        if not head:
            raise self._empty("it is empty")
        if self._compression:
            self._check_compression(head)
            pieces = expanded(pieces, self._compression, self._place, self._options)
            pieces, head = _headed(pieces)
        format_ = self._format or sniffed_format(head, self._options.delimiter)
        if format_ == "parquet":
            with self._intake.copied(pieces) as file:
                yield from self._of_parquet(file)
            return
        signature = recognise(head)
        if signature is not None:
            raise self._place.refused(
                f"the content is {signature.kind}, not the text that was expected",
                remedy(signature, self._place),
            )
        names = CarriedNames(self._place)
        records = JsonRecords(RoleNames(self._options.columns), self._grammars, names)
        reader = self._reader(format_, pieces, names, records)
        yield from self._counted(reader, format_, names)

    def _of_parquet(self, file: BinaryIO) -> Iterator[Chunk]:
        # Arrow takes a third of a second and 60 MB, which other formats have no use for.
        from worker.sources.parquet import ParquetReader  # noqa: PLC0415

        if not self._intake.byte_count:
            raise self._empty("it is empty")
        names = CarriedNames(self._place)
        reader = ParquetReader(
            file,
            self._place,
            self._grammars,
            names,
            byte_count=self._intake.byte_count,
            options=self._options,
            constants=self._part.constants if self._part else {},
        )
        yield from self._counted(reader, "parquet", names)

    def _counted(self, reader: _Reader, format_: Format, names: CarriedNames) -> Iterator[Chunk]:
        entries = 0
        for chunk in reader.chunks():
            entries += len(chunk)
            yield chunk
        if not (self._part.folder.has_jobs(entries) if self._part else entries):
            raise self._empty("it holds no jobs")
        self._summary = SourceSummary(
            name=self.name,
            format=format_,
            sha256=self._intake.sha256,
            byte_count=self._intake.byte_count,
            records=reader.records,
            entries=entries,
            blank_lines=reader.blank_lines,
            carried_columns=names.all(),
        )

    def summary(self) -> SourceSummary:
        """What it held; raises ``RuntimeError`` before ``chunks`` is exhausted."""
        if self._summary is None:
            raise RuntimeError(f"{self._place.title} was not read to its end")
        return self._summary

    def _reader(
        self, format_: Format, pieces: Iterator[bytes], names: CarriedNames, records: JsonRecords
    ) -> _Reader:
        place, cap = self._place, self._options.max_line_bytes
        if format_ == "json":
            return JsonArrayReader(decoded_pieces(pieces, place), place, cap, records)
        blocks = byte_blocks(gathered(pieces), place, cap)
        if format_ == "jsonl":
            return JsonLinesReader(blocks, place, records)
        delimiter = self._options.delimiter or ("\t" if format_ == "tsv" else ",")
        cells = CellReader(blocks, place, delimiter, cap)
        return TableReader(
            cells,
            place,
            RoleNames(self._options.columns),
            self._grammars,
            names,
            whole_persons=self._options.whole_persons,
        )

    def _check_compression(self, head: bytes) -> None:
        signature = recognise(head)
        if signature is not None and signature.compression == self._compression:
            return
        what = signature.kind if signature else "no compressed data"
        raise self._place.refused(
            f"its name says {self._compression}, and the content is {what}",
            "give it the extension that its content has",
        )

    def _empty(self, what: str) -> InputRefused:
        return self._place.refused(
            f"{what}, and having nothing to do is not taken for success",
            "check the program that wrote it; leave the source out if it is meant to be empty",
        )


def _headed(pieces: Iterator[bytes]) -> tuple[Iterator[bytes], bytes]:
    """``pieces`` unread, the first of them long enough to recognise a format by."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return chain((head,), pieces), head
