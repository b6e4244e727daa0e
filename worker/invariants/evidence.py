"""The ledger as the checker reads it: persons with their calls, faces and attempts.

The queries are the checker's own, so that a mistake in those of the ledger or the report is not
made twice. Persons stream by one at a time; memory grows with the largest person only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import apsw
import msgspec

from worker.ledger.database import query
from worker.model import Kind, Outcome, Step

NOTHING_APPLIED = frozenset({Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL})
END_UNKNOWN = frozenset({Kind.AMBIGUOUS, Kind.CLOSED, Kind.SWAPPED})

FACES_KEPT = "faces_kept"
RECORD_KEPT = "record_kept"
KEPT = frozenset({FACES_KEPT, RECORD_KEPT})
"""Codes of persons who are held for the sake of some of their faces only."""

# The faces of every call with the row of the input they come from, person by person.
FACES = """
SELECT c.person_id, c.call_no, c.whole, c.state, c.step, c.seal,
       f.face_no, f.face_id, f.found_by, f.step, f.outcome, f.code, f.attempts, f.first_sent_us,
       f.decided_by, r.person_id, r.face_id, r.fate, s.name || ':' || r.line
FROM call c CROSS JOIN face f ON f.call_no = c.call_no
CROSS JOIN row r ON r.row_no = f.first_row CROSS JOIN source s ON s.source_no = r.source_no
ORDER BY c.person_id, c.call_no, f.face_no
"""

# Every attempt with its end, in the same order.
ATTEMPTS = """
SELECT c.person_id, a.call_no, a.seq, a.operation, a.step, a.nonce, a.body_sha256, a.face_ids,
       a.opened_us, e.seq, e.kind, e.ended_us, e.sent_us, e.http_status, e.code, e.listed
FROM call c CROSS JOIN attempt a ON a.call_no = c.call_no LEFT JOIN ending e ON e.attempt_seq = a.seq
ORDER BY c.person_id, c.call_no, a.seq
"""

HOLDS = "SELECT person_id, face_id FROM hold ORDER BY person_id, face_id"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    seq: int
    kind: Kind
    ended_us: int
    sent_us: int | None
    http_status: int | None
    code: str
    listed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a call."""

    call_no: int
    seq: int
    operation: str
    step: Step
    nonce: str
    body_sha256: str
    face_ids: tuple[str, ...]
    opened_us: int
    ending: Ending | None

    @property
    def place(self) -> str:
        return f"attempt {self.seq}"

    @property
    def kind(self) -> Kind | None:
        return None if self.ending is None else self.ending.kind

    @property
    def end_seq(self) -> int:
        """Raises ``AttributeError`` for one without an end."""
        assert self.ending is not None
        return self.ending.seq

    @property
    def departed_us(self) -> int:
        """When its first byte left; where nobody knows, when it was opened."""
        sent_us = None if self.ending is None else self.ending.sent_us
        return self.opened_us if sent_us is None else sent_us

    @property
    def deletes(self) -> bool:
        return self.step is Step.DELETE

    @property
    def looks(self) -> bool:
        return self.step in (Step.LOOKUP, Step.VERIFY)

    @property
    def may_have_left(self) -> bool:
        """Whether a byte of it may have left this machine."""
        if self.ending is not None and self.ending.kind is Kind.FATAL:
            # Without credentials, or without trust in the server, nothing is sent.
            return self.ending.sent_us is not None
        return self.kind is not Kind.NOT_SENT

    @property
    def weighs(self) -> bool:
        """Whether it may have changed something, or was refused for good."""
        return self.kind not in NOTHING_APPLIED

    @property
    def is_complete_lookup(self) -> bool:
        return self.looks and self.kind in (Kind.SHOWN, Kind.NO_PERSON)

    def lists(self, face_id: str) -> bool:
        """Whether its answer names the face."""
        return self.ending is not None and face_id in self.ending.listed

    def is_about(self, face_id: str) -> bool:
        """Whether a lookup asked about the face."""
        return not self.face_ids or face_id in self.face_ids


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a call as the ledger says it stands, or with an empty ID the whole person."""

    face_no: int
    face_id: str
    found_by: int | None
    step: str
    outcome: Outcome
    code: str
    attempts: int
    first_sent_us: int | None
    decided_by: int | None
    row_person_id: str
    row_face_id: str
    row_fate: str
    place: str
    """``source:line`` of its row."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call with everything that was tried."""

    call_no: int
    person_id: str
    whole: bool
    state: int
    step: str
    seal: bytes
    faces: tuple[Face, ...]
    attempts: tuple[Attempt, ...]

    @property
    def place(self) -> str:
        return f"call {self.call_no}"


@dataclass(frozen=True, slots=True)
class Person:
    """Everything that the ledger knows about one person."""

    person_id: str
    calls: tuple[Call, ...]
    held: frozenset[str]
    """Faces on the exclusion list; ``""`` stands for the whole person."""

    @property
    def attempts(self) -> list[Attempt]:
        """Of all calls, in ledger order."""
        return sorted((a for call in self.calls for a in call.attempts), key=lambda a: a.seq)


def persons(connection: apsw.Connection) -> Iterator[Person]:
    """Every person that has a call, in the order of their IDs."""
    attempts = _Stream(query(connection, ATTEMPTS))
    holds = _Stream(query(connection, HOLDS))
    for person_id, rows in groupby(query(connection, FACES), key=itemgetter(0)):
        calls = [list(group) for _, group in groupby(rows, key=itemgetter(1))]
        tried: dict[int, list[Attempt]] = {}
        for row in attempts.of(person_id):
            tried.setdefault(row[1], []).append(_attempt(row))
        held = frozenset(face_id for _, face_id in holds.of(person_id))
        yield Person(
            person_id,
            tuple(_call(faces, tried.get(faces[0][1], [])) for faces in calls),
            held,
        )


class _Stream:
    """Rows that are sorted by their first column, taken group by group."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, key: str) -> Iterator[Any]:
        # SQLite sorts text by its bytes in UTF-8, Python by code points: the same order.
        while self._next is not None and self._next[0] <= key:
            row, self._next = self._next, next(self._rows, None)
            if row[0] == key:
                yield row


def _call(rows: list[Any], attempts: list[Attempt]) -> Call:
    person_id, call_no, whole, state, step, seal = rows[0][:6]
    return Call(
        call_no,
        person_id,
        bool(whole),
        state,
        step,
        seal,
        tuple(_face(row[6:]) for row in rows),
        tuple(attempts),
    )


def _face(row: Any) -> Face:
    face_no, face_id, found_by, step, outcome, *more = row
    return Face(face_no, face_id, found_by, step, Outcome(outcome), *more)


def _attempt(row: Any) -> Attempt:
    _, call_no, seq, operation, step, nonce, body_sha256, face_ids, opened_us, end_seq, *end = row
    ending = None
    if end_seq is not None:
        kind, ended_us, sent_us, http_status, code, listed = end
        ending = Ending(end_seq, Kind(kind), ended_us, sent_us, http_status, code, texts(listed))
    return Attempt(
        call_no,
        seq,
        operation,
        Step(step),
        nonce,
        body_sha256,
        texts(face_ids),
        opened_us,
        ending,
    )


_decoder = msgspec.json.Decoder(tuple[str, ...])


def texts(document: str) -> tuple[str, ...]:
    """The members of a JSON list of texts."""
    return _decoder.decode(document)
