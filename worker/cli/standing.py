"""How a run stands, from its ledger and its lock: read at a glance, without disturbing it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import apsw

from worker.clock import SystemClock
from worker.errors import GateClosed
from worker.ledger.books import Given, LedgerBooks
from worker.ledger.database import open_beside, require_ledger
from worker.locks import holder_of_run
from worker.model import UNFINISHED, Outcome, StopReason
from worker.orders import Condition, Pulse
from worker.report.interface import RunHeader, Session

ORDERS_SHOWN: Final = 5

SILENT_AFTER_SECONDS: Final = 20.0
"""A process at work says something every ten seconds at least."""


class State(StrEnum):
    """Where a run is in its life."""

    PLANNING = "planning"
    """Being planned, or waiting for confirmation: its ledger is not there yet."""
    PLANNED = "planned"
    """Never begun."""
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    """No further call begins; those in flight are being finished."""
    STOPPED = "stopped"
    """Its last session said why it ended, and something is left to do."""
    DIED = "died"
    """Its last session has left no end, and no process is there, or none but a later one."""
    FINISHED = "finished"
    """Nothing is left to do."""


AT_WORK: Final = frozenset({State.RUNNING, State.PAUSED, State.DRAINING})

_OF_CONDITION: Final = {
    Condition.RUNNING: State.RUNNING,
    Condition.PAUSED: State.PAUSED,
    Condition.DRAINING: State.DRAINING,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A run as it was at ``looked_us``; names no IDs."""

    run_dir: str
    header: RunHeader
    state: State
    outcomes: Mapping[str, int]
    """Distinct faces per outcome, from the same query as the display's."""
    sessions: Sequence[Session]
    orders: Sequence[Given]
    """The latest, the newest last."""
    pulse: Pulse | None
    """What the last session last said of itself."""
    holder: str
    """The process that has the run's lock, or ``""``."""
    bound: bool
    """Whether it was never begun and ``run RUN_DIR`` begins it; otherwise ``resume`` does."""
    looked_us: int

    @property
    def faces_total(self) -> int:
        return sum(self.outcomes.values())

    @property
    def faces_done(self) -> int:
        """Those whose outcome is settled."""
        return self.faces_total - sum(self.outcomes.get(x, 0) for x in UNFINISHED)

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the last session ended; None before the first and while one is at work."""
        if not self.sessions or self.state in AT_WORK:
            return None
        return self.sessions[-1].stop_reason

    @property
    def ends_us(self) -> int | None:
        """When everything may be settled, as the process at work last said."""
        return self.pulse.ends_us if self.pulse and self.state is State.RUNNING else None

    @property
    def silent_seconds(self) -> float:
        """Since the process at work last said something; 0 where that is as it should be."""
        if self.state not in AT_WORK:
            return 0.0
        said_us = self.pulse.beat_us if self.pulse else self.sessions[-1].started_us
        seconds = (self.looked_us - said_us) / 1e6
        return seconds if seconds > SILENT_AFTER_SECONDS else 0.0

    @property
    def begin(self) -> str:
        """The command that begins a run which was only planned."""
        return f"facepurge {'run' if self.bound else 'resume'} {shlex.quote(self.run_dir)}"


@dataclass(frozen=True, slots=True)
class Planning:
    """A run of which nothing can be read yet (``State.PLANNING``)."""

    run_dir: str
    holder: str
    """The process that plans it."""


def glance(run_dir: Path) -> Standing | Planning:
    """How the run in ``run_dir`` stands now, also before it has a ledger.

    Raises what ``look`` raises.
    """
    holder = holder_of_run(run_dir)
    try:
        require_ledger(run_dir)
    except GateClosed:
        if holder:
            return Planning(str(run_dir), holder)
        raise
    return look(run_dir)


def look(run_dir: Path) -> Standing:
    """How the run in ``run_dir`` stands now; reads a few rows, however large the ledger is.

    Raises ``GateClosed`` where there is no run, or its ledger cannot be read.
    """
    require_ledger(run_dir)
    holder = holder_of_run(run_dir)
    connection = open_beside(run_dir, read_only=True)
    try:
        connection.execute("BEGIN")  # all of it as of one moment
        books = LedgerBooks(connection)
        sessions, outcomes, pulse = books.sessions(), books.tally(), books.pulse()
        goes_on = books.goes_on()
        # A session may have begun since the lock was looked at.
        holder = holder or (holder_of_run(run_dir) if goes_on else "")
        return Standing(
            run_dir=str(run_dir),
            header=books.header(),
            state=_state(
                sessions,
                pulse,
                at_work=goes_on and bool(holder),
                done=not books.has_waiting_calls() and not outcomes.get(Outcome.UNKNOWN),
            ),
            outcomes=outcomes,
            sessions=sessions,
            orders=books.given(latest=ORDERS_SHOWN),
            pulse=pulse,
            holder=holder,
            bound=not sessions and _is_bound(connection),
            looked_us=SystemClock().now_us(),
        )
    except apsw.Error as error:
        raise GateClosed(
            f"{run_dir}: the ledger cannot be read ({error})",
            "check the disk; a copy of the run directory may be readable elsewhere",
        ) from error
    finally:
        connection.close()


def _is_bound(connection: apsw.Connection) -> bool:
    from worker.ledger.facts import bound_to  # noqa: PLC0415 (start-up: only a plan needs it)

    return bound_to(connection) is not None


def _state(sessions: Sequence[Session], pulse: Pulse | None, *, at_work: bool, done: bool) -> State:
    if not sessions:
        return State.PLANNED
    if at_work:
        return _OF_CONDITION[pulse.condition] if pulse else State.RUNNING
    if sessions[-1].ended_us is None:
        return State.DIED
    return State.FINISHED if done else State.STOPPED
