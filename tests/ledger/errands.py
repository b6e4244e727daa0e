"""A service with a truth of its own, and a single loop that does what a ledger still has to do."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from worker.fold import DEFAULT_RULES, Rules
from worker.green.operations import body_of, operation_of
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Attempt, Call, Evidence, Kind, Request, Step, Waiting

ALL_STEPS = (Step.LOOKUP, Step.DELETE, Step.REMOVE, Step.VERIFY)
LOOKING = (Step.LOOKUP, Step.VERIFY)

Answer = Callable[[Request], Evidence]


def request(call: Call, nonce: str = "n", body: bytes = b"{}") -> Request:
    """What a client would prepare for ``call``."""
    action = operation_of(call.step).action
    return Request(action, call.step, call.call_no, call.person_id, call.face_ids, body, nonce)


_nonces = (f"{number:032x}" for number in itertools.count())


def prepare(call: Call) -> Request:
    """The request for ``call`` as the client prepares it."""
    body = body_of(operation_of(call.step), call.person_id, call.face_ids)
    return request(call, next(_nonces), body)


async def begin(
    ledger: Ledger, steps: Sequence[Step] = (Step.DELETE,), now_us: int = 0
) -> Attempt | None:
    """An attempt at the next call that is due; None for none."""
    return await ledger.begin(steps, now_us, prepare)


async def begun(ledger: Ledger, steps: Sequence[Step] = (Step.DELETE,), now_us: int = 0) -> Attempt:
    """The same, where there is one."""
    attempt = await begin(ledger, steps, now_us)
    assert attempt is not None
    return attempt


async def put_back(ledger: Ledger, attempts: Iterable[Attempt]) -> None:
    """End attempts as a run does that is stopped: none was sent, and their calls wait again."""
    for attempt in attempts:
        await ledger.record(attempt.seq, attempt.call, Evidence(Kind.NOT_SENT, 1, code="stopped"))


@asynccontextmanager
async def unsynced_ledger(
    run_dir: Path, *, rules: Rules = DEFAULT_RULES, max_delete: int = 0
) -> AsyncIterator[Ledger]:
    """For what a ledger says, and not for when that is safe from a power cut: it waits for no disk."""
    connection = open_ledger(run_dir, checked=True)
    connection.execute("PRAGMA synchronous = OFF")
    ledger = Ledger(connection, InlineWriter, rules=rules, max_delete=max_delete)
    try:
        yield ledger
    finally:
        await ledger.close()


class World:
    """What the service has. ``answer`` is complete and good, and does what it says."""

    def __init__(self, persons: Mapping[str, Iterable[str]]) -> None:
        self.persons = {person_id: set(faces) for person_id, faces in persons.items()}

    def apply(self, request: Request) -> frozenset[str]:
        """Change what ``request`` changes; the faces that were there to be deleted."""
        if request.person_id not in self.persons:
            return frozenset()
        match request.step:
            case Step.DELETE:
                gone = self.persons[request.person_id] & set(request.face_ids)
                self.persons[request.person_id] -= gone
                return frozenset(gone)
            case Step.REMOVE:
                return frozenset(self.persons.pop(request.person_id))
        return frozenset()

    def answer(self, request: Request) -> Evidence:
        known = request.person_id in self.persons
        gone = self.apply(request)
        match request.step:
            case Step.DELETE if known:
                listed = tuple(face for face in request.face_ids if face in gone)
                return Evidence(Kind.LISTED, 0, code="200", listed=listed)
            case Step.REMOVE if known:
                return Evidence(Kind.REMOVED, 0, code="200")
            case Step.DELETE | Step.REMOVE:
                return Evidence(Kind.REFUSED, 0, code="404")
        if not known:
            return Evidence(Kind.NO_PERSON, 0, code="404")
        has = self.persons[request.person_id]
        asked = request.face_ids or tuple(sorted(has))
        return Evidence(
            Kind.SHOWN, 0, code="200", listed=tuple(face for face in asked if face in has)
        )


class Errands:
    """One call after another; where nothing is due yet, the clock is put forward.

    Every request is sent as soon as its attempt is open and answered ``latency_us`` later.
    """

    def __init__(
        self, ledger: Ledger, answer: Answer, *, now_us: int = 1_000_000, latency_us: int = 1000
    ) -> None:
        self.ledger = ledger
        self.now_us = now_us
        self.sent: list[Request] = []
        self.answer = answer
        self._latency_us = latency_us
        self._nonces = (f"{now_us}.{number}" for number in itertools.count())

    async def one(self, steps: Sequence[Step] = ALL_STEPS) -> tuple[Request, Waiting | None] | None:
        """The next call that is due now, and what it waits for afterwards; None for none."""
        attempt = await self.ledger.begin(
            steps, self.now_us, lambda call: request(call, next(self._nonces))
        )
        if attempt is None:
            return None
        attempt_seq, call, asked = attempt
        self.sent.append(asked)
        evidence = self.answer(asked)
        sent_us = self.now_us
        self.now_us += self._latency_us
        ended = Evidence(
            evidence.kind,
            self.now_us,
            None if evidence.kind is Kind.NOT_SENT else sent_us,
            code=evidence.code or str(evidence.kind),
            listed=evidence.listed,
        )
        return asked, await self.ledger.record(attempt_seq, call, ended)

    async def all(self, steps: Sequence[Step] = ALL_STEPS, *, at_most: int = 1000) -> list[Request]:
        """Everything, until nothing waits for one of ``steps`` any more; what was sent."""
        before = len(self.sent)
        for _ in range(at_most):
            due_us = await self.ledger.due(steps, self.now_us)
            if due_us is None:
                return self.sent[before:]
            self.now_us = max(self.now_us, due_us)
            assert await self.one(steps) is not None, "due, and not to be claimed"
        raise AssertionError("it never ends")
