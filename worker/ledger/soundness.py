"""Whether a ledger is whole: all of it before anything is done, or of a big one beside the work.

To read some gigabytes takes longer than anybody wants to wait for the first call. Nothing is believed
unread meanwhile: a block of the plan is compared with its digest before a call of it is begun, a call
with its own whenever it is claimed, and rows with theirs when the report reads them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from threading import Lock

import apsw

from worker.errors import GateClosed
from worker.ledger.database import (
    FILE_NAME,
    READ_AT_ONCE_BYTES,
    damaged,
    open_beside,
    read_through,
)

INTERRUPT_AGAIN_SECONDS = 0.05


def is_big(run_dir: Path) -> bool:
    """Whether opening the ledger has not read it through."""
    return (run_dir / FILE_NAME).stat().st_size > READ_AT_ONCE_BYTES


async def damage(run_dir: Path) -> GateClosed | None:
    """Read the ledger through beside whoever works on it; what is wrong, or None.

    Cancelled, it stops reading at once. It never raises for what is wrong with the ledger: the calls in
    flight beside it are to end and to be recorded.
    """
    opening = _Opening()
    try:
        connection = await asyncio.to_thread(opening.open, run_dir)
    except GateClosed as refused:
        return refused
    except asyncio.CancelledError:
        opening.give_up()
        raise
    reading = asyncio.create_task(asyncio.to_thread(_read, connection, run_dir))
    try:
        return await asyncio.shield(reading)
    finally:
        while not reading.done():
            # Between two statements there is nothing to interrupt, and the next one would go on.
            connection.interrupt()
            await asyncio.wait({reading}, timeout=INTERRUPT_AGAIN_SECONDS)
        with suppress(apsw.InterruptError):
            reading.result()
        connection.close()


class _Opening:
    """A connection on its way from the thread that opens it to who waits for that, or does no more."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._connection: apsw.Connection | None = None
        self._is_given_up = False

    def open(self, run_dir: Path) -> apsw.Connection:
        connection = open_beside(run_dir, read_only=True)
        with self._lock:
            self._connection = connection
            if self._is_given_up:
                connection.close()
        return connection

    def give_up(self) -> None:
        """Have it closed, at once or as soon as it is open."""
        with self._lock:
            self._is_given_up = True
            if self._connection is not None:
                self._connection.close()


def _read(connection: apsw.Connection, run_dir: Path) -> GateClosed | None:
    try:
        read_through(connection, run_dir / FILE_NAME)
    except GateClosed as refused:
        return refused
    except (apsw.CorruptError, apsw.NotADBError, apsw.IOError) as error:
        # What quick_check has read well may be read badly the next time.
        return damaged(run_dir / FILE_NAME, f"the ledger is damaged ({error})")
    return None
