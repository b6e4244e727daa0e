"""Orders on their way into the ledger of a run at work, from a process beside it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from worker.ledger.database import open_beside, query
from worker.model import StopReason
from worker.orders import Order, Taken

# Nothing is given where no session is at work.
GIVE = """
INSERT INTO command (session_no, ask, rate_per_second, given_us, given_by)
SELECT session_no, ?, ?, ?, ? FROM session
WHERE session_no = (SELECT MAX(session_no) FROM session) AND stop_reason IS NULL
RETURNING seq
"""
TAKEN = "SELECT taken_us, said, remedy, refused FROM command_taken WHERE command_seq = ?"
GOES_ON = """
SELECT 1 FROM command c JOIN session s USING (session_no) WHERE c.seq = ? AND s.stop_reason IS NULL
"""
# Too late once the session has taken it up.
WITHDRAW = "INSERT OR IGNORE INTO command_decided VALUES (?, 1, ?) RETURNING 1"
# When it died nobody knows, so the end stays missing, and what a report says stays the same.
NOTE_DEATH = "UPDATE session SET stop_reason = ? WHERE stop_reason IS NULL"

_STOPPING = (signal.SIGTSTP, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def give(connection: apsw.Connection, order: Order) -> int | None:
    """Write an order to the session at work; returns its number, or None where there is none."""
    with _undisturbed():
        rows = query(
            connection,
            GIVE,
            (str(order.ask), order.rate_per_second, order.given_us, order.given_by),
        ).fetchall()
    return int(rows[0][0]) if rows else None


def taken(connection: apsw.Connection, seq: int) -> Taken | None:
    """What became of an order; None as long as nobody has taken it."""
    row = query(connection, TAKEN, (seq,)).fetchone()
    return None if row is None else Taken(row[0], row[1], row[2], bool(row[3]))


def withdraw(connection: apsw.Connection, seq: int, now_us: int) -> bool:
    """Take an order back for good; False where the session has taken it up already."""
    with _undisturbed():
        return bool(query(connection, WITHDRAW, (seq, now_us)).fetchall())


def session_goes_on(connection: apsw.Connection, seq: int) -> bool:
    """Whether the session to which an order was given has not ended, as far as anybody has said."""
    return query(connection, GOES_ON, (seq,)).fetchone() is not None


def note_death(run_dir: Path) -> None:
    """Write of a session without an end that its process has died, so that it is given no orders.

    The caller has the run's lock, and no session of its own yet. Where the ledger cannot be written,
    no order can be written either.
    """
    with _undisturbed(), suppress(apsw.Error):
        connection = open_beside(run_dir, read_only=False)
        try:
            connection.execute(NOTE_DEATH, (str(StopReason.KILLED),))
        finally:
            connection.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A Ctrl-Z in the middle of a write would leave the run waiting for the lock."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
