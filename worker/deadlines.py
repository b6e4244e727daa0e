"""When work is due: what the input may say, and what a plan makes of it.

Calls are made in the order in which they are due (earliest due date first, which makes the greatest
lateness as small as any order can; J. R. Jackson 1955), so what is late in a plan would be late in
any order or would make something else late.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000

SHOWN_LATE_JOBS = 20

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = "Z|[+-][0-9]{2}:?[0-5][0-9]"
_DUE = re.compile(
    rf"({_DATE})(?:[T ]([0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,6}})?)?)({_ZONE})?)?"
)

DUE_EXPECTED = "2026-11-30, 2026-11-30T18:00 or 2026-11-30T18:00:00+08:00 is expected"


class Undated(ValueError):
    """A text that is no time; its message is the reason for the row, and holds no text of it."""


@lru_cache(maxsize=65_536)
def due_us(text: str) -> int:
    """The moment that ``text`` names, in microseconds since the epoch, UTC.

    ISO 8601, extended form. A date alone means the end of that day; without a zone it is UTC. A
    space may stand in the place of the ``T``, as databases write it. Raises ``Undated``.
    """
    match = _DUE.fullmatch(text)
    if match is None:
        raise Undated(f"due time is not a date or time that can be read; {DUE_EXPECTED}")
    date, time, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time or '00:00'}{zone or 'Z'}")
    except ValueError:
        raise Undated(f"due time does not exist in the calendar; {DUE_EXPECTED}") from None
    # Subtracted, not converted: at the calendar's ends another zone's time has no UTC date.
    return (moment - EPOCH) // MICROSECOND + (0 if time else DAY_US)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When and how fast the calls of a plan would be made."""

    start_us: int
    """Microseconds since the epoch, UTC."""
    rate_per_second: float

    @property
    def gap_us(self) -> float:
        """Between two calls."""
        return 1e6 / self.rate_per_second

    def sent_us(self, call_no: int) -> int:
        """When a call would be sent, if none before it has to be repeated."""
        return self.start_us + round(call_no * self.gap_us)


@dataclass(frozen=True, slots=True)
class LateJob:
    """A job that cannot make it."""

    place: str
    """``source:line``."""
    due_us: int
    sent_us: int
    """When the last of its calls would be sent."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of the due times of a plan; times in microseconds since the epoch, UTC.

    A job is in time when its last call is sent when it is due, or before. A job of several calls
    (more than 20 faces) or of a whole person, whose faces have to be found, may take longer.
    """

    schedule: Schedule
    persons: int
    """Persons to be sent with a due time; of several due times of one person the earliest counts."""
    late_persons: int
    """Those that cannot make it, past due ones included."""
    past_due_persons: int
    """Those that were due before the start."""
    late_jobs: int
    past_due_jobs: int
    first_late: tuple[LateJob, ...]
    """The first in input order."""
    last_due_call_us: int
    """When the last call of a person with a due time would be sent."""
    needed_rate_per_second: float
    """Least rate at which everything that is not past due is in time; 0.0 where any will do."""
    latest_start_us: int | None
    """Latest start for the same at the rate of ``schedule``; None where all is past due."""
