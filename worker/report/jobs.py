"""``results.jsonl``: one object per job, with the exact text of everything.

A job's ``faces`` are its lines of ``results.csv``, one object each: where its record has no
readable face, or asks for a whole person, one of them has an empty ``face_id``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from itertools import chain, pairwise, repeat
from operator import or_
from typing import IO, Self

from worker.report.columns import visible_json
from worker.report.files import ReportFile
from worker.report.page import Page
from worker.report.statuses import STATUSES, Kinds

_FACES_IN_MEMORY = 4096

_FACE = (
    '{"face_id":"',
    '","outcome":"',
    '","code":"',
    '","message":"',
    '","request_id":"',
    '","attempts":',
    ',"first_sent_at":',
    ',"finished_at":',
    ',"duplicate_of":"',
    '"}',
)

_BEFORE_STATUS = ('{"job_id":"', '","source":"', '","line":', ',"person_id":"', '","status":"')

_OTHER = int(Kinds.OTHER)
_STATUS = tuple(status.value for status in STATUSES)

Finished = tuple[str, int]
"""The label of a record that is complete, and the ``Kinds`` of outcome that its faces have."""


class _Record:
    """A record whose lines may still be coming."""

    __slots__ = ("before_status", "carried", "faces", "kinds", "label", "spill")

    def __init__(self, label: str, before_status: str, carried: str) -> None:
        self.label = label
        self.before_status = before_status
        self.carried = carried
        self.kinds = int(Kinds.NOTHING)
        self.faces: list[str] = []
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
        self._record: _Record | None = None
        self._spills = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spills.close()

    def add(self, page: Page) -> list[Finished]:
        """Take the next lines; every record that is whole now is written, and told."""
        starts = page.starts
        kinds = [self._kind_of.get(outcome, _OTHER) for outcome in page.batch.outcomes]
        faces = _faces(page)
        if not starts:
            self._go_on(faces, kinds)
            return []
        finished = []
        if self._record is not None:
            self._go_on(faces[: starts[0]], kinds[: starts[0]])
            finished = self.end()
        befores = _before_status(page)
        carried = _objects([page.batch.carried[start] for start in starts])
        # The last record of a page may go on in the next one, all others are whole.
        first, last = starts[0], starts[-1]
        unions, joined = kinds[first:last], faces[first:last]
        if len(unions) >= len(starts):
            unions = [_union(kinds[start:end]) for start, end in pairwise(starts)]
            joined = [",".join(faces[start:end]) for start, end in pairwise(starts)]
        if unions:
            text = [
                f'{before}{_STATUS[union]}","faces":[{those}],"carried":{others}}}\n'
                for before, union, those, others in zip(
                    befores, unions, joined, carried, strict=False
                )
            ]
            self._file.write("".join(text).encode(), len(text))
            labels = page.batch.labels
            finished += zip([labels[start] for start in starts[:-1]], unions, strict=True)
        self._record = _Record(page.batch.labels[last], befores[-1], carried[-1])
        self._go_on(faces[last:], kinds[last:])
        return finished

    def end(self) -> list[Finished]:
        """No line is to come: write and tell what is left."""
        record, self._record = self._record, None
        if record is None:
            return []
        head = f'{record.before_status}{_STATUS[record.kinds]}","faces":['.encode()
        tail = f'],"carried":{record.carried}}}\n'.encode()
        if record.spill is None:
            self._file.write(head + ",".join(record.faces).encode() + tail, 1)
        else:
            self._spill(record)
            self._file.write(head)
            record.spill.seek(1)
            while piece := record.spill.read(1024 * 1024):
                self._file.write(piece)
            self._file.write(tail, 1)
            self._spills.close()
        return [(record.label, record.kinds)]

    def _go_on(self, faces: Sequence[str], kinds: Sequence[int]) -> None:
        assert self._record is not None  # the first line of all begins a record
        self._record.kinds |= _union(kinds)
        self._record.faces += faces
        if len(self._record.faces) >= _FACES_IN_MEMORY:
            self._spill(self._record)

    def _spill(self, record: _Record) -> None:
        if record.spill is None:
            record.spill = self._spills.enter_context(self._scratch())
        record.spill.write("".join(["," + face for face in record.faces]).encode())
        record.faces.clear()


def _union(kinds: Iterable[int]) -> int:
    return reduce(or_, kinds, int(Kinds.NOTHING))


def _faces(page: Page) -> list[str]:
    """The face of each line."""
    return _filled(
        _FACE,
        page.face_ids.in_json(),
        page.outcomes.in_json(),
        page.codes.in_json(),
        page.messages.in_json(),
        page.request_ids.in_json(),
        page.attempts,
        _times(page.first_sent_at),
        _times(page.finished_at),
        page.duplicates_of.in_json(),
    )


def _before_status(page: Page) -> list[str]:
    """What comes before the status of each record that begins on ``page``."""
    columns: list[Sequence[str]] = [
        page.labels.in_json(),
        page.sources.in_json(),
        page.lines,
        page.person_ids.in_json(),
    ]
    if len(page.starts) < len(page.lines):
        columns = [[column[start] for start in page.starts] for column in columns]
    return _filled(_BEFORE_STATUS, *columns)


def _objects(carried: list[str]) -> list[str]:
    if "" not in carried and "".join(carried).isprintable():
        return carried
    return [visible_json(one) or "{}" for one in carried]


def _times(times: Sequence[str]) -> list[str]:
    return [f'"{time}"' if time else "null" for time in times]


def _filled(form: Sequence[str], *columns: Sequence[str]) -> list[str]:
    """``form`` with a value of each column after each but the last of its pieces, line by line."""
    parts = chain.from_iterable(zip(map(repeat, form), columns, strict=False))
    return [*map("".join, zip(*parts, repeat(form[-1]), strict=False))]
