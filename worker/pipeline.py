"""The whole flow of a run: an attempt in the ledger, limit, send, verdict, record.

Identical loops work over the ledger, which is the only queue. Each bucket of the service's quota is
a lane with loops of its own: deletions in one, lookups in another. Their number follows the latency:
whenever a pacing slot finds too few loops on their way behind it others start, and when the line
grows long a loop retires. A loop never raises for what the network or the service does. What has to
wait, waits in the ledger with a time before which it is not claimed, and keeps nobody from working.

A pause, another rate and a stop count for all lanes, from the next call on. A pause leaves nothing
unclear: what has departed is answered and recorded, and nothing else departs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Protocol

from worker.clock import Clock
from worker.departure import NotDeparted
from worker.errors import FacepurgeError, LedgerDamaged, LedgerFailed, LimitReached
from worker.model import Attempt, Call, Evidence, Kind, Request, Step, StopReason, Waiting
from worker.pacing import Pacer

LONGEST_LINE = 4
"""Loops standing in line beyond which one more is of no use."""

LOOK_AGAIN_SECONDS = 1.0
"""While loops work, the supervisor looks at the ledger at least this often: a call that is settled
may let go of another one of its person, in a lane whose loops are gone or wait for answers."""

AT_ONCE_SECONDS = 0.1
"""For a stop at once: time for what has not departed to say so, which spares it a lookup."""

NO_FAILURE = frozenset({"stopped", "held"})
"""Codes of attempts that this program itself kept from leaving."""

ANSWERED_ALL_THE_SAME = frozenset({"incomplete_answer", "contradictory_answer", "count_mismatch"})
"""Codes of complete answers of the service that prove nothing: what they are about is unclear, but the
service is there, and nobody has to be held."""

STOPS_THE_RUN = frozenset({Kind.FATAL, Kind.SWAPPED})

SOMETHING_IS_WRONG = frozenset(
    {
        StopReason.FATAL,
        StopReason.SWAPPED,
        StopReason.BREAKER,
        StopReason.HOLDS,
        StopReason.DAMAGED,
    }
)
"""What a person must hear about even when the run was being stopped already."""

BY_SIGNAL = frozenset({StopReason.SIGINT, StopReason.SIGTERM, StopReason.SIGHUP})

BREAKER_WINDOW = 200
BREAKER_MINIMUM = 50
"""More than half of the last 200 complete answers refused, after at least 50: stop."""


class Ledger(Protocol):
    """What the pipeline writes; every method is durable when it returns."""

    async def begin(
        self, steps: Sequence[Step], now_us: int, prepare: Callable[[Call], Request]
    ) -> Attempt | None:
        """An attempt at the next call that is due for one of ``steps``; None for none at present.

        ``prepare`` makes its request; it may run on another thread. An attempt whose caller is
        cancelled meanwhile counts as one that was not sent. Raises ``LedgerDamaged`` and
        ``LimitReached`` when nothing more may be claimed.
        """
        ...

    async def due(self, steps: Sequence[Step], now_us: int) -> int | None:
        """When the next call that waits for one of ``steps`` may be claimed; None for none."""
        ...

    async def record(self, attempt_seq: int, call: Call, evidence: Evidence) -> Waiting | None:
        """Write how it ended; returns what the call waits for now."""
        ...


class Service(Protocol):
    """The client of the service."""

    def prepare(self, call: Call) -> Request:
        """The request for a call, with a nonce never used before; from one thread."""
        ...

    async def send(self, request: Request) -> Evidence:
        """Send it; raises nothing for what the network or the service does."""
        ...


class Holds(Protocol):
    """The exclusion list, looked at before each claim."""

    async def check(self) -> None:
        """Raises ``worker.errors.FacepurgeError`` when new calls must not be made."""
        ...


class Watch(Protocol):
    """Looks at what a run brings while it works, and may end it or let it go further."""

    async def look(self, call: Call | None) -> Stop | bool:
        """``call`` is settled; None when nothing is left that may be claimed at present.

        Returns why the run has to end, otherwise whether more may be claimed now than before.
        """
        ...


class Log(Protocol):
    """Where the pipeline tells what happened; it is never told IDs."""

    def attempt_ended(self, call: Call, evidence: Evidence) -> None: ...


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the pipeline ended."""

    reason: StopReason
    detail: str = ""
    """A sentence with the cause, and the remedy where there is one."""
    remedy: str = ""
    at_once: bool = False
    """Whether the calls in flight are not waited for; what became of them is settled on resume."""


class Breaker:
    """Counts complete, definite answers only: transport errors and throttles never trip it.

    Refusals with one of ``harmless_codes`` count as good answers.
    """

    def __init__(self, harmless_codes: Container[str] = ()) -> None:
        self._harmless_codes = harmless_codes
        self._refused: deque[bool] = deque()
        self._refusals = 0

    def saw(self, evidence: Evidence) -> bool:
        """Take note; True when the run should stop."""
        if evidence.kind in {Kind.REFUSED, Kind.LISTED}:
            harmful = evidence.code not in self._harmless_codes
            self._refused.append(evidence.kind is Kind.REFUSED and harmful)
            self._refusals += self._refused[-1]
            if len(self._refused) > BREAKER_WINDOW:
                self._refusals -= self._refused.popleft()
        return len(self._refused) >= BREAKER_MINIMUM and self._refusals * 2 > len(self._refused)


class Lane:
    """What shares one bucket of the service's quota: its pacer, its steps, its loops."""

    def __init__(self, pacer: Pacer, steps: Sequence[Step]) -> None:
        """``steps`` in the order in which they are claimed."""
        self.pacer = pacer
        self.steps = tuple(steps)
        self.loops: set[asyncio.Task[None]] = set()
        self.in_flight = 0

    @property
    def loops_at_hand(self) -> int:
        """Loops that are not waiting for an answer."""
        return len(self.loops) - self.in_flight + self.pacer.line


class Pipeline:
    """Does everything the ledger still has to do for the steps of its lanes.

    ``concurrency`` caps the loops of each lane; ``grace_seconds`` is how long calls in flight may
    take to finish after ``stop``. Refusals with one of ``harmless_codes`` do not count towards the
    breaker.
    """

    def __init__(
        self,
        ledger: Ledger,
        service: Service,
        lanes: Sequence[Lane],
        clock: Clock,
        log: Log,
        *,
        holds: Holds | None,
        concurrency: int,
        grace_seconds: float,
        harmless_codes: Container[str] = (),
        watches: Sequence[Watch] = (),
    ) -> None:
        self._ledger = ledger
        self._service = service
        self._lanes = lanes
        self._clock = clock
        self._log = log
        self._holds = holds
        self._concurrency = concurrency
        self._grace_seconds = grace_seconds
        self._breaker = Breaker(harmless_codes)
        self._watches = watches
        self._stop: Stop | None = None
        self._pauses: dict[str, None] = {}
        self._group: asyncio.TaskGroup | None = None
        self._moved = asyncio.Event()
        self.idle_seconds = 0.0
        """How long nothing could be done but wait for the time of a lookup."""
        self.idles = False

    @property
    def in_flight(self) -> int:
        """Attempts that are on their way."""
        return sum(lane.in_flight for lane in self._lanes)

    @property
    def calls_out(self) -> int:
        """Calls that have departed and of which no end is recorded yet."""
        return sum(lane.pacer.out for lane in self._lanes)

    @property
    def rate_allowed_per_second(self) -> float:
        """The least that a lane is held to at present: as set, or less after throttles."""
        return min(lane.pacer.rate_allowed_per_second for lane in self._lanes)

    @property
    def stopping(self) -> bool:
        """Whether no further call begins, and those in flight are being finished."""
        return self._stop is not None

    @property
    def pauses(self) -> Sequence[str]:
        """What keeps the run paused, the first first; nothing while it works."""
        return tuple(self._pauses)

    async def run(self) -> Stop:
        """Work until nothing is left to claim, or until ``stop``; says why it ended."""
        failure: LedgerFailed | None = None
        try:
            async with asyncio.TaskGroup() as self._group:
                for lane in self._lanes:
                    lane.pacer.starved = partial(self._start_loops, lane)
                await self._supervise()
        except* LedgerFailed as failures:
            # All of them failed alike: after the first, the writer refuses every write.
            failure = next(e for e in failures.exceptions if isinstance(e, LedgerFailed))
        finally:
            self._group = None
        if failure is not None:
            return Stop(StopReason.LEDGER, failure.cause, failure.remedy)
        return self._stop or Stop(StopReason.FINISHED)

    async def _supervise(self) -> None:
        """Start loops in the lanes in which something is due, until nothing waits any more."""
        while self._stop is None:
            self._moved.clear()
            now_us = self._clock.now_us()
            later: list[float] = []
            for lane in self._lanes:
                due_us = await self._ledger.due(lane.steps, now_us)
                if due_us is None:
                    continue
                if due_us > now_us:
                    later.append((due_us - now_us) / 1e6 + 0.001)
                else:
                    self._start_loops(lane, LONGEST_LINE - lane.loops_at_hand)
            if any(lane.loops for lane in self._lanes):
                later.append(LOOK_AGAIN_SECONDS)
            if later:
                await self._wait(min(later))
            elif not self._moved.is_set() and not await self._look(None):
                # A loop that ended since may have let go of something in a lane looked at before.
                return

    async def _look(self, call: Call | None) -> bool:
        """Show the watches that ``call`` is settled, or that nothing is left; True if that changes."""
        changed = False
        for watch in self._watches:
            seen = await watch.look(call)
            if isinstance(seen, Stop):
                self.stop(seen)
            changed |= seen is not False
        if changed:
            self._moved.set()
        return changed

    async def _wait(self, seconds: float) -> None:
        """Until a loop ended, there is work for a lane without loops, or ``seconds`` have passed."""
        began = asyncio.get_running_loop().time()
        self.idles = not any(lane.loops for lane in self._lanes) and not self._pauses
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            pass
        if self.idles:
            self.idle_seconds += asyncio.get_running_loop().time() - began
            self.idles = False

    def pause(self, why: str) -> None:
        """Begin no further call until every reason to pause is taken back; those in flight go on.

        ``why`` is a word: ``order``, ``file``, ``window``. As for ``stop``, only from the event
        loop's thread.
        """
        self._pauses[why] = None
        for lane in self._lanes:
            lane.pacer.pause()

    def unpause(self, why: str) -> None:
        """Take one reason to pause back; with the last of them calls go on."""
        self._pauses.pop(why, None)
        if not self._pauses:
            for lane in self._lanes:
                lane.pacer.unpause()

    def set_rate(self, rate_per_second: float) -> None:
        """Let each lane make this many calls a second, from its next call on."""
        for lane in self._lanes:
            lane.pacer.set_rate(rate_per_second)

    def stop(self, stop: Stop) -> None:
        """Begin no further call; what is in flight gets ``grace_seconds`` to be recorded.

        The first reason counts, except that something wrong found meanwhile outweighs a wish to
        stop. Must be called from the event loop's thread.
        """
        if self._stop is not None:
            if _weight(stop.reason) > _weight(self._stop.reason):
                self._stop = stop
            return
        self._stop = stop
        for lane in self._lanes:
            lane.pacer.stop()
        self._moved.set()
        grace_seconds = AT_ONCE_SECONDS if stop.at_once else self._grace_seconds
        asyncio.get_running_loop().call_later(grace_seconds, self._cancel_loops)

    def _cancel_loops(self) -> None:
        for lane in self._lanes:
            for loop in lane.loops:
                loop.cancel()

    def _start_loops(self, lane: Lane, count: int) -> None:
        if self._group is None or self._stop:
            return
        for _ in range(min(count, self._concurrency - len(lane.loops))):
            loop = self._group.create_task(self._work(lane))
            lane.loops.add(loop)
            loop.add_done_callback(partial(self._loop_ended, lane))

    def _loop_ended(self, lane: Lane, loop: asyncio.Task[None]) -> None:
        lane.loops.discard(loop)
        self._moved.set()

    async def _work(self, lane: Lane) -> None:
        pacer = lane.pacer
        try:
            while pacer.line < LONGEST_LINE or len(lane.loops) == 1:
                await pacer.clearance()
                if self._holds is not None:
                    await self._holds.check()
                attempt = await self._ledger.begin(
                    lane.steps, self._clock.now_us(), self._service.prepare
                )
                if attempt is None:
                    return
                await self._attempt(lane, attempt)
        except NotDeparted:
            if pacer.outage:
                self._stop_for_outage()
        except LedgerDamaged as damaged:
            self.stop(Stop(StopReason.DAMAGED, damaged.cause, damaged.remedy))
        except LimitReached as limit:
            self.stop(Stop(StopReason.LIMIT, limit.cause, limit.remedy))
        except LedgerFailed:
            raise
        except FacepurgeError as error:
            self.stop(Stop(StopReason.HOLDS, error.cause, error.remedy))
        finally:
            pacer.withdraw()

    async def _attempt(self, lane: Lane, attempt: Attempt) -> None:
        """Send a call once; whatever it waits for then, it waits for in the ledger."""
        attempt_seq, call, request = attempt
        lane.in_flight += 1
        try:
            evidence = await self._service.send(request)
        except asyncio.CancelledError:
            # Once it had its slot, whether it left is not certain any more. The write is queued
            # even while cancelled.
            evidence = Evidence(
                Kind.NOT_SENT if lane.pacer.on_its_way else Kind.AMBIGUOUS,
                self._clock.now_us(),
                code="cancelled",
                message="the run ended before an answer came",
            )
            await self._ledger.record(attempt_seq, call, evidence)
            raise
        finally:
            lane.in_flight -= 1
        waiting = await self._ledger.record(attempt_seq, call, evidence)
        if waiting is not None and not self._is_worked_on(waiting.step):
            self._moved.set()
        self._log.attempt_ended(call, evidence)
        self._learn(lane.pacer, call, evidence)
        if waiting is None and self._watches:
            await self._look(call)

    def _is_worked_on(self, step: Step) -> bool:
        return any(lane.loops for lane in self._lanes if step in lane.steps)

    def _learn(self, pacer: Pacer, call: Call, evidence: Evidence) -> None:
        """What one ending means for everybody."""
        sent_us = evidence.ended_us if evidence.sent_us is None else evidence.sent_us
        age_seconds = (evidence.ended_us - sent_us) / 1e6
        match evidence.kind:
            case Kind.THROTTLED:
                pacer.throttled(evidence.retry_after_seconds, age_seconds)
            case Kind.AMBIGUOUS if _is_an_answer(evidence):
                pacer.answered()
            case Kind.AMBIGUOUS:
                pacer.failed(age_seconds)
            case Kind.NOT_SENT if evidence.code not in NO_FAILURE:
                pacer.failed(age_seconds)
            case (
                Kind.LISTED | Kind.SHOWN | Kind.NO_PERSON | Kind.REMOVED | Kind.REFUSED | Kind.AGAIN
            ):
                pacer.answered()
        if evidence.kind in STOPS_THE_RUN:
            swapped = evidence.kind is Kind.SWAPPED
            reason = StopReason.SWAPPED if swapped else StopReason.FATAL
            self.stop(Stop(reason, f"{evidence.code}: {evidence.message}", evidence.remedy))
        elif call.step is Step.DELETE and self._breaker.saw(evidence):
            self.stop(
                Stop(
                    StopReason.BREAKER,
                    "more than half of the last answers were refusals, the latest with code"
                    f" {evidence.code}",
                    "read the codes in report/failures.csv; a wrong region, account or library"
                    " looks like this",
                )
            )
        elif pacer.outage:
            self._stop_for_outage()

    def _stop_for_outage(self) -> None:
        self.stop(
            Stop(
                StopReason.OUTAGE,
                "the service could not be used for longer than outage_limit_minutes",
                "the log and report/failures.csv say what came instead; go on when it is back",
            )
        )


def _weight(reason: StopReason) -> int:
    """Which of two reasons to stop is told, where both apply."""
    return 2 if reason in SOMETHING_IS_WRONG else int(reason in BY_SIGNAL)


def _is_an_answer(evidence: Evidence) -> bool:
    return evidence.http_status == HTTPStatus.OK and evidence.code in ANSWERED_ALL_THE_SAME
