"""The quota: which of the arriving calls are let through.

Documented on the operations' pages: 20 calls a second and account for each operation. Neither the
kind of window nor the form of the refusal is documented, so each has a switch.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

import msgspec

from worker.sandbox.throttle import Throttle


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many calls are let through, and how the others are answered."""

    window: Literal["off", "sliding", "calendar", "bucket"] = "sliding"
    """``sliding``: any second. ``calendar``: each second of the clock. ``bucket``: tokens."""
    calls_per_second: int = 20
    burst: int = 0
    """Capacity of the token bucket; 0 stands for ``calls_per_second``."""
    shared: bool = False
    """One window for all operations together instead of one for each."""
    count_throttled: bool = False
    """Whether a refused call uses up the window too."""
    throttle: Throttle = Throttle()


class Window(Protocol):
    """One bucket of one account."""

    def admit(self, now_seconds: float) -> float:
        """0 when the call is let through, otherwise the seconds until one would be.

        ``now_seconds`` never runs backwards.
        """
        ...


class SlidingSecond:
    """At most ``calls`` in any half-open second ``(t - 1, t]``."""

    def __init__(self, calls: int, *, count_throttled: bool) -> None:
        self._calls = calls
        self._count_throttled = count_throttled
        self._counted: deque[float] = deque()

    def admit(self, now_seconds: float) -> float:
        counted = self._counted
        while counted and counted[0] <= now_seconds - 1.0:
            counted.popleft()
        if len(counted) < self._calls:
            counted.append(now_seconds)
            return 0.0
        wait_seconds = counted[-self._calls] + 1.0 - now_seconds
        if self._count_throttled:
            counted.append(now_seconds)
        return wait_seconds


class CalendarSecond:
    """At most ``calls`` between one full second of the monotonic clock and the next."""

    def __init__(self, calls: int, *, count_throttled: bool) -> None:
        del count_throttled  # nothing is carried into the next second
        self._calls = calls
        self._second = -1
        self._counted = 0

    def admit(self, now_seconds: float) -> float:
        second = int(now_seconds)
        if second != self._second:
            self._second, self._counted = second, 0
        if self._counted < self._calls:
            self._counted += 1
            return 0.0
        return second + 1 - now_seconds


class TokenBucket:
    """``calls`` tokens a second, at most ``burst`` of them saved up; full at the start."""

    def __init__(self, calls: int, burst: int, *, count_throttled: bool) -> None:
        self._calls = calls
        self._burst = burst
        self._count_throttled = count_throttled
        self._tokens = float(burst)
        self._at_seconds: float | None = None

    def admit(self, now_seconds: float) -> float:
        if self._at_seconds is not None:
            gained = (now_seconds - self._at_seconds) * self._calls
            self._tokens = min(self._burst, self._tokens + gained)
        self._at_seconds = now_seconds
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        if self._count_throttled:
            self._tokens = max(-float(self._burst), self._tokens - 1.0)
        return (1.0 - self._tokens) / self._calls


class NoLimit:
    """Everything is let through."""

    def admit(self, now_seconds: float) -> float:
        del now_seconds
        return 0.0


class Gate:
    """The windows of the one account, for each operation or shared."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._windows: dict[str, Window] = {}
        self._latest_seconds = 0.0

    def admit(self, operation: str, now_seconds: float) -> float:
        """0 when the call is let through, otherwise the seconds until one would be.

        Calls are judged in the order they are handled: one whose bytes were read a little earlier
        than those of a call already judged counts as simultaneous with it.
        """
        self._latest_seconds = max(self._latest_seconds, now_seconds)
        bucket = "" if self._quota.shared else operation
        window = self._windows.get(bucket)
        if window is None:
            window = self._windows[bucket] = _window(self._quota)
        return window.admit(self._latest_seconds)


def _window(quota: Quota) -> Window:
    calls, counting = quota.calls_per_second, quota.count_throttled
    match quota.window:
        case "off":
            return NoLimit()
        case "sliding":
            return SlidingSecond(calls, count_throttled=counting)
        case "calendar":
            return CalendarSecond(calls, count_throttled=counting)
        case "bucket":
            return TokenBucket(calls, quota.burst or calls, count_throttled=counting)
