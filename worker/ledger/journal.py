"""The ledger of a run at work: attempts and how they ended, holds, sessions, and what is one transaction.

Which call goes next is decided in ``worker.ledger.claims``, where its faces stand in
``worker.ledger.standings``, and whether it is looked up once more in ``worker.ledger.questions``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import astuple

import apsw
import msgspec

from worker.canary import StageFailed, StagePassed, StageReachesOn
from worker.errors import GateClosed, LedgerDamaged, LimitReached
from worker.fold import DEFAULT_RULES, Horizon, Rules
from worker.holds import Hold
from worker.ledger.books import ANY_WAITING, UNVERIFIED
from worker.ledger.claims import Claims
from worker.ledger.database import SETTLED, WAITING, query, seal
from worker.ledger.facts import planned
from worker.ledger.frontier import Frontier
from worker.ledger.postings import Postings
from worker.ledger.questions import Questions
from worker.ledger.ramp import Ramp
from worker.ledger.standings import Standings, faces_of, held_faces, next_step, traces_of
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

LAST_SEQ = """
SELECT MAX((SELECT IFNULL(MAX(seq), 0) FROM attempt), (SELECT IFNULL(MAX(seq), 0) FROM ending))
"""
LAST_SESSION = "SELECT IFNULL(MAX(session_no), 0), IFNULL(MAX(first_seq), 0) FROM session"
LAST_ROUND = "SELECT IFNULL(MAX(first_seq), 0) FROM session WHERE verb IN ('run', 'retry')"

# A bound value is written +? for the reason that is given in worker.ledger.claims.

SENT_SINCE = "SELECT 1 FROM attempt WHERE call_no = +? AND seq > ? LIMIT 1"

SET_WAITING = "UPDATE call SET state = ?, step = ?, not_before_us = ? WHERE call_no = ?"

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
        self._rules = rules
        path = connection.filename
        try:
            self._planned = planned(connection)
            (last_seq,) = query(connection, LAST_SEQ).fetchone()
            self._session_no, session_seq = query(connection, LAST_SESSION).fetchone()
            (round_seq,) = query(connection, LAST_ROUND).fetchone()
            self._postings = Postings()
            self._frontier = Frontier(
                connection, self._planned.run_id, self._planned.calls, self._postings
            )
            self._ramp = Ramp()
            self._claims = Claims(
                connection,
                self._planned,
                self._frontier,
                self._ramp,
                self._postings,
                rules=rules,
                max_delete=max_delete,
            )
            self._questions = Questions(connection, self._planned, self._frontier, rules)
        except apsw.Error as error:
            connection.close()
            raise ledger_failed(path, error) from error
        self._seq: int = last_seq
        horizon = Horizon(round_seq, session_seq)
        self._standings = Standings(self._planned, rules, horizon)
        self._set_aside_calls: list[int] = []
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
        self._claims.look_back()

    # Claims and attempts

    async def begin(
        self, steps: Sequence[Step], now_us: int, prepare: Callable[[Call], Request]
    ) -> Attempt | None:
        """Claim the next call that is due for one of ``steps``, and write the attempt at it.

        The first step wins. None when nothing can be claimed at present. ``prepare`` makes the request
        of the call, on the writer's thread. An attempt whose caller is cancelled meanwhile is ended as
        one that was not sent. Raises ``LedgerDamaged`` for a call that is not what was planned (others
        can still be recorded), ``LimitReached`` when more would be deleted than ``max_delete`` allows,
        and what ``prepare`` raises; nothing is claimed then.
        """
        begun: list[Attempt] = []

        def write(connection: apsw.Connection) -> Attempt | Exception | None:
            call = self._claims.take(connection, steps, now_us)
            if call is None or isinstance(call, LimitReached):
                return call
            try:
                request = prepare(call)
            except Exception as error:  # noqa: BLE001 (raised here, it would undo what others record)
                self._claims.give_back(connection, call.call_no)
                return error
            begun.append(self._open(call, request, now_us))
            return begun[0]

        try:
            attempt = await self._writer.submit(_sound(write))
        except asyncio.CancelledError:
            self._submit(lambda c: self._take_back(c, begun, now_us))
            raise
        if isinstance(attempt, Exception):
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
            self._claims.take_untried(attempt.call.call_no)
            message = "the run ended before this request was sent"
            self._append_ending(
                attempt.seq, Evidence(Kind.NOT_SENT, now_us, code="cancelled", message=message)
            )
            self._postings.write(connection)
            self._restate(connection, attempt.call.call_no)

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        """When the next call that waits for one of ``steps`` may be claimed; None for none."""
        return await self._submit(lambda c: self._claims.due(c, steps, now_us))

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
        shares_person = self._claims.take_untried(call.call_no)
        if (
            shares_person is None
            or self._questions.are_asked
            or evidence.kind is not Kind.LISTED
            or evidence.sent_us is None
            or not frozenset(call.face_ids).issubset(evidence.listed)
        ):
            return False
        self._postings.settle(
            call.call_no, len(call.face_ids), evidence.code, evidence.sent_us, self._seq
        )
        if shares_person:
            self._claims.look_back()
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
        faces = faces_of(connection, call.call_no)
        known = dict.fromkeys(face.face_id for face in faces)
        held = held_faces(connection, call.person_id)
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
            self._claims.found += outcome is Outcome.UNSENT
            known[face_id] = None
        if len(known) > len(faces):
            connection.execute(
                "UPDATE call SET seal = ? WHERE call_no = ?",
                (
                    seal(self._planned.run_id, call.call_no, call.person_id, list(known)),
                    call.call_no,
                ),
            )

    def _set_aside(self, connection: apsw.Connection, face_id: str) -> None:
        """A face turned out to be under two persons: from here on it is sent for neither."""
        connection.execute("INSERT OR IGNORE INTO contested VALUES (?)", (face_id,))
        for (call_no,) in query(connection, PLANNED_WITH_FACE, (face_id,)).fetchall():
            # What cannot be read will never be claimed; what is recorded here must not suffer.
            with suppress(GateClosed):
                self._frontier.begin(call_no)
        for (call_no,) in query(connection, CALLS_WITH_FACE, (face_id,)).fetchall():
            self._take_out(connection, call_no)

    def _take_out(self, connection: apsw.Connection, call_no: int) -> None:
        """State a call anew of which a face must not be sent any more, which may settle the rest."""
        if self._restate(connection, call_no) is not None:
            return
        if query(connection, SENT_SINCE, (call_no, self._standings.horizon.session_seq)).fetchone():
            self._set_aside_calls.append(call_no)

    def _restate(self, connection: apsw.Connection, call_no: int) -> Waiting | None:
        """Fold the evidence of a call anew, keep the tally in step, and put the call in its place."""
        traces = traces_of(connection, call_no)
        (person_id,) = query(
            connection, "SELECT person_id FROM call WHERE call_no = ?", (call_no,)
        ).fetchone()
        faces = faces_of(connection, call_no)
        standings = self._standings.of(connection, call_no, person_id, faces, traces)
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
                    self._claims.found -= stated[1] in (Outcome.HELD, Outcome.CONFLICT)
        self._add_to_tally(connection, change)
        waiting = next_step(standings.values()) or self._questions.lookup(
            connection, call_no, traces, standings.values(), self._standings.horizon
        )
        if waiting is None:
            connection.execute(SET_WAITING, (SETTLED, "", 0, call_no))
        else:
            connection.execute(SET_WAITING, (WAITING, *waiting, call_no))
        return waiting

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
                self._frontier.begin_calls_of(persons)
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
            round_seq = self._seq if new_round else self._standings.horizon.round_seq
            self._standings.horizon = Horizon(round_seq, self._seq)
            self._questions.ask(connection, verb, verify, self._seq)
            self._reopen(connection, WITH_RETRIED if verb is Verb.RETRY else WITH_UNKNOWN)
            if self._planned.whole_persons:
                self._reopen(connection, WITH_REMOVAL)
            if verb is not Verb.VERIFY:
                # Who is to be sent something is known only now.
                self._ramp.set_out(connection, self._frontier, canary, self._seq)
                self._questions.are_asked |= self._ramp.is_open
            if self._questions.are_asked and verb is not Verb.RUN:
                self._reopen(connection, UNVERIFIED)

        await self._submit(write)

    def _reopen(self, connection: apsw.Connection, calls: str) -> None:
        for (call_no,) in query(connection, calls).fetchall():
            self._restate(connection, call_no)

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
            faces = faces_of(connection, call_no)
            session_seq = self._standings.horizon.session_seq
            traces = traces_of(connection, call_no)
            earlier = [x for x in traces if x.attempt_seq <= session_seq]
            if not earlier:
                return dict(Counter(Outcome(face.outcome) for face in faces))
            at_first = self._standings.of(connection, call_no, person_id, faces, earlier)
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
        return await self._submit(self._questions.left)

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
