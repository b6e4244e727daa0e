"""Orders to a run that is at work, and what it says of itself: the vocabulary of steering.

Both are rows of the ledger, so steering is the same from every terminal that sees the ledger. An
order is for the session that was at work when it was given, and for no later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ask(StrEnum):
    """What can be asked of a run at work."""

    PAUSE = "pause"
    UNPAUSE = "unpause"
    RATE = "rate"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody has asked for; never changed once given."""

    ask: Ask
    given_us: int
    """Microseconds since the epoch, UTC."""
    given_by: str
    """``user@host, process 123``."""
    rate_per_second: float | None = None
    """Of ``Ask.RATE`` only: calls per second for each operation."""
    seq: int = 0
    """Its place among the orders of the run, from 1 on; 0 before it is given."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the run has made of an order."""

    taken_us: int
    said: str
    """What it did or why it did not, as a clause without a full stop."""
    remedy: str = ""
    """What to do instead, where the order was refused."""
    refused: bool = False


class Condition(StrEnum):
    """What a process at work on a run is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    """No further call begins; those in flight are being finished."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a process at work last said of itself; names no IDs."""

    condition: Condition
    waiting: str
    """Why the next call has not left: ``quota``, ``throttled``, ``paused``...; ``""`` for nothing."""
    paused_by: str
    """The reasons to pause that are in force: ``order``, ``file``, ``window``; ``""`` for none."""
    rate_now_per_second: float
    """Calls over the last seconds, all operations together."""
    mean_rate_per_second: float
    """Since the session began."""
    rate_configured_per_second: float
    """What each operation may have at most, as set or ordered."""
    rate_allowed_per_second: float
    """The least that any operation may have at present: lower after throttles."""
    calls_in_flight: int
    calls_sent: int
    """In this session."""
    ends_us: int | None
    """When everything may be settled; None where nobody can know."""
    pid: int
    host: str
    beat_us: int
    """When this was said, in microseconds since the epoch, UTC."""
