"""Everything a ledger says as tables, to be changed by SQL and packed again: blocks, seals and all.

What comes out is what somebody would leave who knows the format and wants nothing to be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter

import apsw
import msgspec

from worker.ledger.columns import numbers
from worker.ledger.database import query
from worker.ledger.rowmap import (
    CONFLICT,
    FATES,
    HELD,
    INVALID,
    WHOLE,
    Row,
    RowWriter,
    write_amendments,
)
from worker.ledger.tape import CALLS_PER_BLOCK, Block, write_blocks
from worker.ledger.unrolling import unrolled
from worker.texts import Texts

ROWS = "SELECT * FROM temp.row ORDER BY row_no"

# Rows go by their place: whatever lies behind one that was taken out moves up.
RANKED = "SELECT row_no, ROW_NUMBER() OVER (ORDER BY row_no) - 1 AS place FROM temp.row"
RENUMBER = (
    f"CREATE TEMP TABLE place AS {RANKED}",
    "UPDATE temp.row SET row_no = (SELECT place FROM temp.place p WHERE p.row_no = row.row_no)",
    "UPDATE temp.repeat SET row_no = p.place FROM temp.place p WHERE p.row_no = repeat.row_no",
    "UPDATE temp.repeat SET first_row = p.place FROM temp.place p WHERE p.row_no = first_row",
    "UPDATE temp.face SET first_row = p.place FROM temp.place p WHERE p.row_no = first_row",
    "DROP TABLE temp.place",
)

# Rows that are set aside or repeat another one, with the place of that one and, for what is in
# conflict, of the first row of the face under somebody else.
AMENDED = """
SELECT r.row_no, r.source_no, r.line, r.fate, IFNULL(d.first_row, -1),
       IFNULL(f.source_no, 0), IFNULL(f.line, 0), IFNULL(o.source_no, 0), IFNULL(o.line, 0)
FROM temp.row r LEFT JOIN temp.repeat d USING (row_no) LEFT JOIN temp.row f ON f.row_no = d.first_row
LEFT JOIN temp.row o ON r.fate = 'conflict' AND o.row_no = (
  SELECT MIN(row_no) FROM temp.row x
  WHERE x.face_id = r.face_id AND x.person_id <> r.person_id AND x.fate <> 'invalid')
WHERE r.fate IN ('held', 'conflict') OR d.row_no IS NOT NULL ORDER BY r.row_no
"""

# The faces of every call that the input names; only in calls of whole persons others are found.
PLANNED = """
SELECT c.call_no, c.person_id, c.whole, f.first_row, f.source_no, f.line, f.face_id
FROM temp.call c JOIN temp.face f USING (call_no) WHERE f.found_by IS NULL OR c.whole = 0
ORDER BY c.call_no, f.face_no
"""

NAME = """
INSERT INTO named SELECT r.face_id, r.person_id, (
  SELECT f.call_no FROM temp.face f JOIN temp.call c USING (call_no)
  WHERE f.face_id = r.face_id AND c.person_id = r.person_id AND f.found_by IS NULL)
FROM temp.row r WHERE r.face_id <> '' AND r.fate <> 'invalid' GROUP BY r.face_id, r.person_id
"""


@contextmanager
def repacked(connection: apsw.Connection) -> Iterator[None]:
    """Within the block ``row``, ``repeat``, ``call`` and ``face`` are tables of all there is.

    Afterwards the ledger is packed from what they are then; calls have rows that had them before.
    """
    begun = [call_no for (call_no,) in query(connection, "SELECT call_no FROM main.call")]
    with unrolled(connection):
        yield
        _pack_rows(connection)
        if query(connection, "SELECT 1 FROM named LIMIT 1").fetchone():
            connection.execute("DELETE FROM named")
            connection.execute(NAME)
        _pack_plan(connection)
        connection.execute("CREATE TEMP TABLE begun AS SELECT value AS call_no FROM json_each(?)",
                           (msgspec.json.encode(begun).decode(),))  # fmt: skip
        for table in ("call", "face"):
            connection.execute(f"DELETE FROM main.{table}")  # noqa: S608 (our own names)
            connection.execute(
                f"INSERT INTO main.{table} SELECT * FROM temp.{table}"  # noqa: S608 (as above)
                " WHERE call_no IN (SELECT call_no FROM temp.begun)"
            )
        connection.execute("DROP TABLE temp.begun")


def repack_plan(connection: apsw.Connection, *statements: str) -> None:
    """Change what was planned, and nothing of what was begun."""
    with unrolled(connection):
        for statement in statements:
            connection.execute(statement)
        _pack_plan(connection)


def _pack_rows(connection: apsw.Connection) -> None:
    for statement in RENUMBER:
        connection.execute(statement)
    connection.execute("DELETE FROM row_block")
    connection.execute("DELETE FROM amendment_block")
    writer = RowWriter(connection)
    for row in map(Row._make, query(connection, ROWS).fetchall()):
        fate = row.fate
        if fate in (HELD, CONFLICT):
            fate = "" if row.face_id else WHOLE
        writer.add_row(row._replace(fate=fate, reason=row.reason if fate == INVALID else ""))
    writer.finish()
    amended = [
        (*amendment[:3], FATES.index(amendment[3]), *amendment[4:])
        for amendment in query(connection, AMENDED)
        if amendment[3] != INVALID
    ]
    if amended:
        columns = [numbers(values) for values in zip(*amended, strict=True)]
        write_amendments(connection, columns, len(amended))


def _pack_plan(connection: apsw.Connection) -> None:
    connection.execute("DELETE FROM plan_block")
    (run_id,) = query(connection, "SELECT value FROM run WHERE key = 'run_id'").fetchone()
    calls = [
        (call_no, list(faces))
        for call_no, faces in groupby(query(connection, PLANNED).fetchall(), key=itemgetter(0))
    ]
    last = {faces[0][1]: call_no for call_no, faces in calls}
    blocks: list[Block] = []
    for first in range(0, len(calls), CALLS_PER_BLOCK):
        some = calls[first : first + CALLS_PER_BLOCK]
        faces = [face for _, faces in some for face in faces]
        lasts = [int(last[faces[0][1]] == call_no) for call_no, faces in some]
        blocks.append(
            Block(
                len(some),
                sum(face[6] != "" for face in faces),
                sum(lasts),
                Texts.of(faces[0][1] for _, faces in some),
                numbers([len(faces) for _, faces in some]),
                numbers([faces[0][2] for _, faces in some]),
                numbers(lasts),
                Texts.of(face[6] for face in faces),
                *(numbers([face[column] for face in faces]) for column in (3, 4, 5)),
            )
        )
    write_blocks(connection, msgspec.json.decode(run_id), blocks)
