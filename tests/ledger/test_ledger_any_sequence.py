"""The ledger under any sequence of what can happen; the audit reads the file independently."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.rig import draft_run, rows
from tests.ledger.audit import audit
from tests.ledger.audit import rows as select
from tests.ledger.errands import ALL_STEPS, begin, begun
from worker.canary import StagePassed, StageReachesOn
from worker.errors import LimitReached
from worker.fold import Rules
from worker.holds import Hold
from worker.ledger.books import UNVERIFIED, LedgerBooks, Left
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter
from worker.model import WANTED, Call, Evidence, Kind, Step, StopReason, Verb

PERSONS = ("p0", "p1", "whole", "both")
PAIRS = [
    *((f"p{p}", f"{p}{f}") for p in range(2) for f in range(4)),
    ("whole", ""),
    ("both", "80"),
    ("both", ""),
]
FOUND = [f"9{n}" for n in range(4)]
"""What may be found of a whole person."""

NOTHING_APPLIED = [Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL]
UNCLEAR = [Kind.AMBIGUOUS, Kind.SWAPPED]
KINDS = {
    Step.DELETE: [Kind.LISTED, Kind.LISTED, Kind.REFUSED, *UNCLEAR, *NOTHING_APPLIED],
    Step.LOOKUP: [*[Kind.SHOWN] * 6, *[Kind.NO_PERSON] * 3, Kind.REFUSED, *UNCLEAR,
                  *NOTHING_APPLIED],
    Step.REMOVE: [Kind.REMOVED, Kind.REFUSED, *UNCLEAR, *NOTHING_APPLIED],
}  # fmt: skip
KINDS[Step.VERIFY] = KINDS[Step.LOOKUP]
INTERVAL_US = 1000


def first_due(
    connection: apsw.Connection, steps: Sequence[Step], now_us: int
) -> tuple[Step, int] | None:
    """What is to be claimed, by the whole plan: who waits for no time first, in the plan's order."""
    (stage,) = select(connection, "SELECT MIN(last_call_no) FROM canary WHERE passed_us IS NULL")
    with unrolled(connection):
        calls = select(
            connection,
            "SELECT step, not_before_us, call_no FROM call WHERE state = 0 AND person_id NOT IN ("
            " SELECT person_id FROM call WHERE state = 1) ORDER BY not_before_us, call_no",
        )
    for step in steps:
        for waits_for, not_before_us, call_no in calls:
            is_due = not_before_us <= now_us or not_before_us > now_us + INTERVAL_US
            if waits_for == step and is_due and (stage[0] is None or call_no <= stage[0]):
                return step, call_no
    return None


def left(connection: apsw.Connection, codes: frozenset[str] | None = None) -> Left:
    """What is left, by the whole plan; with ``codes`` also what a new round takes up."""
    with unrolled(connection):
        faces = select(
            connection,
            "SELECT c.call_no, c.person_id, c.state < 2, f.face_id, f.step, f.outcome, f.code"
            " FROM call c JOIN face f USING (call_no)",
        )
    calls = {call_no for (call_no,) in select(connection, UNVERIFIED)}
    persons: set[str] = set()
    count = 0
    for call_no, person_id, waits, face_id, step, outcome, code in faces:
        again = codes is not None and (
            outcome in {"present", "no_person"} or (outcome == "refused" and code in codes)
        )
        if again or outcome in {"unsent", "unknown"} or (waits and step):
            count += face_id != ""
            persons.add(person_id)
            calls.add(call_no)
        elif waits:
            calls.add(call_no)
    return Left(count, len(persons), len(calls))


def has_waiting_calls(connection: apsw.Connection) -> bool:
    with unrolled(connection):
        return bool(select(connection, "SELECT 1 FROM call WHERE state < 2 LIMIT 1"))


class LedgerAtWork(RuleBasedStateMachine):
    """Loops, lies, crashes, growing holds, limits and new sessions in any order."""

    @initialize(
        pairs=st.permutations(PAIRS),
        size=st.integers(1, 3),
        delete_person=st.booleans(),
        verify=st.sampled_from(["none", "all", "sample:2"]),
        limit=st.sampled_from([0, 0, 10, 12]),
        canary=st.sampled_from([(), (), (1,), (1, 2)]),
    )
    def plan(
        self,
        *,
        pairs: list[tuple[str, str]],
        size: int,
        delete_person: bool,
        verify: str,
        limit: int,
        canary: tuple[int, ...],
    ) -> None:
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.run_dir = Path(self.directory.name)
        draft_run(self.run_dir, [rows(pairs)], faces_per_call=size)
        self.fold_rules = Rules(
            absence_interval_us=INTERVAL_US,
            max_attempts=2,
            max_lookups=2,
            max_rounds=2,
            delete_person=delete_person,
            retryable_codes=frozenset({"403"}),
        )
        self.verify = verify
        self.limit = limit
        self.canary = canary
        self.holds: set[Hold] = set()
        self.nonces = itertools.count()
        self.now_us = 1
        self._open(Verb.RUN)

    def _open(self, verb: Verb) -> None:
        self.connection = open_ledger(self.run_dir)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.ledger = self.runner.run(self._ledger())
        self.in_flight: list[tuple[Call, int]] = []
        self.runner.run(self.ledger.close_open_attempts(self.now_us))
        assert not select(self.connection, "SELECT 1 FROM call WHERE state = 1")
        audit(self.connection, self.fold_rules)
        self._begin(verb)

    def _begin(self, verb: Verb) -> None:
        canary = () if verb is Verb.VERIFY else self.canary
        self.runner.run(
            self.ledger.begin_session(verb, self.now_us, verify=self.verify, canary=canary)
        )

    async def _ledger(self) -> Ledger:
        return Ledger(self.connection, InlineWriter, rules=self.fold_rules, max_delete=self.limit)

    @rule(steps=st.sampled_from([ALL_STEPS, ALL_STEPS, (Step.DELETE,), (Step.LOOKUP,)]))
    def claim(self, steps: tuple[Step, ...]) -> None:
        due_us = self.runner.run(self.ledger.due(steps, self.now_us))
        expected = first_due(self.connection, steps, self.now_us)
        try:
            attempt = self.runner.run(begin(self.ledger, steps, self.now_us))
        except LimitReached:
            assert self.limit
            return
        call = None if attempt is None else attempt.call
        assert (call is not None) == (due_us is not None and due_us <= self.now_us)
        assert expected == (None if call is None else (call.step, call.call_no))
        if attempt is None or call is None:
            return
        held = {(call.person_id, face_id) for face_id in ("", *call.face_ids)}
        if call.step is Step.DELETE:
            assert 0 < len(call.face_ids) <= 20
            assert not held & self.holds
        if call.step is Step.REMOVE:
            assert self.fold_rules.delete_person
            assert call.person_id not in {person_id for person_id, _ in self.holds}
        self.in_flight.append((call, attempt.seq))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), code=st.sampled_from(["400", "403", "404"]))
    def record(self, data: st.DataObject, code: str) -> None:
        call, seq = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        kind = data.draw(st.sampled_from(KINDS[call.step]))
        listed: tuple[str, ...] = ()
        if kind in {Kind.LISTED, Kind.SHOWN}:
            faces = call.face_ids or (["80", *FOUND] if call.person_id == "both" else FOUND)
            listed = tuple(data.draw(st.lists(st.sampled_from(faces), unique=True)))
        unsent = kind is Kind.NOT_SENT or (kind is Kind.FATAL and data.draw(st.booleans()))
        self.now_us += 1
        end = Evidence(
            kind, self.now_us, None if unsent else self.now_us - 1, code=code, listed=listed
        )
        self.runner.run(self.ledger.record(seq, call, end))

    @rule(us=st.sampled_from([INTERVAL_US // 2, INTERVAL_US]))
    def time_passes(self, us: int) -> None:
        self.now_us += us

    @rule(person_id=st.sampled_from(PERSONS), face=st.none() | st.integers(0, 3))
    def hold(self, person_id: str, face: int | None) -> None:
        faces = (
            FOUND if person_id in {"whole", "both"} else [f"{person_id[1:]}{n}" for n in range(4)]
        )
        one = (person_id, "" if face is None else faces[face])
        self.runner.run(self.ledger.hold(frozenset({one})))
        self.holds.add(one)

    @rule()
    def judge_the_canary(self) -> None:
        self._judge()

    def _judge(self) -> bool:
        """Whether further calls may be claimed now."""
        judged = self.runner.run(self.ledger.judge_stage(None, WANTED, self.now_us))
        return isinstance(judged, StagePassed | StageReachesOn)

    @rule()
    def crash_and_resume(self) -> None:
        self._open(Verb.RESUME)

    @precondition(lambda self: not self.in_flight)
    @rule()
    def end_and_verify(self) -> None:
        end = self.ledger.end_session(self.now_us, StopReason.FINISHED, "", {})
        self.runner.run(end)
        self._begin(Verb.VERIFY)

    @precondition(lambda self: not self.in_flight)
    @rule()
    def try_again(self) -> None:
        """As the verb does: only a run that is finished has another round."""
        if self.runner.run(self.ledger.is_finished()):
            self._begin(Verb.RETRY)

    @rule()
    def settle(self) -> None:
        """An obliging service answers everything, so that later rounds are reached at all."""
        while self.in_flight:
            call, seq = self.in_flight.pop()
            self._answer(call, seq)
        for _ in range(200):
            due_us = self.runner.run(self.ledger.due(ALL_STEPS, self.now_us))
            if due_us is None:
                if self._judge():
                    continue
                return
            self.now_us = max(self.now_us, due_us)
            try:
                attempt = self.runner.run(begun(self.ledger, ALL_STEPS, self.now_us))
            except LimitReached:
                return
            self._answer(attempt.call, attempt.seq)
        raise AssertionError("it never ends")

    def _answer(self, call: Call, seq: int) -> None:
        good = {Step.DELETE: Kind.LISTED, Step.REMOVE: Kind.REMOVED}.get(call.step, Kind.SHOWN)
        listed = call.face_ids if good is Kind.LISTED else ()
        self.now_us += 1
        end = Evidence(good, self.now_us, self.now_us - 1, code="200", listed=listed)
        self.runner.run(self.ledger.record(seq, call, end))

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "connection"):
            planned = len(PAIRS)
            (found,) = select(
                self.connection, "SELECT COUNT(*) FROM face WHERE found_by IS NOT NULL"
            )
            assert sum(audit(self.connection, self.fold_rules).values()) == planned + found[0]
            books = LedgerBooks(self.connection)
            assert books.left() == left(self.connection)
            codes = self.fold_rules.retryable_codes
            assert books.left_and_retried(codes) == left(self.connection, codes)
            assert books.has_waiting_calls() == has_waiting_calls(self.connection)

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
            self.directory.cleanup()
            self.runner.close()


LedgerAtWork.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestLedgerAtWork = LedgerAtWork.TestCase
