"""Whether the blocks of the ledger hold what they say: nothing else can be believed before that.

What they are packed by is the ledger's own; what is in them is counted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import apsw
import msgspec
import zstandard

from worker.invariants.violation import Findings
from worker.ledger.columns import Column, integers, seal_of, strings, unpacked
from worker.ledger.database import query
from worker.ledger.rowmap import FATES, INVALID, Amendment
from worker.texts import Texts

TEXTS = ("labels", "person_ids", "face_ids", "fates", "reasons", "faults", "carried")
ROWS = {
    **dict.fromkeys(("records", "sources", "lines"), False),
    **dict.fromkeys(TEXTS, True),
}
"""Columns, and whether they hold texts."""

AMENDMENTS = dict.fromkeys(Amendment._fields, False)
CALLS = {"person_ids": True, "sizes": False, "wholes": False, "lasts": False}
FACES = {"face_ids": True, "first_rows": False, "source_nos": False, "lines": False}

# Each with what its table tells of it, in the order in which that is sealed.
ROW_BLOCKS = "SELECT first_row, rows, invalid, data, seal FROM row_block ORDER BY first_row"
AMENDMENT_BLOCKS = "SELECT first_row, rows, data, seal FROM amendment_block ORDER BY first_row"
PLAN_BLOCKS = """
SELECT first_call_no, calls, persons, faces, data, seal FROM plan_block ORDER BY first_call_no
"""


class _Block(NamedTuple):
    """A row of one of the three tables."""

    counts: Sequence[int]
    """The first row or call, how many there are, and what else is told."""
    data: bytes
    seal: bytes

    @property
    def first(self) -> int:
        return self.counts[0]

    @property
    def size(self) -> int:
        return self.counts[1]


class _Unreadable(Exception):
    """A block whose columns are not those of so many rows."""


def check_blocks(connection: apsw.Connection, findings: Findings) -> bool:
    """Whether everything is there, sealed and counted; everything else is laid out from it."""
    before = findings.counts["seal"]
    (value,) = query(connection, "SELECT value FROM run WHERE key = 'run_id'").fetchone()
    run_id = msgspec.json.decode(value, type=str)
    following = 0
    for block in _blocks(connection, ROW_BLOCKS):
        place = f"rows from {block.first} on"
        for complaint in _rows(block, following):
            findings.add("seal", place, complaint)
        following = block.first + block.size
    last_row = -1
    for block in _blocks(connection, AMENDMENT_BLOCKS):
        place = f"amendments from row {block.first} on"
        try:
            last_row = _last_amended(block, last_row)
        except _Unreadable as unreadable:
            findings.add("seal", place, str(unreadable))
    following = 0
    for block in _blocks(connection, PLAN_BLOCKS):
        place = f"calls from {block.first} on"
        for complaint in _calls(block, run_id, following):
            findings.add("seal", place, complaint)
        following = block.first + block.size
    return findings.counts["seal"] == before


def _blocks(connection: apsw.Connection, statement: str) -> Iterator[_Block]:
    return (_Block(counts, data, seal) for *counts, data, seal in query(connection, statement))


def _rows(block: _Block, following: int) -> Iterator[str]:
    if block.first != following:
        yield f"{following} rows are before them"
    try:
        columns = _columns(block, "rows", "")
        _require(columns, ROWS, block.size)
    except _Unreadable as unreadable:
        yield str(unreadable)
        return
    _, _, invalid = block.counts
    if strings(columns["fates"], block.size).count(INVALID) != invalid:
        yield "another number of them is invalid than is told"


def _last_amended(block: _Block, last_row: int) -> int:
    columns = _columns(block, "amendments", "")
    _require(columns, AMENDMENTS, block.size)
    row_nos = integers(columns["row_no"], block.size)
    if not block.size or row_nos[0] != block.first:
        raise _Unreadable("they begin with another row")
    if any(one >= another for one, another in pairwise([last_row, *row_nos])):
        raise _Unreadable("they are not in the order of their rows")
    if not all(0 <= fate < len(FATES) for fate in integers(columns["fate"], block.size)):
        raise _Unreadable("nobody knows one of their fates")
    return row_nos[-1]


def _calls(block: _Block, run_id: str, following: int) -> Iterator[str]:
    if block.first != following:
        yield f"{following} calls are before them"
    try:
        columns = _columns(block, "plan", run_id)
        _require(columns, CALLS, block.size)
        sizes = integers(columns["sizes"], block.size)
        _require(columns, FACES, sum(sizes))
    except _Unreadable as unreadable:
        yield str(unreadable)
        return
    _, _, persons, named = block.counts
    if min(sizes, default=0) < 1:
        yield "one of them has no face"
    if sum(integers(columns["lasts"], block.size)) != persons:
        yield "another number of persons ends with them than is told"
    if sum(face_id != "" for face_id in strings(columns["face_ids"], sum(sizes))) != named:
        yield "they have another number of faces than is told"


def _columns(block: _Block, kind: str, run_id: str) -> Mapping[str, Column]:
    if seal_of(kind, run_id, block.counts, block.data) != block.seal:
        raise _Unreadable("their seal is not that of what is in them")
    try:
        return unpacked(block.data)
    except (zstandard.ZstdError, msgspec.DecodeError, ValueError, TypeError, AttributeError):
        raise _Unreadable("they cannot be unpacked") from None


def _require(columns: Mapping[str, Column], kinds: Mapping[str, bool], count: int) -> None:
    for name, is_text in kinds.items():
        column = columns.get(name)
        if isinstance(column, str | int):
            fits = isinstance(column, str) is is_text
        elif isinstance(column, Texts):
            fits = is_text and len(column) == count
        else:
            fits = (
                isinstance(column, Sequence | memoryview) and not is_text and len(column) == count
            )
        if not fits:
            raise _Unreadable(f"not each of them has a value in {name}")
