"""Every claim a ledger makes, held against the truth at the moment it is made."""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw

from tests.simulation.history import Arrived, History
from tests.simulation.violations import Violations
from worker.erasure import NOT_REMOVED
from worker.model import Outcome

STANDINGS = """
SELECT f.face_no, f.call_no, c.person_id, f.face_id, f.outcome, f.code, f.decided_by, IFNULL(a.nonce, '')
FROM face f JOIN call c USING (call_no)
LEFT JOIN ending e ON e.seq = f.decided_by LEFT JOIN attempt a ON a.seq = e.attempt_seq
"""
OF_CALL = STANDINGS + "WHERE f.call_no = ?"
# With the number of its end; none while nobody has written one.
NONCES_OF_CALL = """
SELECT a.nonce, e.seq FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq WHERE a.call_no = ?
"""


class _Standing(NamedTuple):
    face_no: int
    call_no: int
    person_id: str
    face_id: str
    outcome: str
    code: str
    decided_by: int | None
    nonce: str


class Claims:
    """Checks T1 to T3 for one run through a connection of its own: only what is durable counts."""

    def __init__(
        self, run: str, reader: apsw.Connection, history: History, violations: Violations
    ) -> None:
        self._run = run
        self._reader = reader
        self._history = history
        self._violations = violations
        self._held: dict[int, tuple[str, str, int | None]] = {}

    def examine(self, call_no: int | None = None) -> None:
        """The standings of one call, or of all."""
        rows: list[Any]
        if call_no is None:
            rows = self._reader.execute(STANDINGS).fetchall()
        else:
            rows = self._reader.execute(OF_CALL, (call_no,)).fetchall()
        for row in rows:
            standing = _Standing._make(row)
            known = (standing.outcome, standing.code, standing.decided_by)
            if self._held.get(standing.face_no) == known and standing.outcome != Outcome.UNSENT:
                continue
            self._held[standing.face_no] = known
            wrong = self._wrong(standing)
            if wrong:
                self._violations.report(
                    "T",
                    f"run {self._run}: {standing.person_id} {standing.face_id or '(whole)'} is"
                    f" called {standing.outcome} {standing.code}: {wrong}",
                )

    def _wrong(self, standing: _Standing) -> str:
        """In which way a claim is not true; ``""`` where it is."""
        arrivals = [x for x in self._history.of(standing.nonce) if x.served]
        match standing.outcome:
            case Outcome.UNSENT:
                return self._wrongly_unsent(standing)
            case Outcome.UNKNOWN | Outcome.HELD | Outcome.CONFLICT:
                return ""
            case _ if standing.decided_by is None:
                return "nothing decided it"
        if standing.face_id:
            return _wrong_of_face(standing, arrivals)
        return _wrong_of_person(standing, arrivals)

    def _wrongly_unsent(self, standing: _Standing) -> str:
        if (standing.person_id, standing.face_id) not in self._history.deleted_by(self._run):
            return ""
        nonces: list[Any] = self._reader.execute(NONCES_OF_CALL, (standing.call_no,)).fetchall()
        if any(ending_seq is None for _, ending_seq in nonces):
            # What a death has left open is taken into account when the next life begins.
            return ""
        gone = any(
            standing.face_id in x.deleted for nonce, _ in nonces for x in self._history.of(nonce)
        )
        return "this call has deleted it" if gone else ""


def _wrong_of_face(standing: _Standing, arrivals: list[Arrived]) -> str:
    face_id = standing.face_id
    match standing.outcome:
        case Outcome.DELETED | Outcome.ABSENT:
            true = any(x.left is None or face_id not in x.left for x in arrivals)
            return "" if true else "it was there when that was answered"
        case Outcome.NO_PERSON:
            return "" if any(x.left is None for x in arrivals) else "the person was there"
        case Outcome.PRESENT:
            return "" if any(face_id in x.shown for x in arrivals) else "no lookup showed it"
        case Outcome.REFUSED:
            return "that attempt deleted it" if any(face_id in x.deleted for x in arrivals) else ""
    return "this is no outcome of a face"


def _wrong_of_person(standing: _Standing, arrivals: list[Arrived]) -> str:
    match standing.outcome:
        case Outcome.PERSON_EMPTY:
            return "" if any(not x.left for x in arrivals) else "there was a face"
        case Outcome.PERSON_DELETED | Outcome.NO_PERSON:
            return "" if any(x.left is None for x in arrivals) else "the person was there"
        case Outcome.PRESENT:
            if standing.code == NOT_REMOVED or any(x.shown for x in arrivals):
                return ""
            return "no lookup showed a face"
        case Outcome.REFUSED:
            return "that attempt removed it" if any(x.removed for x in arrivals) else ""
    return "this is no outcome of a whole person"
