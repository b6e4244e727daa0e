"""The ledger of a run at work: claims, attempts, evidence, outcomes, sessions."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from math import inf
from typing import Any, NamedTuple

import apsw
import msgspec

from worker.canary import StageFailed, StagePassed, StageReachesOn
from worker.erasure import EMPTY, FACES_KEPT, RECORD_KEPT, Found, fold_person
from worker.errors import GateClosed, LedgerDamaged, LimitReached
from worker.fold import (
    DEFAULT_RULES,
    LOOKUPS,
    Horizon,
    Rules,
    Standing,
    Trace,
    due_us,
    fold,
    given_up,
    is_conclusive,
    weighs,
)
from worker.holds import Hold
from worker.ledger.books import ANY_WAITING, UNVERIFIED
from worker.ledger.database import SETTLED, WAITING, query, seal
from worker.ledger.frontier import ASKED_OF_ALL, Frontier
from worker.ledger.postings import Postings
from worker.ledger.ramp import Ramp
from worker.ledger.tape import PlannedCall
from worker.ledger.writer import T, Write, Writer, ledger_failed
from worker.model import (
    UNFINISHED,
    Attempt,
    Call,
    Evidence,
    Kind,
    Outcome,
    Request,
    Step,
    StopReason,
    Verb,
    Waiting,
)
from worker.orders import Ask, Order, Pulse, Taken

MOST_LEFT_WAITING = 50
"""Calls about persons in flight that one claim goes past: of a person with thousands of calls the rest
is for later claims, so that nobody waits long for the writer."""

FACES_PER_ATTEMPT = 20
"""The documented maximum of faces of one person; what is found may still be more."""

FACTS = "SELECT key, value FROM run WHERE key IN ('run_id', 'persons', 'calls', 'faces', 'whole_persons')"
LAST_SEQ = """
SELECT MAX((SELECT IFNULL(MAX(seq), 0) FROM attempt), (SELECT IFNULL(MAX(seq), 0) FROM ending))
"""
LAST_SESSION = "SELECT IFNULL(MAX(session_no), 0), IFNULL(MAX(first_seq), 0) FROM session"
LAST_ROUND = "SELECT IFNULL(MAX(first_seq), 0) FROM session WHERE verb IN ('run', 'retry')"
FOUND_FACES = """
SELECT COUNT(*) FROM face WHERE found_by IS NOT NULL AND outcome NOT IN ('held', 'conflict')
"""

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

SENT_SINCE = "SELECT 1 FROM attempt WHERE call_no = +? AND seq > ? LIMIT 1"

SET_STATE = "UPDATE call SET state = ? WHERE call_no = ?"
SET_WAITING = "UPDATE call SET state = ?, step = ?, not_before_us = ? WHERE call_no = ?"

# Everything that is known about the attempts of a call.
TRACES_OF_CALL = """
SELECT a.seq, a.step, a.face_ids, a.opened_us,
       e.seq, e.kind, e.ended_us, e.sent_us, e.code, e.listed
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq WHERE a.call_no = +?
"""

STANDINGS_OF_CALL = """
SELECT face_no, first_row, source_no, line,
       face_id, found_by, step, outcome, code, attempts, first_sent_us, decided_by
FROM face WHERE call_no = +? ORDER BY face_no
"""

SET_STANDING = """
UPDATE face SET step = ?, outcome = ?, code = ?, attempts = ?, first_sent_us = ?, decided_by = ?
WHERE face_no = ?
"""

INSERT_FOUND = """
INSERT INTO face
  (call_no, first_row, source_no, line, face_id, found_by, step, outcome, code, attempts)
VALUES (?, ?, ?, ?, ?, ?, '', ?, '', 0)
"""

# Whether a face that was found is, in this run, under another person too.
UNDER_ANOTHER = """
SELECT EXISTS (
  SELECT 1 FROM named WHERE face_id = ?1 AND person_id <> ?2
) OR EXISTS (
  SELECT 1 FROM face f JOIN call c USING (call_no) WHERE f.face_id = ?1 AND c.person_id <> ?2)
"""

# Waiting calls that would send a face.
CALLS_WITH_FACE = """
SELECT c.call_no FROM face f JOIN call c USING (call_no)
WHERE f.face_id = +? AND f.step = 'delete' AND c.state = 0
"""
PLANNED_WITH_FACE = "SELECT call_no FROM named WHERE face_id = ? AND call_no IS NOT NULL"

CONTESTED = "SELECT face_id FROM contested JOIN face USING (face_id) WHERE call_no = +?"

ADD_TO_TALLY = """
INSERT INTO tally VALUES (?, ?) ON CONFLICT (outcome) DO UPDATE SET faces = faces + excluded.faces
"""

# Waiting calls in which a hold on a person (face '') or on one face keeps something from being sent.
HELD_CALLS = """
SELECT DISTINCT c.call_no FROM call c JOIN face f USING (call_no)
WHERE c.person_id = ?1 AND c.state = 0 AND f.step <> '' AND (?2 IN ('', f.face_id) OR c.whole = 1)
"""

# Claims a dead process left behind, with their attempt if one was opened and never ended.
LEFT_BEHIND = """
SELECT c.call_no, a.seq FROM call c
LEFT JOIN attempt a ON a.call_no = c.call_no
  AND NOT EXISTS (SELECT 1 FROM ending e WHERE e.attempt_seq = a.seq)
WHERE c.state = 1
"""

# Settled calls with faces that a new session looks at again, or a new round sends again.
WITH_UNKNOWN = """
SELECT DISTINCT call_no FROM face JOIN call USING (call_no) WHERE outcome = 'unknown' AND state = 2
"""
WITH_RETRIED = """
SELECT DISTINCT call_no FROM face WHERE outcome IN ('present', 'no_person', 'refused')
"""
# Calls that wait for a removal, which goes only on what was seen in its own session.
WITH_REMOVAL = "SELECT call_no FROM call WHERE state = 0 AND step = 'remove'"

# What a verification looks at: everything the service was asked about.
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
# Also of those that have no row yet: a call that is begun asks for itself then.
VERIFY_ALL = """
INSERT OR IGNORE INTO verification SELECT -1, ?1 UNION ALL SELECT call_no, ?1 FROM call
"""
VERIFY = "INSERT OR IGNORE INTO verification VALUES (?, ?)"
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

INSERT_SESSION = "INSERT INTO session VALUES (?, ?, ?, ?, ?, NULL, NULL, '', '{}')"
# Orders to this session that nobody has looked at yet.
NEW_ORDERS = """
SELECT seq, ask, rate_per_second, given_us, given_by FROM command
WHERE seq > ? AND session_no = ? ORDER BY seq
"""
ACCEPT = "INSERT OR IGNORE INTO command_decided VALUES (?, 0, ?) RETURNING 1"
NOTE_TAKEN = "INSERT INTO command_taken VALUES (?, ?, ?, ?, ?)"
BEAT = "INSERT OR REPLACE INTO pulse VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

END_SESSION = """
UPDATE session SET ended_us = ?, stop_reason = ?, detail = ?, waits = ? WHERE session_no = ?
"""


class _Claimed(NamedTuple):
    """A row as CLAIM gives it."""

    call_no: int
    person_id: str
    whole: int
    seal: bytes


class _Face(NamedTuple):
    """A row of ``face`` as STANDINGS_OF_CALL gives it."""

    face_no: int
    first_row: int
    source_no: int
    line: int
    face_id: str
    found_by: int | None
    step: str
    outcome: str
    code: str
    attempts: int
    first_sent_us: int | None
    decided_by: int | None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was fixed with the plan."""

    run_id: str
    persons: int
    calls: int
    faces: int
    whole_persons: int


def _sound(write: Write[T]) -> Write[T | LedgerDamaged]:
    """A write that returns what is damaged where it cannot read the plan.

    What it has done until then is kept: raised in it, damage would also undo what other loops record in
    the same commit.
    """

    def tried(connection: apsw.Connection) -> T | LedgerDamaged:
        try:
            return write(connection)
        except LedgerDamaged as damaged:
            return damaged
        except GateClosed as damaged:
            return LedgerDamaged(f"{damaged.cause}, so nothing more is sent", damaged.remedy)

    return tried


def _undamaged(value: T | LedgerDamaged) -> T:
    if isinstance(value, LedgerDamaged):
        raise value
    return value


def _damaged(path: str, call_no: int) -> LedgerDamaged:
    return LedgerDamaged(
        f"{path}: call {call_no} of the ledger is not what was planned (its seal does not match), so nothing"
        " more is sent",
        "the disk or a person has changed the ledger: restore the run directory from a copy",
    )


class Ledger:
    """The books of a run while it works; implements the ports of the pipeline.

    Every method is durable when it returns. Cancelling the caller ends its waiting, never the
    write. All, the constructor included, raise ``LedgerFailed`` once the ledger has failed.
    ``max_delete`` limits the faces that may be sent once whole persons have been looked up; 0 for
    no limit.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        make_writer: Callable[[apsw.Connection, Write[None]], Writer],
        *,
        rules: Rules = DEFAULT_RULES,
        max_delete: int = 0,
    ) -> None:
        self._path = connection.filename
        self._rules = rules
        self._max_delete = max_delete
        try:
            facts = {key: msgspec.json.decode(value) for key, value in query(connection, FACTS)}
            self._source_names = dict(
                query(connection, "SELECT source_no, name FROM source").fetchall()
            )
            (last_seq,) = query(connection, LAST_SEQ).fetchone()
            self._session_no, session_seq = query(connection, LAST_SESSION).fetchone()
            (round_seq,) = query(connection, LAST_ROUND).fetchone()
            self._facts = _Facts(**facts)
            self._postings = Postings()
            self._frontier = Frontier(
                connection, self._facts.run_id, self._facts.calls, self._postings
            )
            self._found = 0
            if self._facts.whole_persons:
                (self._found,) = query(connection, FOUND_FACES).fetchone()
            self._verifies = bool(
                query(connection, "SELECT 1 FROM verification LIMIT 1").fetchone()
            )
        except apsw.Error as error:
            connection.close()
            raise ledger_failed(self._path, error) from error
        self._seq: int = last_seq
        self._horizon = Horizon(round_seq, session_seq)
        self._ramp = Ramp()
        self._set_aside_calls: list[int] = []
        # Calls in flight for the first time, with every face that was planned of them, and whether
        # another call is about the same person.
        self._untried: dict[int, bool] = {}
        # Whether a call that was begun might be claimed before the rest of the plan.
        self._look_back = True
        self._writer = make_writer(connection, self._postings.write)

    async def close(self) -> None:
        """Wait for what was submitted, then close the file."""
        await self._writer.close()

    def _submit(self, write: Write[T]) -> asyncio.Future[T]:
        """Queue a write that may read and change any table."""

        def written(connection: apsw.Connection) -> T:
            self._settle_up(connection)
            return write(connection)

        return self._writer.submit(written)

    def _settle_up(self, connection: apsw.Connection) -> None:
        """Before anything else than what goes as planned: the tables are to hold all that is known."""
        self._postings.write(connection)
        self._look_back = True

    # Claims and attempts

    async def begin(
        self, steps: Sequence[Step], now_us: int, prepare: Callable[[Call], Request]
    ) -> Attempt | None:
        """Claim the next call that is due for one of ``steps``, and write the attempt at it.

        The first step wins. None when nothing can be claimed at present. ``prepare`` makes the request
        of the call, on the writer's thread. An attempt whose caller is cancelled meanwhile is ended as
        one that was not sent. Raises ``LedgerDamaged`` for a call that is not what was planned (others
        can still be recorded), and ``LimitReached`` when more would be deleted than ``max_delete``
        allows.
        """
        begun: list[Attempt] = []

        def write(connection: apsw.Connection) -> Attempt | LimitReached | None:
            call = self._claim(connection, steps, now_us)
            if call is None or isinstance(call, LimitReached):
                return call
            begun.append(self._open(call, prepare(call), now_us))
            return begun[0]

        try:
            attempt = _undamaged(await self._writer.submit(_sound(write)))
        except asyncio.CancelledError:
            self._submit(lambda c: self._take_back(c, begun, now_us))
            raise
        if isinstance(attempt, LimitReached):
            raise attempt
        return attempt

    def _open(self, call: Call, request: Request, opened_us: int) -> Attempt:
        self._seq += 1
        self._postings.open(
            (
                self._seq,
                call.call_no,
                request.operation,
                str(request.step),
                request.nonce,
                hashlib.sha256(request.body).hexdigest(),
                msgspec.json.encode(request.face_ids).decode(),
                opened_us,
            )
        )
        return Attempt(self._seq, call, request)

    def _take_back(
        self, connection: apsw.Connection, begun: Sequence[Attempt], now_us: int
    ) -> None:
        for attempt in begun:
            self._untried.pop(attempt.call.call_no, None)
            message = "the run ended before this request was sent"
            self._append_ending(
                attempt.seq, Evidence(Kind.NOT_SENT, now_us, code="cancelled", message=message)
            )
            self._postings.write(connection)
            self._restate(connection, attempt.call.call_no)

    def _claim(
        self, connection: apsw.Connection, steps: Sequence[Step], now_us: int
    ) -> Call | LimitReached | None:
        """Raises ``LedgerDamaged`` with nothing claimed, and ``GateClosed`` where the plan is damaged."""
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
                planned = self._frontier.claim(connection)
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
        if self._seal(call_no, person_id, [face[0] for face in faces]) != sealed:
            connection.execute(SET_STATE, (WAITING, call_no))
            raise _damaged(self._path, call_no)
        if whole and step is Step.DELETE and self._is_too_much():
            connection.execute(SET_STATE, (WAITING, call_no))
            return LimitReached(
                f"{self._facts.faces + self._found:,} faces are to be deleted now that whole persons"
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
        return Call(
            call_no,
            person_id,
            tuple(face_id for face_id, _ in wanted),
            tuple(place for _, place in wanted),
            step,
            whole=bool(whole),
        )

    def _is_too_much(self) -> bool:
        return 0 < self._max_delete < self._facts.faces + self._found

    def _seal(self, call_no: int, person_id: str, face_ids: list[str]) -> bytes:
        return seal(self._facts.run_id, call_no, person_id, face_ids)

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        """When the next call that waits for one of ``steps`` may be claimed; None for none."""

        def read(connection: apsw.Connection) -> int | None:
            last_call_no = self._ramp.last_call_no
            if Step.DELETE in steps and self._frontier.has_claimable(connection, last_call_no):
                return 0
            next_due = NEXT_DUE_IN_STAGE if self._ramp.is_open else NEXT_DUE
            below = {"settled_below": self._ramp.settled_below}
            rows = [
                query(connection, next_due, {"step": str(x), **below}).fetchone() for x in steps
            ]
            times = [row[0] for row in rows if row is not None]
            if not times:
                return None
            first = int(min(times))
            return first if first <= now_us + self._rules.absence_interval_us else now_us

        return await self._submit(read)

    # Evidence

    async def record(self, attempt_seq: int, call: Call, evidence: Evidence) -> Waiting | None:
        """Write how an attempt ended, what its faces are now and what the call waits for.

        All of it in one transaction, which is queued before this method first waits: a cancelled
        caller loses nothing. Returns None when nothing more is to be done about the call.
        """

        def write(connection: apsw.Connection) -> Waiting | None:
            self._append_ending(attempt_seq, evidence)
            if self._is_plain(call, evidence):
                return None
            self._settle_up(connection)
            if call.whole and call.step is Step.LOOKUP and evidence.kind is Kind.SHOWN:
                self._take_in(connection, call, evidence.listed)
            return self._restate(connection, call.call_no)

        return await self._writer.submit(write)

    def _is_plain(self, call: Call, evidence: Evidence) -> bool:
        """Whether the first attempt of a call has deleted all of it, which settles it.

        Nearly all calls are such, and to restate them would cost three times as much. Neither an
        exclusion list nor a conflict changes what was deleted.
        """
        shares_person = self._untried.pop(call.call_no, None)
        if (
            shares_person is None
            or self._verifies
            or evidence.kind is not Kind.LISTED
            or evidence.sent_us is None
            or not frozenset(call.face_ids).issubset(evidence.listed)
        ):
            return False
        self._postings.settle(
            call.call_no, len(call.face_ids), evidence.code, evidence.sent_us, self._seq
        )
        self._look_back |= shares_person
        return True

    def _append_ending(self, attempt_seq: int, evidence: Evidence) -> None:
        self._seq += 1
        self._postings.end(
            (
                self._seq,
                attempt_seq,
                str(evidence.kind),
                evidence.ended_us,
                evidence.sent_us,
                evidence.http_status,
                evidence.code,
                evidence.message,
                evidence.request_id,
                msgspec.json.encode(evidence.listed).decode(),
                evidence.retry_after_seconds,
            )
        )

    def _take_in(self, connection: apsw.Connection, call: Call, face_ids: Iterable[str]) -> None:
        """Faces found for a whole person become faces of its call, under holds.

        Which of them are in conflict is restated with the call, in the same transaction.
        """
        faces = self._faces(connection, call.call_no)
        known = dict.fromkeys(face.face_id for face in faces)
        held = self._held(connection, call.person_id)
        for face_id in dict.fromkeys(face_ids):
            if face_id in known:
                continue
            (conflict,) = query(connection, UNDER_ANOTHER, (face_id, call.person_id)).fetchone()
            if conflict:
                self._set_aside(connection, face_id)
            outcome = Outcome.HELD if held & {"", face_id} else Outcome.UNSENT
            connection.execute(
                INSERT_FOUND,
                (call.call_no, *faces[0][1:4], face_id, self._seq, str(outcome)),
            )
            self._add_to_tally(connection, {outcome: 1})
            self._found += outcome is Outcome.UNSENT
            known[face_id] = None
        if len(known) > len(faces):
            connection.execute(
                "UPDATE call SET seal = ? WHERE call_no = ?",
                (self._seal(call.call_no, call.person_id, list(known)), call.call_no),
            )

    def _set_aside(self, connection: apsw.Connection, face_id: str) -> None:
        """A face turned out to be under two persons: from here on it is sent for neither."""
        connection.execute("INSERT OR IGNORE INTO contested VALUES (?)", (face_id,))
        for (call_no,) in query(connection, PLANNED_WITH_FACE, (face_id,)).fetchall():
            # What cannot be read will never be claimed; what is recorded here must not suffer.
            with suppress(GateClosed):
                self._frontier.begin(connection, call_no)
        for (call_no,) in query(connection, CALLS_WITH_FACE, (face_id,)).fetchall():
            self._take_out(connection, call_no)

    def _take_out(self, connection: apsw.Connection, call_no: int) -> None:
        """State a call anew of which a face must not be sent any more, which may settle the rest."""
        if self._restate(connection, call_no) is not None:
            return
        if query(connection, SENT_SINCE, (call_no, self._horizon.session_seq)).fetchone():
            self._set_aside_calls.append(call_no)

    @staticmethod
    def _faces(connection: apsw.Connection, call_no: int) -> list[_Face]:
        return list(map(_Face._make, query(connection, STANDINGS_OF_CALL, (call_no,)).fetchall()))

    @staticmethod
    def _held(connection: apsw.Connection, person_id: str) -> set[str]:
        """Faces of the person on the exclusion list; ``""`` stands for all of them."""
        rows = query(connection, "SELECT face_id FROM hold WHERE person_id = ?", (person_id,))
        return {face_id for (face_id,) in rows}

    def _contested(self, connection: apsw.Connection, call_no: int) -> set[str]:
        """Faces of the call that were found under another person too."""
        if not self._facts.whole_persons:
            return set()
        return {face_id for (face_id,) in query(connection, CONTESTED, (call_no,))}

    @staticmethod
    def _traces(connection: apsw.Connection, call_no: int) -> list[Trace]:
        return [
            Trace(
                attempt_seq,
                Step(step),
                tuple(msgspec.json.decode(face_ids, type=list[str])),
                opened_us,
                ending_seq,
                None
                if kind is None
                else Evidence(
                    Kind(kind),
                    ended_us,
                    sent_us,
                    code=code,
                    listed=tuple(msgspec.json.decode(listed, type=list[str])),
                ),
            )
            for (
                attempt_seq,
                step,
                face_ids,
                opened_us,
                ending_seq,
                kind,
                ended_us,
                sent_us,
                code,
                listed,
            ) in query(connection, TRACES_OF_CALL, (call_no,))
        ]

    def _restate(self, connection: apsw.Connection, call_no: int) -> Waiting | None:
        """Fold the evidence of a call anew, keep the tally in step, and put the call in its place."""
        traces = self._traces(connection, call_no)
        (person_id,) = query(
            connection, "SELECT person_id FROM call WHERE call_no = ?", (call_no,)
        ).fetchone()
        faces = self._faces(connection, call_no)
        standings = self._standings(connection, call_no, person_id, faces, traces)
        change: Counter[str] = Counter()
        for face in faces:
            now = standings[face.face_id]
            stated = (
                str(now.step or ""),
                str(now.outcome),
                now.code,
                now.attempts,
                now.first_sent_us,
                now.decided_by,
            )
            if stated != face[6:]:
                connection.execute(SET_STANDING, (*stated, face.face_no))
                change[face.outcome] -= 1
                change[stated[1]] += 1
                if face.found_by is not None and stated[1] != face.outcome:
                    self._found -= stated[1] in (Outcome.HELD, Outcome.CONFLICT)
        self._add_to_tally(connection, change)
        waiting = self._next(list(standings.values())) or self._verification(
            connection, call_no, traces, standings
        )
        if waiting is None:
            connection.execute(SET_WAITING, (SETTLED, "", 0, call_no))
        else:
            connection.execute(SET_WAITING, (WAITING, *waiting, call_no))
        return waiting

    def _standings(
        self,
        connection: apsw.Connection,
        call_no: int,
        person_id: str,
        faces: Sequence[_Face],
        traces: Sequence[Trace],
    ) -> dict[str, Standing]:
        """Where the faces of a call stand by ``traces``, under holds and conflicts; by face ID."""
        held = self._held(connection, person_id)
        contested = self._contested(connection, call_no)
        last_round = self._last_round(faces)
        standings: dict[str, Standing] = {}
        for face in faces:
            if face.face_id:
                rules = self._rules
                if face.found_by is not None and face.found_by > last_round:
                    # Found too late to be sent in this round: somebody keeps adding faces.
                    rules = replace(rules, max_attempts=0)
                barred = None
                if held & {"", face.face_id}:
                    barred = Outcome.HELD
                elif face.face_id in contested:
                    barred = Outcome.CONFLICT
                standings[face.face_id] = self._stand(face, traces, rules, barred)
        for face in faces:
            if not face.face_id:
                standings[""] = self._stand_whole(face, standings, traces, held)
        return standings

    def _last_round(self, faces: Sequence[_Face]) -> float:
        """``found_by`` of the last faces that were found in time to be sent in this round."""
        lookups = {x.found_by for x in faces if x.found_by is not None}
        of_this_round = sorted(seq for seq in lookups if seq > self._horizon.round_seq)
        if len(of_this_round) <= self._rules.max_rounds:
            return inf
        return of_this_round[self._rules.max_rounds - 1]

    def _stand(
        self, face: _Face, traces: Sequence[Trace], rules: Rules, barred: Outcome | None
    ) -> Standing:
        """``barred``: what a face that must not be sent is called."""
        if face.outcome in (Outcome.HELD, Outcome.CONFLICT):
            return _as_stored(face)
        standing = fold(face.face_id, traces, rules, self._horizon)
        if standing.step is Step.DELETE and barred is not None:
            if standing.outcome not in UNFINISHED:
                # A new round must not send it, and what was established before stands.
                return replace(standing, step=None)
            return replace(standing, outcome=barred, code="", step=None)
        return standing

    def _stand_whole(
        self,
        line: _Face,
        standings: Mapping[str, Standing],
        traces: Sequence[Trace],
        held: set[str],
    ) -> Standing:
        if line.outcome == Outcome.HELD and line.code not in (FACES_KEPT, RECORD_KEPT):
            return _as_stored(line)
        found = {
            face_id: Found(x.outcome, x.step is not None or x.outcome in UNFINISHED)
            for face_id, x in standings.items()
        }
        standing = fold_person(traces, found, self._rules, self._horizon)
        waits = any(x.waits for x in found.values())
        kept = "" in held and standing.outcome in UNFINISHED and not waits
        if kept:
            return replace(standing, outcome=Outcome.HELD, code="", step=None)
        emptied = standing.outcome is Outcome.UNKNOWN and standing.code == EMPTY
        if held and (emptied or standing.step is Step.REMOVE):
            # With the record goes every face that it may have by then, also one that is held.
            return replace(standing, outcome=Outcome.HELD, code=RECORD_KEPT, step=None)
        return standing

    @staticmethod
    def _next(standings: Sequence[Standing]) -> Waiting | None:
        """One lookup serves all faces; nothing is sent again before it has been looked for."""
        lookups = [x.not_before_us for x in standings if x.step is Step.LOOKUP]
        if lookups:
            return Waiting(Step.LOOKUP, max(lookups))
        for step in (Step.DELETE, Step.REMOVE):
            if any(x.step is step for x in standings):
                return Waiting(step, 0)
        return None

    def _verification(
        self,
        connection: apsw.Connection,
        call_no: int,
        traces: Sequence[Trace],
        standings: Mapping[str, Standing],
    ) -> Waiting | None:
        """The lookup that is asked for once everything about a call is settled."""
        if not self._verifies:
            return None
        row = query(
            connection, "SELECT since_seq FROM verification WHERE call_no = ?", (call_no,)
        ).fetchone()
        if row is None or not any(x.outcome in VERIFIABLE for x in standings.values()):
            return None
        changed = [
            x.ending_seq or 0 for x in traces if x.step in (Step.DELETE, Step.REMOVE) and weighs(x)
        ]
        since_seq = max([*row, *changed])
        lookups = [x for x in traces if x.step in LOOKUPS and x.attempt_seq > since_seq]
        if any(is_conclusive(x) and x.step is Step.VERIFY for x in lookups):
            return None
        if given_up(lookups, self._rules, self._horizon):
            return None
        return Waiting(Step.VERIFY, due_us(traces, self._rules))

    @staticmethod
    def _add_to_tally(connection: apsw.Connection, change: Mapping[str, int]) -> None:
        for outcome, faces in change.items():
            if faces:
                connection.execute(ADD_TO_TALLY, (str(outcome), faces))

    async def close_open_attempts(self, now_us: int) -> int:
        """Close what a dead process left open; returns the number of ambiguous attempts.

        An attempt without an end may have been applied; a claim without an attempt was never sent
        and waits again.
        """

        def write(connection: apsw.Connection) -> int:
            closed = 0
            for call_no, attempt_seq in query(connection, LEFT_BEHIND).fetchall():
                if attempt_seq is not None:
                    self._append_ending(
                        attempt_seq,
                        Evidence(
                            Kind.CLOSED,
                            now_us,
                            code="closed_after_crash",
                            message="the process died before the end of this attempt was recorded",
                        ),
                    )
                    closed += 1
                self._postings.write(connection)
                self._restate(connection, call_no)
            return closed

        return await self._submit(write)

    # Holds

    async def hold(self, additions: frozenset[Hold]) -> int:
        """Take faces out of calls that nobody has claimed; returns how many.

        A call in flight is looked at again when it comes back. Raises ``LedgerDamaged``, once all
        else is done, where a part of the plan is not what it was.
        """

        def write(connection: apsw.Connection) -> int:
            before = self._count_held(connection)
            connection.executemany("INSERT OR IGNORE INTO hold VALUES (?, ?)", sorted(additions))
            persons = frozenset(person_id for person_id, _ in additions)
            try:
                self._frontier.begin_calls_of(connection, persons)
            finally:
                for addition in additions:
                    for (call_no,) in query(connection, HELD_CALLS, addition).fetchall():
                        self._take_out(connection, call_no)
            return self._count_held(connection) - before

        return _undamaged(await self._submit(_sound(write)))

    @staticmethod
    def _count_held(connection: apsw.Connection) -> int:
        row = query(connection, "SELECT faces FROM tally WHERE outcome = 'held'").fetchone()
        return int(row[0]) if row else 0

    # Sessions and figures

    async def begin_session(
        self, verb: Verb, started_us: int, *, verify: str = "none", canary: Sequence[int] = ()
    ) -> None:
        """Note that work begins, and put into the queue what this verb takes up again.

        ``verify`` is the setting: ``none``, ``all`` or ``sample:N`` persons. ``canary`` is the number
        of persons in each stage: nothing beyond a stage can be claimed until ``judge_stage`` has
        passed it.
        """

        def write(connection: apsw.Connection) -> None:
            self._session_no += 1
            rules = msgspec.json.encode(self._rules, order="sorted").decode()
            row = (self._session_no, str(verb), rules, self._seq, started_us)
            connection.execute(INSERT_SESSION, row)
            new_round = verb in (Verb.RUN, Verb.RETRY)
            self._horizon = Horizon(self._seq if new_round else self._horizon.round_seq, self._seq)
            self._ask_for_verification(connection, verb, verify)
            self._reopen(connection, WITH_RETRIED if verb is Verb.RETRY else WITH_UNKNOWN)
            if self._facts.whole_persons:
                self._reopen(connection, WITH_REMOVAL)
            if verb is not Verb.VERIFY:
                # Who is to be sent something is known only now.
                self._ramp.set_out(connection, self._frontier, canary, self._seq)
                self._verifies |= self._ramp.is_open
            if self._verifies and verb is not Verb.RUN:
                self._reopen(connection, UNVERIFIED)

        await self._submit(write)

    def _reopen(self, connection: apsw.Connection, calls: str) -> None:
        for (call_no,) in query(connection, calls).fetchall():
            self._restate(connection, call_no)

    def _ask_for_verification(self, connection: apsw.Connection, verb: Verb, verify: str) -> None:
        if verb is Verb.VERIFY:
            connection.execute(VERIFY_AGAIN, (self._seq,))
            connection.execute(BEGIN_VERIFYING, (self._seq,))
        elif verify == "all":
            self._verify_all(connection)
        elif verify.startswith("sample:"):
            self._sample(connection, int(verify.removeprefix("sample:")))
        asked = query(connection, "SELECT 1 FROM verification LIMIT 1").fetchone()
        self._verifies = asked is not None

    def _sample(self, connection: apsw.Connection, persons: int) -> None:
        """Ask for so many persons of the plan, drawn at random; a later session keeps the sample."""
        if query(connection, ASKED_OF_ALL).fetchone() is not None:
            return
        if persons >= self._facts.persons:
            self._verify_all(connection)
            return
        tape, calls = self._frontier.tape, self._facts.calls
        asked = [call_no for (call_no,) in query(connection, SAMPLED)]
        sampled = len({tape.calls_beside(call_no)[0] for call_no in asked})
        # Drawn by the run's own name: the same run draws the same, wherever it goes on.
        chance = random.Random(self._facts.run_id)  # noqa: S311 (a sample, no secret)  # nosec B311
        drawn, known = 0, set(asked)
        while sampled < persons:
            # Some are of one person, or asked for already: then more are drawn.
            drawn = min(calls, max(persons, 2 * drawn))
            fresh = [n for n in chance.sample(range(calls), drawn) if n not in known]
            # As the plan has them: those that are near to one another are read together.
            for call_no in sorted(fresh[: persons - sampled]):
                if call_no not in known:
                    call_nos = tape.calls_beside(call_no)
                    connection.executemany(VERIFY, [(n, self._seq) for n in call_nos])
                    known.update(call_nos)
                    sampled += 1

    def _verify_all(self, connection: apsw.Connection) -> None:
        connection.execute(VERIFY_ALL, (self._seq,))
        self._frontier.look_for_questions(connection)

    async def end_session(
        self, ended_us: int, reason: StopReason, detail: str, waits_seconds: Mapping[str, float]
    ) -> None:
        """Note why the work ended and where the time went."""
        waits = msgspec.json.encode({key: round(value, 3) for key, value in waits_seconds.items()})
        await self._submit(
            lambda c: c.execute(
                END_SESSION, (ended_us, str(reason), detail, waits.decode(), self._session_no)
            )
        )

    async def new_orders(self, after_seq: int) -> Sequence[Order]:
        """Orders to this session beyond ``after_seq``, in the order in which they were given.

        Writes nothing, so it can be asked many times a second.
        """
        rows = await self._submit(
            lambda c: query(c, NEW_ORDERS, (after_seq, self._session_no)).fetchall()
        )
        return [
            Order(Ask(ask), given_us, given_by, rate_per_second, seq)
            for seq, ask, rate_per_second, given_us, given_by in rows
        ]

    async def accept(self, order: Order, now_us: int) -> bool:
        """Take up an order for good; False where its giver has withdrawn it."""
        bindings = (order.seq, now_us)
        accepted = await self._submit(lambda c: query(c, ACCEPT, bindings).fetchall())
        return bool(accepted)

    async def note_taken(self, order: Order, taken: Taken) -> None:
        """Write what became of an order."""
        bindings = (order.seq, taken.taken_us, taken.said, taken.remedy, int(taken.refused))
        await self._submit(lambda c: c.execute(NOTE_TAKEN, bindings))

    async def beat(self, pulse: Pulse) -> None:
        """Write over what was last said of the run."""
        await self._submit(
            lambda c: c.execute(BEAT, (self._session_no, *astuple(pulse))),
        )

    async def settled_outcomes(self, call_no: int) -> dict[Outcome, int]:
        """Faces of a settled call per outcome, as far as this session has settled them.

        Those are faces that were waiting or unknown when the session began, and those of which it
        found out something else. What stands as it stood is left out, also where this session's
        lookups have shown it once more.
        """

        def read(connection: apsw.Connection) -> dict[Outcome, int]:
            (person_id,) = query(
                connection, "SELECT person_id FROM call WHERE call_no = ?", (call_no,)
            ).fetchone()
            faces = self._faces(connection, call_no)
            traces = self._traces(connection, call_no)
            earlier = [x for x in traces if x.attempt_seq <= self._horizon.session_seq]
            if not earlier:
                return dict(Counter(Outcome(face.outcome) for face in faces))
            at_first = self._standings(connection, call_no, person_id, faces, earlier)
            counted: Counter[Outcome] = Counter()
            for face in faces:
                before = at_first[face.face_id]
                waited = before.step is not None or before.outcome in UNFINISHED
                counted[Outcome(face.outcome)] += waited or before.outcome != face.outcome
            return dict(+counted)

        return await self._submit(read)

    async def take_set_aside(self) -> Sequence[int]:
        """Calls, each told once, that no answer has settled.

        Something was sent of them in this session, and then a hold or a conflict took out what was
        left.
        """

        def take(_: apsw.Connection) -> Sequence[int]:
            taken, self._set_aside_calls = self._set_aside_calls, []
            return taken

        return await self._submit(take)

    async def judge_stage(
        self, call_no: int | None, wanted: AbstractSet[Outcome], now_us: int
    ) -> StagePassed | StageReachesOn | StageFailed | None:
        """What the open stage of the canary has come to, now that ``call_no`` is settled.

        Once it has passed or reaches on, further calls may be claimed. None while it goes on, or where
        none is open; without ``call_no`` all settled calls of the stage are looked at. Raises
        ``LedgerDamaged`` where the calls behind the stage are not what was planned.
        """
        return _undamaged(
            await self._submit(
                _sound(lambda c: self._ramp.judge(c, self._frontier, call_no, wanted, now_us))
            )
        )

    async def tally(self) -> dict[str, int]:
        """Distinct faces per outcome, as committed."""
        return await self._submit(
            lambda c: dict(query(c, "SELECT outcome, faces FROM tally WHERE faces <> 0"))
        )

    async def lookups_left(self) -> int:
        """Calls that are still to be looked up once more, for a verification."""
        return await self._submit(lambda c: int(query(c, TO_BE_VERIFIED).fetchone()[0]))

    async def is_finished(self) -> bool:
        """Whether nothing waits, nothing is unknown, and what was to be verified is."""

        def read(connection: apsw.Connection) -> bool:
            if self._frontier.has_next():
                return False
            waiting = query(connection, ANY_WAITING).fetchone()
            unknown = query(connection, WITH_UNKNOWN + " LIMIT 1").fetchone()
            unverified = query(connection, UNVERIFIED + " LIMIT 1").fetchone()
            return waiting is None and unknown is None and unverified is None

        return await self._submit(read)


def _as_stored(face: _Face) -> Standing:
    """What no evidence changes any more."""
    return Standing(
        Outcome(face.outcome), face.code, face.attempts, face.first_sent_us, face.decided_by
    )
