"""How far the plan was begun: the planned calls that nobody has claimed, and how the next one is."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from worker.errors import GateClosed
from worker.ledger.database import CLAIMED, WAITING, query
from worker.ledger.postings import Postings
from worker.ledger.tape import PlannedCall, Tape
from worker.ledger.unrolling import rows_of

FRONTIER = "SELECT call_no FROM frontier"
# Calls from the frontier on that have rows already, because something was to be said of them. There
# may be millions, so that no more is known of them than which comes next.
NEXT_BEGUN = "SELECT MIN(call_no) FROM call WHERE call_no >= ?"
IS_BEGUN = "SELECT 1 FROM call WHERE call_no = ?"
# Behind a call that was begun and all that are adjacent to it.
BEHIND_BEGUN = """
SELECT c.call_no + 1 FROM call c WHERE c.call_no >= ?
AND NOT EXISTS (SELECT 1 FROM call x WHERE x.call_no = c.call_no + 1) ORDER BY c.call_no LIMIT 1
"""
IN_FLIGHT = "SELECT 1 FROM call WHERE state = 1 AND person_id = ? LIMIT 1"

# With call_no -1, what was asked for of every call, also of those that have no row yet.
ASKED_OF_ALL = "SELECT since_seq FROM verification WHERE call_no = -1"
# A later session keeps what was asked for; so does who asks for a call that another one has asked for.
ASK = "INSERT OR IGNORE INTO verification VALUES (?, ?)"


class Frontier:
    """Stands between what was planned and what was begun. Used by the ledger's writer only.

    Methods that read the plan raise ``GateClosed`` where it is not what it was.
    """

    def __init__(
        self, connection: apsw.Connection, run_id: str, calls: int, postings: Postings
    ) -> None:
        """What it begins goes to ``postings``."""
        self._connection = connection
        self._run_id = run_id
        self._postings = postings
        self._calls = calls
        self.tape = Tape(connection, run_id)
        (call_no,) = query(connection, FRONTIER).fetchone()
        self._call_no = int(call_no)
        self._next_begun = self._begun_from(self._call_no)
        self._has_passed = False
        self._asked_since: int | None = None
        self.look_for_questions()

    def look_for_questions(self) -> None:
        """Take note whether every call is to be verified, whenever it is begun."""
        row = query(self._connection, ASKED_OF_ALL).fetchone()
        self._asked_since = None if row is None else row[0]

    def has_next(self, last_call_no: int | None = None) -> bool:
        """Whether a call up to ``last_call_no`` (None: any) was not begun."""
        if self._call_no == self._next_begun:
            (self._call_no,) = query(self._connection, BEHIND_BEGUN, (self._call_no,)).fetchone()
            self._next_begun = self._begun_from(self._call_no)
            self._has_passed = True
        return self._call_no < self._calls and (
            last_call_no is None or self._call_no <= last_call_no
        )

    def take_passed(self) -> bool:
        """Whether it has passed calls since the last time that were begun before their turn."""
        passed, self._has_passed = self._has_passed, False
        return passed

    @property
    def call_no(self) -> int:
        """The first call that was not begun, while ``has_next``."""
        return self._call_no

    def claim(self) -> PlannedCall | None:
        """Begin the next call, which there must be, and claim it.

        None where another call of its person is in flight: it is left to wait then.
        """
        planned = self._planned(self._call_no)
        self._call_no += 1
        self._postings.move_frontier(self._call_no)
        in_flight = self.is_in_flight(planned)
        self._begin(planned, WAITING if in_flight else CLAIMED)
        return None if in_flight else planned

    def begin(self, call_no: int) -> None:
        """Give a planned call its rows where it has none: something is to be said of it."""
        if call_no < self._call_no or query(self._connection, IS_BEGUN, (call_no,)).fetchone():
            return
        self._begin(self._planned(call_no), WAITING)
        self._postings.write(self._connection)
        if self._next_begun is None or call_no < self._next_begun:
            self._next_begun = call_no

    def begin_calls_of(self, person_ids: frozenset[str]) -> None:
        """The same for every call about one of ``person_ids``; of what can be read, before it raises."""
        for call_no in self.tape.calls_of(person_ids, self._call_no):
            self.begin(call_no)

    def following(self, call_no: int) -> Iterator[PlannedCall]:
        """The calls beyond ``call_no`` that were not begun, in their order."""
        number = max(call_no + 1, self._call_no)
        begun = self._begun_from(number)
        while number < self._calls:
            if number == begun:
                (number,) = query(self._connection, BEHIND_BEGUN, (number,)).fetchone()
                begun = self._begun_from(number)
            else:
                yield self._planned(number)
                number += 1

    def is_in_flight(self, planned: PlannedCall) -> bool:
        """Whether another call of its person is."""
        if not planned.shares_person:
            return False
        self._postings.write(self._connection)
        return query(self._connection, IN_FLIGHT, (planned.person_id,)).fetchone() is not None

    def has_claimable(self, last_call_no: int | None) -> bool:
        """Whether ``claim`` would give a call; also where it would raise."""
        try:
            for planned in self.following(-1):
                if last_call_no is not None and planned.call_no > last_call_no:
                    return False
                if not self.is_in_flight(planned):
                    return True
        except GateClosed:
            return True
        return False

    def _begin(self, planned: PlannedCall, state: int) -> None:
        self._postings.begin(*rows_of(self._run_id, planned, state))
        if self._asked_since is not None:
            self._connection.execute(ASK, (planned.call_no, self._asked_since))

    def _begun_from(self, call_no: int) -> int | None:
        """The first of the calls from one on that were begun."""
        (begun,) = query(self._connection, NEXT_BEGUN, (call_no,)).fetchone()
        return None if begun is None else int(begun)

    def _planned(self, call_no: int) -> PlannedCall:
        planned = self.tape.call(call_no)
        assert planned is not None  # as many are planned as the run's facts say
        return planned
