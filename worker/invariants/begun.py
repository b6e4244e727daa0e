"""What was planned against what was begun: the tape, the calls that have rows, and what lies between.

Everything else is judged over the whole plan laid out, begun or not. Here is judged whether that is
what will be done: a call that nobody begins is no less lost than one that was never planned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

import apsw
import msgspec

from worker.invariants.violation import Findings
from worker.ledger.database import query
from worker.ledger.rowmap import CONFLICT, RowMap
from worker.ledger.tape import PlannedCall, PlannedFace, Tape

# The calls that have rows, with the faces that the input names.
BEGUN = """
SELECT c.call_no, c.person_id, c.whole, f.face_id, f.first_row, f.source_no, f.line
FROM main.call c LEFT JOIN main.face f ON f.call_no = c.call_no AND f.found_by IS NULL
ORDER BY c.call_no, f.face_no
"""

LOST = """
SELECT 'call ' || c.call_no FROM call c LEFT JOIN main.call b USING (call_no)
WHERE c.call_no < (SELECT call_no FROM frontier) AND b.call_no IS NULL
"""
NO_FRONTIER = """
SELECT 'frontier' FROM (SELECT 1) LEFT JOIN frontier
WHERE IFNULL(frontier.call_no, -1) NOT BETWEEN 0 AND (SELECT COUNT(*) FROM call)
"""
SCATTERED = """
SELECT 'call ' || MIN(call_no) FROM call
GROUP BY person_id HAVING MAX(call_no) - MIN(call_no) + 1 <> COUNT(*)
"""
# Nothing is said of it that would need rows: a hold, a face found under another person, the whole.
TOO_EARLY = """
SELECT 'call ' || c.call_no FROM main.call c
WHERE c.call_no >= (SELECT call_no FROM frontier) AND c.whole = 0
AND c.person_id NOT IN (SELECT person_id FROM hold) AND NOT EXISTS (
  SELECT 1 FROM main.face f JOIN contested USING (face_id) WHERE f.call_no = c.call_no)
"""
WHOLE_NOT_BEGUN = """
SELECT 'call ' || c.call_no FROM call c LEFT JOIN main.call b USING (call_no)
WHERE c.whole = 1 AND b.call_no IS NULL
"""

# A line of the log and of the messages has to be that of the row.
ELSEWHERE = """
SELECT 'call ' || f.call_no FROM face f JOIN row r ON r.row_no = f.first_row
WHERE f.source_no <> r.source_no OR f.line <> r.line
"""

# Every call was asked for, and this one was begun without a question.
NOT_ASKED = """
SELECT 'call ' || call_no FROM main.call
WHERE EXISTS (SELECT 1 FROM verification WHERE call_no = -1)
AND call_no NOT IN (SELECT call_no FROM verification)
"""
NOBODY_ASKED = """
SELECT 'call ' || v.call_no FROM verification v LEFT JOIN call c USING (call_no)
WHERE v.call_no <> -1 AND c.call_no IS NULL
"""

# Due times of rows that are not to be sent, or that lead somewhere else.
WRONG_DUES = """
SELECT 'row ' || d.row_no FROM due d LEFT JOIN row r USING (row_no) LEFT JOIN repeat p USING (row_no)
LEFT JOIN face f ON f.first_row = IFNULL(p.first_row, r.row_no) AND f.found_by IS NULL
WHERE r.row_no IS NULL OR r.fate NOT IN ('', 'whole') OR d.record_no <> r.record_no
OR d.source_no <> r.source_no OR d.line <> r.line OR d.first_row <> IFNULL(p.first_row, r.row_no)
OR d.call_no IS NOT f.call_no
OR d.last_call_no IS NOT (SELECT MAX(call_no) FROM call x WHERE x.person_id = r.person_id)
"""
# Persons who are due, in the order of their calls: from which call to which, and when.
DUE_PERSONS = """
SELECT (SELECT MIN(x.call_no) FROM call x WHERE x.person_id = c.person_id), d.last_call_no, d.due_us
FROM (SELECT last_call_no, MIN(due_us) AS due_us FROM due GROUP BY last_call_no) d
JOIN call c ON c.call_no = d.last_call_no ORDER BY d.last_call_no
"""

# Every face that the input names, with its call: only a run that looks for faces has to know.
NAMED = """
SELECT r.face_id, r.person_id, f.call_no
FROM row r LEFT JOIN repeat p USING (row_no)
LEFT JOIN face f ON f.first_row = r.row_no AND f.found_by IS NULL
WHERE r.fate <> 'invalid' AND r.face_id <> '' AND p.row_no IS NULL
AND (SELECT value FROM run WHERE key = 'whole_persons') <> '0'
"""
# Put together from constants, and nothing else.
WRONGLY_NAMED = f"""
SELECT COUNT(*) FROM (
  SELECT * FROM ({NAMED} EXCEPT SELECT face_id, person_id, call_no FROM named)
  UNION ALL SELECT * FROM (SELECT face_id, person_id, call_no FROM named EXCEPT {NAMED}))
"""  # noqa: S608  # nosec B608

PLACE = "SELECT source_no, line FROM row WHERE row_no = ?"
UNDER_ANOTHER = """
SELECT 1 FROM row r JOIN row o ON o.face_id = r.face_id AND o.person_id <> r.person_id
WHERE r.row_no = ? AND o.source_no = ? AND o.line = ? AND o.fate <> 'invalid' LIMIT 1
"""

# Beyond every call.
NO_CALL: tuple[float, Iterator[Any]] = (math.inf, iter(()))
NOBODY_PLANNED = "it has rows, and nobody has planned it"

RULES = (
    ("L1", "it was passed over: nobody will begin it any more", LOST),
    ("T5", "there is no such call to be begun next", NO_FRONTIER),
    ("T4", "other calls lie between those of its person", SCATTERED),
    ("T5", "it has rows before its turn, and nothing is said of it", TOO_EARLY),
    ("L1", "it is about a whole person, and was not begun with the plan", WHOLE_NOT_BEGUN),
    ("T6", "one of its faces is told to be of another line", ELSEWHERE),
    ("L1", "every call is to be verified, and nobody asked for this one", NOT_ASKED),
    ("T5", "it is to be verified, and nobody has planned it", NOBODY_ASKED),
    ("T4", "when it is due is said of another row, or by another call", WRONG_DUES),
)
"""Invariant, sentence and a query for the places where it is broken."""


def check_begun(connection: apsw.Connection, findings: Findings) -> None:
    """Judge calls, holds and questions against the tape, and the tape against itself."""
    ((run_id,),) = query(connection, "SELECT value FROM run WHERE key = 'run_id'").fetchall()
    tape = Tape(connection, msgspec.json.decode(run_id))
    for place, sentence in _differences(tape, connection):
        findings.add("seal", place, sentence)
    for place in _too_late(connection):
        findings.add("T4", place, "somebody else who is due later, or not at all, comes before it")
    for place, sentence in _amendments(connection):
        findings.add("T6", place, sentence)
    for invariant, sentence, places in RULES:
        for (place,) in query(connection, places):
            findings.add(invariant, place, sentence)
    ((wrong,),) = query(connection, WRONGLY_NAMED).fetchall()
    if wrong:
        findings.add("S2", "plan", f"{wrong} entries of who is named are not what the rows say")


def _differences(tape: Tape, connection: apsw.Connection) -> Iterator[tuple[str, str]]:
    begun = groupby(query(connection, BEGUN), key=itemgetter(0))
    call_no, rows = next(begun, NO_CALL)
    for planned, following in pairwise(chain(tape.calls(), [None])):
        assert planned is not None  # only the one behind the last call is
        place = f"call {planned.call_no}"
        if planned.is_last is (following is not None and following.person_id == planned.person_id):
            yield place, "the plan is wrong about whether more calls of its person follow"
        while call_no < planned.call_no:
            yield f"call {call_no}", NOBODY_PLANNED
            call_no, rows = next(begun, NO_CALL)
        if call_no == planned.call_no:
            if not _is_as_planned(planned, list(rows)):
                yield place, "its person or its faces are not those that were planned"
            call_no, rows = next(begun, NO_CALL)
    while call_no < NO_CALL[0]:
        yield f"call {call_no}", NOBODY_PLANNED
        call_no, rows = next(begun, NO_CALL)


def _is_as_planned(planned: PlannedCall, rows: Sequence[tuple[Any, ...]]) -> bool:
    _, person_id, whole, *_ = rows[0]
    faces = [PlannedFace(*row[3:]) for row in rows]
    return (person_id, bool(whole), faces) == (
        planned.person_id,
        planned.whole,
        list(planned.faces),
    )


def _too_late(connection: apsw.Connection) -> Iterator[str]:
    """Who is due comes first, the earliest first of all."""
    expected, before_us = 0, -math.inf
    for first_call_no, last_call_no, due_us in query(connection, DUE_PERSONS):
        if first_call_no != expected or due_us < before_us:
            yield f"call {first_call_no}"
        expected, before_us = last_call_no + 1, due_us


def _amendments(connection: apsw.Connection) -> Iterator[tuple[str, str]]:
    """What the report tells of a row that is repeated or in conflict: where the other one is."""
    for amendment in RowMap(connection).amendments():
        row_no, source_no, line, fate, first_row, first_source_no, first_line, *other = amendment
        place = f"row {row_no}"
        if query(connection, PLACE, (row_no,)).fetchone() != (source_no, line):
            yield place, "what is said of it is said of another line"
        if first_row >= 0 and query(connection, PLACE, (first_row,)).fetchone() != (
            first_source_no,
            first_line,
        ):
            yield place, "the row that it repeats is not on the line that is told"
        if fate == CONFLICT and not query(connection, UNDER_ANOTHER, (row_no, *other)).fetchone():
            yield place, "on the line that is told nobody else has the face"
