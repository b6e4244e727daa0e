"""The facts that were fixed with a plan: what it is bound to, and how it becomes a run.

A plan that ``run DIR`` is to carry out has the fact ``bound``; a run that was planned and confirmed
in one go has none, and is only ever resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw
import msgspec

from worker.ledger.books import LedgerBooks
from worker.ledger.database import facts_seal, query
from worker.ledger.rowmap import RowMap
from worker.ledger.writer import T, Write

BOUND = "bound"

FACT = "SELECT value FROM run WHERE key = ?"
PLANNED = "SELECT key, value FROM run WHERE key IN ('run_id', 'persons', 'calls', 'faces', 'whole_persons')"
SET_FACT = "UPDATE run SET value = ? WHERE key = ?"
BEGUN = "SELECT started_us FROM session ORDER BY session_no LIMIT 1"

WHOLE_PERSONS = "SELECT COUNT(*) FROM face WHERE face_id = '' AND outcome = 'unsent'"
# Faces that the exclusion list has taken out since the plan, by row; those it took out before are none.
HELD_SINCE = "SELECT first_row FROM face WHERE outcome = 'held'"


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, as it was sealed."""

    run_id: str
    persons: int
    calls: int
    faces: int
    """Distinct (person, face) pairs to send; whole persons may turn out to have more."""
    whole_persons: int


class Queued(NamedTuple):
    """What a plan that was never begun would send."""

    faces: int
    """Distinct pairs that the input names."""
    persons: int
    whole_persons: int
    calls: int


def planned(connection: apsw.Connection) -> Planned:
    """What the run was planned to be."""
    return Planned(**{key: msgspec.json.decode(value) for key, value in query(connection, PLANNED)})


def bound_to(connection: apsw.Connection) -> Any:
    """What the plan is bound to, as it was sealed; None for a run that was never a mere plan."""
    row = query(connection, FACT, (BOUND,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0])


def begun_us(connection: apsw.Connection) -> int | None:
    """When the first session began, in microseconds since the epoch; None for never."""
    row = query(connection, BEGUN).fetchone()
    return None if row is None else int(row[0])


def is_mere_plan(connection: apsw.Connection) -> bool:
    """Whether ``run DIR`` has still to begin what was planned."""
    return bound_to(connection) is not None and begun_us(connection) is None


def queued(connection: apsw.Connection) -> Queued:
    """What the plan would send now."""
    left = LedgerBooks(connection).left()
    (whole_persons,) = query(connection, WHOLE_PERSONS).fetchone()
    return Queued(left.faces, left.persons, whole_persons, left.calls)


def rows_held_since(connection: apsw.Connection) -> int:
    """Rows that the exclusion list has taken out of the plan since it was sealed."""
    held = {row for (row,) in query(connection, HELD_SINCE)}
    if not held:
        return 0
    return len(held) + sum(x.first_row in held for x in RowMap(connection).amendments())


def settle(connection: apsw.Connection, settings: Mapping[str, object]) -> None:
    """Make ``settings`` those of the run, in the caller's transaction.

    The session that carries a plan out may narrow what was planned; a resume has to know it.
    """
    connection.execute(SET_FACT, (msgspec.json.encode(settings).decode(), "settings"))
    connection.execute(SET_FACT, (facts_seal(connection), "seal"))


class PendingWriter:
    """Implements ``worker.ledger.writer.Writer`` within a transaction of the caller.

    Nothing is durable before the caller commits; it also closes the connection.
    """

    def __init__(self, connection: apsw.Connection, last: Write[None]) -> None:
        """``last`` ends every write."""
        self._connection = connection
        self._last = last

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        value = write(self._connection)
        self._last(self._connection)
        future.set_result(value)
        return future

    async def close(self) -> None:
        """Leave the connection to the caller."""
