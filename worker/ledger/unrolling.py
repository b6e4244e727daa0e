"""From the tape into tables: one call when it is begun, or all of them for whoever judges a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from worker.ledger.database import WAITING, query, seal
from worker.ledger.postings import INSERT_CALLS, INSERT_FACES, UNSENT_FACE, Row, write_rows
from worker.ledger.rowmap import RowMap, reason_of
from worker.ledger.tape import PlannedCall, Tape
from worker.model import Step

# Tables of the names that the ledger had if it did not pack what is written once.
CREATE_ROW = """
CREATE TEMP TABLE row (
  row_no INTEGER PRIMARY KEY, record_no INTEGER, source_no INTEGER, line INTEGER, label TEXT,
  person_id TEXT, face_id TEXT, fate TEXT, reason TEXT, fault TEXT, carried TEXT
) STRICT
"""
CREATE_REPEAT = """
CREATE TEMP TABLE repeat (row_no INTEGER PRIMARY KEY, first_row INTEGER) STRICT
"""
INSERT_ROW = "INSERT INTO temp.row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_REPEAT = "INSERT INTO temp.repeat VALUES (?, ?)"
UNROLLED = "SELECT 1 FROM sqlite_temp_schema WHERE name = 'row'"
CREATE_CALL = "CREATE TEMP TABLE call AS SELECT * FROM main.call"
CREATE_FACE = "CREATE TEMP TABLE face AS SELECT * FROM main.face"
TABLES = ("row", "repeat", "call", "face")
NONE = (None,)
RUN_ID = "SELECT value FROM main.run WHERE key = 'run_id'"
# Beyond those that were begun.
NUMBER_FACES = """
UPDATE temp.face SET face_no = rowid + (SELECT IFNULL(MAX(face_no), 0) FROM main.face)
WHERE face_no IS NULL
"""
INDEXES = """
CREATE UNIQUE INDEX temp.unrolled_call ON call (call_no);
CREATE INDEX temp.unrolled_call_person ON call (person_id);
CREATE UNIQUE INDEX temp.unrolled_face ON face (face_no);
CREATE INDEX temp.unrolled_row_face ON row (face_id);
CREATE INDEX temp.unrolled_face_call ON face (call_no);
CREATE INDEX temp.unrolled_face_first_row ON face (first_row);
"""


def rows_of(run_id: str, planned: PlannedCall, state: int) -> tuple[Row, list[Row]]:
    """The row of ``call`` and those of ``face`` for a planned call of which nothing is known yet."""
    call_no, person_id, whole, faces, _, _ = planned
    named = len(faces) - whole
    # What is named goes first; then somebody looks for the rest.
    step = str(Step.DELETE if named else Step.LOOKUP)
    sealed = seal(run_id, call_no, person_id, [face.face_id for face in faces])
    return (call_no, person_id, int(whole), state, step, 0, sealed), [
        (
            call_no,
            first_row,
            source_no,
            line,
            face_id,
            step if face_id or not named else "",
        )
        for face_id, first_row, source_no, line in faces
    ]


def unroll_call(
    connection: apsw.Connection, run_id: str, planned: PlannedCall, *, state: int = WAITING
) -> None:
    """Give a planned call its rows, in the caller's transaction."""
    call, faces = rows_of(run_id, planned, state)
    write_rows(connection, INSERT_CALLS, [call])
    write_rows(connection, INSERT_FACES, faces, UNSENT_FACE)


@contextmanager
def unrolled(connection: apsw.Connection) -> Iterator[None]:
    """Lay the whole plan out in temporary tables ``row``, ``repeat``, ``call`` and ``face``.

    Within the block they hide those of the ledger from every statement of this connection; the calls
    that were begun are in them as they are. Within another such block it is the same as that. Raises
    ``GateClosed`` for a part of the plan that is not what was planned.
    """
    if query(connection, UNROLLED).fetchone():
        yield
        return
    with _writable(connection):
        connection.execute("SAVEPOINT unrolling")
        try:
            _lay_out(connection)
        except BaseException:
            connection.execute("ROLLBACK TO unrolling")
            raise
        finally:
            connection.execute("RELEASE unrolling")
    try:
        yield
    finally:
        with _writable(connection):
            for table in TABLES:
                connection.execute(f"DROP TABLE temp.{table}")


@contextmanager
def _writable(connection: apsw.Connection) -> Iterator[None]:
    """A connection that only reads may not even write to its own temporary tables."""
    reads_only = connection.pragma("query_only")
    connection.execute("PRAGMA query_only = OFF")
    try:
        yield
    finally:
        if reads_only:
            connection.execute("PRAGMA query_only = ON")


def _lay_out(connection: apsw.Connection) -> None:
    (run_id,) = query(connection, RUN_ID).fetchone()
    names = dict(query(connection, "SELECT source_no, name FROM source").fetchall())
    tape = Tape(connection, json.loads(run_id))
    for statement in (CREATE_CALL, CREATE_FACE, CREATE_ROW, CREATE_REPEAT):
        connection.execute(statement)
    begun = query(connection, "SELECT call_no FROM main.call ORDER BY call_no")
    (following,) = next(begun, NONE)
    for planned in tape.calls():
        if planned.call_no == following:
            (following,) = next(begun, NONE)
        else:
            unroll_call(connection, json.loads(run_id), planned)
    connection.execute(NUMBER_FACES)
    for row, amendment in RowMap(connection).amended():
        if amendment is None:
            connection.execute(INSERT_ROW, row)
            continue
        fate = amendment.fate or row.fate
        reason = reason_of(amendment, names) or row.reason
        connection.execute(INSERT_ROW, (*row[:7], fate, reason, *row[9:]))
        if amendment.first_row >= 0:
            connection.execute(INSERT_REPEAT, (row.row_no, amendment.first_row))
    connection.execute(INDEXES)
