"""S2 where faces are found for whole persons: holds and conflicts come to light during the run.

Once a face is known to be under two persons it is sent for neither; what had been sent before that
keeps its outcome.
"""

from __future__ import annotations

import apsw

from worker.invariants.evidence import Call, Face, Person
from worker.invariants.violation import Findings
from worker.ledger.database import query
from worker.model import Outcome, Step

# Whether the input has the face under somebody else, and whether it has the pair as held.
IN_THE_INPUT = """
SELECT IFNULL(MAX(person_id <> ?2), 0), IFNULL(MAX(person_id = ?2 AND fate = 'held'), 0)
FROM row WHERE face_id = ?1 AND fate <> 'invalid'
"""

# When it was first found for somebody else; 0: it is in somebody else's call since the plan.
FOR_SOMEBODY_ELSE = """
SELECT MIN(IFNULL(f.found_by, 0)) FROM face f JOIN call c USING (call_no)
WHERE f.face_id = ?1 AND c.person_id <> ?2
"""


def check_found(
    connection: apsw.Connection, person: Person, findings: Findings, *, looking: bool
) -> None:
    """Judge every face of the person; ``looking``: the run looks for the faces of whole persons."""
    for call in person.calls:
        for face in call.faces:
            if face.face_id and (looking or face.outcome is Outcome.CONFLICT):
                _check(connection, call, face, findings)


def _check(connection: apsw.Connection, call: Call, face: Face, findings: Findings) -> None:
    ids = (face.face_id, call.person_id)
    under_another, held = query(connection, IN_THE_INPUT, ids).fetchone()
    (found_seq,) = query(connection, FOR_SOMEBODY_ELSE, ids).fetchone()
    own_seq = face.found_by or 0
    times = [own_seq] if under_another else []
    if found_seq is not None:
        times.append(max(own_seq, found_seq))
    sent = [a.seq for a in call.attempts if a.deletes and face.face_id in a.face_ids]
    kept = face.outcome in (Outcome.CONFLICT, Outcome.HELD)
    if times and (face.step == Step.DELETE or any(seq > min(times) for seq in sent)):
        findings.add("S2", face.place, "it was found under another person too, and is or was to go")
    if times and face.found_by is not None and own_seq >= min(times) and not kept:
        findings.add("S2", face.place, "a found face was under another person, and is no conflict")
    if face.found_by is not None and held and (sent or not kept):
        findings.add("S2", face.place, "a found face is held by the plan, and may be sent")
    if face.outcome is Outcome.CONFLICT and not times:
        findings.add("T4", face.place, "it is called a conflict, and is nobody else's")
