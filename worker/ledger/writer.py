"""One writer per ledger: SQLite on its own thread, committing whatever is queued.

No timer collects work. While one commit waits for the disk, the next writes queue up, and all of
them go into the next transaction: the busier the run, the more records share one sync.
"""

from __future__ import annotations

import asyncio
import queue
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from worker.errors import GateClosed, LedgerFailed

T = TypeVar("T")
Write = Callable[[apsw.Connection], T]


class Writer(Protocol):
    """Runs writes in the order they were submitted; each is durable before its future is done."""

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        """Queue one write; cancelling the future only ends the waiting for it.

        The future raises ``worker.errors.LedgerFailed`` when the write, or any write before it,
        could not be made durable, or when the writer is closed.
        """
        ...

    async def close(self) -> None:
        """Wait until everything submitted is durable, then close the connection."""
        ...


def ledger_failed(path: str, error: Exception) -> LedgerFailed:
    """What whoever uses the ledger is told instead of ``error``."""
    if isinstance(error, GateClosed):
        return LedgerFailed(f"{error.cause}, so nothing more is sent", error.remedy)
    run_dir = shlex.quote(str(Path(path).parent))
    return LedgerFailed(
        f"{path}: the ledger could not be written ({type(error).__name__}: {error}), so nothing"
        " more is sent",
        f"make room or repair the disk, then go on with: facepurge resume {run_dir}",
    )


def nothing(_: apsw.Connection) -> None:
    """For a writer whose writes leave nothing to be written at their end."""


def commit_batch(
    connection: apsw.Connection, writes: list[Write[Any]], last: Write[None] = nothing
) -> list[Any]:
    """All of ``writes``, and ``last`` behind them, in one durable transaction, or none of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [write(connection) for write in writes]
        last(connection)
        connection.execute("COMMIT")
    except BaseException:
        # A failed sync is never retried as if it had worked: the transaction is given up.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


class ThreadWriter:
    """The writer of a real run."""

    def __init__(self, connection: apsw.Connection, last: Write[None] = nothing) -> None:
        """``last`` ends every transaction."""
        self._connection = connection
        self._last = last
        self._path = connection.filename
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[Write[Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._failure: LedgerFailed | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            # Nobody would ever take it out of the queue.
            _resolve([future], [], ledger_failed(self._path, apsw.ConnectionClosedError("closed")))
        else:
            self._queue.put((write, future))
        return future

    async def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        await asyncio.shield(asyncio.to_thread(self._thread.join))
        self._connection.close()

    def _work(self) -> None:
        last = False
        while not last:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            last = None in batch
            pending = [item for item in batch if item is not None]
            if pending:
                self._commit(pending)

    def _commit(self, pending: list[tuple[Write[Any], asyncio.Future[Any]]]) -> None:
        results: list[Any] = []
        if self._failure is None:
            try:
                results = commit_batch(
                    self._connection, [write for write, _ in pending], self._last
                )
            except Exception as error:  # noqa: BLE001 (whatever it was, the ledger is no longer the truth)
                self._failure = (
                    error if isinstance(error, LedgerFailed) else ledger_failed(self._path, error)
                )
        futures = [future for _, future in pending]
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, futures, results, self._failure)


def _resolve(
    futures: list[asyncio.Future[Any]], results: list[Any], failure: LedgerFailed | None
) -> None:
    for index, future in enumerate(futures):
        if future.done():
            continue  # the waiter was cancelled; what it submitted is durable all the same
        if failure is None:
            future.set_result(results[index])
        else:
            future.set_exception(failure)
            future.exception()  # a waiter that left is no reason for a warning


class InlineWriter:
    """Writes at once on the caller's thread: for simulated runs on a virtual clock."""

    def __init__(self, connection: apsw.Connection, last: Write[None] = nothing) -> None:
        """``last`` ends every transaction."""
        self._connection = connection
        self._last = last
        self._path = connection.filename
        self._failure: LedgerFailed | None = None

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        results: list[T] = []
        if self._failure is None:
            try:
                results = commit_batch(self._connection, [write], self._last)
            except Exception as error:  # noqa: BLE001 (as above)
                self._failure = (
                    error if isinstance(error, LedgerFailed) else ledger_failed(self._path, error)
                )
        _resolve([future], results, self._failure)
        return future

    async def close(self) -> None:
        self._connection.close()
