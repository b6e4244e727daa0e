"""The service of a simulation: the sandbox's gateway, quota and operations without a socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.simulation.clocks import TrueClock
from tests.simulation.event_log import EventLog
from tests.simulation.history import Arrived, History
from tests.simulation.library import Library
from tests.simulation.simulated_loop import now_seconds
from worker.green.operations import GET_PERSON
from worker.sandbox.arrival import Arrival
from worker.sandbox.facts import Facts
from worker.sandbox.faults import Fault, Script
from worker.sandbox.journal import Entry, Journal, Late
from worker.sandbox.keys import Keyring
from worker.sandbox.options import SandboxOptions
from worker.sandbox.quota import Quota
from worker.sandbox.service import Service, Verdict, Visit
from worker.sandbox.world import Change


@dataclass(frozen=True, slots=True)
class Packet:
    """A request on its way."""

    run: str
    nonce: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes


class _Appointed(Script):
    """Strikes a request with the fault appointed for it, if gateway and quota let it through."""

    def __init__(self) -> None:
        super().__init__((), 0)
        self.fault: Fault | None = None
        self.struck = False

    def strike(self, operation: str, person_id: str, since_start_seconds: float) -> Fault | None:
        self.struck = self.fault is not None
        return self.fault


class Server:
    """One account of the service, and the truth about it."""

    def __init__(
        self,
        persons: Mapping[str, Sequence[str]],
        *,
        lag_seconds: float,
        facts: Facts,
        quota: Quota,
        keys: Keyring,
        log: EventLog,
    ) -> None:
        self.library = Library(persons, lag_seconds)
        self.keys = keys
        self.clock = TrueClock()
        self.history = History()
        self.journal = Journal(None, keep_lines=True)
        self.seen: Counter[str] = Counter()
        """Faults that no client knows of, by kind."""
        self.sender_of: dict[int, str] = {}
        """Who sent each arrival in the journal; none sent what the network repeated."""
        self._script = _Appointed()
        self._log = log
        self._service = Service(
            SandboxOptions(facts=facts, quota=quota),
            world=self.library,
            keys=keys,
            script=self._script,
            journal=self.journal,
            monotonic=now_seconds,
        )

    def receive(
        self, packet: Packet, fault: Fault | None, *, prompt: bool, again: bool = False
    ) -> tuple[Verdict, bool]:
        """Answer a request; says also whether ``fault`` struck it, or something refused it before.

        ``prompt`` is for the history. ``again``: the network has made a second one of the first.
        """
        looked_up = packet.path == GET_PERSON.path
        arrival = Arrival(
            "POST", packet.path, packet.query, packet.headers, packet.body, now_seconds()
        )
        self._script.fault, self._script.struck = fault, False
        self.library.lagging = looked_up and self.library.lag_seconds > 0
        try:
            verdict = self._service.answer(arrival, self.clock.now_us())
            person_id = verdict.visit.subject.person_id
            shown = self.library.faces(person_id) if looked_up else ()
        finally:
            self.library.lagging = False
        entry = self.journal.lines[-1]
        assert isinstance(entry, Entry)
        if not again:
            self.sender_of[entry.sequence] = packet.run
        if len(shown) > len(self.library.faces(person_id)):
            self.seen["lagging-lookup"] += 1
        self._log.note(
            "service",
            f"{packet.run} {entry.operation} {person_id} {packet.nonce[:6]} {entry.status}"
            f" {entry.code} {entry.fault or '-'} deleted {len(entry.deleted)}",
        )
        self._note(packet, verdict.visit, entry, shown=shown, prompt=prompt)
        return verdict, self._script.struck

    def apply_late(self, packet: Packet, verdict: Verdict) -> None:
        """Do now what an unanswered request asked for."""
        self._service.apply_late(verdict)
        late = self.journal.lines[-1]
        assert isinstance(late, Late)
        self._log.note(
            "service", f"{packet.run} late {packet.nonce[:6]} deleted {len(late.deleted)}"
        )
        self._note(packet, verdict.visit, late, shown=(), prompt=False)

    def _note(
        self,
        packet: Packet,
        visit: Visit,
        line: Entry | Late,
        *,
        shown: tuple[str, ...],
        prompt: bool,
    ) -> None:
        person_id = visit.subject.person_id
        self.history.note(
            Arrived(
                now_seconds(),
                packet.run,
                packet.nonce,
                visit.operation_name,
                person_id,
                line.served if isinstance(line, Entry) else True,
                line.throttled if isinstance(line, Entry) else False,
                line.deleted,
                line.person == "deleted",
                self.library.held(person_id),
                shown,
                prompt,
            )
        )

    def change(self, change: Change) -> None:
        """Somebody else changes the library."""
        self.journal.write(
            Late(
                sequence=0,
                seconds=now_seconds(),
                person_id=change.person_id,
                deleted=change.deleted,
                added=change.added,
                person=change.person,
            )
        )
        self.library.apply(change)

    def take_slots(self, operation: str, count: int) -> None:
        """Somebody else uses the account's quota."""
        for _ in range(count):
            self._service._gate.admit(operation, now_seconds())
