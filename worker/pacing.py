"""Pacing: at most the documented calls in any second, seen from the server.

One ``Pacer`` paces one operation (or all of them, with ``shared_quota``). It has three parts:

* A **limiter** that hands out one departure at a time. A leaky bucket of capacity 1 lets nothing
  but evenly spaced calls through: no burst at the start, after an idle pause, or after a stalled
  event loop. The capacity is slightly above 1, which absorbs the lateness of timers.
* A **hold** for everybody. A throttle makes all calls wait, cuts the rate to what the service was
  seen to accept, and lets it climb back along a cubic curve: fast while far from the rate that was
  refused, slowly around it, fast again beyond.
* **Probing.** After several failures in a row (transport errors, 5xx, repeated throttles) one call
  at a time goes out, at most one a second, until one is answered.

It can be steered while callers wait: a new rate and a pause count from the next call on, also for
whoever stands at the head of the line.

All waiting uses the event loop's clock, so tests move time instead of sleeping.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from aiolimiter import AsyncLimiter

from worker.departure import NotDeparted

SLACK = 0.08
"""Capacity above 1: makes up for timers that come up to 4 ms late at 20 calls/s."""

WINDOW_SECONDS = 1.005
"""No more departures than the rate, rounded up, in any window of this length: a second, and 5 ms
for jitter on the way. The bucket alone would let one late departure crowd those behind it."""

SLACK_SECONDS = 0.002
"""Above 200 calls/s one timer tick is worth more than one call."""

PROBE_INTERVAL_SECONDS = 1.0
LONGEST_PROBE_INTERVAL_SECONDS = 30.0
FAILURES_BEFORE_PROBING = 3
EARLIEST_SECONDS = 1.0
"""How long before its slot a caller may set out to take a connection."""
FIRST_HOLD_SECONDS = 0.2
"""After an isolated throttle without a hint; a second one in a row means probing."""

CUT_TO = 0.985
"""Share of the calls accepted in the last second that a cut rate begins with."""
DEEPEST_CUT = 0.5
SHALLOWEST_CUT = 0.98
BLIND_CUT = 0.85
RECOVERY_SECONDS = 30.0
RECOVERY_SHARE = 0.1
"""Cubic recovery: this share of the configured rate is regained after ``RECOVERY_SECONDS``."""
RATE_STEP = 0.005
"""Relative change of the rate that is worth a fresh limiter."""
LOWEST_RATE_PER_SECOND = 0.2


def _limiter(rate_per_second: float) -> AsyncLimiter:
    capacity = max(1.0 + SLACK, rate_per_second * SLACK_SECONDS)
    return AsyncLimiter(capacity, capacity / rate_per_second)


_Caller: TypeAlias = asyncio.Task[object]


class Contact:
    """When the service last gave a complete answer, to whatever call of the run.

    One for all pacers: a lane with little to do must not take its own few failures for an outage
    while others are answered.
    """

    def __init__(self) -> None:
        self.answered_at = float("-inf")


class Pacer:
    """Decides when the next call may leave.

    A caller first awaits ``clearance`` (before it takes a connection), then ``slot`` (with the
    connection in hand), and afterwards reports how it went: ``answered``, ``throttled`` or
    ``failed``.
    """

    def __init__(
        self,
        rate_per_second: float,
        *,
        outage_limit_seconds: float,
        contact: Contact | None = None,
        starved: Callable[[int], None] = lambda _callers: None,
    ) -> None:
        """``contact`` is shared with the run's other pacers.

        ``starved`` is told how many more callers are needed for the rate to hold.
        """
        self._loop = asyncio.get_running_loop()
        self._configured = rate_per_second
        self._rate = rate_per_second
        self._limiter: AsyncLimiter | None = None
        """None where the next caller has to begin a fresh one."""
        self._limiter_rate = rate_per_second
        self._turn = asyncio.Lock()
        self._head: asyncio.Timeout | None = None
        self.line = 0
        self.starved = starved
        self._approaching: dict[_Caller, float] = {}
        self._approach_seconds = 0.0
        self._recalled: set[_Caller] = set()
        self._out: set[_Caller] = set()

        self._stopped = False
        self._paused_since: float | None = None
        self._hold_until = 0.0
        self._hold_reason = ""
        self._probing = False
        self._prober: _Caller | None = None
        self._probing_since = 0.0
        self._interval = PROBE_INTERVAL_SECONDS
        self._failures = 0
        self._trouble_since: float | None = None
        self._contact = contact or Contact()
        self._outage_limit = outage_limit_seconds
        self._changed = asyncio.Event()

        self._window: deque[float] = deque(maxlen=math.ceil(rate_per_second))
        self._cut_at = float("-inf")
        self._cut_rate = math.inf
        self._accepted: deque[float] = deque()
        self._departures: deque[float] = deque()
        self._began = self._loop.time()
        self._counted_until = self._began
        self._waits_seconds = dict.fromkeys(("quota", "throttled", "backoff", "paused"), 0.0)

    # Waiting

    async def clearance(self) -> None:
        """Wait out whatever holds everybody.

        Raises ``NotDeparted`` when the run stops (``stopped``) or has been held for longer than the
        outage limit (``outage``).
        """
        # Whoever was sent away from the line is not on its way while it waits here.
        caller = self._leave_line()
        while True:
            if self._stopped:
                raise NotDeparted("stopped")
            if self.paused:
                self._changed.clear()
                await self._changed.wait()
                continue
            if self.outage:
                raise NotDeparted("outage")
            now = self._loop.time()
            probed = self._prober is not None and self._prober is not caller
            if now >= max(self._hold_until, self._time_to_set_out()) and not probed:
                if self._probing:
                    # Nobody else is cleared until this caller has departed or withdrawn.
                    self._prober = caller
                self._approaching[caller] = now
                return
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._wakes_at(probed=probed)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _wakes_at(self, *, probed: bool) -> float | None:
        """When a hold has to be looked at again; None where only a change can end it."""
        times = [] if probed else [max(self._hold_until, self._time_to_set_out())]
        if (since := self._out_since) is not None:
            times.append(since + self._outage_limit + 0.001)
        return min(times, default=None)

    def _time_to_set_out(self) -> float:
        """Nobody takes a connection long before its slot: idle connections get closed.

        For a caller that is not on its way.
        """
        if not self._window:
            return float("-inf")
        return self._window[-1] + (len(self._approaching) + 1) / self._rate - EARLIEST_SECONDS

    async def slot(self) -> None:
        """Wait for this caller's departure.

        Raises ``NotDeparted`` when the run stops (``stopped``), or when a hold or a pause began or
        the rate fell a long way while the caller was on its way (``held``): then nothing may be
        sent.
        """
        caller = self._caller()
        self._note_approach(caller)
        self.line += 1
        try:
            async with self._turn:
                began = self._loop.time()
                try:
                    await self._wait_at_the_head(caller)
                finally:
                    self._head = None
                    self._waits_seconds["quota"] += self._loop.time() - began
                self._note_departure()
                self._keep_rate()
                if self._prober is caller:
                    # The next probe may go an interval after this one.
                    self._hold(self._loop.time() + self._interval, "backoff")
        finally:
            self.line -= 1
        self.withdraw()
        self._out.add(caller)
        missing = self._callers_wanted() - len(self._approaching)
        if missing > 0:
            self.starved(missing)

    async def _wait_at_the_head(self, caller: _Caller) -> None:
        """Until the rate allows the next departure, whatever becomes of the rate meanwhile."""
        while True:
            self._check_departure(caller)
            limiter = await self._present_limiter()
            if limiter.has_capacity() and self._window_opens() <= self._loop.time():
                await limiter.acquire()  # without a wait, in which somebody could steer
                return
            with suppress(TimeoutError):  # somebody has steered: look again
                async with asyncio.timeout(None) as self._head:
                    await limiter.acquire()
                    if (early := self._window_opens() - self._loop.time()) > 0:
                        await asyncio.sleep(early)
                if limiter is self._limiter:
                    self._check_departure(caller)
                    return

    async def _present_limiter(self) -> AsyncLimiter:
        if self._limiter is None:
            self._limiter = _limiter(self._rate)
            self._limiter_rate = self._rate
            # As full as if it had granted the latest departure itself.
            latest = self._window[-1] if self._window else float("-inf")
            filled = self._limiter.max_rate - (self._loop.time() - latest) * self._rate
            if filled > 0:
                await self._limiter.acquire(filled)
        return self._limiter

    def _wake_the_head(self) -> None:
        if self._head is not None and not self._head.expired():
            self._head.reschedule(self._loop.time())

    def _window_opens(self) -> float:
        full = len(self._window) == self._window.maxlen
        return self._window[0] + WINDOW_SECONDS if full else float("-inf")

    def departed(self) -> None:
        """The bytes of the latest departure have left only now: a busy machine may come late."""
        now = self._loop.time()
        # In both: another rate lays the window out anew from all departures.
        for times in (self._window, self._departures):
            if times:  # so late that it was forgotten
                times.pop()
            times.append(now)

    def withdraw(self) -> None:
        """This caller, cleared or not, is no longer on its way to a slot, nor has it a call out."""
        if self._leave_line() is self._prober:
            self._prober = None
            self._changed.set()

    def _caller(self) -> _Caller:
        # Of a loop that is known: to ask for the running one takes a system call each time.
        task = asyncio.current_task(self._loop)
        assert task is not None
        return task

    def _leave_line(self) -> _Caller:
        """The calling task, of which nothing is known from here on but whether it probes."""
        caller = self._caller()
        self._approaching.pop(caller, None)
        self._recalled.discard(caller)
        self._out.discard(caller)
        return caller

    @property
    def on_its_way(self) -> bool:
        """Whether the calling task was cleared and has not departed: nothing of it was sent."""
        return self._caller() in self._approaching

    @property
    def out(self) -> int:
        """Callers that have departed and are not back, with what came of it recorded."""
        return len(self._out)

    def _note_approach(self, caller: _Caller) -> None:
        """Learn how long it takes from clearance to the line: claim, record, connection."""
        now = self._loop.time()
        taken = now - self._approaching.setdefault(caller, now)
        self._approach_seconds = max(taken, 0.9 * self._approach_seconds + 0.1 * taken)

    def _callers_wanted(self) -> int:
        """Callers that have to be on their way, or in line, for the next slots to be used."""
        return math.ceil(self._rate * self._approach_seconds) + 1

    def _check_departure(self, caller: _Caller) -> None:
        if self._stopped:
            raise NotDeparted("stopped")
        if self.paused or caller in self._recalled:
            raise NotDeparted("held")
        if self._loop.time() < self._hold_until and self._prober is not caller:
            raise NotDeparted("held")

    def stop(self) -> None:
        """No further departures: everybody who waits is sent away at once."""
        self._count_waits()
        self._stopped = True
        self._changed.set()
        self._wake_the_head()

    # Steering

    @property
    def paused(self) -> bool:
        """Whether nobody may depart until ``unpause``."""
        return self._paused_since is not None

    def pause(self) -> None:
        """No departure until ``unpause``: whoever stands in line is sent back at once.

        Calls that have departed go on. The clock of an outage stands still.
        """
        if not self.paused:
            self._count_waits()
            self._paused_since = self._loop.time()
            self._wake_the_head()

    def unpause(self) -> None:
        """Departures go on, as they would after an idle while: without a burst."""
        if self._paused_since is None:
            return
        self._count_waits()
        now = self._loop.time()
        if (since := self._out_since) is not None:
            # Shifted from where the outage counts: an answer to another lane may be later.
            self._trouble_since = since + now - max(self._paused_since, since)
        self._paused_since = None
        self._changed.set()

    def set_rate(self, rate_per_second: float) -> None:
        """Another configured rate, from the next departure on; the fullest second keeps to it.

        What throttles have cut stays cut, and recovers towards the new rate.
        """
        lowered = rate_per_second < self._configured
        self._configured = rate_per_second
        self._rate = self._wanted_rate(self._loop.time())
        self._limiter = None
        # What has left counts, also where the window was too short for it until now.
        known = max(self._departures, self._window, key=len)
        self._window = deque(known, maxlen=math.ceil(rate_per_second))
        if lowered and len(self._approaching) > self._rate * EARLIEST_SECONDS:
            # Connections must not be held for as long as the line takes now.
            self._recalled |= self._approaching.keys()
        self._changed.set()
        self._wake_the_head()

    # What the callers saw

    def answered(self) -> None:
        """A complete answer of the service: whatever trouble there was is over."""
        now = self._loop.time()
        self._accepted.append(now)
        self._forget(self._accepted, now)
        self._failures = 0
        self._trouble_since = None
        self._contact.answered_at = now
        if self._probing:
            self._probing = False
            self._prober = None
            self._release(now)

    def throttled(self, retry_after_seconds: float | None, age_seconds: float) -> None:
        """The service refused a call because of the quota; it had left ``age_seconds`` ago."""
        now = self._loop.time()
        departed = now - age_seconds
        self._fail(now)
        if departed >= self._cut_at:
            # Calls already under way at the last cut say nothing new about the rate.
            self._cut(now)
        if self._failures >= FAILURES_BEFORE_PROBING:
            self._probe(now, "throttled", departed)
        self._hold(now + max(retry_after_seconds or 0.0, FIRST_HOLD_SECONDS), "throttled")

    def failed(self, age_seconds: float) -> None:
        """A call that brought no answer of the service: refused connection, timeout, 5xx.

        It had left, or would have, ``age_seconds`` ago.
        """
        now = self._loop.time()
        self._fail(now)
        if self._failures >= FAILURES_BEFORE_PROBING:
            self._probe(now, "backoff", now - age_seconds)
        else:
            self._hold(now + FIRST_HOLD_SECONDS, "backoff")

    def _fail(self, now: float) -> None:
        self._failures += 1
        if self._trouble_since is None:
            self._trouble_since = now

    def _probe(self, now: float, reason: str, departed: float) -> None:
        if not self._probing:
            self._probing = True
            self._probing_since = now
            self._interval = PROBE_INTERVAL_SECONDS
        elif departed >= self._probing_since:
            # A probe failed, and not a call that was under way when the trouble was noticed.
            self._interval = min(self._interval * 2, LONGEST_PROBE_INTERVAL_SECONDS)
        self._hold(now + self._interval, reason)

    @property
    def outage(self) -> bool:
        """Whether the service could not be used for longer than the outage limit."""
        since = self._out_since
        if since is None or self.paused:
            return False
        return self._loop.time() - since > self._outage_limit

    @property
    def _out_since(self) -> float | None:
        """Since when every call of the run has failed; None where the last of these did not."""
        if self._trouble_since is None:
            return None
        return max(self._trouble_since, self._contact.answered_at)

    # Holds

    def _hold(self, until: float, reason: str) -> None:
        if until <= self._hold_until:
            return
        self._count_waits()
        self._hold_until = until
        self._hold_reason = reason

    def _release(self, now: float) -> None:
        self._count_waits()
        self._hold_until = min(now, self._hold_until)
        self._changed.set()

    def _count_waits(self) -> None:
        """Add the time since this was last done to what it was spent on."""
        now = self._loop.time()
        if self._stopped:
            return
        if self.paused:
            self._waits_seconds["paused"] += now - self._counted_until
        elif self._hold_until > self._counted_until:
            held = min(now, self._hold_until) - self._counted_until
            self._waits_seconds[self._hold_reason] += held
        self._counted_until = now

    @property
    def waits_seconds(self) -> Mapping[str, float]:
        """Where the time went, in seconds.

        ``quota`` at the head of the line; ``throttled``, ``backoff`` and ``paused`` for everybody.
        """
        self._count_waits()
        return self._waits_seconds

    # The rate

    def _cut(self, now: float) -> None:
        self._forget(self._accepted, now)
        sent = sum(departure > now - 1.0 for departure in self._departures)
        if sent < self._rate * DEEPEST_CUT:
            # Too few calls, after a hold or because answers are slow, to tell what is accepted.
            seen = self._rate * BLIND_CUT
        else:
            # A second holds n or n + 1 evenly spaced calls, depending on where it begins.
            seen = (len(self._accepted) + 0.5) * CUT_TO
        self._cut_rate = max(
            min(seen, self._rate * SHALLOWEST_CUT),
            self._rate * DEEPEST_CUT,
            min(LOWEST_RATE_PER_SECOND, self._configured),
        )
        self._cut_at = now
        self._rate = self._cut_rate

    def _wanted_rate(self, now: float) -> float:
        if self._cut_rate >= self._configured:
            return self._configured
        regained = RECOVERY_SHARE * self._configured
        regained *= ((now - self._cut_at) / RECOVERY_SECONDS) ** 3
        return min(self._configured, self._cut_rate + regained)

    def _keep_rate(self) -> None:
        """Follow the curve of the recovery, right after a departure was granted."""
        self._rate = self._wanted_rate(self._loop.time())
        if self._rate == self._limiter_rate or (
            abs(self._rate - self._limiter_rate) < RATE_STEP * self._limiter_rate
            and self._rate < self._configured
        ):
            return
        self._limiter = None

    # What people see

    def _note_departure(self) -> None:
        now = self._loop.time()
        self._window.append(now)
        self._departures.append(now)
        self._forget(self._departures, now, 10.0)

    @staticmethod
    def _forget(times: deque[float], now: float, window_seconds: float = 1.0) -> None:
        while times and times[0] <= now - window_seconds:
            times.popleft()

    @property
    def rate_allowed_per_second(self) -> float:
        """The rate the limiter works at."""
        return self._rate

    @property
    def rate_now_per_second(self) -> float:
        """Departures per second over the last ten seconds."""
        now = self._loop.time()
        self._forget(self._departures, now, 10.0)
        return len(self._departures) / max(1.0, min(10.0, now - self._began))

    @property
    def waiting_for(self) -> str:
        """Why the next call has not left yet, in one word; ``""`` when nothing holds it."""
        if self.paused:
            return "paused"
        if self._loop.time() < self._hold_until:
            return self._hold_reason
        return "quota" if self.line else ""


class Pacers:
    """One pacer for each operation, or one for all of them where they share a quota.

    The service documents its quota per operation; whether operations share it is not confirmed.
    """

    def __init__(
        self,
        rate_per_second: float,
        *,
        outage_limit_seconds: float,
        shared: bool,
        make: Callable[..., Pacer] = Pacer,
    ) -> None:
        """``make`` takes what ``Pacer`` takes."""
        self._rate = rate_per_second
        self._make = make
        self._outage_limit_seconds = outage_limit_seconds
        self._shared = shared
        self._contact = Contact()
        self._pacers: dict[str, Pacer] = {}

    def of(self, operation: str) -> Pacer:
        """The pacer of the service's action ``operation``, e.g. ``DeleteFaces``."""
        bucket = "" if self._shared else operation
        if bucket not in self._pacers:
            self._pacers[bucket] = self._make(
                self._rate,
                outage_limit_seconds=self._outage_limit_seconds,
                contact=self._contact,
            )
        return self._pacers[bucket]
