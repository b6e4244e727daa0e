"""One life of the program on a run: what ``facepurge run``, ``resume``, ``retry`` or ``verify`` does.

The same parts, put together in the same order as in ``worker.cli.purge``; only clock, randomness,
transport, credentials and the writer's disk are simulated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from tests.simulation.claims import Claims
from tests.simulation.clocks import WorkerClock
from tests.simulation.departures import Departures
from tests.simulation.disk import SimulatedWriter
from tests.simulation.event_log import EventLog
from tests.simulation.fate import Fate
from tests.simulation.keys import KeyHolder, SimulatedChain
from tests.simulation.network import Network, SimulatedTransport
from tests.simulation.simulated_loop import now_seconds
from tests.simulation.warrant import Warrant
from worker.cli.purge import lanes_of, rules_of
from worker.errors import FacepurgeError, LedgerFailed
from worker.green.client import GreenClient
from worker.green.endpoint import Endpoint
from worker.holds import Grammar, HoldWatch
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter, Write
from worker.model import Attempt, Call, Evidence, Request, Step, StopReason, Verb, Waiting
from worker.pacing import Pacers
from worker.pipeline import Lane, Pipeline, Stop
from worker.settings import Settings

ENDPOINT = Endpoint(
    "https://green.cn-shanghai.aliyuncs.com", "green.cn-shanghai.aliyuncs.com", loopback=False
)

START_SECONDS = 0.4
"""What an interpreter takes before the first call of a life."""

MOST_CLAIMS = 20_000
"""More than any simulated run can need: whoever asks for more goes round in circles."""


class WentRound(Exception):
    """A loop of the program that does nothing but go on."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process finds where it starts."""

    run: str
    directory: Path
    network: Network
    keys: KeyHolder
    log: EventLog
    claims: Claims
    departures: Departures
    warrant: Warrant
    seen: Counter[str]
    """What befell processes, by kind."""


class _WatchedLedger:
    """The ledger as the pipeline uses it; after each record its claims are held against the truth."""

    def __init__(self, ledger: Ledger, process: Process) -> None:
        self._ledger = ledger
        self._process = process
        self._asked = 0

    async def begin(
        self, steps: Sequence[Step], now_us: int, prepare: Callable[[Call], Request]
    ) -> Attempt | None:
        self._count()
        attempt = await self._ledger.begin(steps, now_us, prepare)
        if attempt is not None:
            self._process.opened(attempt.request)
        return attempt

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        self._count()
        return await self._ledger.due(steps, now_us)

    def _count(self) -> None:
        self._asked += 1
        if self._asked > MOST_CLAIMS:
            raise WentRound(f"more than {MOST_CLAIMS} claims")

    async def record(self, attempt_seq: int, call: Call, evidence: Evidence) -> Waiting | None:
        waiting = await self._ledger.record(attempt_seq, call, evidence)
        self._process.recorded(attempt_seq, call, evidence, waiting)
        return waiting


class _WatchedPipeline(Pipeline):
    """Notes when it was told to stop."""

    stopped_seconds: float | None = None

    def stop(self, stop: Stop) -> None:
        if self.stopped_seconds is None:
            self.stopped_seconds = now_seconds()
        super().stop(stop)


class _Untold:
    """A log that is not kept: everything is in the event log."""

    def attempt_ended(self, call: Call, evidence: Evidence) -> None:
        pass


class Process:
    """Implements ``tests.simulation.network.Sender``."""

    def __init__(
        self,
        surroundings: Surroundings,
        settings: Settings,
        verb: Verb,
        fate: Fate,
        random: Random,
    ) -> None:
        self._at = surroundings
        self.settings = settings
        self._verb = verb
        self._fate = fate
        self._random = random
        self._pipeline: _WatchedPipeline | None = None
        self._signalled: Stop | None = None
        self._writer: SimulatedWriter | None = None
        self._main: asyncio.Task[Stop] | None = None
        self.run = surroundings.run
        self.alive = True
        self.died = False
        self.clock = WorkerClock(fate.clock_ahead_seconds)

    async def live(self) -> Stop | None:
        """Why it ended; None where it died."""
        self._say(f"starts to {self._verb}")
        if self._fate.clock_ahead_seconds:
            self._at.seen["clock-off"] += 1
        await asyncio.sleep(START_SECONDS)
        self._main = asyncio.create_task(self._work())
        timers = self._arm()
        await asyncio.wait({self._main})
        self.alive = False
        for timer in timers:
            timer.cancel()
        if self.died:
            if not self._main.cancelled():
                self._main.exception()
            return None
        stop = self._main.result()
        self._say(f"ends: {stop.reason} {stop.detail}")
        return stop

    def _say(self, what: str) -> None:
        self._at.log.note(self.run, what)

    # What befalls it

    def _arm(self) -> list[asyncio.TimerHandle]:
        fate, later = self._fate, asyncio.get_running_loop().call_later
        timers = [later(after, self._jump, by) for after, by in fate.clock_jumps]
        if fate.dies_after_seconds is not None:
            timers.append(later(fate.dies_after_seconds, self._die, "killed"))
        if fate.signal is not None:
            timers.append(later(fate.signal_after_seconds, self._signal, fate.signal))
            if fate.second_signal_after_seconds is not None:
                second = fate.signal_after_seconds + fate.second_signal_after_seconds
                timers.append(later(second, self._die, "second-signal"))
        return timers

    def _jump(self, seconds: float) -> None:
        self._at.seen["clock-jump"] += 1
        self._say(f"clock jumps by {seconds}")
        self.clock.jump(seconds)

    def _signal(self, reason: StopReason) -> None:
        self._at.seen[str(reason)] += 1
        self._say(f"{reason}")
        self._signalled = Stop(reason)
        if self._pipeline is not None:
            self._pipeline.stop(self._signalled)

    def _die(self, how: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self.died = True
        self._at.seen[how] += 1
        self._say(f"dies: {how}")
        if self._writer is not None:
            self._writer.dead = True
        if self._main is not None:
            self._main.cancel()

    # What it does

    async def _work(self) -> Stop:
        try:
            return await self._carry_out()
        except LedgerFailed as failed:
            return Stop(StopReason.LEDGER, failed.cause)
        except FacepurgeError as refused:
            return Stop(StopReason.HOLDS, refused.cause)

    async def _carry_out(self) -> Stop:
        settings, clock, directory = self.settings, self.clock, self._at.directory
        books = LedgerBooks(open_ledger(directory, read_only=True, checked=True))
        try:
            sessions, known_holds = books.sessions(), books.holds()
        finally:
            books.close()
        connection = open_ledger(directory, checked=True)
        connection.execute("PRAGMA synchronous = OFF")
        ledger = Ledger(
            connection, self._make_writer, rules=rules_of(settings), max_delete=settings.max_delete
        )
        try:
            await ledger.close_open_attempts(clock.now_us())
            if self._verb in (Verb.RUN, Verb.RESUME) and await ledger.is_finished():
                if not sessions or sessions[-1].stop_reason is not StopReason.FINISHED:
                    await ledger.begin_session(self._verb, clock.now_us())
                    await ledger.end_session(clock.now_us(), StopReason.FINISHED, "", {})
                return Stop(StopReason.FINISHED)
            holds = None
            if settings.exclude_from:
                grammar = Grammar(settings.person_id_pattern, settings.face_id_pattern)
                holds = HoldWatch(Path(settings.exclude_from), known_holds, ledger, grammar)
                await holds.check()
            pacers = Pacers(
                settings.rate_per_second,
                outage_limit_seconds=settings.outage_limit_minutes * 60,
                shared=settings.shared_quota,
            )
            lanes = lanes_of(pacers, self._verb)
            pipeline = self._pipeline = self._make_pipeline(ledger, pacers, lanes, holds)
            if self._signalled is not None:
                pipeline.stop(self._signalled)
            await ledger.begin_session(self._verb, clock.now_us(), verify=settings.verify)
            stop = await pipeline.run()
            if stop.reason is not StopReason.LEDGER:
                await ledger.close_open_attempts(clock.now_us())
                await ledger.end_session(clock.now_us(), stop.reason, stop.detail, {})
            return stop
        finally:
            await ledger.close()

    def _make_writer(self, connection: apsw.Connection, last: Write[None]) -> SimulatedWriter:
        self._writer = SimulatedWriter(
            InlineWriter(connection, last),
            self._fate.disk,
            lambda: self._die("killed-at-commit"),
            self._disk_struck,
        )
        return self._writer

    def _disk_struck(self, deed: str) -> None:
        self._say(f"disk: {deed}")
        self._at.seen[deed] += 1

    def _make_pipeline(
        self, ledger: Ledger, pacers: Pacers, lanes: Sequence[Lane], holds: HoldWatch | None
    ) -> _WatchedPipeline:
        settings = self.settings
        client = GreenClient.configured(
            settings,
            transport=SimulatedTransport(self._at.network, self),
            endpoint=ENDPOINT,
            credentials=SimulatedChain(self._at.keys, stale=self._fate.stale_credentials),
            clock=self.clock,
            randomness=self._random,
            departures=pacers.of,
        )
        not_found_codes = rules_of(settings).not_found_codes
        return _WatchedPipeline(
            _WatchedLedger(ledger, self),
            client,
            lanes,
            self.clock,
            _Untold(),
            holds=holds,
            concurrency=settings.concurrency,
            grace_seconds=settings.grace_seconds,
            harmless_codes=not_found_codes if settings.treat_no_person_as_absent else (),
        )

    # What it is seen to do

    def opened(self, request: Request) -> None:
        """An attempt was written, and is about to be sent."""
        self._at.warrant.check_holds(request.operation, request.person_id, request.face_ids)

    def departed(self, nonce: str, path: str, body: bytes) -> None:
        stopped = self._pipeline.stopped_seconds if self._pipeline is not None else None
        self._at.departures.note(nonce, path, body, stopped_seconds=stopped)

    def recorded(
        self, attempt_seq: int, call: Call, evidence: Evidence, waiting: Waiting | None
    ) -> None:
        """An ending is on the disk."""
        if evidence.code == "cancelled":
            self._at.seen["grace-expired"] += 1
        self._say(
            f"#{attempt_seq} {call.step} {call.person_id} {evidence.kind} {evidence.code}"
            f" {len(evidence.listed)}/{len(call.face_ids)} then {waiting.step if waiting else '-'}"
        )
        self._at.claims.examine(call.call_no)
