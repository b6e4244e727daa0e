"""``results.jsonl``: one object per job, with the exact text of everything.

A job's ``faces`` are its lines of ``results.csv``, one object each: where its record has no
readable face, or asks for a whole person, one of them has an empty ``face_id``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Self

import msgspec

from worker.report.files import ReportFile
from worker.report.interface import Line
from worker.report.statuses import STATUSES, Kinds
from worker.report.times import iso_utc

_FACES_IN_MEMORY = 4096

# Legal inside JSON text, but a terminal obeys some and `str.splitlines` breaks lines at others.
_UNWANTED = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


Finished = tuple[str, int]
"""The label of a record that is complete, and the ``Kinds`` of outcome that its faces have."""


class Face(msgspec.Struct, frozen=True):
    """One face of a job, or what became of a whole person."""

    face_id: str
    """``""`` for a record without a readable face, and for the whole person."""
    outcome: str
    code: str
    message: str
    request_id: str
    attempts: int
    first_sent_at: str | None
    finished_at: str | None
    duplicate_of: str


class Job(msgspec.Struct, frozen=True):
    """One record of the input and what became of it."""

    job_id: str
    source: str
    line: int
    person_id: str
    status: str
    faces: list[Face]
    carried: msgspec.Raw


class _Record:
    """A record whose lines are still coming."""

    __slots__ = ("faces", "first", "kinds", "spill")

    def __init__(self, first: Line) -> None:
        self.first = first
        self.kinds = int(Kinds.NOTHING)
        self.faces: list[Face] = []
        self.spill: IO[bytes] | None = None


class Jobs:
    """Writes ``results.jsonl``.

    A context, because a record with very many faces waits in a scratch file until it is whole:
    its status comes before its faces. ``kind_of`` gives the ``Kinds`` of each outcome.
    """

    def __init__(
        self,
        file: ReportFile,
        scratch: Callable[[], IO[bytes]],
        kind_of: Mapping[str, int],
    ) -> None:
        self._file = file
        self._scratch = scratch
        self._kind_of = kind_of
        self._finished: list[Finished] = []
        self._record: _Record | None = None
        self._ready: list[Job] = []
        self._spills = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spills.close()

    def add(self, batch: Sequence[Line]) -> list[Finished]:
        """Take the next lines; every record that is whole now is written, and told."""
        record = self._record
        kind_of = self._kind_of
        for line in batch:
            if record is None or line.record_no != record.first.record_no:
                if record is not None:
                    self._close(record)
                record = _Record(line)
            record.kinds |= kind_of.get(line.outcome, Kinds.OTHER)
            record.faces.append(
                Face(
                    line.face_id,
                    line.outcome,
                    line.code,
                    line.message,
                    line.request_id,
                    line.attempts,
                    None if line.first_sent_us is None else iso_utc(line.first_sent_us),
                    None if line.finished_us is None else iso_utc(line.finished_us),
                    line.duplicate_of,
                )
            )
            if len(record.faces) >= _FACES_IN_MEMORY:
                self._spill(record)
        self._record = record
        return self._flush()

    def end(self) -> list[Finished]:
        """No line is to come: write and tell what is left."""
        if self._record is not None:
            self._close(self._record)
            self._record = None
        return self._flush()

    def _close(self, record: _Record) -> None:
        first = record.first
        self._finished.append((first.label, record.kinds))
        job = Job(
            job_id=first.label,
            source=first.source,
            line=first.line,
            person_id=first.person_id,
            status=STATUSES[record.kinds],
            faces=record.faces if record.spill is None else [],
            carried=_one_line(first.carried),
        )
        if record.spill is None:
            self._ready.append(job)
            return
        self._write_ready()
        self._spill(record)
        # No text in a job can hold these bytes: quotes inside text are escaped.
        head, tail = _encoded([job]).split(b',"faces":[]', 1)
        self._file.write(head + b',"faces":[')
        record.spill.seek(1)
        while piece := record.spill.read(1024 * 1024):
            self._file.write(piece)
        self._file.write(b"]" + tail, 1)
        self._spills.close()

    def _spill(self, record: _Record) -> None:
        if record.spill is None:
            record.spill = self._spills.enter_context(self._scratch())
        for face in record.faces:
            record.spill.write(b"," + _encoded([face]).rstrip(b"\n"))
        record.faces.clear()

    def _flush(self) -> list[Finished]:
        self._write_ready()
        finished, self._finished = self._finished, []
        return finished

    def _write_ready(self) -> None:
        if self._ready:
            self._file.write(_encoded(self._ready), len(self._ready))
            self._ready.clear()


_encode_lines = msgspec.json.Encoder().encode_lines


def _one_line(carried: str) -> msgspec.Raw:
    # A line break outside of JSON text is white space; inside it would be an escape.
    return msgspec.Raw((carried or "{}").replace("\r", " ").replace("\n", " "))


def _encoded(items: Sequence[Job | Face]) -> bytes:
    encoded = _encode_lines(items)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _UNWANTED.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode()).encode()
