"""When a run may work: spans of the day in a time zone, and how long it may last.

A span is open while the clock on the wall of the zone shows a time from its first minute up to its
last one, exclusively; ``22:00-06:00`` goes over midnight. So a time that a change to summer time
skips is never open, and one that comes twice in autumn is open twice. Pure.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from worker.errors import UsageRefused

ALWAYS: Final = "always"
NONE: Final = "none"

DAY_MINUTES: Final = 24 * 60
LONGEST_SECONDS: Final = 366 * 86_400

_SEARCHED_MINUTES: Final = 4 * DAY_MINUTES
"""A zone may skip an hour, or a whole day: a span opens within four days, or hardly ever."""

_SPAN = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_LONGEST_TEXT: Final = 100
"""Nobody writes a duration in more characters."""
_UNITS_SECONDS: Final = (86_400, 3_600, 60, 1)


def parse_duration(text: str, place: str = "max_duration") -> int:
    """Seconds that ``text`` means, like ``6h``, ``90m`` or ``1d12h``; 0 for ``none``.

    Raises ``UsageRefused`` naming ``place``.
    """
    if text == NONE:
        return 0
    matched = _DURATION.fullmatch(text[:_LONGEST_TEXT])
    if matched is None or not any(matched.groups()):
        raise UsageRefused(
            f"{place}: {text[:40]!r} is not a duration",
            "write days, hours, minutes and seconds in this order, each with its letter, like 6h,"
            " 90m or 1d12h; none is no limit",
        )
    counts = [int(group or 0) for group in matched.groups()]
    seconds = sum(count * unit for count, unit in zip(counts, _UNITS_SECONDS, strict=True))
    if not 1 <= seconds <= LONGEST_SECONDS:
        wrong = "too long" if seconds else "no time at all"
        raise UsageRefused(
            f"{place}: {text[:40]!r} is {wrong}, and 1 second to 366 days is expected",
            "choose a duration in this range; none is no limit",
        )
    return seconds


def parse_zone(name: str, place: str = "time_zone") -> tzinfo | None:
    """The zone of that name; None, the machine's own, for ``""``. Raises ``UsageRefused``."""
    if not name:
        return None
    if name == "UTC":
        return UTC
    known = zoneinfo.available_timezones()
    if not known:
        raise UsageRefused(
            f"{place}: {name[:60]!r} cannot be looked up, because this machine has no time zone"
            " database",
            "install it (apt install tzdata, or pip install tzdata), or use UTC",
        )
    if name not in known:
        in_lower_case = {zone.lower(): zone for zone in sorted(known)}
        cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known)}
        asked = name.lower().replace(" ", "_")
        near = difflib.get_close_matches(asked, in_lower_case, n=1, cutoff=0.6)
        city = difflib.get_close_matches(asked.rpartition("/")[2], cities, n=1, cutoff=0.6)
        nearest = in_lower_case[near[0]] if near else cities[city[0]] if city else ""
        raise UsageRefused(
            f"{place}: there is no time zone {name[:60]!r}",
            f"did you mean {nearest}?" if nearest else "write it like Europe/Berlin, or UTC",
        )
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError) as error:
        raise UsageRefused(
            f"{place}: the time zone {name[:60]!r} cannot be read from this machine's database"
            f" ({error})",
            "install the time zone database again (tzdata), or use UTC",
        ) from error


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes since midnight; ``end_minute`` is not in it, and may be before ``begin_minute``."""

    begin_minute: int
    end_minute: int

    def __contains__(self, minute: int) -> bool:
        if self.begin_minute < self.end_minute:
            return self.begin_minute <= minute < self.end_minute
        return minute >= self.begin_minute or minute < self.end_minute


def parse_spans(text: str, place: str = "window") -> tuple[Span, ...]:
    """The spans that ``text`` means; empty for ``always``. Raises ``UsageRefused``."""
    return () if text == ALWAYS else tuple(_span(part, place) for part in text.split(","))


def _span(text: str, place: str) -> Span:
    remedy = "write it like 22:00-06:00 or 22:00-06:00,12:00-13:00; always is no window"
    matched = _SPAN.fullmatch(text)
    if matched is None:
        raise UsageRefused(f"{place}: {text[:40]!r} is not a span of the day", remedy)
    hours, minutes = (
        [int(x) for x in matched.groups()[::2]],
        [int(x) for x in matched.groups()[1::2]],
    )
    begin, end = (60 * hour + minute for hour, minute in zip(hours, minutes, strict=True))
    for hour, minute, most in zip(hours, minutes, (DAY_MINUTES - 1, DAY_MINUTES), strict=True):
        if minute > 59 or 60 * hour + minute > most:
            raise UsageRefused(
                f"{place}: {hour:02}:{minute:02} in {text!r} is no time of the day, which ends at 24:00",
                remedy,
            )
    if begin == end:
        raise UsageRefused(f"{place}: {text!r} is empty: it ends when it begins", remedy)
    return Span(begin, end)


class Timetable:
    """Tells open from closed, and when that changes; times are seconds since the epoch."""

    def __init__(self, spans: Sequence[Span], zone: tzinfo | None) -> None:
        """``zone`` is None for the machine's own."""
        self._spans = tuple(spans)
        self._zone = zone

    def is_open(self, at_seconds: float) -> bool:
        """Whether work may be done then; without spans always."""
        wall = self._wall(at_seconds)
        minute = 60 * wall.hour + wall.minute
        return not self._spans or any(minute in span for span in self._spans)

    def changes_at(self, at_seconds: float) -> int | None:
        """The first full minute after ``at_seconds`` at which it opens or closes.

        None where it does neither for four days.
        """
        if not self._spans:
            return None
        is_open = self.is_open(at_seconds)
        this_minute = int(at_seconds // 60)
        for minute in range(this_minute + 1, this_minute + 1 + _SEARCHED_MINUTES):
            if self.is_open(minute * 60) is not is_open:
                return minute * 60
        return None

    def shown(self, at_seconds: float) -> str:
        """The time on the wall, with the zone's abbreviation: ``22:00 CET``."""
        wall = self._wall(at_seconds)
        return f"{wall:%H:%M} {wall.tzname() or ''}".rstrip()

    def _wall(self, at_seconds: float) -> datetime:
        # Through the local zone's offset at that instant where none is named.
        return datetime.fromtimestamp(at_seconds, UTC).astimezone(self._zone)
