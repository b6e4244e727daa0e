"""The canary ramp in the ledger: how far calls may be claimed, and what it takes to go further.

A stage holds the calls up to a number; while one is open, no statement that claims can reach beyond
it. It has passed when all of its calls are settled, every face that was to go is gone, and a
complete lookup has shown that after the last deletion. What has passed stays passed.

It is laid out from persons of whom something is still to be sent: who was settled before shows
nothing about the deletions to come. Such calls may lie among those of a stage; they are not of it.
What is of it has a row in ``verification``.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from heapq import merge
from itertools import accumulate, groupby, islice, pairwise
from operator import itemgetter

import apsw
import msgspec

from worker.canary import StageFailed, StagePassed, StageReachesOn
from worker.ledger.database import query
from worker.ledger.frontier import ASK, Frontier
from worker.model import Outcome

OPEN_STAGE = """
SELECT stage_no, last_call_no FROM canary WHERE passed_us IS NULL
ORDER BY stage_no LIMIT 1
"""
LAST_PASSED = """
SELECT IFNULL(MAX(stage_no), 0), IFNULL(MAX(persons), 0), IFNULL(MAX(last_call_no), -1) FROM canary
WHERE passed_us IS NOT NULL
"""
NOT_PASSED = """
SELECT persons, last_call_no FROM canary WHERE passed_us IS NULL ORDER BY stage_no
"""
# Calls that were begun and of whose persons something will be sent, as far as is known. An unknown face
# was sent already: it may turn out to be gone without any deletion.
TO_BE_SENT = """
SELECT c.call_no, c.person_id FROM call c WHERE c.call_no > ? AND c.state = 0 AND EXISTS (
  SELECT 1 FROM face f WHERE f.call_no = c.call_no AND (f.step IN ('delete', 'remove')
  OR (f.face_id = '' AND f.step = 'lookup' AND f.outcome <> 'unknown')))
ORDER BY c.call_no
"""
INSERT_STAGE = "INSERT INTO canary VALUES (?, ?, ?, NULL)"
PASS_STAGE = "UPDATE canary SET passed_us = ? WHERE stage_no = ?"  # noqa: S105 (no password)

# What was asked for by this stage and by all before it.
STAGES_SO_FAR = """
SELECT persons, last_call_no FROM canary WHERE stage_no <= ? ORDER BY stage_no DESC LIMIT 2
"""
# The stages behind it shrink by what it takes in, and then reach on themselves.
REACH_ON = "UPDATE canary SET last_call_no = MAX(last_call_no, ?2) WHERE stage_no >= ?1"

# Every call of the stages is looked up once it is settled; what was settled before is left alone.
VERIFY_STAGES = """
INSERT OR IGNORE INTO verification
SELECT call_no, ?1 FROM call WHERE call_no <= (SELECT MAX(last_call_no) FROM canary) AND state < 2
"""

# Persons beyond one call and up to another of whom a lookup was asked for, and something was sent.
VERIFIED_PERSONS = """
SELECT COUNT(DISTINCT c.person_id) FROM call c JOIN verification USING (call_no)
WHERE c.call_no > ?1 AND c.call_no <= ?2 AND EXISTS (
  SELECT 1 FROM face f WHERE f.call_no = c.call_no AND f.outcome NOT IN ('held', 'conflict'))
"""

FIRST_UNSETTLED = """
SELECT call_no FROM call WHERE call_no BETWEEN ?1 AND ?2 AND state < 2 ORDER BY call_no LIMIT 1
"""

# The first face of the stage between two calls that is settled and not as it should be; what is still
# there first. By the verifications (a cross join keeps the order): the calls between may be many more.
AT_FAULT = """
SELECT s.name || ':' || f.line, f.outcome, f.code
FROM verification CROSS JOIN call c USING (call_no) JOIN face f USING (call_no)
JOIN source s USING (source_no)
WHERE c.call_no BETWEEN ?1 AND ?2 AND c.state = 2
AND f.outcome NOT IN (SELECT value FROM json_each(?3))
ORDER BY f.outcome <> 'present', f.face_no LIMIT 1
"""

# The first settled face up to a call of which no complete lookup has told anything after the last
# attempt to change something.
UNVERIFIED = """
SELECT s.name || ':' || f.line, f.outcome, f.code
FROM verification CROSS JOIN call c USING (call_no) JOIN face f USING (call_no)
JOIN source s USING (source_no)
WHERE c.call_no <= ?1 AND c.state = 2 AND f.outcome NOT IN ('held', 'conflict')
AND NOT EXISTS (
  SELECT 1 FROM verification v JOIN attempt a ON a.call_no = v.call_no
  JOIN ending e ON e.attempt_seq = a.seq
  WHERE v.call_no = c.call_no AND a.step = 'verify' AND a.seq > v.since_seq
  AND e.kind IN ('shown', 'no_person') AND NOT EXISTS (
    SELECT 1 FROM attempt d JOIN ending x ON x.attempt_seq = d.seq
    WHERE d.call_no = v.call_no AND d.step IN ('delete', 'remove') AND x.seq > a.seq
    AND x.kind NOT IN ('throttled', 'again', 'not_sent', 'fatal')))
ORDER BY f.face_no LIMIT 1
"""

_NOT_SENT = (Outcome.HELD, Outcome.CONFLICT)
"""Nothing was done about these, and nothing should have been."""


class Ramp:
    """The stages of a run, as far as they are passed. Used by the ledger's writer only."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether claims have to keep within a stage."""
        self.settled_below = 0
        """Every call with a lower number is settled, while a stage is open."""
        self.last_call_no: int | None = None
        """The last call of the open stage; None where none is open."""
        self._since_seq = 0

    def set_out(
        self, connection: apsw.Connection, frontier: Frontier, counts: Sequence[int], seq: int
    ) -> None:
        """Lay out the stages of so many persons each; those that have passed count.

        A stage that is under way keeps its end, unless another number is asked for now. Whatever
        this session takes up again must wait in the queue already. Without ``counts`` nothing
        stands in the way any more. What is verified is verified after ``seq``.
        """
        begun = query(connection, NOT_PASSED).fetchall()
        connection.execute("DELETE FROM canary WHERE passed_us IS NULL")
        stage_no, passed, last_call_no = query(connection, LAST_PASSED).fetchone()
        ends = [end for end in accumulate(counts) if end > passed]
        for before, end in pairwise([passed, *ends]):
            if begun and begun[0][0] == end:
                _, last_call_no = begun.pop(0)
            else:
                begun.clear()
                reached = _reached(connection, frontier, last_call_no, end - before)
                if reached is None:
                    break
                last_call_no = reached
            stage_no += 1
            connection.execute(INSERT_STAGE, (stage_no, end, last_call_no))
        self._since_seq = seq
        self.settled_below = 0
        self._see_what_is_open(connection)
        if self.is_open:
            self._verify_stages(connection, frontier)

    def _see_what_is_open(self, connection: apsw.Connection) -> None:
        stage = query(connection, OPEN_STAGE).fetchone()
        self.is_open = stage is not None
        self.last_call_no = None if stage is None else stage[1]

    def _verify_stages(self, connection: apsw.Connection, frontier: Frontier) -> None:
        connection.execute(VERIFY_STAGES, (self._since_seq,))
        (last_call_no,) = query(connection, "SELECT MAX(last_call_no) FROM canary").fetchone()
        for planned in frontier.following(-1):
            if planned.call_no > last_call_no:
                break
            connection.execute(ASK, (planned.call_no, self._since_seq))

    def judge(
        self,
        connection: apsw.Connection,
        frontier: Frontier,
        call_no: int | None,
        wanted: AbstractSet[Outcome],
        now_us: int,
    ) -> StagePassed | StageReachesOn | StageFailed | None:
        """What the open stage has come to, now that ``call_no`` is settled; None while it goes on.

        Without ``call_no`` all of its settled calls are looked at.
        """
        stage = query(connection, OPEN_STAGE).fetchone()
        if stage is None:
            return None
        stage_no, last_call_no = stage
        (stages,) = query(connection, "SELECT COUNT(*) FROM canary").fetchone()
        as_it_should_be = msgspec.json.encode([*wanted, *_NOT_SENT]).decode()
        first, last = (0, last_call_no) if call_no is None else (call_no, call_no)
        fault = query(connection, AT_FAULT, (first, last, as_it_should_be)).fetchone()
        verified = True
        if fault is None:
            unsettled = query(
                connection, FIRST_UNSETTLED, (self.settled_below, last_call_no)
            ).fetchone()
            if unsettled is not None:
                (self.settled_below,) = unsettled
                return None
            if frontier.has_next(last_call_no):
                self.settled_below = frontier.call_no
                return None
            fault = query(connection, AT_FAULT, (0, last_call_no, as_it_should_be)).fetchone()
        if fault is None:
            fault = query(connection, UNVERIFIED, (last_call_no,)).fetchone()
            verified = False
        if fault is not None:
            place, outcome, code = fault
            return StageFailed(stage_no, stages, place, Outcome(outcome), code, verified=verified)
        reaches_on = self._reach_on(connection, frontier, stage_no, stages)
        if reaches_on is not None:
            return reaches_on
        connection.execute(PASS_STAGE, (now_us, stage_no))
        self._see_what_is_open(connection)
        (persons,) = query(connection, VERIFIED_PERSONS, (-1, last_call_no)).fetchone()
        return StagePassed(stage_no, stages, persons)

    def _reach_on(
        self, connection: apsw.Connection, frontier: Frontier, stage_no: int, stages: int
    ) -> StageReachesOn | None:
        """Take more persons into a stage in which fewer were verified than it asks for."""
        so_far = [*query(connection, STAGES_SO_FAR, (stage_no,)), (0, -1)]
        (end, last_call_no), (before, earlier_call_no) = so_far[:2]
        asked = end - before
        bounds = (earlier_call_no, last_call_no)
        (persons,) = query(connection, VERIFIED_PERSONS, bounds).fetchone()
        if persons >= asked:
            return None
        reached = _reached(connection, frontier, last_call_no, asked - persons)
        if reached is None:
            return None
        connection.execute(REACH_ON, (stage_no, reached))
        self._see_what_is_open(connection)
        self._verify_stages(connection, frontier)
        return StageReachesOn(stage_no, stages, persons, asked)


def _reached(
    connection: apsw.Connection, frontier: Frontier, call_no: int, persons: int
) -> int | None:
    """The last call of the next so many persons beyond ``call_no``, or of all; None for nobody."""
    begun = query(connection, TO_BE_SENT, (call_no,))
    planned = ((call.call_no, call.person_id) for call in frontier.following(call_no))
    last = None
    for _, calls in islice(groupby(merge(begun, planned), key=itemgetter(1)), persons):
        first, _ = next(calls)
        last = frontier.tape.calls_beside(first)[-1]
    return last
