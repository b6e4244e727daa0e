"""Claims: which call goes next, of those that were begun and are due, and of the rest of the plan.

Nobody claims a call while another one about the same person is in flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from worker.errors import LedgerDamaged, LimitReached
from worker.fold import Rules
from worker.ledger.database import WAITING, query, seal
from worker.ledger.facts import Planned
from worker.ledger.frontier import Frontier
from worker.ledger.postings import Postings
from worker.ledger.questions import VERIFIABLE
from worker.ledger.ramp import Ramp
from worker.ledger.tape import PlannedCall
from worker.model import Call, Step

MOST_LEFT_WAITING = 50
"""Calls about persons in flight that one claim goes past: of a person with thousands of calls the rest
is for later claims, so that nobody waits long for the writer."""

FACES_PER_ATTEMPT = 20
"""The documented maximum of faces of one person; what is found may still be more."""

# In what runs for every call a bound value is written +?, because of a bare one SQLite prepares the
# statement anew each time: the value might make an index with a condition fit.

# Calls that wait for a step, unless another call of the same person is in flight, in the order in
# which they are due. The persons in flight are listed once: there are few of them, while one person
# may have many calls.
WAITS = """
c.state = 0 AND c.step = +:step AND c.person_id NOT IN (SELECT person_id FROM call WHERE state = 1)
"""
WAITING_CALLS = f"FROM call c WHERE {WAITS}"
# Within a stage of the canary there are few of them, which the index has behind all others.
STAGED_CALLS = f"""
FROM call c NOT INDEXED WHERE c.call_no BETWEEN +:settled_below AND (
  SELECT MIN(last_call_no) FROM canary WHERE passed_us IS NULL) AND {WAITS}
"""  # noqa: S608  # nosec B608
# What is further ahead than anything is ever put was written before the clock was set back.
DUE = "AND (c.not_before_us <= :now_us OR c.not_before_us > :beyond_us)"
IN_ORDER = "ORDER BY c.not_before_us, c.call_no LIMIT 1"
# Calls that were begun and wait for no time, as nothing does of which the plan is all that is known.
BEGUN = "AND c.not_before_us = 0 AND c.call_no < +:frontier"
# All are put together from the constants above, and nothing else.
CLAIM = f"""
UPDATE call SET state = 1 WHERE call_no = (SELECT c.call_no {WAITING_CALLS} {DUE} {IN_ORDER})
RETURNING call_no, person_id, whole, seal
"""  # noqa: S608  # nosec B608
CLAIM_BEGUN = f"""
UPDATE call SET state = 1 WHERE call_no = (SELECT c.call_no {WAITING_CALLS} {BEGUN} {IN_ORDER})
RETURNING call_no, person_id, whole, seal
"""  # noqa: S608  # nosec B608
NEXT_DUE = f"SELECT c.not_before_us {WAITING_CALLS} {IN_ORDER}"  # nosec B608
CLAIM_IN_STAGE = f"""
UPDATE call SET state = 1 WHERE call_no = (SELECT c.call_no {STAGED_CALLS} {DUE} {IN_ORDER})
RETURNING call_no, person_id, whole, seal
"""  # noqa: S608  # nosec B608
CLAIM_BEGUN_IN_STAGE = f"""
UPDATE call SET state = 1 WHERE call_no = (SELECT c.call_no {STAGED_CALLS} {BEGUN} {IN_ORDER})
RETURNING call_no, person_id, whole, seal
"""  # noqa: S608  # nosec B608
NEXT_DUE_IN_STAGE = f"SELECT c.not_before_us {STAGED_CALLS} {IN_ORDER}"  # nosec B608

# The faces of a call in their order, with the place of their row.
FACES_OF_CALL = """
SELECT face_id, step, outcome, source_no, line FROM face WHERE call_no = +? ORDER BY face_no
"""

FOUND_FACES = """
SELECT COUNT(*) FROM face WHERE found_by IS NOT NULL AND outcome NOT IN ('held', 'conflict')
"""

SET_STATE = "UPDATE call SET state = ? WHERE call_no = ?"


class _Claimed(NamedTuple):
    """A row as CLAIM gives it."""

    call_no: int
    person_id: str
    whole: int
    seal: bytes


class Claims:
    """Hands out the calls of a run in their order. Used by the ledger's writer only."""

    def __init__(
        self,
        connection: apsw.Connection,
        planned: Planned,
        frontier: Frontier,
        ramp: Ramp,
        postings: Postings,
        *,
        rules: Rules,
        max_delete: int,
    ) -> None:
        """Whole persons are not handed out for deletion where that makes more faces than ``max_delete``.

        0 is no limit. What ``frontier`` begins waits in ``postings``, and ``ramp`` says how far it goes.
        """
        self._path = connection.filename
        self._source_names = dict(
            query(connection, "SELECT source_no, name FROM source").fetchall()
        )
        self._planned = planned
        self._frontier = frontier
        self._ramp = ramp
        self._postings = postings
        self._rules = rules
        self.found = 0
        """Faces found for whole persons, without those that must not be sent; whoever finds one, or has
        to keep one back, counts here."""
        if planned.whole_persons:
            (self.found,) = query(connection, FOUND_FACES).fetchone()
        self._max_delete = max_delete
        # Calls in flight for the first time, with every face that was planned of them, and whether
        # another call is about the same person.
        self._untried: dict[int, bool] = {}
        # Whether a call that was begun might be claimed before the rest of the plan.
        self._look_back = True

    def look_back(self) -> None:
        """From now on look again, before the rest of the plan, for calls that were begun."""
        self._look_back = True

    def take_untried(self, call_no: int) -> bool | None:
        """Whether a call that comes back for the first time may share its person with another one.

        Told once. None for any other call.
        """
        return self._untried.pop(call_no, None)

    def take(
        self, connection: apsw.Connection, steps: Sequence[Step], now_us: int
    ) -> Call | LimitReached | None:
        """Claim the next call that is due for one of ``steps``, of which the first wins; None for none.

        With ``LimitReached``, which is returned where more would go than ``max_delete``, nothing is
        claimed. Raises ``LedgerDamaged``, with nothing claimed either, for a call that is not what was
        planned or has nothing for that step, and ``GateClosed`` where the plan is damaged.
        """
        for step in steps:
            bindings: dict[str, str | int] = {
                "step": str(step),
                "settled_below": self._ramp.settled_below,
            }
            claimed = None
            # Whole persons, of whom somebody looks for faces, were begun with the plan.
            left_waiting = 0
            while (
                step is Step.DELETE
                and left_waiting < MOST_LEFT_WAITING
                and self._frontier.has_next(self._ramp.last_call_no)
            ):
                # What was begun and can go at once is further in front than the rest of the plan.
                claimed = self._claim_begun(connection, bindings)
                if claimed is not None:
                    break
                planned = self._frontier.claim()
                if planned is not None:
                    return self._planned_call(planned)
                left_waiting += 1
            if claimed is None:
                bindings["now_us"] = now_us
                bindings["beyond_us"] = now_us + self._rules.absence_interval_us
                self._postings.write(connection)
                claim = CLAIM_IN_STAGE if self._ramp.is_open else CLAIM
                claimed = query(connection, claim, bindings).fetchone()
            if claimed is not None:
                return self._checked(connection, step, _Claimed._make(claimed))
        return None

    def give_back(self, connection: apsw.Connection, call_no: int) -> None:
        """Let a call wait again of which no attempt could be made."""
        self._untried.pop(call_no, None)
        self._look_back = True
        self._postings.write(connection)
        connection.execute(SET_STATE, (WAITING, call_no))

    def _claim_begun(
        self, connection: apsw.Connection, bindings: Mapping[str, str | int]
    ) -> tuple[Any, ...] | None:
        self._look_back |= self._frontier.take_passed()
        if not self._look_back:
            return None
        self._postings.write(connection)
        claim = CLAIM_BEGUN_IN_STAGE if self._ramp.is_open else CLAIM_BEGUN
        ahead_of = {**bindings, "frontier": self._frontier.call_no}
        claimed: tuple[Any, ...] | None = query(connection, claim, ahead_of).fetchone()
        # Until something is recorded that is not as planned, or lets go of another of its person.
        self._look_back = claimed is not None
        return claimed

    def _planned_call(self, planned: PlannedCall) -> Call:
        # A call has as many faces as one attempt may name; whole persons were begun with the plan.
        self._untried[planned.call_no] = planned.shares_person
        faces = planned.faces
        return Call(
            planned.call_no,
            planned.person_id,
            tuple([face.face_id for face in faces]),
            tuple([self._place(face.source_no, face.line) for face in faces]),
        )

    def _place(self, source_no: int, line: int) -> str:
        return f"{self._source_names[source_no]}:{line}"

    def _checked(
        self, connection: apsw.Connection, step: Step, claimed: _Claimed
    ) -> Call | LimitReached:
        call_no, person_id, whole, sealed = claimed
        faces = query(connection, FACES_OF_CALL, (call_no,)).fetchall()
        if seal(self._planned.run_id, call_no, person_id, [face[0] for face in faces]) != sealed:
            connection.execute(SET_STATE, (WAITING, call_no))
            raise _damaged(self._path, call_no, "its seal does not match")
        if whole and step is Step.DELETE and self._is_too_much():
            connection.execute(SET_STATE, (WAITING, call_no))
            return LimitReached(
                f"{self._planned.faces + self.found:,} faces are to be deleted now that whole persons"
                f" were looked up, and --max-delete allows {self._max_delete:,}",
                "look at what was found in the report; raise --max-delete if it is right",
            )
        if whole and step is not Step.DELETE:
            place = self._place(*faces[0][3:])
            return Call(call_no, person_id, (), (place,), step, whole=True)
        wanted = [
            (face_id, self._place(source_no, line))
            for face_id, face_step, outcome, source_no, line in faces
            if face_id and (outcome in VERIFIABLE if step is Step.VERIFY else face_step == step)
        ][: FACES_PER_ATTEMPT if step is Step.DELETE else None]
        if not wanted:
            self.give_back(connection, call_no)
            raise _damaged(self._path, call_no, f"it waits for {step}, and none of its faces does")
        return Call(
            call_no,
            person_id,
            tuple(face_id for face_id, _ in wanted),
            tuple(place for _, place in wanted),
            step,
            whole=bool(whole),
        )

    def _is_too_much(self) -> bool:
        return 0 < self._max_delete < self._planned.faces + self.found

    def due(self, connection: apsw.Connection, steps: Sequence[Step], now_us: int) -> int | None:
        """When the next call that waits for one of ``steps`` may be claimed; None for none."""
        last_call_no = self._ramp.last_call_no
        if Step.DELETE in steps and self._frontier.has_claimable(last_call_no):
            return 0
        next_due = NEXT_DUE_IN_STAGE if self._ramp.is_open else NEXT_DUE
        below = {"settled_below": self._ramp.settled_below}
        rows = [query(connection, next_due, {"step": str(x), **below}).fetchone() for x in steps]
        times = [row[0] for row in rows if row is not None]
        if not times:
            return None
        first = int(min(times))
        return first if first <= now_us + self._rules.absence_interval_us else now_us


def _damaged(path: str, call_no: int, why: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"{path}: call {call_no} of the ledger is not what was planned ({why}), so nothing more is sent",
        "the disk or a person has changed the ledger: restore the run directory from a copy",
    )
