"""S2 for faces that were found for whole persons: holds and conflicts count for them as well."""

from __future__ import annotations

import apsw

from worker.invariants.evidence import Call, Face, Person
from worker.invariants.violation import Findings
from worker.ledger.database import query
from worker.model import Outcome

# Whether the input has the face under somebody else, and whether it has the pair as held.
IN_THE_INPUT = """
SELECT IFNULL(MAX(person_id <> ?2), 0), IFNULL(MAX(person_id = ?2 AND fate = 'held'), 0)
FROM row WHERE face_id = ?1 AND fate <> 'invalid'
"""

# Whether it was found, or planned, for somebody else before.
FOUND_BEFORE = """
SELECT EXISTS (SELECT 1 FROM face f JOIN call c USING (call_no)
WHERE f.face_id = ?1 AND c.person_id <> ?2 AND IFNULL(f.found_by, 0) < ?3)
"""


def check_found(connection: apsw.Connection, person: Person, findings: Findings) -> None:
    """Judge every face that was found for the person."""
    for call in person.calls:
        for face in call.faces:
            if face.found_by is not None:
                _check(connection, call, face, findings)


def _check(connection: apsw.Connection, call: Call, face: Face, findings: Findings) -> None:
    ids = (face.face_id, call.person_id)
    under_another, held = query(connection, IN_THE_INPUT, ids).fetchone()
    (found_before,) = query(connection, FOUND_BEFORE, (*ids, face.found_by)).fetchone()
    clash = bool(under_another or found_before)
    kept = face.outcome in (Outcome.CONFLICT, Outcome.HELD)
    sent = any(a.deletes and face.face_id in a.face_ids for a in call.attempts)
    if clash and (sent or not kept):
        findings.add("S2", face.place, "a found face is under another person, and may be sent")
    if held and (sent or not kept):
        findings.add("S2", face.place, "a found face is held by the plan, and may be sent")
    if face.outcome is Outcome.CONFLICT and not clash:
        findings.add("T4", face.place, "a found face is called a conflict, and is nobody else's")
