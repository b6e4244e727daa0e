"""The whole flow over a real ledger and the real pacing, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.rig import Silence, draft_run, lines, persons, rows
from tests.core.virtual_time import LoopClock, run_virtually
from tests.ledger.audit import audit
from tests.ledger.audit import rows as select
from worker.cli.purge import lanes_of
from worker.departure import NotDeparted
from worker.errors import GateClosed, InputRefused
from worker.fold import DEFAULT_RULES, Rules
from worker.green.operations import operation_of
from worker.ledger import collation
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter
from worker.model import (
    Attempt,
    Call,
    Entry,
    Evidence,
    Kind,
    Request,
    Step,
    StopReason,
    Verb,
    Waiting,
)
from worker.pacing import Pacers
from worker.pipeline import Breaker, Pipeline, Stop
from worker.report.interface import Line

RATE = 19.80
SERVICE_CODE = "c"

Answer = Callable[[Request, int], Evidence]
"""What the service says to a request, given how often its call was sent before."""


def now() -> float:
    return asyncio.get_running_loop().time()


def says(kind: Kind, **more: object) -> Evidence:
    return replace(Evidence(kind, 0, code=SERVICE_CODE), **more)


def all_listed(request: Request, _: int) -> Evidence:
    return says(Kind.LISTED, listed=request.face_ids)


def none_there(request: Request, _: int) -> Evidence:
    """A complete lookup that lists none of the faces asked about."""
    del request
    return says(Kind.SHOWN)


def all_there(request: Request, _: int) -> Evidence:
    return says(Kind.SHOWN, listed=request.face_ids)


Delays = Callable[[Request], float]
"""Seconds that the answer to a request takes beyond the usual."""


def no_delay(request: Request) -> float:
    del request
    return 0.0


def at_first(*kinds: Kind, **more: object) -> Answer:
    """Each call meets these answers one after another, and then a good one."""

    def answer(request: Request, before: int) -> Evidence:
        return says(kinds[before], **more) if before < len(kinds) else all_listed(request, before)

    return answer


@dataclass
class FakeService:
    """A client whose network is a sleep; it notes what left, and when."""

    pacers: Pacers
    answer: Answer
    """To a deletion; ``look`` answers a lookup."""
    look: Answer = none_there
    latency_seconds: float = 0.05
    delays: Delays = no_delay
    clock: LoopClock = field(default_factory=LoopClock)
    departures: list[tuple[float, Request]] = field(default_factory=list)
    """Of deletions; ``lookups`` has the others."""
    lookups: list[tuple[float, Request]] = field(default_factory=list)
    departed: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: Counter[str] = field(default_factory=Counter)
    most_in_flight: int = 0
    _nonces: Iterator[int] = field(default_factory=itertools.count)
    _sent: Counter[tuple[int, Step]] = field(default_factory=Counter)

    def prepare(self, call: Call) -> Request:
        return Request(
            operation_of(call.step).action,
            call.step,
            call.call_no,
            call.person_id,
            call.face_ids,
            b"{}",
            str(next(self._nonces)),
        )

    async def send(self, request: Request) -> Evidence:
        try:
            await self.pacers.of(request.operation).slot()
        except NotDeparted as refused:
            return says(Kind.NOT_SENT, code=refused.reason, ended_us=self.clock.now_us())
        before = self._sent[request.call_no, request.step]
        self._sent[request.call_no, request.step] += 1
        sent_us = self.clock.now_us()
        deletes = request.step is Step.DELETE
        (self.departures if deletes else self.lookups).append((now(), request))
        self.departed.set()
        self.in_flight[request.person_id] += 1
        assert self.in_flight[request.person_id] == 1, "two calls in flight for one person"
        self.most_in_flight = max(self.most_in_flight, self.in_flight.total())
        try:
            await asyncio.sleep(self.latency_seconds + self.delays(request))
        finally:
            self.in_flight[request.person_id] -= 1
        evidence = (self.answer if deletes else self.look)(request, before)
        if evidence.kind is Kind.NOT_SENT:
            sent_us = 0
        return replace(evidence, sent_us=sent_us or None, ended_us=self.clock.now_us())

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.departures]


@dataclass
class Ran:
    stop: Stop
    service: FakeService
    told: list[tuple[Call, Evidence]]
    counted: dict[str, int]
    lines: list[Line]
    endings: list[tuple[str, str]]
    """(kind, code) of every ending, in the order of the ledger."""
    attempts: int
    seconds: float
    waiting: int
    """Calls that wait to be claimed."""
    questions: int
    """How often the ledger was asked when something is due."""
    idle_seconds: float
    """How long there was nothing to do but to wait for a time."""

    @property
    def outcomes(self) -> list[str]:
        return [line.outcome for line in self.lines]


@dataclass
class AtWork:
    """What a test may take hold of while the run lasts."""

    pipeline: Pipeline
    ledger: AskedLedger
    service: FakeService
    pacers: Pacers
    break_the_ledger: Callable[[], None]
    clock: LoopClock


Meanwhile = Callable[[AtWork], Awaitable[None]]


@dataclass
class NoHolds:
    """Stands for an exclusion list; ``checks`` counts the looks."""

    checks: int = 0
    error: Exception | None = None
    after: int = 0

    async def check(self) -> None:
        self.checks += 1
        if self.error is not None and self.checks > self.after:
            raise self.error


class AskedLedger(Ledger):
    """Counts the questions that the supervisor asks."""

    questions = 0

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        self.questions += 1
        return await super().due(steps, now_us)


def run(
    run_dir: Path,
    pairs: list[tuple[str, str]],
    answer: Answer = all_listed,
    look: Answer = none_there,
    *,
    verbs: Sequence[Verb] = (Verb.RUN,),
    rules: Rules = DEFAULT_RULES,
    shared: bool = False,
    verify: str = "none",
    max_delete: int = 0,
    harmless_codes: Container[str] = (),
    entries: Sequence[Entry] = (),
    latency_seconds: float = 0.05,
    delays: Delays = no_delay,
    concurrency: int = 256,
    grace_seconds: float = 30.0,
    outage_limit_seconds: float = 900.0,
    faces_per_call: int = 20,
    holds: NoHolds | None = None,
    meanwhile: Meanwhile | None = None,
) -> Ran:
    """Plan a run and work on it: once for each of ``verbs``, in one process after another."""
    draft_run(run_dir, [[*rows(pairs), *entries]], faces_per_call=faces_per_call)

    nonces = itertools.count()
    worked: list[float] = []

    async def session(verb: Verb) -> Ran:
        connection = open_ledger(run_dir)
        connection.execute("PRAGMA synchronous = OFF")
        broken = False

        def break_the_ledger() -> None:
            nonlocal broken
            broken = True

        connection.set_commit_hook(lambda: broken)
        ledger = AskedLedger(connection, InlineWriter, rules=rules, max_delete=max_delete)
        pacers = Pacers(RATE, outage_limit_seconds=outage_limit_seconds, shared=shared)
        clock = LoopClock()
        clock.set_forward(sum(worked))
        service = FakeService(pacers, answer, look, latency_seconds, delays, clock, _nonces=nonces)
        log = Silence()
        pipeline = Pipeline(
            ledger,
            service,
            lanes_of(pacers, verb),
            clock,
            log,
            holds=holds,
            concurrency=concurrency,
            grace_seconds=grace_seconds,
            harmless_codes=harmless_codes,
        )
        await ledger.close_open_attempts(clock.now_us())
        await ledger.begin_session(verb, clock.now_us(), verify=verify)
        began = now()
        async with asyncio.TaskGroup() as group:
            if meanwhile is not None:
                at_work = AtWork(pipeline, ledger, service, pacers, break_the_ledger, clock)
                group.create_task(meanwhile(at_work))  # type: ignore[arg-type]
            stop = await pipeline.run()
        seconds = now() - began
        worked.append(seconds)
        assert pipeline.in_flight == 0
        connection.set_commit_hook(None)
        counted = audit(connection, rules)
        with unrolled(connection):
            ((waiting,),) = select(connection, "SELECT COUNT(*) FROM call WHERE state = 0")
        ran = Ran(
            stop,
            service,
            log.ended,
            counted,
            [],
            select(connection, "SELECT kind, code FROM ending ORDER BY seq"),
            select(connection, "SELECT COUNT(*) FROM attempt")[0][0],
            seconds,
            waiting,
            ledger.questions,
            pipeline.idle_seconds,
        )
        await ledger.close()
        return ran

    (ran,) = [run_virtually(session(verb)) for verb in verbs][-1:]
    ran.lines = lines(run_dir)
    # R3: every request on the wire has its attempt, every attempt without one says not_sent.
    left = [*ran.service.departures, *ran.service.lookups]
    used = [request.nonce for _, request in left]
    assert len(set(used)) == len(used) <= ran.attempts
    return ran


def most_in_any_second(times: list[float]) -> int:
    most = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return most


# What each kind of ending leads to


@pytest.mark.parametrize(
    ("kinds", "outcome", "sent", "attempts"),
    [
        ([], "deleted", 1, 1),
        ([Kind.REFUSED], "refused", 1, 1),
        ([Kind.AMBIGUOUS], "absent", 1, 1),
        ([Kind.CLOSED], "absent", 1, 1),
        ([Kind.THROTTLED], "deleted", 2, 2),
        ([Kind.THROTTLED] * 7, "deleted", 8, 8),
        ([Kind.AGAIN], "deleted", 2, 2),
        ([Kind.NOT_SENT], "deleted", 2, 1),
        ([Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.REFUSED], "refused", 4, 3),
        ([Kind.THROTTLED, Kind.AMBIGUOUS], "absent", 2, 2),
    ],
)
def test_a_run_goes_on_after(
    tmp_path: Path, kinds: list[Kind], outcome: str, sent: int, attempts: int
) -> None:
    ran = run(tmp_path, persons(1, 2), at_first(*kinds))
    assert ran.stop == Stop(StopReason.FINISHED)
    assert ran.outcomes == [outcome] * 2
    assert len(ran.service.departures) == sent
    assert {line.attempts for line in ran.lines} == {attempts}
    lookups = 2 if outcome == "absent" else 0
    good = ["listed"] * (sent - len(kinds))
    assert [kind for kind, _ in ran.endings] == [*kinds, *good, *["shown"] * lookups]
    assert len(ran.told) == sent + lookups


def test_a_face_that_a_good_answer_omits_is_looked_up(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(1, 3), lambda r, _: says(Kind.LISTED, listed=r.face_ids[1:]))
    assert ran.stop.reason is StopReason.FINISHED
    assert [(line.outcome, line.code) for line in ran.lines] == [
        ("absent", SERVICE_CODE),
        ("deleted", SERVICE_CODE),
        ("deleted", SERVICE_CODE),
    ]


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        (Kind.FATAL, "unsent", StopReason.FATAL),
        (Kind.SWAPPED, "unknown", StopReason.SWAPPED),
    ],
)
def test_one_fatal_answer_stops_everybody(
    tmp_path: Path, kind: Kind, outcome: str, reason: StopReason
) -> None:
    def answer(request: Request, before: int) -> Evidence:
        if request.call_no == 5:
            return says(kind, code="Forbidden.RAM", message="no right", remedy="grant it")
        return all_listed(request, before)

    ran = run(tmp_path, persons(500), answer, latency_seconds=1.0)
    assert ran.stop == Stop(reason, "Forbidden.RAM: no right", "grant it")
    assert ran.lines[5].outcome == outcome
    stopped = ran.service.times[5] + 1.0
    assert max(ran.service.times) <= stopped
    assert ran.seconds <= 3.0
    assert ran.counted["deleted"] == len(ran.service.departures) - 1
    assert ran.waiting == ran.counted["unsent"] + ran.counted.get("unknown", 0)


def test_a_fatal_answer_before_anything_left_is_no_attempt(tmp_path: Path) -> None:
    class Untrusted(FakeService):
        async def send(self, request: Request) -> Evidence:
            return says(Kind.FATAL, code="tls_failed")

    draft_run(tmp_path, [rows(persons(3))])

    async def main() -> Stop:
        ledger = Ledger(open_ledger(tmp_path), InlineWriter)
        pacers = Pacers(RATE, outage_limit_seconds=60, shared=False)
        service = Untrusted(pacers, all_listed)
        pipeline = Pipeline(
            ledger, service, lanes_of(pacers, Verb.RUN), LoopClock(), Silence(),
            holds=None, concurrency=9, grace_seconds=1,
        )  # fmt: skip
        stop = await pipeline.run()
        await ledger.close()
        return stop

    assert run_virtually(main()).reason is StopReason.FATAL
    assert {(line.outcome, line.attempts) for line in lines(tmp_path)} == {("unsent", 0)}


def test_a_throttle_holds_everybody_for_as_long_as_it_says(tmp_path: Path) -> None:
    def answer(request: Request, before: int) -> Evidence:
        if request.call_no == 30 and not before:
            return says(Kind.THROTTLED, retry_after_seconds=7.0)
        return all_listed(request, before)

    ran = run(tmp_path, persons(100), answer)
    assert ran.counted == {"deleted": 100}
    longest = max(later - earlier for earlier, later in pairwise(ran.service.times))
    assert longest >= 7.0
    # Those who stood in line go back with a record that says so; no request of theirs left.
    assert len(ran.endings) == ran.attempts
    assert Counter(kind for kind, _ in ran.endings)["listed"] == 100
    assert {code for kind, code in ran.endings if kind == "not_sent"} <= {"held"}


# Rate and concurrency


@pytest.mark.parametrize("latency_seconds", [0.001, 0.15, 1.0, 10.0])
def test_the_rate_holds_whatever_the_latency(tmp_path: Path, latency_seconds: float) -> None:
    ran = run(tmp_path, persons(600), latency_seconds=latency_seconds)
    times = ran.service.times
    assert ran.counted == {"deleted": 600}
    assert most_in_any_second(times) <= 20
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.985 * 20
    assert ran.service.most_in_flight <= RATE * latency_seconds + 2


@pytest.mark.parametrize("concurrency", [1, 2, 7, 50])
def test_never_more_in_flight_than_allowed(tmp_path: Path, concurrency: int) -> None:
    ran = run(tmp_path, persons(150), latency_seconds=10.0, concurrency=concurrency)
    assert ran.counted == {"deleted": 150}
    assert ran.service.most_in_flight == concurrency


def test_calls_leave_in_the_order_of_the_input(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(120))
    left = [request.call_no for _, request in ran.service.departures]
    assert max(abs(place - call_no) for place, call_no in enumerate(left)) < 10


def test_one_call_in_flight_for_each_person(tmp_path: Path) -> None:
    """``FakeService`` fails at a second one; the last claims race for the rest of two persons."""
    pairs = [(f"p{n % 2}", f"{n:05d}") for n in range(60)] + persons(10)
    ran = run(tmp_path, pairs, latency_seconds=3.0, faces_per_call=2)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 70}
    assert len(ran.service.departures) == 40


@pytest.mark.parametrize("seed", range(5))
def test_whoever_finds_nothing_to_claim_leaves_no_call_behind(tmp_path: Path, seed: int) -> None:
    """Loops end one after another while calls come back throttled to the end of the queue."""
    chance = random.Random(seed)

    def answer(request: Request, before: int) -> Evidence:
        if chance.random() < 0.4 and before < 4:
            return says(chance.choice([Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT]))
        return all_listed(request, before)

    pairs = [(f"p{n % 3}", f"{n:05d}") for n in range(18)]
    ran = run(tmp_path, pairs, answer, latency_seconds=chance.uniform(0, 5), faces_per_call=2)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 18}


def test_nothing_to_do_is_finished_at_once(tmp_path: Path) -> None:
    ran = run(tmp_path, [])
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.attempts == 0
    assert ran.seconds < 0.001


# Stopping


def stops_after(seconds: float, *stops: Stop) -> Meanwhile:
    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(seconds)
        for stop in stops:
            at_work.pipeline.stop(stop)

    return meanwhile


def test_stop_lets_calls_in_flight_be_recorded_and_sends_no_other(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        persons(500),
        latency_seconds=5.0,
        meanwhile=stops_after(10.01, Stop(StopReason.SIGTERM)),
    )
    assert ran.stop == Stop(StopReason.SIGTERM)
    began = ran.service.times[0]
    assert max(ran.service.times) - began <= 10.1
    assert ran.seconds == pytest.approx(15.0, abs=0.2)
    assert ran.counted == {
        "deleted": len(ran.service.departures),
        "unsent": 500 - len(ran.service.departures),
    }
    assert len(ran.endings) == ran.attempts
    assert ("not_sent", "stopped") in ran.endings


def test_after_the_grace_what_is_in_flight_is_recorded_as_cancelled(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        persons(500),
        latency_seconds=1000.0,
        grace_seconds=3.0,
        meanwhile=stops_after(10.01, Stop(StopReason.SIGINT)),
    )
    assert ran.stop == Stop(StopReason.SIGINT)
    assert ran.seconds == pytest.approx(13.01, abs=0.01)
    sent = len(ran.service.departures)
    assert Counter(ran.endings)[("ambiguous", "cancelled")] == sent
    assert ran.counted == {"unknown": sent, "unsent": 500 - sent}
    assert len(ran.endings) == ran.attempts


def test_stop_ends_the_waiting_for_a_hold(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        persons(9),
        lambda _r, _b: says(Kind.THROTTLED, retry_after_seconds=300.0),
        meanwhile=stops_after(5.0, Stop(StopReason.SIGTERM)),
    )
    assert ran.stop.reason is StopReason.SIGTERM
    assert ran.seconds == pytest.approx(5.0, abs=0.01)
    assert ran.counted == {"unsent": 9}
    assert ran.waiting == 9


def test_a_stop_before_the_start_sends_nothing(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(3))])

    async def main() -> tuple[Stop, int]:
        ledger = Ledger(open_ledger(tmp_path), InlineWriter)
        pacers = Pacers(RATE, outage_limit_seconds=60, shared=False)
        service = FakeService(pacers, all_listed)
        pipeline = Pipeline(
            ledger, service, lanes_of(pacers, Verb.RUN), LoopClock(), Silence(),
            holds=None, concurrency=9, grace_seconds=1,
        )  # fmt: skip
        pipeline.stop(Stop(StopReason.SIGTERM))
        stop = await pipeline.run()
        await ledger.close()
        return stop, len(service.departures)

    assert run_virtually(main()) == (Stop(StopReason.SIGTERM), 0)


FATAL = Stop(StopReason.FATAL, "no right", "ask")
BREAKER = Stop(StopReason.BREAKER)
SIGTERM = Stop(StopReason.SIGTERM)
REQUEST = Stop(StopReason.REQUEST, "it was told to stop by somebody")


@pytest.mark.parametrize(
    ("stops", "told"),
    [
        ((SIGTERM, Stop(StopReason.SIGINT)), SIGTERM),
        ((SIGTERM, FATAL), FATAL),
        ((FATAL, SIGTERM), FATAL),
        ((FATAL, BREAKER), FATAL),
        ((SIGTERM, Stop(StopReason.OUTAGE)), SIGTERM),
        ((Stop(StopReason.OUTAGE), Stop(StopReason.HOLDS)), Stop(StopReason.HOLDS)),
        ((SIGTERM, Stop(StopReason.DAMAGED)), Stop(StopReason.DAMAGED)),
        ((REQUEST, SIGTERM), SIGTERM),
        ((SIGTERM, REQUEST), SIGTERM),
        ((REQUEST, FATAL), FATAL),
        ((REQUEST, Stop(StopReason.OUTAGE)), REQUEST),
    ],
)
def test_the_first_reason_counts_unless_something_is_wrong(
    tmp_path: Path, stops: tuple[Stop, ...], told: Stop
) -> None:
    assert run(tmp_path, persons(50), meanwhile=stops_after(1.0, *stops)).stop == told


def test_a_swapped_answer_while_draining_is_not_lost(tmp_path: Path) -> None:
    """The contract: 7 comes before a signal."""
    ran = run(
        tmp_path,
        persons(50),
        at_first(Kind.SWAPPED),
        latency_seconds=5.0,
        meanwhile=stops_after(1.0, SIGTERM),
    )
    assert ran.stop.reason is StopReason.SWAPPED


# Steering


def departures_between(ran: Ran, begin: float, end: float) -> list[float]:
    left = [*ran.service.departures, *ran.service.lookups]
    return [time for time, _ in left if begin < time < end]


def most_in_a_second_that_ends_after(times: list[float], moment: float) -> int:
    return max(sum(end - 1.0 < time <= end for time in times) for end in times if end > moment)


@pytest.mark.parametrize("latency_seconds", [0.05, 1.5])
def test_another_rate_counts_from_the_next_call_on(tmp_path: Path, latency_seconds: float) -> None:
    ordered: list[float] = []

    async def meanwhile(at_work: AtWork) -> None:
        for seconds, rate in ((4.03, 5.0), (9.0, 19.8), (5.0, 0.5), (12.0, 20.0)):
            await asyncio.sleep(seconds)
            at_work.pipeline.set_rate(rate)
            ordered.append(now())
            assert at_work.pipeline.rate_allowed_per_second == rate

    ran = run(tmp_path, persons(420), latency_seconds=latency_seconds, meanwhile=meanwhile)
    assert ran.outcomes == ["deleted"] * 420
    times = ran.service.times
    slower, faster, slowest, fastest = ordered
    # A busy service lets those that stand behind it finish first: none of it is a burst.
    assert most_in_a_second_that_ends_after([x for x in times if x < faster], slower) == 5
    assert most_in_a_second_that_ends_after([x for x in times if x < fastest], slowest) == 1
    assert most_in_any_second(times) <= 20
    for moment in (faster, fastest):
        assert len(departures_between(ran, moment, moment + 1.0)) >= 18
    # Nobody stood in line with a connection for as long as two seconds a call take.
    assert {code for _, code in ran.endings} <= {SERVICE_CODE, "held"}


def test_a_pause_lets_what_is_in_flight_finish_and_begins_nothing(tmp_path: Path) -> None:
    """Callers at the head, in line, on their way and in flight; and lookups on a lane of their own."""
    paused = unpaused = 0.0
    seen: list[object] = []

    async def meanwhile(at_work: AtWork) -> None:
        nonlocal paused, unpaused
        pipeline = at_work.pipeline
        await asyncio.sleep(7.02)
        paused = now()
        pipeline.pause("order")
        seen.append((pipeline.calls_out > 10, pipeline.in_flight > pipeline.calls_out))
        await asyncio.sleep(2.0)
        seen.append((pipeline.calls_out, pipeline.in_flight, pipeline.idles, pipeline.pauses))
        asked = at_work.ledger.questions
        await asyncio.sleep(600)
        seen.append(at_work.ledger.questions - asked < 2500)
        unpaused = now()
        pipeline.unpause("order")

    ran = run(
        tmp_path,
        persons(300),
        lambda r, before: says(Kind.LISTED) if r.call_no % 3 else all_listed(r, before),
        latency_seconds=1.0,
        outage_limit_seconds=60.0,
        meanwhile=meanwhile,
    )
    assert ran.stop == Stop(StopReason.FINISHED)
    assert seen == [(True, True), (0, 0, False, ("order",)), True]
    assert not departures_between(ran, paused, unpaused)
    assert departures_between(ran, paused - 1.0, paused)
    assert ran.service.lookups
    assert min(time for time, _ in ran.service.lookups) < paused
    # Those in line were sent back unsent, and nothing else became of the pause.
    assert Counter(kind for kind, code in ran.endings if code == "held") == {
        Kind.NOT_SENT: sum(code == "held" for _, code in ran.endings)
    }
    assert 0 < sum(code == "held" for _, code in ran.endings) <= 20
    assert set(ran.outcomes) == {"deleted", "absent"}
    assert len(departures_between(ran, unpaused, unpaused + 1.0)) >= 18
    assert most_in_any_second(ran.service.times) <= 20


def test_a_run_is_paused_for_as_long_as_any_reason_is_left(tmp_path: Path) -> None:
    moments: list[float] = []

    async def meanwhile(at_work: AtWork) -> None:
        pipeline = at_work.pipeline
        await asyncio.sleep(2.0)
        moments.append(now())
        pipeline.pause("window")
        pipeline.pause("order")
        pipeline.pause("order")
        await asyncio.sleep(10.0)
        pipeline.unpause("window")
        pipeline.unpause("file")
        assert pipeline.pauses == ("order",)
        await asyncio.sleep(10.0)
        moments.append(now())
        pipeline.unpause("order")

    ran = run(tmp_path, persons(100), meanwhile=meanwhile)
    assert ran.outcomes == ["deleted"] * 100
    assert not departures_between(ran, *moments)


def test_a_stop_ends_a_paused_run_at_once(tmp_path: Path) -> None:
    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(2.0)
        at_work.pipeline.pause("order")
        await asyncio.sleep(30.0)
        at_work.pipeline.stop(REQUEST)

    ran = run(tmp_path, persons(100), meanwhile=meanwhile)
    assert ran.stop == REQUEST
    assert ran.seconds == pytest.approx(32.0, abs=0.1)
    assert set(ran.outcomes) == {"deleted", "unsent"}
    assert "unknown" not in ran.counted


def test_a_pause_outlasts_the_limit_of_an_outage(tmp_path: Path) -> None:
    """Trouble that began before it counts on after it, and the pause itself does not."""

    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(5.0)
        at_work.pipeline.pause("order")
        await asyncio.sleep(3600.0)
        at_work.pipeline.unpause("order")

    ran = run(
        tmp_path,
        persons(30),
        at_first(*[Kind.NOT_SENT] * 500),
        outage_limit_seconds=60.0,
        meanwhile=meanwhile,
    )
    assert ran.stop.reason is StopReason.OUTAGE
    assert ran.seconds == pytest.approx(3660.0, abs=31.0)
    assert ran.outcomes == ["unsent"] * 30


def test_a_rate_that_is_ordered_while_the_service_throttles(tmp_path: Path) -> None:
    accepted: list[float] = []

    def answer(request: Request, before: int) -> Evidence:
        """A service that takes ten calls a second."""
        if sum(time > now() - 1.0 for time in accepted) >= 10:
            return says(Kind.THROTTLED)
        accepted.append(now())
        return all_listed(request, before)

    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(10.0)
        at_work.pipeline.set_rate(5.0)
        await asyncio.sleep(10.0)
        at_work.pipeline.set_rate(20.0)
        assert at_work.pipeline.rate_allowed_per_second < 20.0

    ran = run(tmp_path, persons(400), answer, meanwhile=meanwhile)
    assert ran.outcomes == ["deleted"] * 400
    began = ran.service.times[0]
    assert (
        most_in_a_second_that_ends_after(
            [x for x in ran.service.times if x < began + 20], began + 10.1
        )
        <= 5
    )
    assert sum(kind == Kind.THROTTLED for kind, _ in ran.endings) < 60


# The ledger fails


@pytest.mark.parametrize("seconds", [0.001, 0.06, 1.03, 2.5, 4.0])
def test_a_ledger_that_fails_stops_everybody(tmp_path: Path, seconds: float) -> None:
    broken_at = 0.0

    async def meanwhile(at_work: AtWork) -> None:
        nonlocal broken_at
        await asyncio.sleep(seconds)
        at_work.break_the_ledger()
        broken_at = now()

    ran = run(tmp_path, persons(200), latency_seconds=2.0, meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.LEDGER
    assert "could not be written" in ran.stop.detail
    assert "resume" in ran.stop.remedy
    # Whoever was in line had an attempt on disk already; nobody else may leave.
    assert sum(time > broken_at for time in ran.service.times) <= 4
    assert ran.seconds <= seconds + 2.1
    assert ran.attempts - len(ran.endings) <= 200


def test_after_the_failure_nothing_is_sent(tmp_path: Path) -> None:
    """The very first answer cannot be recorded: those behind it in line stay."""

    async def meanwhile(at_work: AtWork) -> None:
        await at_work.service.departed.wait()
        at_work.break_the_ledger()

    ran = run(tmp_path, persons(200), latency_seconds=0.01, meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.LEDGER
    assert len(ran.service.departures) == 1


def test_a_plan_that_is_not_what_it_was_stops_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collation, "CALLS_PER_BLOCK", 10)
    spoil = "UPDATE plan_block SET faces = faces + 1 WHERE first_call_no = 40"
    mend = "UPDATE plan_block SET faces = faces - 1 WHERE first_call_no = 40"

    async def meanwhile(at_work: AtWork) -> None:
        await at_work.service.departed.wait()
        connection = apsw.Connection(str(tmp_path / FILE_NAME))
        connection.execute(spoil)
        await asyncio.sleep(60)  # on a clock that is put forward: it has long stopped
        assert at_work.pipeline.stopping
        # In time for whoever looks at what was done.
        connection.execute(mend)
        connection.close()

    ran = run(tmp_path, persons(60), latency_seconds=1.0, meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.DAMAGED
    assert "its calls from 40 on are not what was planned" in ran.stop.detail
    assert 37 <= ran.counted["deleted"] <= 40
    assert ran.counted == {"deleted": len(ran.service.departures), "unsent": ran.waiting}
    assert len(ran.endings) == ran.attempts


def test_nothing_is_told_that_is_not_on_disk(tmp_path: Path) -> None:
    """D2: whoever watches hears of an outcome after the ledger has it."""

    async def meanwhile(at_work: AtWork) -> None:
        while len(at_work.service.departures) < 5:
            at_work.service.departed.clear()
            await at_work.service.departed.wait()
        at_work.break_the_ledger()

    ran = run(tmp_path, persons(20), meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.LEDGER
    assert len(ran.service.departures) > len(ran.endings)
    assert 0 < len(ran.told) <= len(ran.endings)


def test_a_stop_ends_lookups_too(tmp_path: Path) -> None:
    seen = 0

    async def meanwhile(at_work: AtWork) -> None:
        nonlocal seen
        while len(at_work.service.lookups) < 5:
            at_work.service.departed.clear()
            await at_work.service.departed.wait()
        at_work.pipeline.stop(Stop(StopReason.SIGTERM))
        seen = len(at_work.service.lookups)

    ran = run(tmp_path, persons(60), lambda r, _: says(Kind.LISTED), meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.SIGTERM
    assert len(ran.service.lookups) == seen < 60
    assert "unknown" in ran.outcomes


def test_a_broken_program_does_not_go_on(tmp_path: Path) -> None:
    def answer(request: Request, before: int) -> Evidence:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as broken:
        run(tmp_path, persons(50), answer)
    assert broken.group_contains(ZeroDivisionError)


# The breaker and the outage


def tripped_after(refused: list[bool]) -> int | None:
    breaker = Breaker()
    for number, one in enumerate(refused, start=1):
        if breaker.saw(says(Kind.REFUSED if one else Kind.LISTED)):
            return number
    return None


@pytest.mark.parametrize(
    ("refused", "tripped"),
    [
        ([True] * 49, None),
        ([True] * 50, 50),
        ([False] * 25 + [True] * 25, None),
        ([False] * 24 + [True] * 26, 50),
        ([False] * 25 + [True] * 26, 51),
        ([False] * 100 + [True] * 100, None),
        ([False] * 100 + [True] * 101, 201),
        ([False] * 1000 + [True] * 100, None),
        ([False] * 1000 + [True] * 101, 1101),
        ([False, True] * 500, None),
        ([True, False] * 500, 51),
    ],
)
def test_more_than_half_of_the_last_two_hundred_after_fifty(
    refused: list[bool], tripped: int | None
) -> None:
    assert tripped_after(refused) == tripped


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in {Kind.REFUSED, Kind.LISTED}])
def test_nothing_but_definite_answers_reaches_the_breaker(kind: Kind) -> None:
    breaker = Breaker()
    assert not any(breaker.saw(says(kind)) for _ in range(500))
    assert not any(breaker.saw(says(Kind.REFUSED)) for _ in range(49))
    assert breaker.saw(says(Kind.REFUSED))


def test_a_wrong_account_stops_after_fifty_refusals(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(500), at_first(Kind.REFUSED, code="NoSuchGroup"))
    assert ran.stop.reason is StopReason.BREAKER
    assert "code NoSuchGroup" in ran.stop.detail
    assert 50 <= ran.counted["refused"] <= 53
    assert ran.counted["unsent"] == 500 - ran.counted["refused"]


@pytest.mark.parametrize(
    ("kind", "code", "left_over"),
    [
        (Kind.NOT_SENT, "connect_failed", "unsent"),
        (Kind.THROTTLED, "588", "unsent"),
        (Kind.AMBIGUOUS, "read_timeout", "unknown"),
    ],
)
def test_an_outage_is_probed_gently_and_ends_the_run(
    tmp_path: Path, kind: Kind, code: str, left_over: str
) -> None:
    ran = run(
        tmp_path,
        persons(400),
        lambda _r, _b: says(kind, code=code),
        lambda _r, _b: says(kind, code=code),
        outage_limit_seconds=600,
    )
    assert ran.stop.reason is StopReason.OUTAGE
    assert "when it is back" in ran.stop.remedy
    assert {told for _, told in ran.endings} <= {code, "held", "stopped", "outage"}
    assert 600 <= ran.seconds <= 600 + 31
    assert set(ran.counted) <= {"unsent", left_over}
    later = [time for time in ran.service.times if time > ran.service.times[0] + 2.0]
    assert all(second - first >= 1.0 for first, second in pairwise(later))


def test_calls_slower_than_the_outage_limit_end_the_run_when_they_fail(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        persons(9),
        lambda _r, _b: says(Kind.AMBIGUOUS),
        latency_seconds=700.0,
        concurrency=1,
        outage_limit_seconds=600,
    )
    assert ran.stop.reason is StopReason.OUTAGE
    assert ran.counted == {"unknown": 2, "unsent": 7}


def test_throttling_for_minutes_ends_and_no_row_is_lost(tmp_path: Path) -> None:
    """The rate was cut until a slot takes longer than the interval between two probes."""

    def answer(request: Request, before: int) -> Evidence:
        return says(Kind.THROTTLED) if now() < 1300.0 else all_listed(request, before)

    ran = run(tmp_path, persons(200), answer)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 200}
    assert ran.seconds < 600


def test_after_an_outage_it_goes_on_and_no_row_is_lost(tmp_path: Path) -> None:
    def answer(request: Request, before: int) -> Evidence:
        down = 1003.0 < now() < 1303.0
        return says(Kind.NOT_SENT) if down else all_listed(request, before)

    ran = run(tmp_path, persons(200), answer)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 200}
    assert most_in_any_second(ran.service.times) <= 20


# Holds


@pytest.mark.parametrize(
    "error", [GateClosed("the list vanished", "put it back"), InputRefused("x", "y")]
)
def test_a_list_that_can_no_longer_be_trusted_stops_the_run(
    tmp_path: Path, error: GateClosed | InputRefused
) -> None:
    holds = NoHolds(error=error, after=20)
    ran = run(tmp_path, persons(200), holds=holds)
    assert ran.stop == Stop(StopReason.HOLDS, error.cause, error.remedy)
    assert len(ran.service.departures) <= 20
    assert ran.counted["deleted"] == len(ran.service.departures)
    assert ran.counted["unsent"] == 200 - ran.counted["deleted"]


def test_the_list_is_looked_at_before_each_claim(tmp_path: Path) -> None:
    holds = NoHolds()
    ran = run(tmp_path, persons(40), at_first(Kind.THROTTLED), holds=holds)
    assert ran.counted == {"deleted": 40}
    assert holds.checks >= len(ran.service.departures)


def test_a_hold_that_comes_while_a_call_is_throttled_keeps_it_here(tmp_path: Path) -> None:
    """S2, also for a call that was claimed before the list grew."""

    async def meanwhile(at_work: AtWork) -> None:
        await at_work.service.departed.wait()
        await at_work.ledger.hold(frozenset({("person0", "")}))

    answer = at_first(Kind.THROTTLED, retry_after_seconds=5.0)
    ran = run(tmp_path, persons(5), answer, meanwhile=meanwhile)
    assert [line.outcome for line in ran.lines] == ["held", *["deleted"] * 4]
    assert ran.stop.reason is StopReason.FINISHED
    sent = [time for time, request in ran.service.departures if request.person_id == "person0"]
    assert len(sent) == 1


# Lookups


def departures_of(ran: Ran, person_id: str) -> tuple[list[float], list[float]]:
    """When the person's deletions and lookups left."""
    deletions, lookups = (
        [time for time, request in left if request.person_id == person_id]
        for left in (ran.service.departures, ran.service.lookups)
    )
    return deletions, lookups


def test_nobody_waits_for_the_lookups_of_another(tmp_path: Path) -> None:
    """The rate holds while unclear persons wait out their interval in the ledger."""

    def answer(request: Request, before: int) -> Evidence:
        if request.call_no % 10 == 0:
            return says(Kind.AMBIGUOUS, code="count_mismatch", http_status=200)
        return all_listed(request, before)

    ran = run(tmp_path, persons(200), answer)
    assert ran.counted == {"deleted": 180, "absent": 20}
    times = ran.service.times
    assert len(times) == 200
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.985 * 20
    for number in range(0, 200, 10):
        (sent,), (first, second) = departures_of(ran, f"person{number}")
        assert first - sent >= 3.0
        assert second - first >= 3.0
    assert ran.service.lookups[0][0] < times[-1], "lookups do not wait for the end"


def test_only_what_is_still_listed_is_sent_again_and_not_for_ever(tmp_path: Path) -> None:
    def there(request: Request, _: int) -> Evidence:
        return says(Kind.SHOWN, listed=tuple(x for x in request.face_ids if x == "0000000000"))

    ran = run(tmp_path, persons(1, 3), lambda _r, _b: says(Kind.AMBIGUOUS), there)
    assert ran.stop.reason is StopReason.FINISHED
    assert [line.outcome for line in ran.lines] == ["present", "absent", "absent"]
    faces = [request.face_ids for _, request in ran.service.departures]
    assert [len(face_ids) for face_ids in faces] == [3, 1, 1]
    assert [line.attempts for line in ran.lines] == [3, 1, 1]


def test_lookups_have_a_quota_of_their_own_unless_it_is_shared(tmp_path: Path) -> None:
    def seconds(shared: bool) -> tuple[float, int]:  # noqa: FBT001
        directory = tmp_path / str(shared)
        ran = run(directory, persons(200), shared=shared, verify="all")
        assert ran.counted == {"deleted": 200}
        assert len(ran.service.lookups) == 200
        left = sorted(time for time, _ in [*ran.service.departures, *ran.service.lookups])
        return ran.seconds, most_in_any_second(left)

    own_seconds, own_most = seconds(shared=False)
    shared_seconds, shared_most = seconds(shared=True)
    assert own_seconds < 15
    assert own_most > 30
    assert shared_seconds > 19
    assert shared_most <= 20


def test_in_a_shared_quota_what_is_unclear_goes_first(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(200), at_first(Kind.AMBIGUOUS), shared=True, concurrency=2)
    first_lookup = ran.service.lookups[0][0]
    assert first_lookup < ran.service.times[-1]
    assert ran.stop.reason is StopReason.FINISHED


def test_whoever_waits_for_an_interval_sleeps(tmp_path: Path) -> None:
    """Between the end of the deletion and the time of the lookup nobody asks for anything."""
    asked: list[int] = []

    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(0.5)
        asked.append(at_work.ledger.questions)
        assert at_work.pipeline.idles
        await asyncio.sleep(2.4)
        asked.append(at_work.ledger.questions)

    ran = run(tmp_path, persons(1), at_first(Kind.AMBIGUOUS), meanwhile=meanwhile)
    assert ran.counted == {"absent": 1}
    assert 6.0 <= ran.seconds <= 6.5
    assert asked[0] == asked[1]
    assert ran.questions < 60
    assert ran.idle_seconds == pytest.approx(6.0, abs=0.3)


def test_a_run_that_is_busy_is_never_idle(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(100), latency_seconds=2.0)
    assert ran.idle_seconds == 0.0


def test_a_stop_ends_the_waiting_for_a_lookup(tmp_path: Path) -> None:
    meanwhile = stops_after(1.0, SIGTERM)
    ran = run(tmp_path, persons(1), at_first(Kind.AMBIGUOUS), meanwhile=meanwhile)
    assert ran.stop == SIGTERM
    assert ran.seconds == pytest.approx(1.0, abs=0.01)
    assert ran.counted == {"unknown": 1}
    assert ran.waiting == 1


def test_a_clock_that_is_set_back_delays_nothing_for_long(tmp_path: Path) -> None:
    async def meanwhile(at_work: AtWork) -> None:
        await asyncio.sleep(1.0)
        at_work.clock.set_back(500.0)

    ran = run(tmp_path, persons(1), at_first(Kind.AMBIGUOUS), meanwhile=meanwhile)
    assert ran.counted == {"absent": 1}
    assert ran.seconds < 15.0


@pytest.mark.parametrize(
    ("useless", "times"),
    [
        (says(Kind.AMBIGUOUS, code="incomplete_answer", http_status=200), 5),
        (says(Kind.REFUSED), 1),
    ],
)
def test_lookups_that_bring_nothing_leave_the_rest_to_a_resume(
    tmp_path: Path, useless: Evidence, times: int
) -> None:
    ran = run(tmp_path, persons(3), at_first(Kind.AMBIGUOUS), lambda _r, _b: useless)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"unknown": 3}
    assert len(ran.service.lookups) == 3 * times
    assert ran.waiting == 0
    again = tmp_path / "again"
    answers = iter([useless] * times + [says(Kind.SHOWN)] * 2)
    ran = run(
        again,
        persons(1),
        at_first(Kind.AMBIGUOUS),
        lambda _r, _b: next(answers),
        verbs=(Verb.RUN, Verb.RESUME),
    )
    assert ran.counted == {"absent": 1}
    assert not ran.service.departures


def test_complete_answers_that_prove_nothing_hold_nobody(tmp_path: Path) -> None:
    """An account may answer about unknown persons in a form nobody has calibrated."""

    def answer(request: Request, before: int) -> Evidence:
        return says(Kind.AMBIGUOUS, code="incomplete_answer", http_status=200)

    ran = run(tmp_path, persons(200), answer, answer)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"unknown": 200}
    assert ran.seconds < 80


def test_verification_deletes_nothing(tmp_path: Path) -> None:
    ran = run(tmp_path, persons(5), look=all_there, verbs=(Verb.RUN, Verb.VERIFY))
    assert ran.counted == {"present": 5}
    assert {line.code for line in ran.lines} == {"reappeared"}
    assert len(ran.service.lookups) == 5
    assert not ran.service.departures


def test_a_new_round_sends_what_is_present_and_nothing_else(tmp_path: Path) -> None:
    def answer(request: Request, before: int) -> Evidence:
        stubborn = request.call_no == 0
        return says(Kind.LISTED) if stubborn else all_listed(request, before)

    ran = run(tmp_path, persons(5), answer, all_there, verbs=(Verb.RUN, Verb.RETRY))
    assert ran.counted == {"present": 1, "deleted": 4}
    assert len(ran.service.departures) == DEFAULT_RULES.max_attempts
    assert {request.call_no for _, request in ran.service.departures} == {0}


def test_refused_lookups_and_harmless_codes_do_not_trip_the_breaker(tmp_path: Path) -> None:
    unknown = run(
        tmp_path / "unknown",
        persons(100),
        at_first(Kind.REFUSED, code="404"),
        lambda _r, _b: says(Kind.NO_PERSON, code="404"),
        harmless_codes={"404"},
    )
    assert unknown.stop.reason is StopReason.FINISHED
    assert unknown.counted == {"no_person": 100}
    refused = run(
        tmp_path / "refused",
        persons(60),
        at_first(Kind.AMBIGUOUS, code="count_mismatch", http_status=200),
        lambda _r, _b: says(Kind.REFUSED),
    )
    assert refused.stop.reason is StopReason.FINISHED


def test_an_outage_of_lookups_alone_ends_the_run(tmp_path: Path) -> None:
    def answer(request: Request, before: int) -> Evidence:
        return says(Kind.AMBIGUOUS) if request.call_no == 0 else all_listed(request, before)

    ran = run(
        tmp_path,
        persons(50),
        answer,
        lambda _r, _b: says(Kind.NOT_SENT, code="connect_failed"),
        outage_limit_seconds=600,
    )
    assert ran.stop.reason is StopReason.OUTAGE
    assert ran.counted == {"deleted": 49, "unknown": 1}


def test_a_lane_with_little_to_do_takes_its_few_failures_for_no_outage(tmp_path: Path) -> None:
    """One person's lookups fail early, another's long after, and all the time faces are deleted."""

    def answer(request: Request, before: int) -> Evidence:
        if request.person_id in {"person0", "person1800"} and not before:
            return says(Kind.AMBIGUOUS, code="500", http_status=200)
        return all_listed(request, before)

    def look(request: Request, before: int) -> Evidence:
        if request.person_id == "person0":
            return says(Kind.AMBIGUOUS, code="500", http_status=200)
        return none_there(request, before)

    ran = run(tmp_path, persons(2000), answer, look, outage_limit_seconds=60.0)
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 1998, "absent": 1, "unknown": 1}


def stops_the_first_session() -> Meanwhile:
    stops = iter([SIGTERM])

    async def meanwhile(at_work: AtWork) -> None:
        stop = next(stops, None)
        if stop is not None:
            await asyncio.sleep(1.0)
            at_work.pipeline.stop(stop)

    return meanwhile


def test_a_time_to_wait_for_is_kept_over_sessions(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        persons(1),
        at_first(Kind.AMBIGUOUS),
        verbs=(Verb.RUN, Verb.RESUME),
        meanwhile=stops_the_first_session(),
    )
    assert ran.counted == {"absent": 1}
    # The deletion ended 0.95 s before the first session was stopped.
    first, _ = (time for time, _ in ran.service.lookups)
    assert first - 1000.0 == pytest.approx(3.0 - 0.95, abs=0.05)
    assert not ran.service.departures


def test_a_verification_leaves_what_was_never_sent(tmp_path: Path) -> None:
    meanwhile = stops_the_first_session()
    ran = run(tmp_path, persons(40), verbs=(Verb.RUN, Verb.VERIFY), meanwhile=meanwhile)
    assert ran.stop.reason is StopReason.FINISHED
    assert not ran.service.departures
    assert len(ran.service.lookups) == ran.counted["deleted"]
    assert ran.waiting == ran.counted["unsent"] > 0


def test_slow_lookups_keep_no_others_waiting(tmp_path: Path) -> None:
    """The first ones hang for a minute; what is unclear later is answered as soon as it may be."""
    slow = {f"person{number}" for number in range(10)}

    def answer(request: Request, before: int) -> Evidence:
        if request.person_id in slow or request.call_no % 50 == 49:
            return says(Kind.AMBIGUOUS, code="count_mismatch", http_status=200)
        return all_listed(request, before)

    def delays(request: Request) -> float:
        return 60.0 if request.step is Step.LOOKUP and request.person_id in slow else 0.0

    ran = run(tmp_path, persons(400), answer, delays=delays)
    assert ran.counted == {"deleted": 382, "absent": 18}
    for number in range(49, 400, 50):
        (sent,), (first, second) = departures_of(ran, f"person{number}")
        assert first - sent < 3.5
        assert second - first < 3.5


# Lanes


class Board:
    """A ledger that is a notice board: what waits for a step, and what a settled call lets go of."""

    def __init__(
        self, waiting: dict[Step, list[Call]], lets_go: dict[int, Call], lag_seconds: float = 0.0
    ) -> None:
        self._waiting = waiting
        self._lets_go = lets_go
        self._lag_seconds = lag_seconds
        self.settled: dict[int, float] = {}
        self._attempts = itertools.count(1)

    async def begin(
        self, steps: Sequence[Step], now_us: int, prepare: Callable[[Call], Request]
    ) -> Attempt | None:
        for step in steps:
            if self._waiting.get(step):
                call = self._waiting[step].pop(0)
                return Attempt(next(self._attempts), call, prepare(call))
        return None

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        due = any(self._waiting.get(step) for step in steps)
        await asyncio.sleep(self._lag_seconds)
        return 0 if due else None

    async def record(self, attempt_seq: int, call: Call, evidence: Evidence) -> Waiting | None:
        self.settled[call.call_no] = now()
        follower = self._lets_go.get(call.call_no)
        if follower is not None:
            self._waiting.setdefault(follower.step, []).append(follower)
        return None


def look_up(call_no: int) -> Call:
    return Call(call_no, f"p{call_no}", ("1",), ("s:1",), Step.LOOKUP)


def work_on(board: Board, *, concurrency: int = 9) -> Stop:
    async def main() -> Stop:
        pacers = Pacers(RATE, outage_limit_seconds=60, shared=False)
        pipeline = Pipeline(
            board, FakeService(pacers, all_listed), lanes_of(pacers, Verb.RUN), LoopClock(),
            Silence(), holds=None, concurrency=concurrency, grace_seconds=1,
        )  # fmt: skip
        return await pipeline.run()

    return run_virtually(main())


FOLLOWER = Call(99, "p0", ("2",), ("s:2",))
"""A deletion that cannot be claimed before call 0 is settled: both are of one person."""


@pytest.mark.parametrize("lag_seconds", [0.0, 0.01, 0.04, 0.2, 1.0])
def test_what_a_call_lets_go_of_is_not_forgotten(lag_seconds: float) -> None:
    """However old the answer is by which the supervisor thinks that nothing is left."""
    board = Board({Step.LOOKUP: [look_up(0)]}, {0: FOLLOWER}, lag_seconds)
    assert work_on(board) == Stop(StopReason.FINISHED)
    assert set(board.settled) == {0, 99}


def test_what_a_call_lets_go_of_in_a_quiet_lane_is_not_kept_until_the_busy_one_is_done() -> None:
    board = Board({Step.LOOKUP: [look_up(number) for number in range(90)]}, {0: FOLLOWER})
    assert work_on(board, concurrency=1) == Stop(StopReason.FINISHED)
    assert len(board.settled) == 91
    assert board.settled[99] - board.settled[0] < 1.5
    assert board.settled[89] - board.settled[0] > 4.0


@pytest.mark.parametrize(
    ("shared", "verb", "steps"),
    [
        (False, Verb.RUN, [["delete"], ["lookup", "verify"], ["remove"]]),
        (True, Verb.RUN, [["lookup", "delete", "remove", "verify"]]),
        (False, Verb.RESUME, [["delete"], ["lookup", "verify"], ["remove"]]),
        (False, Verb.RETRY, [["delete"], ["lookup", "verify"], ["remove"]]),
        (False, Verb.VERIFY, [["lookup", "verify"]]),
        (True, Verb.VERIFY, [["lookup", "verify"]]),
    ],
)
def test_one_lane_for_each_bucket_of_the_quota(
    *, shared: bool, verb: Verb, steps: list[list[str]]
) -> None:
    async def main() -> list[list[str]]:
        pacers = Pacers(RATE, outage_limit_seconds=60, shared=shared)
        return [[str(step) for step in lane.steps] for lane in lanes_of(pacers, verb)]

    assert run_virtually(main()) == steps


# Whole persons


def whole_person(number: int) -> Entry:
    return Entry(number, number + 2, "", f"whole{number}", "", "", "", "", whole=True)


def test_a_whole_person_is_looked_for_until_nothing_is_listed(tmp_path: Path) -> None:
    left = {"whole0": ["1", "2"], "whole1": ["3"]}

    def answer(request: Request, before: int) -> Evidence:
        left[request.person_id].clear()
        return all_listed(request, before)

    def look(request: Request, _: int) -> Evidence:
        return says(Kind.SHOWN, listed=tuple(left[request.person_id]))

    ran = run(tmp_path, [], answer, look, entries=[whole_person(0), whole_person(1)])
    assert ran.stop.reason is StopReason.FINISHED
    assert [(line.face_id, line.outcome) for line in ran.lines] == [
        ("1", "deleted"),
        ("2", "deleted"),
        ("", "person_empty"),
        ("3", "deleted"),
        ("", "person_empty"),
    ]


def test_the_record_of_a_person_goes_last_and_what_is_unclear_is_looked_up(
    tmp_path: Path,
) -> None:
    """All three operations, each in its own lane; the answer to the removal is lost."""
    left = {f"whole{number}": [f"{number}{n}" for n in range(3)] for number in range(30)}
    removed: set[str] = set()

    def answer(request: Request, before: int) -> Evidence:
        left[request.person_id].clear()
        return all_listed(request, before)

    def look(request: Request, _: int) -> Evidence:
        if request.step is Step.REMOVE:
            assert not left[request.person_id]
            removed.add(request.person_id)
            lost = request.call_no % 2
            return says(Kind.AMBIGUOUS if lost else Kind.REMOVED, code="c")
        if request.person_id in removed:
            return says(Kind.NO_PERSON)
        return says(Kind.SHOWN, listed=tuple(left[request.person_id]))

    ran = run(
        tmp_path,
        [],
        answer,
        look,
        rules=Rules(delete_person=True),
        entries=[whole_person(number) for number in range(30)],
    )
    assert ran.stop.reason is StopReason.FINISHED
    assert ran.counted == {"deleted": 90, "person_deleted": 30}
    assert removed == left.keys()
    steps = Counter(request.step for _, request in ran.service.lookups)
    # Found, seen empty; where the removal was unclear, looked for twice more.
    assert steps == {Step.LOOKUP: 30 + 30 + 2 * 15, Step.REMOVE: 30}


def test_the_limit_stops_before_more_is_deleted(tmp_path: Path) -> None:
    def look(request: Request, _: int) -> Evidence:
        return says(Kind.SHOWN, listed=(f"1{request.call_no}", f"2{request.call_no}"))

    ran = run(
        tmp_path, [], all_listed, look, entries=[whole_person(0), whole_person(1)], max_delete=1
    )
    assert ran.stop.reason is StopReason.LIMIT
    assert "--max-delete allows 1" in ran.stop.detail
    assert not ran.service.departures


# Any service whatsoever


class Library:
    """The server's truth behind answers that may be lost."""

    def __init__(self, seed: int, weights: list[int], has: dict[str, set[str]]) -> None:
        self._chance = random.Random(seed)
        self._weights = weights
        self.has = has
        self.applied: Counter[tuple[str, str]] = Counter()

    def _apply(self, request: Request, face_ids: Sequence[str]) -> None:
        self.applied.update((request.person_id, face_id) for face_id in face_ids)
        self.has[request.person_id] -= set(face_ids)

    def delete(self, request: Request, before: int) -> Evidence:
        kinds = [
            Kind.LISTED, Kind.REFUSED, Kind.THROTTLED, Kind.AGAIN, Kind.AMBIGUOUS, Kind.NOT_SENT,
        ]  # fmt: skip
        (kind,) = self._chance.choices(kinds, self._weights)
        assert set(request.face_ids) <= self.has[request.person_id], (
            "sent again although it is gone"
        )
        if kind is Kind.AMBIGUOUS and self._chance.random() < 0.5:
            self._apply(request, request.face_ids)
        if kind is Kind.LISTED:
            listed = tuple(f for f in request.face_ids if self._chance.random() < 0.8)
            self._apply(request, listed)
            return says(kind, listed=listed)
        return says(kind)

    def look(self, request: Request, before: int) -> Evidence:
        kinds = [Kind.SHOWN, Kind.AMBIGUOUS, Kind.THROTTLED, Kind.NOT_SENT]
        (kind,) = self._chance.choices(kinds, [6, 2, 1, 1])
        has = self.has[request.person_id]
        there = [f for f in request.face_ids or sorted(has) if f in has]
        return says(kind, listed=tuple(there) if kind is Kind.SHOWN else ())


NAMED = [(f"p{n % 25}", f"{n:04d}") for n in range(75)]
WHOLE = {f"whole{n}": {f"9{n}{m}" for m in range(n)} for n in range(5)}
"""Persons of whom everything is to go, with what the service has of them."""


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    weights=st.lists(st.integers(1, 5), min_size=6, max_size=6),
    latency_seconds=st.sampled_from([0.0, 0.05, 2.0]),
    concurrency=st.integers(1, 60),
    size=st.integers(1, 3),
    shared=st.booleans(),
    verify=st.sampled_from(["none", "all", "sample:5"]),
    stop_after=st.none() | st.floats(0.0, 20.0),
)
def test_whatever_the_service_does_the_books_tell_the_truth(
    *,
    seed: int,
    weights: list[int],
    latency_seconds: float,
    concurrency: int,
    size: int,
    shared: bool,
    verify: str,
    stop_after: float | None,
) -> None:
    has = {person_id: set(faces) for person_id, faces in WHOLE.items()}
    for person_id, face_id in NAMED:
        has.setdefault(person_id, set()).add(face_id)
    library = Library(seed, weights, has)
    meanwhile = None if stop_after is None else stops_after(stop_after, SIGTERM)
    with TemporaryDirectory() as directory:
        ran = run(
            Path(directory, "run"),
            NAMED,
            library.delete,
            library.look,
            entries=[whole_person(number) for number in range(5)],
            latency_seconds=latency_seconds,
            concurrency=concurrency,
            shared=shared,
            verify=verify,
            faces_per_call=size,
            grace_seconds=1.0,
            meanwhile=meanwhile,
        )
    assert len(ran.endings) == ran.attempts
    found = [line for line in ran.lines if line.person_id in WHOLE and line.face_id]
    assert sum(ran.counted.values()) == 75 + 5 + len(found)
    for line in ran.lines:
        there = line.face_id in has[line.person_id]
        match line.outcome:
            case "deleted" | "absent":
                assert not there
            case "refused" | "unsent" | "present" if line.face_id:
                assert there
            case "person_empty":
                assert not has[line.person_id]
            case outcome:
                assert outcome in {"unknown", "unsent", "present"}
    if ran.stop.reason is StopReason.FINISHED:
        assert "unsent" not in ran.counted
    else:
        assert ran.stop.reason in {StopReason.SIGTERM, StopReason.BREAKER}
