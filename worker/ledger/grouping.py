"""Collates what memory does not hold: rows are split by person, and persons grouped part by part.

The classic way of grouping more than fits (a hash join's partitions, as in GRACE): rows go into files
by a hash of their person, so all rows of a person are in one of them; each file is small enough to be
grouped in memory, by column; and persons go into further files by where they first appear, which are
put into order one after the other. Nothing is compared by its hash alone.

That nothing was lost, doubled or exchanged on the way is not taken on trust: row by row, the sum of
fingerprints of what was read is that of what is planned and what is set aside
(``worker.ledger.fingerprints``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from worker.ledger.ahead import ahead
from worker.ledger.arrowcolumns import codes, integers, numbers_of, strings, texts_of
from worker.ledger.batchfiles import BatchFiles, joined
from worker.ledger.collation import Collated, Due, Figures, Pair, Readable, TooManyFaces
from worker.ledger.columns import Numbers
from worker.ledger.duefile import NO_DUE, DueFile
from worker.ledger.fingerprints import fingerprints, total
from worker.ledger.rowmap import AMENDMENTS_PER_BLOCK, CONFLICT, FATES, HELD
from worker.ledger.tape import CALLS_PER_BLOCK, Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.holds import Hold
    from worker.model import Stretch

    Integers = NDArray[np.int64]

PARTS = 128
"""By hash of the person; 100 million rows are 0.8 million in each."""

PARTS_OF_FACES = 64
"""By fingerprint."""

ROWS_AT_ONCE = 100_000
"""Collected before they are split: so many that each part gets a good piece."""

BYTES_AT_ONCE = 256 * 1024 * 1024
"""The same where rows are long: Arrow keeps no more than 2 GB of texts in one array."""

ROWS_GROUPED_AT_ONCE = 200_000
"""Of one part at first; then as many as distinct ones are known, so that nothing is grouped often."""

ROWS_PER_PART_OF_ORDER = 262_144
MOST_PARTS_OF_ORDER = 256
"""All together that is fewer files than the 1 024 that a process may have open on most machines."""

_ROWS_NAME = "rows"

MASK = (1 << 64) - 1
MOST_BYTES_OF_A_CHARACTER = 4
MOST_32_BITS = (1 << 31) - 1

_SEVEN_BITS, _SIX_BITS = np.uint64(57), np.uint64(58)
"""What is left of a fingerprint shifted by so much names one of ``PARTS`` or ``PARTS_OF_FACES``."""

_ROWS = pa.schema(
    [
        ("person_id", pa.string()),
        ("face_id", pa.string()),
        ("row_no", pa.int64()),
        ("source_no", pa.int32()),
        ("line", pa.int64()),
        ("due_us", pa.int64()),
        ("face_print", pa.uint64()),
    ]
)
_DUE = _ROWS.get_field_index("due_us")

_SUSPECTS = pa.schema([_ROWS.field(x) for x in ("face_id", "row_no", "source_no", "line")])

_PERSONS = pa.schema(
    [
        ("due_us", pa.int64()),
        ("first_row", pa.int64()),
        ("person_id", pa.string()),
        ("whole", pa.bool_()),
        ("face_ids", pa.list_(pa.string())),
        ("row_nos", pa.list_(pa.int64())),
        ("source_nos", pa.list_(pa.int32())),
        ("lines", pa.list_(pa.int64())),
    ]
)

_AMENDMENT_COLUMNS = 9


class PartedCollation:
    """Implements ``worker.ledger.collation.Collation`` with files in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        """``directory`` must not exist; whoever made this removes it in the end."""
        directory.mkdir(mode=0o700)
        self._directory = directory
        self._parts = BatchFiles(directory, _ROWS_NAME, PARTS, _ROWS)
        self._pending: list[pa.RecordBatch] = []
        self._places: list[NDArray[np.uint8]] = []
        self._pending_rows = self._pending_bytes = 0
        self._read = _Sum()
        self._rows = 0
        self._dues = DueFile(directory / "dues")

    def add(self, rows: Sequence[Readable]) -> None:
        if not rows:
            return
        characters = sum(len(row.person_id) + len(row.face_id) for row in rows)
        if characters * MOST_BYTES_OF_A_CHARACTER > BYTES_AT_ONCE and len(rows) > 1:
            self.add(rows[: len(rows) // 2])
            self.add(rows[len(rows) // 2 :])
            return
        row_nos, record_nos, source_nos, lines, person_ids, face_ids, dues_us = zip(
            *rows, strict=True
        )
        self._collect(
            pa.array(person_ids, pa.string()),
            pa.array(face_ids, pa.string()),
            [np.array(x, np.int64) for x in (row_nos, record_nos, source_nos, lines)],
            dues_us,
        )

    def add_stretch(self, row_no: int, record_no: int, source_no: int, stretch: Stretch) -> None:
        count = len(stretch)
        self._collect(
            strings(stretch.person_ids),
            strings(stretch.face_ids),
            [
                np.arange(row_no, row_no + count),
                np.arange(record_no, record_no + count),
                np.full(count, source_no),
                np.asarray(stretch.lines, np.int64),
            ],
            stretch.dues_us,
        )

    def _collect(
        self,
        person_ids: pa.Array,
        face_ids: pa.Array,
        places: Sequence[Integers],
        dues_us: Sequence[int | None] | None,
    ) -> None:
        """Take rows by column; ``places`` are their numbers, records, sources and lines."""
        row_nos, record_nos, source_nos, lines = places
        dues = np.full(len(row_nos), NO_DUE)
        if dues_us is not None:
            dues = np.array([NO_DUE if due is None else due for due in dues_us], np.int64)
            self._dues.take_note(np.stack([row_nos, dues, record_nos, source_nos, lines], axis=1))
        persons, faces = fingerprints(texts_of(person_ids)), fingerprints(texts_of(face_ids))
        self._read.add(_Sum.of(persons, faces, row_nos))
        self._rows = int(row_nos[-1]) + 1
        columns = [person_ids, face_ids, row_nos, source_nos.astype(np.int32), lines, dues, faces]
        batch = pa.record_batch([pa.array(column) for column in columns], _ROWS)
        if self._pending_bytes + batch.nbytes > BYTES_AT_ONCE:
            self._split()
        self._pending.append(batch)
        self._pending_bytes += batch.nbytes
        self._places.append((persons >> _SEVEN_BITS).astype(np.uint8))
        self._pending_rows += len(row_nos)
        if self._pending_rows >= ROWS_AT_ONCE:
            self._split()

    def _split(self) -> None:
        """Distribute what is pending over the parts."""
        if not self._pending:
            return
        self._parts.split(joined(self._pending), np.concatenate(self._places))
        self._pending, self._places = [], []
        self._pending_rows = self._pending_bytes = 0

    def collate(
        self, holds: frozenset[Hold], faces_per_call: int, most_faces: int | None = None
    ) -> Collated:
        self._split()
        self._parts.close()
        return _Collated(
            self._directory,
            self._parts,
            rows=self._rows,
            read=self._read,
            dues=self._dues,
            holds=holds,
            faces_per_call=faces_per_call,
            most_faces=most_faces,
        )

    def pairs(self) -> Iterator[Pair]:
        return pairs_in(self._directory)


def pairs_in(directory: Path) -> Iterator[Pair]:
    """Every pair with its first row, from the files of a ``PartedCollation`` that was collated."""
    parts = BatchFiles(directory, _ROWS_NAME, PARTS, _ROWS)
    for part in map(partial(_distinct, parts), parts.numbers()):
        firsts = _Grouped(part).firsts_by_person(np.ones(len(part), bool))
        chosen = part.take(pa.array(firsts))
        yield from map(
            Pair,
            chosen["person_id"].to_pylist(),
            chosen["face_id"].to_pylist(),
            chosen["row_no"].to_pylist(),
        )


@dataclass(slots=True)
class _Sum:
    """How many rows there were, and the sum of their fingerprints."""

    rows: int = 0
    fingerprint: int = 0

    @classmethod
    def of(cls, persons: Any, faces: Any, row_nos: Integers) -> _Sum:
        return cls(len(row_nos), total(persons, faces, row_nos))

    def add(self, other: _Sum) -> None:
        self.rows += other.rows
        self.fingerprint = (self.fingerprint + other.fingerprint) & MASK


@dataclass(slots=True)
class _Part:
    """What became of the rows of one part."""

    counts: dict[str, int] = field(default_factory=dict)
    sum: _Sum = field(default_factory=_Sum)
    """Of the rows that are amended."""
    faces: Sequence[NDArray[Any]] = ()
    """Fingerprints of faces, by the file that they belong to."""
    persons: tuple[pa.RecordBatch, Integers] | None = None
    """Persons of whom something is to be sent, and the file of each."""

    def count(self, name: str, count: Any) -> None:
        """Add to one of the plan's figures."""
        self.counts[name] = self.counts.get(name, 0) + int(count)


class _Grouped:
    """The rows of one part, by person and face; places are those of rows in the part."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._rows = rows
        # Codes, not hashes: two texts never have the same.
        self.persons = codes(rows["person_id"])
        keys = (self.persons << 32) | codes(rows["face_id"])
        order = np.argsort(keys, kind="stable")
        is_new = np.diff(keys[order], prepend=-1) != 0
        self.first = np.empty(len(rows), np.int64)
        """Where the first row of each row's person and face is."""
        self.first[order] = order[is_new][np.cumsum(is_new) - 1]
        self.is_first = self.first == np.arange(len(rows))
        self.is_whole = np.asarray(pc.equal(rows["face_id"], ""))

    def distinct(self) -> pa.RecordBatch:
        """The first row of each person and face, with the earliest of their due times."""
        dues = integers(self._rows["due_us"]).copy()
        np.minimum.at(dues, self.first, integers(self._rows["due_us"]))
        rows = self._rows.set_column(_DUE, "due_us", pa.array(dues))
        return rows.take(pa.array(np.flatnonzero(self.is_first)))

    def firsts_by_person(self, chosen: NDArray[np.bool_]) -> Integers:
        """The first rows among ``chosen``, by person, in their order; whole persons before faces."""
        firsts = np.flatnonzero(self.is_first & chosen)
        keys = self.persons[firsts] * 2 + ~self.is_whole[firsts]
        return firsts[np.argsort(keys, kind="stable")]


def _distinct(parts: BatchFiles, number: int) -> pa.RecordBatch:
    """The first row of each person and face of a part, which may repeat them millions of times."""
    known = pa.RecordBatch.from_pylist([], _ROWS)

    def at_once() -> int:
        return max(ROWS_GROUPED_AT_ONCE, len(known))

    for some in parts.tables(number, at_once):
        known = _Grouped(joined([known, some])).distinct()
    return known


@dataclass(slots=True)
class _Calls:
    """Adjacent calls in their order."""

    sum: _Sum
    row_nos: Integers
    """Of each face."""
    sizes: Integers
    """How many faces each call has."""
    last_calls: Integers
    """The last call of each one's person, counted from the first of these."""
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Conflicts:
    """First rows of pairs whose face is under another person, too; ascending."""

    first_rows: Integers
    other_source_nos: Integers
    other_lines: Integers

    def of(self, first_rows: Integers) -> tuple[NDArray[np.bool_], Integers]:
        """Which of ``first_rows`` are among them, and where."""
        at = np.searchsorted(self.first_rows, first_rows)
        at = np.minimum(at, max(0, len(self.first_rows) - 1))
        if not len(self.first_rows):
            return np.zeros(len(first_rows), bool), at
        return self.first_rows[at] == first_rows, at


@dataclass(slots=True)
class _Fates:
    """Which rows are not to be sent."""

    held: NDArray[np.bool_]
    in_conflict: NDArray[np.bool_]
    conflict_at: Integers
    """Where each of those is among the conflicts."""

    def __post_init__(self) -> None:
        self.in_conflict &= ~self.held

    @property
    def set_aside(self) -> NDArray[np.bool_]:
        return self.held | self.in_conflict


_NO_CONFLICTS = _Conflicts(*(np.empty(0, np.int64) for _ in range(3)))


class _Collated:
    """The calls of all parts; implements ``worker.ledger.collation.Collated``."""

    def __init__(
        self,
        directory: Path,
        parts: BatchFiles,
        *,
        rows: int,
        read: _Sum,
        dues: DueFile,
        holds: frozenset[Hold],
        faces_per_call: int,
        most_faces: int | None,
    ) -> None:
        self._directory = directory
        self._parts = parts
        self._rows = rows
        self._read = read
        self._dues = dues
        self._faces_per_call = faces_per_call
        self._most_faces = most_faces
        self._held_persons = pa.array({person for person, face in holds if not face}, pa.string())
        self._held_faces = {hold for hold in holds if hold[1]}
        self._persons_of_held_faces = pa.array(
            {person for person, _ in self._held_faces}, pa.string()
        )
        self._span = max(ROWS_PER_PART_OF_ORDER, -(-rows // MOST_PARTS_OF_ORDER))
        self._bounds = dues.bounds(MOST_PARTS_OF_ORDER // 2)
        self._out = _Sum()
        self._counts: dict[str, int] = dict.fromkeys(Figures.__slots__, 0)
        self._call_of_row: Integers | None = None
        self._last_calls: list[Integers] = []
        self._writing = Lock()
        self._group(_NO_CONFLICTS)
        conflicts = self._conflicts()
        if len(conflicts.first_rows):
            self._group(conflicts)

    # Parts by person: what each row is, and which faces each person has.

    def _group(self, conflicts: _Conflicts) -> None:
        """Write amendments and persons to files by row; with ``conflicts`` for the second time."""
        stage = "again" if len(conflicts.first_rows) else "first"
        count = -(-self._rows // self._span)
        self._amended = [self._directory / f"amended.{stage}.{n}" for n in range(count)]
        ahead_parts = len(self._bounds) + 1 if self._dues.are_any else 0
        self._persons = BatchFiles(
            self._directory, f"persons.{stage}", ahead_parts + count, _PERSONS
        )
        self._fingerprints = [self._directory / f"faces.{stage}.{n}" for n in range(PARTS_OF_FACES)]
        self._out = _Sum()
        self._counts = dict.fromkeys(Figures.__slots__, 0)
        with ExitStack() as files:
            amended = [files.enter_context(path.open("wb")) for path in self._amended]
            faces = [files.enter_context(path.open("wb")) for path in self._fingerprints]
            judged = partial(self._judged, conflicts, ahead_parts, amended)
            for part in ahead(judged, self._parts.numbers()):
                for name, count in part.counts.items():
                    most = name == "largest_person_faces"
                    self._counts[name] = (
                        max(self._counts[name], count) if most else self._counts[name] + count
                    )
                self._out.add(part.sum)
                _append(faces, part.faces)
                if part.persons is not None:
                    self._persons.split(*part.persons)
        self._persons.close()

    def _judged(
        self, conflicts: _Conflicts, ahead_parts: int, files: Sequence[Any], number: int
    ) -> _Part:
        """What the rows of one part are; needs nothing but itself, so several threads do it.

        The rows come some at a time, and only the first of each person and face is kept: however
        often a pair is repeated, memory is that of the distinct ones.
        """
        part = _Part()
        known: pa.RecordBatch | None = None
        tables = self._parts.tables(number, lambda: max(ROWS_GROUPED_AT_ONCE, len(known or ())))
        for some in tables:
            count = len(some)
            rows = some if known is None else joined([known, some])
            del some, known  # which are in it, and may be as big
            grouped = _Grouped(rows)
            fates = _Fates(self._held(rows), *conflicts.of(integers(rows["row_no"])[grouped.first]))
            self._require_few_faces(rows, grouped, fates.held)
            is_new = np.arange(len(rows)) >= len(rows) - count
            part.count("repeats", np.count_nonzero(~grouped.is_first))
            part.count("held", np.count_nonzero(fates.held & is_new))
            part.count("conflicts", np.count_nonzero(fates.in_conflict & is_new))
            at = np.flatnonzero((~grouped.is_first | fates.set_aside) & is_new)
            if len(at):
                amended = _amendments(rows, grouped.first, at, fates, conflicts)
                chosen = rows.take(pa.array(at))
                persons = fingerprints(texts_of(chosen["person_id"]))
                row_nos = integers(chosen["row_no"])
                part.sum.add(_Sum.of(persons, np.asarray(chosen["face_print"]), row_nos))
                with self._writing:
                    _append(files, self._by_row(amended))
            known = grouped.distinct()
        assert known is not None  # a part without rows has no file
        self._gather(part, known, conflicts, ahead_parts)
        numbers = np.sort(
            np.asarray(known["face_print"])[np.asarray(pc.not_equal(known["face_id"], ""))]
        )
        bounds = np.searchsorted(
            numbers, np.arange(1, PARTS_OF_FACES, dtype=np.uint64) << _SIX_BITS
        )
        part.faces = np.split(numbers, bounds)
        return part

    def _require_few_faces(
        self, rows: pa.RecordBatch, grouped: _Grouped, held: NDArray[np.bool_]
    ) -> None:
        """Raise ``TooManyFaces`` as soon as a person has more than are kept for one who may not be sent.

        Also where some would turn out to be in conflict: that is known only of all of them together.
        """
        if self._most_faces is None or len(rows) <= self._most_faces:
            return
        named = np.flatnonzero(grouped.is_first & ~grouped.is_whole & ~held)
        sizes = np.bincount(grouped.persons[named], minlength=1)
        largest = int(sizes.argmax())
        if sizes[largest] > self._most_faces:
            # Rows come in input order, and so does what is kept of them.
            first = int(named[np.argmax(grouped.persons[named] == largest)])
            raise TooManyFaces(rows["source_no"][first].as_py(), rows["line"][first].as_py())

    def _held(self, rows: pa.RecordBatch) -> NDArray[np.bool_]:
        persons = rows["person_id"]
        held = np.array(pc.is_in(persons, self._held_persons))
        if self._held_faces:
            for at in np.flatnonzero(pc.is_in(persons, self._persons_of_held_faces)).tolist():
                if (persons[at].as_py(), rows["face_id"][at].as_py()) in self._held_faces:
                    held[at] = True
        return held

    def _by_row(self, amended: Integers) -> Sequence[NDArray[Any]]:
        """Amendments by the file that they belong to."""
        amended = amended[np.argsort(amended[:, 0])]
        bounds = np.searchsorted(amended[:, 0], np.arange(1, len(self._amended)) * self._span)
        return np.split(amended, bounds)

    def _gather(
        self, part: _Part, rows: pa.RecordBatch, conflicts: _Conflicts, ahead_parts: int
    ) -> None:
        """Who is to be sent something, from the first row of each person and face."""
        grouped = _Grouped(rows)
        is_clash, _ = conflicts.of(integers(rows["row_no"]))
        at = grouped.firsts_by_person(~self._held(rows) & ~is_clash)
        if not len(at):
            return
        starts = np.flatnonzero(np.diff(grouped.persons[at], prepend=-1))
        offsets = pa.array(np.append(starts, len(at)).astype(np.int32))
        first_rows = np.minimum.reduceat(integers(rows["row_no"])[at], starts)
        due = np.minimum.reduceat(integers(rows["due_us"])[at], starts)
        whole = grouped.is_whole[at[starts]]
        chosen = rows.take(pa.array(at))
        lists = (chosen["face_id"], chosen["row_no"], chosen["source_no"], chosen["line"])
        batch = pa.record_batch(
            [
                pa.array(due),
                pa.array(first_rows),
                chosen["person_id"].take(pa.array(starts)),
                pa.array(whole),
                *(pa.ListArray.from_arrays(offsets, values) for values in lists),
            ],
            _PERSONS,
        )
        named = np.diff(np.append(starts, len(at))) - whole
        part.count("persons", len(starts))
        part.count("whole_persons", np.count_nonzero(whole))
        part.count("faces", named.sum())
        part.count("oversized_persons", np.count_nonzero(named > self._faces_per_call))
        part.count("largest_person_faces", named.max())
        places = ahead_parts + first_rows // self._span
        if ahead_parts:
            moments = np.searchsorted(self._bounds, due + 1j * first_rows, side="right")
            places = np.where(due == NO_DUE, places, moments)
        part.persons = (batch, places)

    # Faces under several persons.

    def _conflicts(self) -> _Conflicts:
        """Looks for faces with equal fingerprints, and compares the texts of those only."""
        several = [_several(path) for path in self._fingerprints]
        suspects = np.concatenate(several)
        if not len(suspects):
            return _NO_CONFLICTS
        # A wrong column as face ID makes suspects of all rows: they are split like these.
        pairs = BatchFiles(self._directory, "suspects", PARTS_OF_FACES, _SUSPECTS)
        for rows in map(partial(_distinct, self._parts), self._parts.numbers()):
            numbers = np.asarray(rows["face_print"])
            at = np.minimum(np.searchsorted(suspects, numbers), len(suspects) - 1)
            is_face = np.asarray(pc.not_equal(rows["face_id"], ""))
            chosen = np.flatnonzero((suspects[at] == numbers) & is_face)
            if len(chosen):
                pairs.split(
                    rows.select(_SUSPECTS.names).take(pa.array(chosen)),
                    numbers[chosen] >> _SIX_BITS,
                )
        pairs.close()
        clashes = np.concatenate([self._clashes(pairs.table(n)) for n in pairs.numbers()], axis=1)
        return _Conflicts(*clashes[:, np.argsort(clashes[0])])

    @staticmethod
    def _clashes(pairs: pa.RecordBatch) -> Integers:
        """Rows of ``pairs`` with a face of another person, and that one's sources and lines."""
        faces = codes(pairs["face_id"])
        row_nos, source_nos, lines = (
            integers(pairs[name]) for name in ("row_no", "source_no", "line")
        )
        order = np.lexsort((row_nos, faces))
        faces, row_nos = faces[order], row_nos[order]
        starts = np.flatnonzero(np.diff(faces, prepend=-1))
        sizes = np.diff(np.append(starts, len(faces)))
        begins = np.repeat(starts, sizes)
        is_clash = np.repeat(sizes > 1, sizes)
        at = np.arange(len(faces))
        # The first under another person: the second one for the first, and the first for all others.
        others = np.where(at == begins, np.minimum(begins + 1, len(faces) - 1), begins)
        others = order[others[is_clash]]
        return np.stack([row_nos[is_clash], source_nos[others], lines[others]])

    # By row, and in the order of calls.

    def amendments(self) -> Iterator[tuple[Sequence[Numbers], int]]:
        for path in self._amended:
            table = np.fromfile(path, np.int64).reshape(-1, _AMENDMENT_COLUMNS)
            table = table[np.argsort(table[:, 0])]
            for start in range(0, len(table), AMENDMENTS_PER_BLOCK):
                some = table[start : start + AMENDMENTS_PER_BLOCK]
                yield [numbers_of(column) for column in some.T], len(some)

    def blocks(self) -> Iterator[Block]:
        for calls in ahead(self._calls_of, self._persons.numbers()):
            self._out.add(calls.sum)
            self._note_calls(calls.row_nos, calls.sizes, calls.last_calls)
            yield from calls.blocks
        if self._out != self._read:
            raise RuntimeError(
                f"of {self._read.rows} rows that were read, {self._out.rows} came out, or other ones"
            )

    def _calls_of(self, number: int) -> _Calls:
        """The calls of the persons in one file, in their order."""
        persons = self._persons.table(number)
        order = np.lexsort((integers(persons["first_row"]), integers(persons["due_us"])))
        persons = persons.take(pa.array(order))
        sizes = integers(pc.list_value_length(persons["face_ids"]))
        whole = np.asarray(persons["whole"])
        per_call = self._faces_per_call
        counts = np.where(whole, 1, -(-sizes // per_call))
        of_call = np.repeat(np.arange(len(sizes)), counts)
        lasts = np.cumsum(counts) - 1
        # All but the last call of a person are full.
        call_sizes = np.full(len(of_call), per_call)
        call_sizes[lasts] = sizes - (counts - 1) * per_call
        face_ids, row_nos, source_nos, lines = (
            persons[name].flatten() for name in ("face_ids", "row_nos", "source_nos", "lines")
        )
        calls = _Calls(
            _Sum.of(
                np.repeat(fingerprints(texts_of(persons["person_id"])), sizes),
                fingerprints(texts_of(face_ids)),
                integers(row_nos),
            ),
            integers(row_nos),
            call_sizes,
            lasts[of_call],
        )
        is_last = np.zeros(len(of_call), np.int64)
        is_last[lasts] = 1
        texts_of_persons = texts_of(persons["person_id"].take(pa.array(of_call)))
        texts_of_faces = texts_of(face_ids)
        ends = np.concatenate(([0], np.cumsum(call_sizes))).tolist()
        source_nos, lines = integers(source_nos), integers(lines)
        wholes = whole.astype(np.int64)[of_call]
        for start in range(0, len(of_call), CALLS_PER_BLOCK):
            stop = min(start + CALLS_PER_BLOCK, len(of_call))
            faces = slice(ends[start], ends[stop])
            calls.blocks.append(
                Block(
                    stop - start,
                    faces.stop - faces.start - int(wholes[start:stop].sum()),
                    int(is_last[start:stop].sum()),
                    texts_of_persons.part(start, stop),
                    numbers_of(call_sizes[start:stop]),
                    numbers_of(wholes[start:stop]),
                    numbers_of(is_last[start:stop]),
                    texts_of_faces.part(faces.start, faces.stop),
                    numbers_of(calls.row_nos[faces]),
                    numbers_of(source_nos[faces]),
                    numbers_of(lines[faces]),
                )
            )
        return calls

    def _note_calls(self, row_nos: Integers, sizes: Integers, last_calls: Integers) -> None:
        """Remember which call each row belongs to, where anybody has to know when that will be."""
        before = self._counts["calls"]
        self._counts["calls"] += len(sizes)
        if self._dues.are_any:
            # There are not more calls than rows.
            numbers = np.int32 if self._rows < MOST_32_BITS else np.int64
            if self._call_of_row is None:
                self._call_of_row = np.full(self._rows, -1, numbers)
            self._call_of_row[row_nos] = before + np.repeat(np.arange(len(sizes)), sizes)
            self._last_calls.append((before + last_calls).astype(numbers))

    def dues(self) -> Iterator[Due]:
        if self._call_of_row is None:
            return
        last_calls = np.concatenate(self._last_calls)
        at, repeats = -1, np.empty((0, 2), np.int64)
        for number, rows in self._dues.by_span(self._span):
            if number != at:
                at, repeats = number, self._repeats(number)
            row_nos = rows[:, 0]
            first_rows = row_nos.copy()
            if len(repeats):
                places = np.minimum(np.searchsorted(repeats[:, 0], row_nos), len(repeats) - 1)
                is_repeat = repeats[places, 0] == row_nos
                first_rows[is_repeat] = repeats[places[is_repeat], 1]
            calls = self._call_of_row[first_rows]
            chosen = calls >= 0
            calls = calls[chosen]
            columns = (*rows[chosen].T, first_rows[chosen], calls, last_calls[calls])
            yield from map(Due, *(column.tolist() for column in columns))

    def _repeats(self, number: int) -> Integers:
        """Of one file of amendments: the rows that repeat another one and go with it, and that one."""
        table = np.fromfile(self._amended[number], np.int64).reshape(-1, _AMENDMENT_COLUMNS)
        table = table[(table[:, 3] == 0) & (table[:, 4] >= 0)]
        order = np.argsort(table[:, 0])
        return np.stack([table[order, 0], table[order, 4]], axis=1)

    def figures(self) -> Figures:
        return Figures(**self._counts)


def _amendments(
    rows: pa.RecordBatch, firsts: Integers, at: Integers, fates: _Fates, conflicts: _Conflicts
) -> Integers:
    """What became of the rows ``at``: a column for each field of an ``Amendment``."""
    places = [integers(rows[name]) for name in ("row_no", "source_no", "line")]
    first = firsts[at]
    repeats = first != at
    clashes = fates.in_conflict[at]
    others = fates.conflict_at[at[clashes]]
    table = np.zeros((len(at), _AMENDMENT_COLUMNS), np.int64)
    for column, numbers in enumerate(places):
        table[:, column] = numbers[at]
        table[:, 4 + column] = np.where(repeats, numbers[first], 0)
    table[:, 3] = np.where(fates.held[at], FATES.index(HELD), 0) + clashes * FATES.index(CONFLICT)
    table[~repeats, 4] = -1
    table[clashes, 7] = conflicts.other_source_nos[others]
    table[clashes, 8] = conflicts.other_lines[others]
    return table


def _append(files: Sequence[Any], pieces: Sequence[NDArray[Any]]) -> None:
    """Each piece to its file."""
    for file, piece in zip(files, pieces, strict=False):
        file.write(piece.tobytes())


def _several(path: Path) -> NDArray[np.uint64]:
    """The numbers that a file holds more than once, ascending."""
    numbers = np.sort(np.fromfile(path, np.uint64))
    return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])
