"""S1, S2 and T4 over the row map: who may be sent, and that every line has one outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import NamedTuple

import apsw
import msgspec

from worker.invariants.violation import Findings
from worker.ledger.database import facts_seal, query

# Every readable row, all rows of a pair together, with the planned faces that stand for it.
PAIRS = """
SELECT r.person_id, r.face_id, r.row_no, s.name || ':' || r.line, r.fate, d.first_row,
       (SELECT COUNT(*) FROM face f WHERE f.first_row = r.row_no AND f.found_by IS NULL)
FROM row r LEFT JOIN source s ON s.source_no = r.source_no LEFT JOIN repeat d ON d.row_no = r.row_no
WHERE r.fate <> 'invalid' ORDER BY r.person_id, r.face_id, r.row_no
"""

# Every readable face with the persons under whom the input has it.
FACES = """
SELECT r.face_id, r.person_id, s.name || ':' || r.line, r.fate FROM row r
LEFT JOIN source s ON s.source_no = r.source_no
WHERE r.fate <> 'invalid' AND r.face_id <> '' ORDER BY r.face_id, r.row_no
"""

INVALID_WITH_FACES = """
SELECT s.name || ':' || r.line FROM row r JOIN source s USING (source_no)
JOIN face f ON f.first_row = r.row_no WHERE r.fate = 'invalid'
"""

# With the record of a person goes every face of theirs.
HELD_AND_REMOVED = """
SELECT DISTINCT s.name || ':' || r.line FROM row r JOIN source s USING (source_no)
JOIN call c ON c.person_id = r.person_id JOIN attempt a ON a.call_no = c.call_no
WHERE r.fate = 'held' AND a.step = 'remove'
"""

ROWS = """
SELECT r.person_id, r.face_id, s.name || ':' || r.line FROM row r JOIN source s USING (source_no)
ORDER BY r.row_no
"""

# What the plan says of itself, and what there is: key, count.
FIGURES = (
    ("rows", "SELECT COUNT(*) FROM row"),
    ("repeats", "SELECT COUNT(*) FROM repeat"),
    ("calls", "SELECT COUNT(*) FROM call"),
    ("persons", "SELECT COUNT(DISTINCT person_id) FROM call"),
    ("faces", "SELECT COUNT(*) FROM face WHERE found_by IS NULL AND face_id <> ''"),
    ("whole_persons", "SELECT COUNT(*) FROM face WHERE found_by IS NULL AND face_id = ''"),
)

TALLY = """
SELECT outcome, SUM(told), SUM(counted) FROM (
  SELECT outcome, faces AS told, 0 AS counted FROM tally
  UNION ALL SELECT outcome, 0, COUNT(*) FROM face GROUP BY outcome)
GROUP BY outcome HAVING SUM(told) <> SUM(counted)
"""

SENDABLE = ("", "whole")


class _Row(NamedTuple):
    """A row as PAIRS gives it."""

    person_id: str
    face_id: str
    row_no: int
    place: str
    fate: str
    first_row: int | None
    faces: int


def check_plan(
    connection: apsw.Connection, findings: Findings, pairs: Iterable[tuple[str, str]] | None
) -> int:
    """Judge the row map, against ``pairs`` of the input in its order where they are known.

    Returns the number of rows.
    """
    if pairs is not None:
        _check_input(connection, findings, pairs)
    for _, group in groupby(query(connection, PAIRS), key=itemgetter(0, 1)):
        _check_pair(map(_Row._make, group), findings)
    for _, same_face in groupby(query(connection, FACES), key=itemgetter(0)):
        _check_conflict(same_face, findings)
    for (place,) in query(connection, INVALID_WITH_FACES):
        findings.add("S2", place, "an invalid row was made a face to be sent")
    for (place,) in query(connection, HELD_AND_REMOVED):
        findings.add("S2", place, "it is held, and the person's record was to be removed")
    facts = dict(query(connection, "SELECT key, value FROM run"))
    if facts.get("seal") != facts_seal(connection):
        findings.add("seal", "plan", "the facts of the run are not those it was planned with")
    for key, count in FIGURES:
        (there_are,) = query(connection, count).fetchone()
        if msgspec.json.decode(facts.get(key, "null")) != there_are:
            findings.add("T4", "plan", f"the plan has another number of {key} than the ledger")
    for outcome, told, counted in query(connection, TALLY):
        findings.add("T4", "tally", f"{outcome} is told {told} times, and {counted} faces are")
    ((rows,),) = query(connection, "SELECT COUNT(*) FROM row").fetchall()
    return int(rows)


def _check_input(
    connection: apsw.Connection, findings: Findings, pairs: Iterable[tuple[str, str]]
) -> None:
    for number, (row, pair) in enumerate(zip_longest(query(connection, ROWS), pairs)):
        if row is None or pair is None:
            findings.add("S1", f"row {number}", "input and ledger do not have as many rows")
            return
        if row[:2] != tuple(pair):
            findings.add("S1", row[2], "the row is not what the input says, byte for byte")


def _check_pair(rows: Iterator[_Row], findings: Findings) -> None:
    """All rows of one pair, the first one first; there may be a million of them."""
    first = next(rows)
    sendable = first.fate in SENDABLE
    if first.first_row is not None:
        findings.add("T4", first.place, "the first row of a pair is called a repetition")
    if sendable and first.faces != 1:
        findings.add("T4", first.place, f"{first.faces} faces stand for a row that may be sent")
    if not sendable and first.faces:
        findings.add("S2", first.place, f"a row that is {first.fate} was made a face to be sent")
    if sendable and (first.fate == "whole") != (first.face_id == ""):
        findings.add(
            "S1", first.place, "an empty face means everything of a person only if said so"
        )
    for row in rows:
        if row.first_row != first.row_no:
            findings.add("T4", row.place, "a repeated pair does not point to its first row")
        if row.fate != first.fate:
            findings.add("S2", row.place, "two rows of one pair have different fates")
        if row.faces:
            findings.add("T4", row.place, "a repeated pair is to be sent twice")


def _check_conflict(rows: Iterator[tuple[str, str, str, str]], findings: Findings) -> None:
    """The same face under two persons: one of them must be wrong."""
    _, owner, place, fate = next(rows)
    seen = [(place, fate)]
    several = False
    for _, person_id, place, fate in rows:
        several |= person_id != owner
        if fate != seen[-1][1]:  # of a million rows that say the same, one is enough
            seen.append((place, fate))
    for place, fate in seen:
        if several and fate == "":
            findings.add("S2", place, "the same face is under another person, and it may be sent")
        if not several and fate == "conflict":
            findings.add("T4", place, "it is called a conflict, and only one person has the face")
