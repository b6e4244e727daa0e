"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: the time a select would have waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            # Only a thread can wake the loop now: wait for it in real time.
            return super().select(None)
        # Rounding can leave a timer a hair in the future for ever; a real clock moves on.
        self.now += max(timeout, 1e-6)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs hours in milliseconds; ``stall`` moves the clock without running anything."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def stall(self, seconds: float) -> None:
        self._jumping.now += seconds


class LoopClock:
    """Wall time that goes with the running loop; implements ``worker.clock.Clock``."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def now_us(self) -> int:
        return round((asyncio.get_running_loop().time() + self._ahead_seconds) * 1e6)

    def set_back(self, seconds: float) -> None:
        """What an operator or NTP may do to a clock, while the loop's own goes on."""
        self._ahead_seconds -= seconds

    def set_forward(self, seconds: float) -> None:
        self._ahead_seconds += seconds


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def stall(seconds: float) -> None:
    """The running loop does nothing for ``seconds``."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.stall(seconds)
