"""What one transaction adds to the ledger for calls that go as planned, written together at its end.

Nearly every call is begun, answered and settled without anything to look up. A statement for each of
its rows would cost more than the rows: SQLite runs without Python's lock, which then has to be won
back from the event loop's thread. So such rows wait here until the transaction ends, or until
something wants to read the tables, and go into them by the dozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import apsw

ROWS_AT_ONCE: Final = (32, 8, 1)
"""Rows of one statement, so that few statements are prepared, each of them once."""

INSERT_CALLS = "INSERT INTO call VALUES {}"
INSERT_FACES = """
INSERT INTO face (call_no, first_row, source_no, line, face_id, step, outcome, code, attempts) VALUES {}
"""
# Nothing is known yet of a face that is begun, which therefore need not be bound for each.
UNSENT_FACE = "(?, ?, ?, ?, ?, ?, 'unsent', '', 0)"
INSERT_ATTEMPTS = "INSERT INTO attempt VALUES {}"
INSERT_ENDINGS = "INSERT INTO ending VALUES {}"

# Every face of a call at once, as the one answer of the service has said.
SET_DELETED = """
WITH settled (code, first_sent_us, decided_by, call_no) AS (VALUES {})
UPDATE face SET step = '', outcome = 'deleted', code = s.code, attempts = 1,
  first_sent_us = s.first_sent_us, decided_by = s.decided_by
FROM settled s WHERE face.call_no = +s.call_no
"""
SET_SETTLED = """
UPDATE call SET state = 2, step = '', not_before_us = 0 WHERE call_no IN (VALUES {})
"""
TALLY_DELETED = """
INSERT INTO tally VALUES ('unsent', -?1), ('deleted', ?1)
ON CONFLICT (outcome) DO UPDATE SET faces = faces + excluded.faces
"""
SET_FRONTIER = "UPDATE frontier SET call_no = ?"

Row = tuple[Any, ...]


class Postings:
    """Rows that were promised to the present transaction. Used by the ledger's writer only."""

    def __init__(self) -> None:
        self._calls: list[Row] = []
        self._faces: list[Row] = []
        self._attempts: list[Row] = []
        self._endings: list[Row] = []
        self._deleted: list[Row] = []
        self._deleted_faces = 0
        self._frontier: int | None = None

    def begin(self, call: Row, faces: Sequence[Row]) -> None:
        """A row of ``call`` and those of its faces, as ``rows_of`` makes them."""
        self._calls.append(call)
        self._faces += faces

    def move_frontier(self, call_no: int) -> None:
        """``call_no`` is now the first that was not begun."""
        self._frontier = call_no

    def open(self, attempt: Row) -> None:
        """A row of ``attempt``."""
        self._attempts.append(attempt)

    def end(self, ending: Row) -> None:
        """A row of ``ending``."""
        self._endings.append(ending)

    def settle(self, call_no: int, faces: int, code: str, sent_us: int, decided_by: int) -> None:
        """All ``faces`` of a call were unsent and are deleted; nothing more is to be done about it."""
        self._deleted.append((code, sent_us, decided_by, call_no))
        self._deleted_faces += faces

    def write(self, connection: apsw.Connection) -> None:
        """Write everything that waits, in the caller's transaction."""
        for template, rows, row in (
            (INSERT_CALLS, self._calls, ""),
            (INSERT_FACES, self._faces, UNSENT_FACE),
            (INSERT_ATTEMPTS, self._attempts, ""),
            (INSERT_ENDINGS, self._endings, ""),
        ):
            if rows:
                write_rows(connection, template, rows, row)
                rows.clear()
        if self._deleted:
            write_rows(connection, SET_DELETED, self._deleted)
            write_rows(connection, SET_SETTLED, [row[-1:] for row in self._deleted])
            connection.execute(TALLY_DELETED, (self._deleted_faces,))
            self._deleted.clear()
            self._deleted_faces = 0
        if self._frontier is not None:
            connection.execute(SET_FRONTIER, (self._frontier,))
            self._frontier = None


def write_rows(
    connection: apsw.Connection, template: str, rows: Sequence[Row], row: str = ""
) -> None:
    """Carry out ``template`` over ``rows``, all of one width, in as few statements as there may be.

    ``row`` is how one of them stands in the statement, where it is more than its values.
    """
    first = 0
    row = row or f"({', '.join('?' * len(rows[0]))})"
    for count in ROWS_AT_ONCE:
        while len(rows) - first >= count:
            values = tuple(chain.from_iterable(rows[first : first + count]))
            connection.execute(_statement(template, row, count), values)
            first += count


@lru_cache(maxsize=64)
def _statement(template: str, row: str, count: int) -> str:
    return template.format(", ".join([row] * count))
