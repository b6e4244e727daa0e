"""The server's side of a run, sorted onto scratch paper: what it got, and what it then held.

The scratch is an unnamed temporary database that SQLite removes by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import apsw
import msgspec

from worker.invariants.evidence import texts
from worker.invariants.interface import Afterwards, Arrival, Server
from worker.ledger.database import query

BATCH = 10_000

SCHEMA = """
CREATE TABLE arrival (
  position INTEGER PRIMARY KEY, number INTEGER, arrived_us INTEGER, seconds REAL, operation TEXT,
  person_id TEXT, face_ids TEXT, nonce TEXT, served INTEGER, lies INTEGER) STRICT;
CREATE TABLE change (
  position INTEGER, number INTEGER, person_id TEXT, late INTEGER,
  deleted TEXT, added TEXT, person TEXT) STRICT;
CREATE TABLE holding (person_id TEXT, face_ids TEXT) STRICT;
CREATE TABLE attempt (
  seq INTEGER PRIMARY KEY, operation TEXT, person_id TEXT, face_ids TEXT, nonce TEXT,
  opened_us INTEGER, kind TEXT, left_us INTEGER) STRICT;
"""
INDEXES = """
CREATE INDEX arrival_nonce ON arrival (nonce);
CREATE INDEX arrival_person ON arrival (person_id, position);
CREATE INDEX change_person ON change (person_id, position);
CREATE INDEX holding_person ON holding (person_id);
CREATE INDEX attempt_nonce ON attempt (nonce);
"""

ATTEMPTS = """
SELECT a.seq, a.operation, c.person_id, a.face_ids, a.nonce, a.opened_us, IFNULL(e.kind, ''), e.sent_us
FROM attempt a JOIN call c USING (call_no) LEFT JOIN ending e ON e.attempt_seq = a.seq
"""

# What happened to one person, in the order in which the server saw it.
EVENTS = """
SELECT position, 0, nonce, operation, face_ids, served, lies, number FROM arrival WHERE person_id = ?1
UNION ALL
SELECT position, 1, deleted, added, person, late, 0, number FROM change WHERE person_id = ?1
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request reached the server."""

    position: int
    number: int
    nonce: str
    operation: str
    face_ids: tuple[str, ...]
    served: bool
    lies: bool

    @property
    def place(self) -> str:
        return f"request {self.number}"


@dataclass(frozen=True, slots=True)
class Changed:
    """Its world changed: with the answer to a request, or after its client had given up."""

    position: int
    number: int
    deleted: tuple[str, ...]
    added: tuple[str, ...]
    person: str
    late: bool


class Scratch:
    """A context; raises what the iterators of ``server`` raise."""

    def __init__(self, ledger: apsw.Connection, server: Server) -> None:
        self.server = server
        self.connection = apsw.Connection("")
        self.connection.execute("PRAGMA cache_size = -16000")
        self.connection.execute("PRAGMA temp_store = FILE")
        self.connection.execute(SCHEMA)
        with self.connection:
            self._take_events(server)
            self._take("INSERT INTO holding VALUES (?, ?)", map(_holding, server.holdings or ()))
            self._take(
                "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", query(ledger, ATTEMPTS)
            )
            self.connection.execute(INDEXES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _take(self, statement: str, rows: Iterator[Any]) -> None:
        self.connection.executemany(statement, rows)

    def _take_events(self, server: Server) -> None:
        for kind, events in groupby(enumerate(server.events), key=lambda x: type(x[1])):
            # Batches, because one statement cannot feed two tables.
            for batch in _batches(events):
                if kind is Arrival:
                    self._take(
                        "INSERT INTO arrival VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (_arrival(position, event) for position, event in batch),
                    )
                self._take(
                    "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        _change(position, event)
                        for position, event in batch
                        if event.deleted or event.added or event.person
                    ),
                )

    def events(self, person_id: str) -> Iterator[Asked | Changed]:
        """What happened to one person, in order."""
        for position, is_change, *more, number in query(self.connection, EVENTS, (person_id,)):
            if is_change:
                deleted, added, person, late, _ = more
                yield Changed(position, number, texts(deleted), texts(added), person, bool(late))
            else:
                nonce, operation, face_ids, served, lies = more
                yield Asked(
                    position, number, nonce, operation, texts(face_ids), bool(served), bool(lies)
                )

    def holdings(self, person_id: str) -> dict[str, bool] | None:
        """The person's faces at first, each with True; None where nobody knows them."""
        if self.server.holdings is None:
            return None
        rows = query(
            self.connection, "SELECT face_ids FROM holding WHERE person_id = ?", (person_id,)
        )
        return {face_id: True for (face_ids,) in rows for face_id in texts(face_ids)}


def _batches(events: Iterator[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    batch = []
    for event in events:
        batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _json(face_ids: Any) -> str:
    return msgspec.json.encode(face_ids).decode()


def _arrival(position: int, event: Arrival) -> tuple[object, ...]:
    return (
        position,
        event.number,
        event.arrived_us,
        event.seconds,
        event.operation,
        event.person_id,
        _json(event.face_ids),
        event.nonce,
        int(event.served),
        int(event.lies),
    )


def _change(position: int, event: Arrival | Afterwards) -> tuple[object, ...]:
    return (
        position,
        event.number,
        event.person_id,
        int(isinstance(event, Afterwards)),
        _json(event.deleted),
        _json(event.added),
        event.person,
    )


def _holding(person: tuple[str, Any]) -> tuple[str, str]:
    return person[0], _json(list(person[1]))
