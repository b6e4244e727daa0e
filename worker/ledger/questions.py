"""What is to be looked up once more when it is settled: the questions of a verification.

A question is a row of ``verification``: a call, and the place in the ledger's sequence behind which a
complete lookup answers it. The canary asks its own (``worker.ledger.ramp``).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import apsw

from worker.fold import (
    LOOKUPS,
    Horizon,
    Rules,
    Standing,
    Trace,
    due_us,
    given_up,
    is_conclusive,
    weighs,
)
from worker.ledger.database import query
from worker.ledger.facts import Planned
from worker.ledger.frontier import ASK, ASKED_OF_ALL, Frontier
from worker.model import Outcome, Step, Verb, Waiting

VERIFIABLE = frozenset(
    {
        Outcome.DELETED,
        Outcome.ABSENT,
        Outcome.PRESENT,
        Outcome.NO_PERSON,
        Outcome.PERSON_EMPTY,
        Outcome.PERSON_DELETED,
    }
)
"""What a verification looks at: everything the service was asked about."""

ANY_ASKED = "SELECT 1 FROM verification LIMIT 1"
ASKED_SINCE = "SELECT since_seq FROM verification WHERE call_no = ?"
# Also of those that have no row yet: a call that is begun asks for itself then.
VERIFY_ALL = """
INSERT OR IGNORE INTO verification SELECT -1, ?1 UNION ALL SELECT call_no, ?1 FROM call
"""
SAMPLED = "SELECT call_no FROM verification WHERE call_no >= 0"
VERIFY_AGAIN = """
INSERT OR REPLACE INTO verification
SELECT c.call_no, ?1 FROM call c WHERE c.state = 2 AND EXISTS (
  SELECT 1 FROM face f WHERE f.call_no = c.call_no AND f.outcome IN (
    'deleted', 'absent', 'present', 'no_person', 'person_empty', 'person_deleted'))
"""
# Two questions, because each has an index that holds nothing but such calls.
TO_BE_VERIFIED = """
SELECT (SELECT COUNT(*) FROM call WHERE state = 0 AND step = 'verify')
     + (SELECT COUNT(*) FROM call WHERE state = 1 AND step = 'verify')
"""
BEGIN_VERIFYING = """
UPDATE call SET state = 0, step = 'verify', not_before_us = 0 WHERE state = 2
AND call_no IN (SELECT call_no FROM verification WHERE since_seq = ?) AND EXISTS (
  SELECT 1 FROM face f WHERE f.call_no = call.call_no AND f.outcome IN (
    'deleted', 'absent', 'present', 'no_person', 'person_empty', 'person_deleted'))
"""


class Questions:
    """The lookups that are asked for of settled calls. Used by the ledger's writer only."""

    def __init__(
        self,
        connection: apsw.Connection,
        planned: Planned,
        frontier: Frontier,
        rules: Rules,
    ) -> None:
        self._planned = planned
        self._frontier = frontier
        self._rules = rules
        self.are_asked = query(connection, ANY_ASKED).fetchone() is not None
        """Whether there is any question; whoever asks one of its own says so here."""

    def ask(self, connection: apsw.Connection, verb: Verb, verify: str, since_seq: int) -> None:
        """Ask what a session with this verb and setting (``none``, ``all``, ``sample:N``) is to ask.

        Answers are lookups behind ``since_seq``. Raises ``GateClosed`` where the plan, of which a sample
        is drawn, is not what it was.
        """
        if verb is Verb.VERIFY:
            connection.execute(VERIFY_AGAIN, (since_seq,))
            connection.execute(BEGIN_VERIFYING, (since_seq,))
        elif verify == "all":
            self._ask_of_all(connection, since_seq)
        elif verify.startswith("sample:"):
            self._sample(connection, int(verify.removeprefix("sample:")), since_seq)
        self.are_asked = query(connection, ANY_ASKED).fetchone() is not None

    def _sample(self, connection: apsw.Connection, persons: int, since_seq: int) -> None:
        """Ask for so many persons of the plan, drawn at random; a later session keeps the sample."""
        if query(connection, ASKED_OF_ALL).fetchone() is not None:
            return
        if persons >= self._planned.persons:
            self._ask_of_all(connection, since_seq)
            return
        tape, calls = self._frontier.tape, self._planned.calls
        asked = [call_no for (call_no,) in query(connection, SAMPLED)]
        sampled = len({tape.calls_beside(call_no)[0] for call_no in asked})
        # Drawn by the run's own name: the same run draws the same, wherever it goes on.
        chance = random.Random(self._planned.run_id)  # noqa: S311 (a sample, no secret)  # nosec B311
        drawn, known = 0, set(asked)
        while sampled < persons:
            # Some are of one person, or asked for already: then more are drawn.
            drawn = min(calls, max(persons, 2 * drawn))
            fresh = [n for n in chance.sample(range(calls), drawn) if n not in known]
            # As the plan has them: those that are near to one another are read together.
            for call_no in sorted(fresh[: persons - sampled]):
                if call_no not in known:
                    call_nos = tape.calls_beside(call_no)
                    connection.executemany(ASK, [(n, since_seq) for n in call_nos])
                    known.update(call_nos)
                    sampled += 1

    def _ask_of_all(self, connection: apsw.Connection, since_seq: int) -> None:
        connection.execute(VERIFY_ALL, (since_seq,))
        self._frontier.look_for_questions()

    def lookup(
        self,
        connection: apsw.Connection,
        call_no: int,
        traces: Sequence[Trace],
        standings: Collection[Standing],
        horizon: Horizon,
    ) -> Waiting | None:
        """What a call waits for about which everything else is settled; None where nothing is asked."""
        if not self.are_asked:
            return None
        row = query(connection, ASKED_SINCE, (call_no,)).fetchone()
        if row is None or not any(x.outcome in VERIFIABLE for x in standings):
            return None
        changed = [
            x.ending_seq or 0 for x in traces if x.step in (Step.DELETE, Step.REMOVE) and weighs(x)
        ]
        since_seq = max([*row, *changed])
        lookups = [x for x in traces if x.step in LOOKUPS and x.attempt_seq > since_seq]
        if any(is_conclusive(x) and x.step is Step.VERIFY for x in lookups):
            return None
        if given_up(lookups, self._rules, horizon):
            return None
        return Waiting(Step.VERIFY, due_us(traces, self._rules))

    @staticmethod
    def left(connection: apsw.Connection) -> int:
        """Calls that are still to be looked up once more."""
        return int(query(connection, TO_BE_VERIFIED).fetchone()[0])
