"""The network of a simulation: latencies, and what goes wrong on the way and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from random import Random
from typing import Protocol

from tests.simulation.server import Packet, Server
from tests.simulation.simulated_loop import now_seconds
from tests.simulation.troubles import (
    KINDS,
    OUTAGES,
    STOPPING_KINDS,
    Circumstances,
    ClosedBeforeSend,
    Delayed,
    Lost,
    Repeated,
    Spoiled,
    Trouble,
    Unreached,
)
from worker.clock import Clock
from worker.departure import NotDeparted
from worker.green.interface import NotSent, Reply, Unanswered
from worker.sandbox.answers import Answer
from worker.sandbox.faults import Cut, Drip, Fault, Flood, Reset, Silence
from worker.sandbox.service import Verdict
from worker.settings import Settings

ACTIONS = {
    "/green/sface/face/delete": "DeleteFaces",
    "/green/sface/person": "GetPerson",
    "/green/sface/person/delete": "DeletePerson",
}

RESET_AFTER_SECONDS = 0.3
"""When a sender notices that its request was lost."""


@dataclass(frozen=True, slots=True)
class Paths:
    """How long everything takes."""

    one_way_seconds: float
    jitter_seconds: float
    answer_seconds: float
    """Median of the service's own time, lognormal."""
    answer_sigma: float
    connect_seconds: float
    connect_share: float
    """Of the requests for which no open connection is at hand."""
    dated: bool
    """Whether answers carry a ``Date``."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time in which every request meets the same kind of trouble."""

    kind: str
    from_seconds: float
    to_seconds: float


@dataclass(frozen=True, slots=True)
class Weather:
    """What goes wrong, how often, and until when; times count from the start of the simulation."""

    kinds: tuple[str, ...]
    share: float
    """Of the requests that meet one of ``kinds``."""
    spells: tuple[Spell, ...]
    stopping_kinds: tuple[str, ...]
    stopping_share: float
    calm_after_seconds: float


class Sender(Protocol):
    """The program's process, as the network sees it."""

    @property
    def run(self) -> str: ...

    @property
    def alive(self) -> bool: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def settings(self) -> Settings: ...

    def departed(self, nonce: str, path: str, body: bytes) -> None:
        """Its bytes are on the way now."""
        ...


class Network:
    """Between every process of a simulation and its service."""

    def __init__(self, server: Server, paths: Paths, weather: Weather, random: Random) -> None:
        self.server = server
        self.paths = paths
        self.seen: Counter[str] = Counter()
        """Troubles that really happened, by kind."""
        self.requests = 0
        self._weather = weather
        self._random = random
        self._began = now_seconds()

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong any more."""
        return now_seconds() - self._began >= self._weather.calm_after_seconds

    def trouble(self, now: Circumstances) -> tuple[str, Trouble] | None:
        """What happens to the next request, if anything."""
        if self.is_calm:
            return None
        weather, random = self._weather, self._random
        age_seconds = now_seconds() - self._began
        for spell in weather.spells:
            if spell.from_seconds <= age_seconds < spell.to_seconds:
                return self._drawn(spell.kind, OUTAGES, now)
        if weather.stopping_kinds and random.random() < weather.stopping_share:
            return self._drawn(random.choice(weather.stopping_kinds), STOPPING_KINDS, now)
        if weather.kinds and random.random() < weather.share:
            return self._drawn(random.choice(weather.kinds), KINDS, now)
        return None

    def _drawn(
        self,
        kind: str,
        kinds: Mapping[str, Callable[[Random, Circumstances], Trouble | None]],
        now: Circumstances,
    ) -> tuple[str, Trouble] | None:
        trouble = kinds[kind](self._random, now)
        return None if trouble is None else (kind, trouble)

    def way_seconds(self) -> float:
        """One way, this time."""
        return self.paths.one_way_seconds + self._random.uniform(0, self.paths.jitter_seconds)

    def connect_seconds(self) -> float:
        """Until a connection is at hand."""
        if self._random.random() < self.paths.connect_share:
            return self.paths.connect_seconds * self._random.uniform(0.5, 2.0)
        return 0.0

    def answer_seconds(self) -> float:
        """The service's own time."""
        return self.paths.answer_seconds * self._random.lognormvariate(0, self.paths.answer_sigma)


class _Passage:
    """One request from its departure on; it goes on when its sender has died."""

    def __init__(self, network: Network, packet: Packet, sender: Sender, sent_us: int) -> None:
        self._network = network
        self._packet = packet
        self._sender = sender
        self._sent_us = sent_us
        self._loop = asyncio.get_running_loop()
        self._given_up = False
        self._late: Verdict | None = None
        self.outcome: asyncio.Future[Reply | Unanswered] = self._loop.create_future()
        self._silence = self._loop.call_later(
            sender.settings.read_timeout_seconds, self._end, "read_timeout", None
        )

    def start(self, drawn: tuple[str, Trouble] | None) -> None:
        network = self._network
        kind, trouble = drawn or ("", None)
        way = network.way_seconds()
        match trouble:
            case Lost():
                network.seen[kind] += 1
                self._loop.call_later(RESET_AFTER_SECONDS, self._end, "connection_reset", None)
            case Delayed(seconds):
                network.seen[kind] += 1
                later = self._sender.settings.read_timeout_seconds + seconds
                self._loop.call_later(later, partial(self._arrive, kind, None, prompt=False))
            case Repeated():
                network.seen[kind] += 1
                self._loop.call_later(way, self._arrive_twice, trouble)
            case Spoiled(fault):
                self._loop.call_later(way, partial(self._arrive, kind, fault, prompt=True))
            case _:
                self._loop.call_later(way, partial(self._arrive, kind, None, prompt=True))

    def _arrive(self, kind: str, fault: Fault | None, *, prompt: bool) -> None:
        network = self._network
        verdict, struck = network.server.receive(self._packet, fault, prompt=prompt)
        if struck:
            network.seen[kind] += 1
        self._answer(verdict)

    def _arrive_twice(self, repeated: Repeated) -> None:
        first, _ = self._network.server.receive(self._packet, None, prompt=True)
        if first.answer.status == 200 and first.answer.code == "200":
            self._loop.call_later(repeated.after_seconds, self._arrive_again, repeated, first)
        else:
            # Of two copies of which one was refused for the quota, the other may be applied: then
            # a refusal would prove nothing, and nobody could ever believe one.
            self._answer(first)

    def _arrive_again(self, repeated: Repeated, first: Verdict) -> None:
        second, _ = self._network.server.receive(self._packet, None, prompt=False, again=True)
        seen = second.answer.code == "SignatureNonceUsed"
        self._answer(second if repeated.second_answers and seen else first)

    def _answer(self, verdict: Verdict) -> None:
        network = self._network
        back = network.answer_seconds() + network.way_seconds()
        match verdict.fault:
            case Silence(applies=applies):
                if applies == "late":
                    self._late = verdict
                    if self._given_up:
                        self._apply_late()
            case Reset(at="start"):
                self._loop.call_later(back, self._end, "connection_closed", None)
            case Reset():
                self._loop.call_later(back, self._end, "cut_body", verdict.answer.status)
            case Cut(form="json"):
                half = verdict.answer.body[: len(verdict.answer.body) // 2]
                self._loop.call_later(back, self._reply, verdict.answer, half)
            case Cut():
                self._loop.call_later(back, self._end, "cut_body", verdict.answer.status)
            case Drip():
                self._loop.call_later(back, self._silence.cancel)
                self._loop.call_later(
                    self._sender.settings.total_timeout_seconds, self._end, "total_timeout", 200
                )
            case Flood():
                self._loop.call_later(back, self._end, "too_large", verdict.answer.status)
            case _:
                self._loop.call_later(back, self._reply, verdict.answer, verdict.answer.body)

    def _reply(self, answer: Answer, body: bytes) -> None:
        headers = {"content-type": answer.content_type}
        if self._network.paths.dated:
            date = self._network.server.clock.now_us() // 1_000_000
            headers["date"] = formatdate(date, usegmt=True)
        headers |= {name.lower(): value for name, value in answer.headers}
        self._settle(
            Reply(answer.status, headers, body, self._sent_us, self._sender.clock.now_us())
        )

    def _end(self, code: str, http_status: int | None) -> None:
        self._settle(Unanswered(code, "", self._sent_us, self._sender.clock.now_us(), http_status))

    def _settle(self, outcome: Reply | Unanswered) -> None:
        self.give_up()
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def give_up(self) -> None:
        """The sender closes the connection."""
        self._silence.cancel()
        if not self._given_up:
            self._given_up = True
            if self._late is not None:
                self._apply_late()

    def _apply_late(self) -> None:
        verdict = self._late
        assert verdict is not None
        assert isinstance(verdict.fault, Silence)
        self._loop.call_later(
            verdict.fault.late_seconds, self._network.server.apply_late, self._packet, verdict
        )


class SimulatedTransport:
    """Implements ``worker.green.interface.Transport`` for one process."""

    def __init__(self, network: Network, sender: Sender) -> None:
        self._network = network
        self._sender = sender

    async def exchange(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes,
        depart: Callable[[], Awaitable[Mapping[str, str]]],
        departed: Callable[[], None],
    ) -> Reply | NotSent | Unanswered:
        network, sender = self._network, self._sender
        drawn = network.trouble(Circumstances(ACTIONS[path], sender.settings.unknown_person))
        if drawn is not None and isinstance(drawn[1], Unreached):
            await asyncio.sleep(drawn[1].after_seconds)
            network.seen[drawn[0]] += 1
            return NotSent(drawn[1].code, "", sender.clock.now_us())
        await asyncio.sleep(network.connect_seconds())
        try:
            headers = await depart()
        except NotDeparted as stayed:
            return NotSent(stayed.reason, "", sender.clock.now_us())
        if drawn is not None and isinstance(drawn[1], ClosedBeforeSend):
            network.seen[drawn[0]] += 1
            return NotSent("closed_before_send", "", sender.clock.now_us())
        if not sender.alive:
            # The process died in the instant in which this would have left.
            raise asyncio.CancelledError
        lowered = {name.lower(): value for name, value in headers.items()}
        nonce = lowered["x-acs-signature-nonce"]
        packet = Packet(sender.run, nonce, path, tuple(query), lowered, body)
        passage = _Passage(network, packet, sender, sender.clock.now_us())
        departed()
        sender.departed(nonce, path, body)
        network.requests += 1
        passage.start(drawn)
        try:
            return await passage.outcome
        finally:
            passage.give_up()
