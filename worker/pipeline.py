"""The whole flow of a run: claim, attempt record, limit, send, verdict, record.

Identical loops work over the ledger, which is the only queue. Their number follows the latency:
whenever a pacing slot finds too few loops on their way behind it others start, and when the line
grows long a loop retires. A loop never raises for what the network or the service does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from worker.clock import Clock
from worker.departure import NotDeparted
from worker.errors import FacepurgeError, LedgerDamaged, LedgerFailed
from worker.model import Call, Evidence, Kind, Request, StopReason
from worker.pacing import Pacer

LONGEST_LINE = 4
"""Loops standing in line beyond which one more is of no use."""

NOTHING_APPLIED = frozenset({Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL})
"""Endings after which the same faces may be sent again."""

NO_FAILURE = frozenset({"stopped", "held", "outage"})
"""Codes of attempts that this program itself kept from leaving."""

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

BREAKER_WINDOW = 200
BREAKER_MINIMUM = 50
"""More than half of the last 200 complete answers refused, after at least 50: stop."""


class Ledger(Protocol):
    """What the pipeline writes; every method is durable when it returns."""

    async def claim(self) -> Call | None: ...

    async def open_attempt(self, request: Request, opened_us: int) -> int: ...

    async def record(
        self, attempt_seq: int, call_no: int, evidence: Evidence, *, settled: bool
    ) -> None: ...


class Service(Protocol):
    """The client of the service."""

    def prepare(self, call: Call) -> Request:
        """The request for a call, with a nonce never used before."""
        ...

    async def send(self, request: Request) -> Evidence:
        """Send it; raises nothing for what the network or the service does."""
        ...


class Holds(Protocol):
    """The exclusion list, looked at before each claim."""

    async def check(self) -> None:
        """Raises ``worker.errors.FacepurgeError`` when new calls must not be made."""
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


class Breaker:
    """Counts complete, definite answers only: transport errors and throttles never trip it."""

    def __init__(self) -> None:
        self._refused: deque[bool] = deque(maxlen=BREAKER_WINDOW)

    def saw(self, evidence: Evidence) -> bool:
        """Take note; True when the run should stop."""
        if evidence.kind in {Kind.REFUSED, Kind.LISTED}:
            self._refused.append(evidence.kind is Kind.REFUSED)
        return len(self._refused) >= BREAKER_MINIMUM and sum(self._refused) * 2 > len(self._refused)


class Pipeline:
    """Deletes everything the ledger still has to send.

    ``concurrency`` caps the loops; ``grace_seconds`` is how long calls in flight may take to finish
    after ``stop``.
    """

    def __init__(
        self,
        ledger: Ledger,
        service: Service,
        pacer: Pacer,
        clock: Clock,
        log: Log,
        *,
        holds: Holds | None,
        concurrency: int,
        grace_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._service = service
        self._pacer = pacer
        self._clock = clock
        self._log = log
        self._holds = holds
        self._concurrency = concurrency
        self._grace_seconds = grace_seconds
        self._breaker = Breaker()
        self._stop: Stop | None = None
        self._loops: asyncio.TaskGroup | None = None
        self._active: set[asyncio.Task[None]] = set()
        self.in_flight = 0

    async def run(self) -> Stop:
        """Work until nothing can be claimed, or until ``stop``; says why it ended."""
        failure: LedgerFailed | None = None
        try:
            async with asyncio.TaskGroup() as self._loops:
                self._pacer.starved = self._start_loops
                self._start_loops(LONGEST_LINE)
        except* LedgerFailed as failures:
            # All of them failed alike: after the first, the writer refuses every write.
            failure = next(e for e in failures.exceptions if isinstance(e, LedgerFailed))
        finally:
            self._loops = None
        if failure is not None:
            return Stop(StopReason.LEDGER, failure.cause, failure.remedy)
        return self._stop or Stop(StopReason.FINISHED)

    def stop(self, stop: Stop) -> None:
        """Begin no further call; what is in flight gets ``grace_seconds`` to be recorded.

        The first reason counts, except that something wrong found meanwhile outweighs a wish to
        stop. Must be called from the event loop's thread.
        """
        if self._stop is not None:
            if stop.reason in SOMETHING_IS_WRONG and self._stop.reason not in SOMETHING_IS_WRONG:
                self._stop = stop
            return
        self._stop = stop
        self._pacer.stop()
        asyncio.get_running_loop().call_later(self._grace_seconds, self._cancel_loops)

    def _cancel_loops(self) -> None:
        for loop in self._active:
            loop.cancel()

    def _start_loops(self, count: int) -> None:
        if self._loops is None or self._stop:
            return
        for _ in range(min(count, self._concurrency - len(self._active))):
            loop = self._loops.create_task(self._work())
            self._active.add(loop)
            loop.add_done_callback(self._active.discard)

    async def _work(self) -> None:
        try:
            while self._pacer.line < LONGEST_LINE or len(self._active) == 1:
                await self._pacer.clearance()
                if self._holds is not None:
                    await self._holds.check()
                call = await self._ledger.claim()
                if call is None:
                    return
                await self._attempt(call)
        except NotDeparted:
            if self._pacer.outage:
                self._stop_for_outage()
        except LedgerDamaged as damaged:
            self.stop(Stop(StopReason.DAMAGED, damaged.cause, damaged.remedy))
        except LedgerFailed:
            raise
        except FacepurgeError as error:
            self.stop(Stop(StopReason.HOLDS, error.cause, error.remedy))
        finally:
            self._pacer.withdraw()

    async def _attempt(self, call: Call) -> None:
        """Send a call once; what applied nothing waits for its next claim, under later holds."""
        request = self._service.prepare(call)
        attempt_seq = await self._ledger.open_attempt(request, self._clock.now_us())
        self.in_flight += 1
        try:
            evidence = await self._service.send(request)
        except asyncio.CancelledError:
            # Once it had its slot, whether it left is not certain any more. The write is queued
            # even while cancelled.
            kind = Kind.NOT_SENT if self._pacer.on_its_way else Kind.AMBIGUOUS
            evidence = Evidence(
                kind,
                self._clock.now_us(),
                code="cancelled",
                message="the run ended before an answer came",
            )
            settled = kind is Kind.AMBIGUOUS
            await self._ledger.record(attempt_seq, call.call_no, evidence, settled=settled)
            raise
        finally:
            self.in_flight -= 1
        settled = evidence.kind not in NOTHING_APPLIED
        await self._ledger.record(attempt_seq, call.call_no, evidence, settled=settled)
        self._log.attempt_ended(call, evidence)
        self._learn(evidence)

    def _learn(self, evidence: Evidence) -> None:
        """What one ending means for everybody."""
        sent_us = evidence.ended_us if evidence.sent_us is None else evidence.sent_us
        age_seconds = (evidence.ended_us - sent_us) / 1e6
        match evidence.kind:
            case Kind.THROTTLED:
                self._pacer.throttled(evidence.retry_after_seconds, age_seconds)
            case Kind.AMBIGUOUS:
                self._pacer.failed(age_seconds)
            case Kind.NOT_SENT if evidence.code not in NO_FAILURE:
                self._pacer.failed(age_seconds)
            case Kind.LISTED | Kind.REFUSED | Kind.AGAIN:
                self._pacer.answered()
        if evidence.kind in STOPS_THE_RUN:
            swapped = evidence.kind is Kind.SWAPPED
            reason = StopReason.SWAPPED if swapped else StopReason.FATAL
            self.stop(Stop(reason, f"{evidence.code}: {evidence.message}", evidence.remedy))
        elif self._breaker.saw(evidence):
            self.stop(
                Stop(
                    StopReason.BREAKER,
                    "more than half of the last answers were refusals, the latest with code"
                    f" {evidence.code}",
                    "read the codes in report/failures.csv; a wrong region, account or library"
                    " looks like this",
                )
            )
        elif self._pacer.outage:
            self._stop_for_outage()

    def _stop_for_outage(self) -> None:
        self.stop(
            Stop(
                StopReason.OUTAGE,
                "the service could not be used for longer than outage_limit_minutes",
                "the log and report/failures.csv say what came instead; go on when it is back",
            )
        )
