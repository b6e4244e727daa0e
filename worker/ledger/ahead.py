"""Work done ahead in threads, its results taken in order: for what leaves the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from worker.errors import GateClosed

Value = TypeVar("Value")
Result = TypeVar("Result")

THREADS = min(4, os.cpu_count() or 1)


class Ahead(Generic[Result]):
    """So many tasks at a time, whose results come in the order in which they were given.

    Has no threads before the first task. ``close`` waits for what has begun and forgets the rest.
    """

    def __init__(self, depth: int = THREADS) -> None:
        self._depth = depth
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[Result]] = deque()

    def submit(self, task: Callable[[], Result]) -> Iterator[Result]:
        """Begin ``task``; gives the results that are due so that not too many are waiting.

        Raises ``GateClosed`` where there can be no thread for it.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="planning")
        try:
            self._pending.append(self._pool.submit(task))
        except RuntimeError as refused:
            raise GateClosed(
                f"the input could not be planned ({refused}); nothing was sent",
                "allow more processes (ulimit -u) or give it more memory, and start again",
            ) from refused
        while len(self._pending) > self._depth:
            yield self._pending.popleft().result()

    def results(self) -> Iterator[Result]:
        """All that are still to come."""
        while self._pending:
            yield self._pending.popleft().result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def ahead(function: Callable[[Value], Result], values: Iterable[Value]) -> Iterator[Result]:
    """``map``, some values ahead of who takes the results."""
    tasks = Ahead[Result]()
    try:
        for value in values:
            yield from tasks.submit(partial(function, value))
        yield from tasks.results()
    finally:
        tasks.close()
