"""The planned calls, written once in their order: what is read when a call is first claimed.

Until then nothing else of a call exists. A plan of ten million calls is as quickly made durable as
its bytes are, a resume has nothing to count, and the ledger proper holds what was begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import apsw

from worker.errors import GateClosed
from worker.ledger.ahead import ahead
from worker.ledger.columns import Column, integers, packed, seal_of, strings, unpacked
from worker.ledger.database import damaged, query

CALLS_PER_BLOCK = 512
"""Read together, because they are claimed one after the other."""

BLOCKS_KEPT = 8

INSERT_BLOCK = "INSERT INTO plan_block VALUES (?, ?, ?, ?, ?, ?)"
BLOCK_WITH = """
SELECT first_call_no, calls, persons, faces, data, seal FROM plan_block
WHERE first_call_no <= ? ORDER BY first_call_no DESC LIMIT 1
"""
BLOCKS_FROM = """
SELECT first_call_no, calls, persons, faces, data, seal FROM plan_block
WHERE first_call_no + calls > ? ORDER BY first_call_no
"""

# What the blocks from one on hold together.
AHEAD = """
SELECT IFNULL(SUM(calls), 0), IFNULL(SUM(persons), 0), IFNULL(SUM(faces), 0) FROM plan_block
WHERE first_call_no >= ?
"""


class PlannedFace(NamedTuple):
    """A face as the input named it first."""

    face_id: str
    """``""`` for everything of the person."""
    first_row: int
    source_no: int
    line: int


class PlannedCall(NamedTuple):
    """A call as it was planned."""

    call_no: int
    person_id: str
    whole: bool
    faces: Sequence[PlannedFace]
    shares_person: bool
    """Whether the call before or behind it may be about the same person."""
    is_last: bool
    """Whether no call behind it is about the same person."""


class Extent(NamedTuple):
    """What the calls from one on come to."""

    calls: int
    persons: int
    """Those whose last call is among them."""
    faces: int


class Block(NamedTuple):
    """Adjacent calls by column, as they are packed.

    ``sizes``, ``wholes`` (0 or 1) and ``lasts`` (0 or 1) have a value for each call; the rest below
    ``person_ids`` for each face, those of one call adjacent.
    """

    calls: int
    faces: int
    """Those that the input names: without the lines of whole persons."""
    persons: int
    person_ids: Column
    sizes: Column
    wholes: Column
    lasts: Column
    face_ids: Column
    first_rows: Column
    source_nos: Column
    lines: Column


_COLUMNS = Block._fields[3:]


def write_blocks(connection: apsw.Connection, run_id: str, blocks: Iterable[Block]) -> None:
    """Write a whole plan, from its first call on."""
    call_no = 0
    for block, data in ahead(_packed, blocks):
        counts = (call_no, block.calls, block.persons, block.faces)
        connection.execute(INSERT_BLOCK, (*counts, data, seal_of("plan", run_id, counts, data)))
        call_no += block.calls


def _packed(block: Block) -> tuple[Block, bytes]:
    return block, packed({name: getattr(block, name) for name in _COLUMNS})


class _Calls:
    """The calls of one block, unpacked."""

    __slots__ = ("_ends", "_faces", "_lasts", "_persons", "_wholes", "numbers")

    def __init__(self, numbers: range, columns: Mapping[str, Column]) -> None:
        count = len(numbers)
        self.numbers = numbers
        self._persons = strings(columns["person_ids"], count)
        self._wholes = integers(columns["wholes"], count)
        self._lasts = integers(columns["lasts"], count)
        self._ends = list(accumulate(integers(columns["sizes"], count), initial=0))
        faces = self._ends[-1]
        self._faces = list(
            map(
                PlannedFace,
                strings(columns["face_ids"], faces),
                *(integers(columns[x], faces) for x in ("first_rows", "source_nos", "lines")),
            )
        )

    def call(self, call_no: int) -> PlannedCall:
        index = call_no - self.numbers.start
        starts_alone = index > 0 and self._lasts[index - 1]
        return PlannedCall(
            call_no,
            self._persons[index],
            bool(self._wholes[index]),
            self._faces[self._ends[index] : self._ends[index + 1]],
            not (starts_alone and self._lasts[index]),
            bool(self._lasts[index]),
        )


class Tape:
    """Reads the planned calls of one ledger.

    Everything here raises ``GateClosed`` for a block that is not what was planned, and from then on
    for every call of it: a disk that reads it well the next time is believed no more.
    """

    def __init__(self, connection: apsw.Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._kept: OrderedDict[range, _Calls] = OrderedDict()
        self._damaged: set[int] = set()

    def call(self, call_no: int) -> PlannedCall | None:
        """The call of that number; None beyond the last one."""
        calls = self._calls_with(call_no)
        return None if calls is None else calls.call(call_no)

    def calls(self, call_no: int = 0) -> Iterator[PlannedCall]:
        """All calls from one on."""
        while (planned := self.call(call_no)) is not None:
            yield planned
            call_no += 1

    def calls_of(self, person_ids: frozenset[str], call_no: int) -> Iterator[int]:
        """The numbers of the calls from one on that are about one of ``person_ids``.

        Of millions of calls nothing is made that is not needed to tell. Where a block is not what was
        planned, those of all others come before it raises.
        """
        damage: GateClosed | None = None
        for block in query(self._connection, BLOCKS_FROM, (call_no,)):
            first, count, *_ = block
            try:
                columns = self._columns(block)
            except GateClosed as damaged:
                damage = damaged
                continue
            persons = strings(columns["person_ids"], count)
            if not person_ids.isdisjoint(persons):
                for number, person_id in enumerate(persons, start=first):
                    if number >= call_no and person_id in person_ids:
                        yield number
        if damage is not None:
            raise damage

    def calls_beside(self, call_no: int) -> range:
        """The numbers of all calls about the person of ``call_no``, which are adjacent."""
        first = last = call_no
        while first and not self._planned(first - 1).is_last:
            first -= 1
        while not self._planned(last).is_last:
            last += 1
        return range(first, last + 1)

    def _planned(self, call_no: int) -> PlannedCall:
        planned = self.call(call_no)
        assert planned is not None  # the last call of the plan is the last of its person
        return planned

    def ahead(self, call_no: int) -> Extent:
        """What the calls from ``call_no`` on come to."""
        calls = self._calls_with(call_no)
        if calls is None:
            return Extent(0, 0, 0)
        rest = [calls.call(number) for number in range(call_no, calls.numbers.stop)]
        count, persons, faces = query(self._connection, AHEAD, (calls.numbers.stop,)).fetchone()
        return Extent(
            count + len(rest),
            persons + sum(call.is_last for call in rest),
            faces + sum(face.face_id != "" for call in rest for face in call.faces),
        )

    def _calls_with(self, call_no: int) -> _Calls | None:
        """The block that holds a call; None beyond the last one."""
        for numbers in reversed(self._kept):  # nearly always the one that was used last
            if call_no in numbers:
                self._kept.move_to_end(numbers)
                return self._kept[numbers]
        block = query(self._connection, BLOCK_WITH, (call_no,)).fetchone()
        if block is None or call_no >= block[0] + block[1]:
            return None
        first, count, *_ = block
        calls = _Calls(range(first, first + count), self._columns(block))
        self._kept[calls.numbers] = calls
        if len(self._kept) > BLOCKS_KEPT:
            self._kept.popitem(last=False)
        return calls

    def _columns(self, block: Sequence[Any]) -> dict[str, Column]:
        *counts, data, sealed = block
        first = counts[0]
        sound = seal_of("plan", self._run_id, counts, data) == sealed
        if not sound or first in self._damaged:
            self._damaged.add(first)
            raise damaged(
                self._connection.filename,
                f"the ledger is damaged (its calls from {first} on are not what was planned)",
            )
        return unpacked(data)
