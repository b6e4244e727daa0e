"""D1, R1, R2, R3 and S4 at the server: every request against the attempt that it was."""

from __future__ import annotations

from worker.invariants.pace import FixedCeiling, crowded
from worker.invariants.shapes import OPERATIONS
from worker.invariants.violation import Findings
from worker.invariants.world import Scratch
from worker.ledger.database import query

CLOCKS_AGREE_WITHIN_US = 300_000_000
"""Attempts wait for their turn, but most of them not for so long."""

SLACK_US = 1_000
"""Two readings of one clock, by two processes."""

# This program never adds anything: whoever fills the library does, and has no attempts here.
WITHOUT_ATTEMPT = """
SELECT r.number, r.nonce = '' FROM arrival r LEFT JOIN attempt a USING (nonce)
WHERE a.seq IS NULL AND r.operation NOT IN ('AddPerson', 'AddFaces') ORDER BY r.number
"""
UNLIKE_ITS_ATTEMPT = """
SELECT r.number FROM arrival r JOIN attempt a USING (nonce)
WHERE r.operation <> a.operation OR r.person_id <> a.person_id
OR r.face_ids <> CASE a.operation WHEN 'DeleteFaces' THEN a.face_ids ELSE '[]' END
"""
NONCE_AGAIN = """
SELECT MAX(number) FROM arrival WHERE nonce <> '' GROUP BY nonce HAVING COUNT(*) > 1
"""
NOT_SENT_AND_ARRIVED = """
SELECT a.seq FROM attempt a JOIN arrival r USING (nonce)
WHERE a.kind = 'not_sent' OR (a.kind = 'fatal' AND a.left_us IS NULL)
"""
ANSWERED_AND_NEVER_ARRIVED = """
SELECT a.seq FROM attempt a WHERE a.kind NOT IN ('', 'not_sent', 'closed', 'ambiguous')
AND NOT (a.kind = 'fatal' AND a.left_us IS NULL)
AND NOT EXISTS (SELECT 1 FROM arrival r WHERE r.nonce = a.nonce)
"""
AGREEMENT = """
SELECT COUNT(*), COUNT(*) FILTER (WHERE ABS(r.arrived_us - a.opened_us) <= ?)
FROM arrival r JOIN attempt a USING (nonce)
"""
BEFORE_ITS_ATTEMPT = """
SELECT r.number FROM arrival r JOIN attempt a USING (nonce) WHERE r.arrived_us < a.opened_us - ?
"""
BEFORE_THE_PLAN = """
SELECT number FROM arrival WHERE arrived_us < ? AND operation NOT IN ('AddPerson', 'AddFaces')
"""
ARRIVALS = "SELECT seconds, number FROM arrival WHERE operation = ? ORDER BY seconds"
ALL_ARRIVALS = "SELECT seconds, number FROM arrival WHERE operation <> '' ORDER BY seconds"


def check_wire(scratch: Scratch, planned_us: int, findings: Findings, *, shared_quota: bool) -> int:
    """Judge every request that arrived; returns how many there were.

    Where the server's clock is not ours, as it seems from most of its arrivals, times are not
    compared.
    """
    connection = scratch.connection
    for number, has_no_nonce in query(connection, WITHOUT_ATTEMPT):
        if has_no_nonce:
            findings.add("R2", f"request {number}", "it has no nonce")
        findings.add("D1", f"request {number}", "it has no attempt record")
    simple = (
        ("D1", UNLIKE_ITS_ATTEMPT, "request", "it is not what its attempt record says"),
        ("R2", NONCE_AGAIN, "request", "its nonce was used before"),
        ("R3", NOT_SENT_AND_ARRIVED, "attempt", "it was not sent, as its record says, and arrived"),
        ("R3", ANSWERED_AND_NEVER_ARRIVED, "attempt", "it was answered, and never arrived"),
    )
    for invariant, places, noun, sentence in simple:
        for (number,) in query(connection, places):
            findings.add(invariant, f"{noun} {number}", sentence)
    matched, close = query(connection, AGREEMENT, (CLOCKS_AGREE_WITHIN_US,)).fetchone()
    if 2 * close >= matched:
        for (number,) in query(connection, BEFORE_ITS_ATTEMPT, (SLACK_US,)):
            findings.add("D1", f"request {number}", "it arrived before its attempt was written")
        for (number,) in query(connection, BEFORE_THE_PLAN, (planned_us - SLACK_US,)):
            findings.add("S4", f"request {number}", "it arrived before the plan was durable")
    if most := scratch.server.most_arrivals_in_any_second:
        lanes = [query(connection, ALL_ARRIVALS)] if shared_quota else [
            query(connection, ARRIVALS, (operation,)) for operation in OPERATIONS
        ]  # fmt: skip
        for arrivals in lanes:
            for number, _ in crowded(arrivals, FixedCeiling(most)):
                sentence = f"more than {most} arrivals within a second, this one the last"
                findings.add("R1", f"request {number}", sentence)
    ((arrivals_count,),) = query(connection, "SELECT COUNT(*) FROM arrival").fetchall()
    return int(arrivals_count)
