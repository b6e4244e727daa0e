"""An event loop on which one seed has one course of events."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from tests.core.virtual_time import VirtualLoop

T = TypeVar("T")


class _NumberedTask(asyncio.Task[Any]):
    """Hashed by its number: sets of tasks are walked in the same order in every process."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int, **more: Any) -> None:
        self._number = number
        super().__init__(coroutine, **more)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(VirtualLoop):
    """A virtual clock, numbered tasks, and no threads: a job for an executor is done at once."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self.set_task_factory(self._numbered)

    def _numbered(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Generator[Any, None, T] | Coroutine[Any, Any, T],
        **more: Any,
    ) -> asyncio.Task[T]:
        assert asyncio.iscoroutine(coroutine)
        return _NumberedTask(coroutine, next(self._numbers), loop=loop, **more)

    def run_in_executor(  # type: ignore[override] # the base is a coroutine in its stub only
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (handed on to whoever awaits it)
            done.set_exception(error)
        return done


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now_seconds() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()
