"""Rows of the input become calls: merged by person, repeats and conflicts found, put into order.

This is the way of small inputs, in memory and in plain Python. ``worker.ledger.grouping`` does the same
for what memory does not hold; both make the same of the same rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from worker.holds import Hold
from worker.ledger.columns import Numbers, numbers
from worker.ledger.rowmap import AMENDMENTS_PER_BLOCK, CONFLICT, FATES, HELD
from worker.ledger.tape import CALLS_PER_BLOCK, Block
from worker.model import Stretch
from worker.texts import Texts

T = TypeVar("T")


class Readable(NamedTuple):
    """A row that may be sent as far as it alone says."""

    row_no: int
    record_no: int
    source_no: int
    line: int
    person_id: str
    face_id: str
    """``""`` for everything of the person."""
    due_us: int | None


class Due(NamedTuple):
    """When a row that is to be sent is due, and by which calls."""

    row_no: int
    due_us: int
    record_no: int
    source_no: int
    line: int
    first_row: int
    """Of the same person and face."""
    call_no: int
    last_call_no: int
    """Of its person."""


class Pair(NamedTuple):
    """A person and a face, or everything (``""``) of the person."""

    person_id: str
    face_id: str
    first_row: int


class TooManyFaces(Exception):
    """A person has more faces than are grouped for one whom nobody has allowed.

    Names the first of its rows.
    """

    def __init__(self, source_no: int, line: int) -> None:
        super().__init__(f"the person in line {line} of source {source_no}")
        self.source_no = source_no
        self.line = line


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rows come to; see ``worker.plan.PlanFigures``."""

    repeats: int
    held: int
    conflicts: int
    persons: int
    whole_persons: int
    faces: int
    calls: int
    oversized_persons: int
    largest_person_faces: int


class Collated(Protocol):
    """The calls of a plan and what became of rows; each is to be read once, in this order."""

    def amendments(self) -> Iterator[tuple[Sequence[Numbers], int]]:
        """By row: the columns of ``worker.ledger.rowmap.Amendment``, and how many there are."""
        ...

    def blocks(self) -> Iterator[Block]:
        """The calls in their order, so many in a block as ``CALLS_PER_BLOCK`` says."""
        ...

    def dues(self) -> Iterator[Due]:
        """By row."""
        ...

    def figures(self) -> Figures:
        """Known once all else was read."""
        ...


class Collation(Protocol):
    """Takes readable rows in input order."""

    def add(self, rows: Sequence[Readable]) -> None: ...

    def add_stretch(
        self, row_no: int, record_no: int, source_no: int, stretch: Stretch
    ) -> None: ...

    def collate(
        self, holds: frozenset[Hold], faces_per_call: int, most_faces: int | None = None
    ) -> Collated:
        """Raises ``TooManyFaces`` for a person with more than ``most_faces``, where memory needs it."""
        ...

    def pairs(self) -> Iterator[Pair]:
        """Every pair with its first row, those of one person adjacent."""
        ...


class MemoryCollation:
    """Implements ``Collation`` for inputs that memory holds."""

    def __init__(self) -> None:
        self.rows: list[Readable] = []

    def add(self, rows: Sequence[Readable]) -> None:
        self.rows += rows

    def add_stretch(self, row_no: int, record_no: int, source_no: int, stretch: Stretch) -> None:
        count = len(stretch)
        self.rows += map(
            Readable,
            range(row_no, row_no + count),
            range(record_no, record_no + count),
            [source_no] * count,
            stretch.lines,
            stretch.person_ids,
            stretch.face_ids,
            stretch.dues_us or [None] * count,
        )

    def collate(
        self,
        holds: frozenset[Hold],
        faces_per_call: int,
        most_faces: int | None = None,  # noqa: ARG002 (memory holds whatever came here)
    ) -> Collated:
        return _CollatedInMemory(self.rows, holds, faces_per_call)

    def pairs(self) -> Iterator[Pair]:
        first_rows: dict[tuple[str, str], int] = {}
        for row in self.rows:
            first_rows.setdefault((row.person_id, row.face_id), row.row_no)
        return (Pair(*pair, first_rows[pair]) for pair in sorted(first_rows))


class _Person:
    """A person of whom something is to be sent."""

    __slots__ = ("due_us", "firsts", "whole")

    def __init__(self) -> None:
        self.firsts: list[Readable] = []
        """The first row of each face that is named."""
        self.whole: Readable | None = None
        """The first row that asks for everything."""
        self.due_us: int | None = None

    def parts(self, faces_per_call: int) -> Iterator[list[Readable]]:
        """Its calls.

        The line of a whole person is the first of a call that holds all its faces: what is known of
        a face must not be in two places.
        """
        if self.whole is not None:
            yield [self.whole, *self.firsts]
        else:
            yield from _batched(self.firsts, faces_per_call)


class _CollatedInMemory:
    def __init__(
        self, rows: Sequence[Readable], holds: frozenset[Hold], faces_per_call: int
    ) -> None:
        self._rows = rows
        self._faces_per_call = faces_per_call
        self._first: dict[tuple[str, str], Readable] = {}
        self._owners: defaultdict[str, dict[str, Readable]] = defaultdict(dict)
        for row in rows:
            first = self._first.setdefault((row.person_id, row.face_id), row)
            if first is row and row.face_id:
                self._owners[row.face_id][row.person_id] = row
        self._fates = {pair: self._fate(*pair, holds) for pair in self._first}
        self._persons = self._in_order()
        self._calls: dict[tuple[str, str], int] = {}
        self._last_calls: dict[str, int] = {}

    def _fate(self, person_id: str, face_id: str, holds: frozenset[Hold]) -> str:
        if (person_id, "") in holds or (person_id, face_id) in holds:
            return HELD
        return CONFLICT if face_id and len(self._owners[face_id]) > 1 else ""

    def _in_order(self) -> dict[str, _Person]:
        """Who is due comes first, the earliest first of all; the others as they first appear."""
        persons: defaultdict[str, _Person] = defaultdict(_Person)
        for row in self._rows:
            pair = (row.person_id, row.face_id)
            if self._fates[pair]:
                continue
            person = persons[row.person_id]
            if row.due_us is not None and (person.due_us is None or row.due_us < person.due_us):
                person.due_us = row.due_us
            if self._first[pair] is not row:
                continue
            if row.face_id:
                person.firsts.append(row)
            else:
                person.whole = row
        due = {x: person.due_us for x, person in persons.items() if person.due_us is not None}
        order = [*sorted(due, key=due.__getitem__), *(x for x in persons if x not in due)]
        return {person_id: persons[person_id] for person_id in order}

    def amendments(self) -> Iterator[tuple[Sequence[Numbers], int]]:
        for some in _batched(self._amended(), AMENDMENTS_PER_BLOCK):
            yield [numbers(values) for values in zip(*some, strict=True)], len(some)

    def _amended(self) -> Iterator[tuple[int, ...]]:
        for row in self._rows:
            pair = (row.person_id, row.face_id)
            first, fate = self._first[pair], self._fates[pair]
            if first is row and not fate:
                continue
            other = (0, 0)
            if fate == CONFLICT:
                # In the order in which they first appear.
                another = next(
                    x for owner, x in self._owners[row.face_id].items() if owner != row.person_id
                )
                other = (another.source_no, another.line)
            repeats = (
                (first.row_no, first.source_no, first.line) if first is not row else (-1, 0, 0)
            )
            yield (row.row_no, row.source_no, row.line, FATES.index(fate), *repeats, *other)

    def blocks(self) -> Iterator[Block]:
        calls = self._planned()
        for some in _batched(calls, CALLS_PER_BLOCK):
            faces = [face for _, part, _ in some for face in part]
            yield Block(
                len(some),
                sum(face.face_id != "" for face in faces),
                sum(is_last for _, _, is_last in some),
                Texts.of(person_id for person_id, _, _ in some),
                numbers([len(part) for _, part, _ in some]),
                numbers([int(not part[0].face_id) for _, part, _ in some]),
                numbers([int(is_last) for _, _, is_last in some]),
                Texts.of(face.face_id for face in faces),
                numbers([face.row_no for face in faces]),
                numbers([face.source_no for face in faces]),
                numbers([face.line for face in faces]),
            )

    def _planned(self) -> Iterator[tuple[str, list[Readable], bool]]:
        call_no = 0
        for person_id, person in self._persons.items():
            parts = list(person.parts(self._faces_per_call))
            for number, part in enumerate(parts, start=1):
                self._calls |= {(person_id, face.face_id): call_no for face in part}
                self._last_calls[person_id] = call_no
                call_no += 1
                yield person_id, part, number == len(parts)

    def dues(self) -> Iterator[Due]:
        for row in self._rows:
            pair = (row.person_id, row.face_id)
            if row.due_us is not None and not self._fates[pair]:
                yield Due(
                    row.row_no,
                    row.due_us,
                    row.record_no,
                    row.source_no,
                    row.line,
                    self._first[pair].row_no,
                    self._calls[pair],
                    self._last_calls[row.person_id],
                )

    def figures(self) -> Figures:
        fates = [self._fates[row.person_id, row.face_id] for row in self._rows]
        persons = self._persons.values()
        sizes = [len(person.firsts) for person in persons]
        return Figures(
            repeats=len(self._rows) - len(self._first),
            held=fates.count(HELD),
            conflicts=fates.count(CONFLICT),
            persons=len(persons),
            whole_persons=sum(person.whole is not None for person in persons),
            faces=sum(sizes),
            calls=len(set(self._calls.values())),
            oversized_persons=sum(size > self._faces_per_call for size in sizes),
            largest_person_faces=max(sizes, default=0),
        )


def _batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """``values`` in lists of ``size``; ``itertools.batched`` came with Python 3.12."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part
