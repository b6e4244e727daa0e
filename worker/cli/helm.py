"""The process at work under orders: it takes what others have asked for, and says how it is."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from worker.cli.progress import Progress
from worker.clock import Clock
from worker.errors import FacepurgeError, LedgerFailed
from worker.limits import check_rate
from worker.model import StopReason
from worker.orders import Ask, Condition, Order, Pulse, Taken
from worker.pipeline import Pipeline, Stop
from worker.settings import Settings
from worker.telemetry import get_log

LOOK_SECONDS: Final = 0.1
"""From one look for orders to the next; a look writes nothing."""

BEAT_SECONDS: Final = 1.0
"""No more often is the pulse written, and only when something has changed..."""
QUIET_SECONDS: Final = 10.0
"""...but at least this often, so that a process that hangs is found out."""

ORDERED = "order"
"""The reason of a pause that was ordered, among those that the pipeline may have."""


class OrderBook(Protocol):
    """Where orders come from, and where it is written what became of them."""

    async def new_orders(self, after_seq: int) -> Sequence[Order]: ...

    async def accept(self, order: Order, now_us: int) -> bool: ...

    async def note_taken(self, order: Order, taken: Taken) -> None: ...

    async def beat(self, pulse: Pulse) -> None: ...


class Helm:
    """Steers one pipeline by the orders of its session."""

    def __init__(
        self,
        book: OrderBook,
        pipeline: Pipeline,
        gauge: Callable[[], Progress],
        clock: Clock,
        *,
        settings: Settings,
        run_dir: str,
    ) -> None:
        """``settings`` are those of the session; ``run_dir`` is named in remedies."""
        self._book = book
        self._pipeline = pipeline
        self._gauge = gauge
        self._clock = clock
        self._settings = settings
        self._run_dir = shlex.quote(run_dir)
        self._rate_per_second = settings.rate_per_second
        self._seen = 0
        self._pulse: Pulse | None = None

    async def follow(self) -> None:
        """Take orders as they come and keep the pulse fresh, until cancelled."""
        with suppress(LedgerFailed):  # the pipeline reports it
            while True:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take what has been ordered since the last look; then beat, when it is time to."""
        for order in await self._book.new_orders(self._seen):
            self._seen = order.seq
            # Who has given it may have waited too long, and been told that it will not be taken.
            if not await self._book.accept(order, self._clock.now_us()):
                get_log().info(f"order {order.ask} was withdrawn", by=order.given_by)
                continue
            taken = self._take(order)
            tell = get_log().warning if taken.refused else get_log().info
            tell(f"order {order.ask}", by=order.given_by, said=taken.said)
            await self._book.note_taken(order, taken)
            self._pulse = None
        await self._beat()

    # Orders

    def _take(self, order: Order) -> Taken:
        """Do what is asked, at once."""
        now_us = self._clock.now_us()
        if self._pipeline.stopping:
            return Taken(
                now_us,
                "the run is stopping already, and takes no other order",
                f"wait for its end, then go on with: facepurge resume {self._run_dir}",
                refused=True,
            )
        try:
            return Taken(now_us, self._obey(order))
        except FacepurgeError as refused:
            return Taken(
                now_us,
                refused.cause,
                "give a lower rate; where Alibaba Cloud has raised the quota of this account, stop"
                f" the run and go on with: facepurge resume {self._run_dir} --raised-quota",
                refused=True,
            )

    def _obey(self, order: Order) -> str:
        match order.ask:
            case Ask.PAUSE:
                return self._pause()
            case Ask.UNPAUSE:
                return self._unpause()
            case Ask.RATE:
                return self._set_rate(order.rate_per_second or 0.0)
            case Ask.STOP:
                detail = f"it was told to stop by {order.given_by}"
                self._pipeline.stop(Stop(StopReason.REQUEST, detail))
                return f"stopping: no further call begins; {self._in_flight()}"

    def _pause(self) -> str:
        before = self._pipeline.pauses
        self._pipeline.pause(ORDERED)
        if ORDERED in before:
            return f"it was paused already; {self._in_flight()}"
        return f"paused; {self._in_flight()}"

    def _unpause(self) -> str:
        before = self._pipeline.pauses
        self._pipeline.unpause(ORDERED)
        if still := ", ".join(self._pipeline.pauses):
            if ORDERED in before:
                return f"the order to pause is lifted; still paused by: {still}"
            return f"no order to pause was in force, so none is lifted; paused by: {still}"
        if not before:
            return "it was not paused"
        return f"unpaused; calls go on at {self._rate_per_second:g} calls/s"

    def _set_rate(self, rate_per_second: float) -> str:
        # No more than this: calls wait meanwhile.
        check_rate(rate_per_second, raised_quota=self._settings.raised_quota, where="rate")
        before, self._rate_per_second = self._rate_per_second, rate_per_second
        self._pipeline.set_rate(rate_per_second)
        said = f"the rate is {rate_per_second:g} calls/s from the next call on (it was {before:g})"
        # It limits the batch's own calls; what is reserved for others stays reserved.
        reserve = self._settings.reserve_per_second
        most = self._settings.rate_per_second - reserve
        if reserve and rate_per_second > most:
            said += (
                f", but the reserve leaves it {most:g} of this session's"
                f" {self._settings.rate_per_second:g} calls/s, whatever is ordered"
            )
        allowed = self._pipeline.rate_allowed_per_second
        if allowed < (min(rate_per_second, most) if reserve else rate_per_second):
            cause = "throttles or the reserve" if reserve else "throttles"
            said += f", and {allowed:.3g} at present, because of {cause}"
        if self._pipeline.pauses:
            said += f"; it is paused by: {', '.join(self._pipeline.pauses)}"
        return said

    def _in_flight(self) -> str:
        calls = self._pipeline.calls_out
        if not calls:
            return "no call is in flight"
        return f"{calls:,} {'call' if calls == 1 else 'calls'} in flight being finished"

    # The pulse

    @property
    def _condition(self) -> Condition:
        if self._pipeline.stopping:
            return Condition.DRAINING
        return Condition.PAUSED if self._pipeline.pauses else Condition.RUNNING

    async def _beat(self) -> None:
        last, now_us = self._pulse, self._clock.now_us()
        if last is not None and last.condition is self._condition:
            seconds = (now_us - last.beat_us) / 1e6
            # The clock may have been set back: then it is time as well.
            if 0 <= seconds < BEAT_SECONDS:
                return
            pulse = self._feel(now_us)
            same = replace(pulse, beat_us=last.beat_us, ends_us=last.ends_us) == last
            if same and 0 <= seconds < QUIET_SECONDS:
                return
        self._pulse = self._feel(now_us)
        await self._book.beat(self._pulse)

    def _feel(self, now_us: int) -> Pulse:
        progress = self._gauge()
        left_us = None if progress.eta_seconds is None else round(progress.eta_seconds * 1e6)
        return Pulse(
            condition=self._condition,
            waiting=progress.waiting,
            paused_by=", ".join(self._pipeline.pauses),
            rate_now_per_second=round(progress.rate_per_second, 2),
            mean_rate_per_second=round(progress.mean_rate_per_second, 2),
            rate_configured_per_second=self._rate_per_second,
            rate_allowed_per_second=round(self._pipeline.rate_allowed_per_second, 2),
            calls_in_flight=self._pipeline.calls_out,
            calls_sent=progress.calls_sent,
            ends_us=None if left_us is None else now_us + left_us,
            pid=os.getpid(),
            host=os.uname().nodename,
            beat_us=now_us,
        )
