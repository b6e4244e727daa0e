"""The emulated service without its sockets: a request in, an answer and a log line out."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from worker.sandbox.answers import Answer, Refusal, gateway_answer, service_answer
from worker.sandbox.arrival import Arrival
from worker.sandbox.facts import Facts
from worker.sandbox.faults import Fault, Reset, Script, Silence, describe
from worker.sandbox.gateway import Gateway, read_claim
from worker.sandbox.identity import Identity
from worker.sandbox.journal import Entry, Journal, Late, Line, Start
from worker.sandbox.keys import Keyring
from worker.sandbox.nonces import Nonces
from worker.sandbox.operations import OPERATIONS, Operation, Subject, read_subject
from worker.sandbox.options import SandboxOptions
from worker.sandbox.quota import Gate
from worker.sandbox.tampering import spoil_answer, spoil_effect
from worker.sandbox.throttle import throttle_answer
from worker.sandbox.world import Change, World


@dataclass(frozen=True, slots=True)
class Visit:
    """A request with what the sandbox made of it before deciding anything."""

    arrival: Arrival
    now_us: int
    request_id: str
    operation: Operation | None
    subject: Subject

    @property
    def host(self) -> str:
        return self.arrival.headers.get("host", "")

    @property
    def operation_name(self) -> str:
        return self.operation.action if self.operation else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer ready to be sent, and the fault that may still happen to it on the wire."""

    visit: Visit
    sequence: int
    """Of its line in the request log; 0 where it has none."""
    answer: Answer
    fault: Fault | None


class Service:
    """Gateway, quota, faults and library of one account."""

    def __init__(
        self,
        options: SandboxOptions,
        *,
        world: World,
        keys: Keyring,
        script: Script,
        journal: Journal,
        monotonic: Callable[[], float],
    ) -> None:
        self._facts: Facts = options.facts
        self._quota = options.quota
        self._world = world
        self._script = script
        self._journal = journal
        self._monotonic = monotonic
        self._gate = Gate(options.quota)
        self._nonces = Nonces()
        self._gateway = Gateway(keys, self._nonces, options.facts)
        self.identity = Identity(options.account, keys, options.facts)
        self._sequence = 0
        self._started_seconds = monotonic()

    def replay(self, line: Line) -> None:
        """Take over what an earlier life logged: the world, the nonces, the script's counts."""
        match line:
            case Entry():
                self._sequence = line.sequence
                self._world.apply(line.change)
                if line.nonce and line.authentic:
                    self._nonces.use(line.access_key_id, line.nonce, line.at_us / 1e6)
                if line.served:
                    self._script.strike(line.operation, line.person_id, 0.0)
            case Late():
                self._world.apply(line.change)
            case Start():
                pass

    def answer(self, arrival: Arrival, now_us: int) -> Verdict:
        """Judge a request, log it and do what it asks for.

        Raises ``JournalFailed``; nothing was done then, and nothing may be answered.
        """
        visit = Visit(
            arrival,
            now_us,
            str(uuid.uuid4()).upper(),
            OPERATIONS.get(arrival.path) if arrival.method == "POST" else None,
            read_subject(arrival.body),
        )
        if self.identity.concerns(arrival):
            return Verdict(visit, 0, self.identity.answer(arrival, now_us, visit.request_id), None)
        if self._facts.order_of_checks == "throttle-first":
            return self._throttle(visit) or self._refuse(visit) or self._serve(visit)
        return self._refuse(visit) or self._throttle(visit) or self._serve(visit)

    def apply_late(self, verdict: Verdict) -> None:
        """Do now what the request asked for when it arrived; raises ``JournalFailed``."""
        visit = verdict.visit
        assert visit.operation is not None
        change = visit.operation.plan(self._world, visit.subject, self._facts).change
        self._journal.write(
            Late(
                sequence=verdict.sequence,
                seconds=round(self._monotonic(), 6),
                person_id=change.person_id,
                deleted=change.deleted,
                added=change.added,
                person=change.person,
                profile=change.profile,
            )
        )
        self._world.apply(change)

    def _refuse(self, visit: Visit) -> Verdict | None:
        arrival = visit.arrival
        refusal = self._gateway.authenticate(arrival, visit.now_us / 1e6)
        authentic = refusal is None
        if refusal is None:
            refusal = self._gateway.check_parameters(arrival)
        action = arrival.headers.get("x-acs-action", visit.operation_name)
        if refusal is None and (visit.operation is None or action != visit.operation_name):
            refusal = Refusal("InvalidAction.NotFound", self._facts.unknown_action_status)
        if refusal is None:
            return None
        answer = gateway_answer(refusal, visit.request_id, visit.host)
        return self._conclude(visit, answer, authentic=authentic)

    def _throttle(self, visit: Visit) -> Verdict | None:
        if visit.operation is None:
            return None
        wait_seconds = self._gate.admit(visit.operation_name, visit.arrival.seconds)
        if wait_seconds == 0.0:
            return None
        answer = throttle_answer(
            self._quota.throttle, wait_seconds, visit.request_id, visit.host, visit.now_us
        )
        authentic = self._facts.order_of_checks == "signature-first"
        return self._conclude(visit, answer, authentic=authentic, throttled=True)

    def _serve(self, visit: Visit) -> Verdict:
        assert visit.operation is not None
        since_start_seconds = visit.arrival.seconds - self._started_seconds
        person_id = visit.subject.person_id
        fault = self._script.strike(visit.operation_name, person_id, since_start_seconds)
        planned = visit.operation.plan(self._world, visit.subject, self._facts)
        reply, change = spoil_effect(planned, fault)
        answer = spoil_answer(fault, reply, visit.request_id, visit.host, visit.now_us)
        if answer is None:
            answer = service_answer(reply, visit.request_id, self._facts)
        return self._conclude(visit, answer, fault, change, authentic=True, served=True)

    def _conclude(
        self,
        visit: Visit,
        answer: Answer,
        fault: Fault | None = None,
        change: Change | None = None,
        *,
        authentic: bool,
        served: bool = False,
        throttled: bool = False,
    ) -> Verdict:
        """Log first, then change: a change without its line would be lost by a restart."""
        arrival, change = visit.arrival, change or Change(visit.subject.person_id)
        claim = read_claim(arrival)
        entry = Entry(
            sequence=self._sequence + 1,
            seconds=round(arrival.seconds, 6),
            at_us=visit.now_us,
            operation=visit.operation_name,
            person_id=visit.subject.person_id,
            face_ids=visit.subject.face_ids,
            deleted=change.deleted,
            status=0 if isinstance(fault, Silence) or _is_cut_at_start(fault) else answer.status,
            code=answer.code,
            fault=describe(fault),
            nonce=arrival.headers.get("x-acs-signature-nonce", ""),
            access_key_id=claim.access_key_id if claim else "",
            request_id=visit.request_id,
            authentic=authentic,
            served=served,
            throttled=throttled,
            added=change.added,
            person=change.person,
            profile=change.profile,
        )
        self._journal.write(entry)
        self._sequence += 1
        self._world.apply(change)
        return Verdict(visit, entry.sequence, answer, fault)


def _is_cut_at_start(fault: Fault | None) -> bool:
    return isinstance(fault, Reset) and fault.at == "start"
