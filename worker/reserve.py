"""Calls a second that are left to others on the same account: the batch yields, they go on.

Neither the kind of the quota's window nor the others' calls can be seen from here; only that a call
of ours was throttled. So a pacer with a reserve

* **tries** nearly the whole rate, at its first calls: where the others are at work and the service
  counts every second by itself, some of ours are throttled. Where it saves up what was not used (a
  token bucket), none is;
* **takes the rate less the reserve** where all of that was accepted;
* **is quiet** otherwise, and from the first throttle on for the rest of the session: in no second
  do more calls leave than fit beside the others', whose evenly spaced calls may come once more
  in a second than there are of them in the mean;
* **yields** when even that is throttled, because the others need more than was left to them: a deep
  cut, and a slow way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto

from worker.pacing import LOWEST_RATE_PER_SECOND, WINDOW_SECONDS, Contact, Pacer

TRIAL_SECONDS = 1.7
"""Enough for more than 20 calls, with 5 of others, in one second of the clock, wherever it begins."""
TRIAL_SHARE = 0.9
"""Share of the rate that must have been used in a trial for it to tell anything."""
TRIALS_APART_SECONDS = 60.0
"""From a trial that told nothing, for want of calls, to the next."""
QUIET_SECONDS = 1.05
"""While quiet no more calls than fit leave in so long: a second, and 50 ms for jitter on the way, which
would otherwise look as if the others needed more."""
YIELD_TO = 0.75
"""Share of the rate that is left after a throttle which says that the others need more."""


def trial_rate_per_second(rate_per_second: float) -> float:
    """A call less in any second than may be made: more than enough to be throttled beside others."""
    return min(max(math.ceil(rate_per_second) - 1, 1) / WINDOW_SECONDS, rate_per_second)


def open_rate_per_second(rate_per_second: float, reserve_per_second: float) -> float:
    """What the batch may take where unused calls are saved up."""
    return rate_per_second - reserve_per_second


def quiet_rate_per_second(rate_per_second: float, reserve_per_second: float) -> float:
    """The highest rate at which, beside the reserve and one call more, no second is overfull."""
    calls = math.ceil(rate_per_second) - math.ceil(reserve_per_second) - 1
    return min(max(calls, 1) / QUIET_SECONDS, rate_per_second - reserve_per_second)


class _Phase(Enum):
    FRESH = auto()
    """No trial yet, or none that told anything; the next call begins one."""
    TRYING = auto()
    LISTENING = auto()
    """The trial is over, and not all of its calls are answered."""
    OPEN = auto()
    QUIET = auto()


class ReservingPacer(Pacer):
    """Leaves ``reserve_per_second`` of ``rate_per_second`` to others.

    ``set_rate`` limits the batch's own calls: the reserve stays what it is.
    """

    def __init__(
        self,
        rate_per_second: float,
        *,
        reserve_per_second: float,
        outage_limit_seconds: float,
        contact: Contact | None = None,
        starved: Callable[[int], None] = lambda _callers: None,
    ) -> None:
        self._trial = trial_rate_per_second(rate_per_second)
        super().__init__(
            self._trial,
            outage_limit_seconds=outage_limit_seconds,
            contact=contact,
            starved=starved,
        )
        self._open = open_rate_per_second(rate_per_second, reserve_per_second)
        self._quiet = quiet_rate_per_second(rate_per_second, reserve_per_second)
        self._ordered = math.inf
        self._phase = _Phase.FRESH
        self._trial_began = float("-inf")
        self._trial_calls = 0
        self._trial_answers = 0

    def set_rate(self, rate_per_second: float) -> None:
        """Another limit for the batch itself; a trial never goes beyond it."""
        self._ordered = rate_per_second
        self._enter(self._phase)

    def answered(self) -> None:
        """As for every pacer; the last answer to a trial that met no throttle ends it."""
        super().answered()
        if self._phase in (_Phase.TRYING, _Phase.LISTENING):
            self._trial_answers += 1
            if self._phase is _Phase.LISTENING and self._trial_answers >= self._trial_calls:
                self._enter(_Phase.OPEN)

    def _note_departure(self) -> None:
        super()._note_departure()
        now = self._loop.time()
        if self._phase is _Phase.FRESH and now >= self._trial_began + TRIALS_APART_SECONDS:
            self._trial_began = now
            self._trial_calls = self._trial_answers = 0
            self._enter(_Phase.TRYING)
        if self._phase is _Phase.TRYING:
            if now < self._trial_began + TRIAL_SECONDS:
                self._trial_calls += 1
            elif self._trial_calls >= TRIAL_SHARE * self._trial * TRIAL_SECONDS:
                self._enter(_Phase.LISTENING)
            else:
                self._enter(_Phase.FRESH)

    def _cut(self, now: float) -> None:
        if self._phase is not _Phase.QUIET:
            # Nobody needs more than was left to them; there are just no more to be had.
            self._enter(_Phase.QUIET)
            # What leaves within the next second may still meet the crowd of the trial.
            self._cut_at = now + WINDOW_SECONDS
        else:
            least = min(LOWEST_RATE_PER_SECOND, self._configured)
            self._rate = self._cut_rate = max(self._rate * YIELD_TO, least)
            self._cut_at = now

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        rates = {_Phase.TRYING: self._trial, _Phase.OPEN: self._open}
        super().set_rate(min(rates.get(phase, self._quiet), self._ordered))
