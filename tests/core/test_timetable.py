"""When a run may work: durations, spans of the day, zones and their clocks."""

from __future__ import annotations

import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import UsageRefused
from worker.timetable import Span, Timetable, parse_duration, parse_spans, parse_zone


def at(text: str) -> float:
    """Seconds since the epoch of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def in_zone(window: str, zone: str) -> Timetable:
    return Timetable(parse_spans(window), parse_zone(zone))


def openings(timetable: Timetable, begin: str, end: str) -> list[tuple[str, str]]:
    """When it is open between two times in UTC, worked out by going from change to change."""
    now, until = at(begin), at(end)
    spans: list[tuple[str, str]] = []
    while now < until:
        change = timetable.changes_at(now)
        next_change = min(until, until if change is None else change)
        if timetable.is_open(now):
            spans.append((shown(now), shown(next_change)))
        now = next_change
    return spans


def shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%d %H:%M}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6h", 21_600),
        ("90m", 5_400),
        ("1d12h", 129_600),
        ("1d2h3m4s", 93_784),
        ("45s", 45),
        ("0h1s", 1),
        ("366d", 31_622_400),
        ("none", 0),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not a duration"),
        ("90", "'90' is not a duration"),
        ("h", "'h' is not a duration"),
        ("1.5h", "'1.5h' is not a duration"),
        ("-1h", "'-1h' is not a duration"),
        ("1h1d", "'1h1d' is not a duration"),
        ("1h 30m", "'1h 30m' is not a duration"),
        ("6H", "'6H' is not a duration"),
        ("٦h", "is not a duration"),
        ("0s", "'0s' is no time at all, and 1 second to 366 days"),
        ("367d", "'367d' is too long"),
        ("99999999999d", "'99999999999d' is too long, and 1 second to 366 days"),
        ("9" * 5000 + "d", "is not a duration"),
    ],
)
def test_what_is_no_duration(text: str, said: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse_duration(text, "--max-duration")
    assert refused.value.cause.startswith("--max-duration: ")
    assert said in refused.value.cause
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("always", ()),
        ("22:00-06:00", (Span(1320, 360),)),
        ("22:00-06:00,12:00-13:00", (Span(1320, 360), Span(720, 780))),
        ("00:00-24:00", (Span(0, 1440),)),
        ("23:59-00:00", (Span(1439, 0),)),
    ],
)
def test_spans(text: str, spans: tuple[Span, ...]) -> None:
    assert parse_spans(text) == spans


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not a span of the day"),
        ("22:00", "'22:00' is not a span"),
        ("22-06", "'22-06' is not a span"),
        ("2:00-6:00", "'2:00-6:00' is not a span"),
        ("22:00-06:00,", "'' is not a span"),
        ("22:00 - 06:00", "is not a span"),
        ("٢٢:00-06:00", "is not a span"),
        ("25:00-06:00", "25:00 in '25:00-06:00' is no time of the day"),
        ("22:00-25:00", "25:00 in '22:00-25:00' is no time of the day"),
        ("22:60-06:00", "22:60 in '22:60-06:00' is no time of the day"),
        ("22:00-24:01", "24:01 in '22:00-24:01' is no time of the day"),
        ("24:00-06:00", "24:00 in '24:00-06:00' is no time of the day"),
        ("22:00-22:00", "'22:00-22:00' is empty"),
    ],
)
def test_what_is_no_window(text: str, said: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse_spans(text, "--window")
    assert refused.value.cause.startswith("--window: ")
    assert said in refused.value.cause
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europe/Berlim", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("Asia/Bejing", "Asia/Beijing"),
        ("Shanghai", "Asia/Shanghai"),
        ("new york", "America/New_York"),
        ("/etc/passwd", ""),
        ("../../etc/localtime", ""),
        ("Nowhere/At_All_Whatsoever", ""),
    ],
)
def test_zones_that_do_not_exist(name: str, near: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse_zone(name, "--time-zone")
    assert refused.value.cause == f"--time-zone: there is no time zone {name!r}"
    known = zoneinfo.available_timezones()
    if near in known:
        assert refused.value.remedy == f"did you mean {near}?"
    assert refused.value.remedy


def test_a_machine_without_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(UsageRefused, match="has no time zone database") as refused:
        parse_zone("Europe/Berlin")
    assert "tzdata" in refused.value.remedy
    assert parse_zone("UTC") is UTC


def test_over_midnight_by_the_clock_on_the_wall() -> None:
    night = in_zone("22:00-06:00", "Europe/Berlin")
    assert openings(night, "2026-01-10T00:00", "2026-01-12T00:00") == [
        ("10 00:00", "10 05:00"),
        ("10 21:00", "11 05:00"),
        ("11 21:00", "12 00:00"),
    ]
    assert night.is_open(at("2026-01-10T04:59:59.999"))
    assert not night.is_open(at("2026-01-10T05:00"))
    assert night.shown(at("2026-01-10T21:00")) == "22:00 CET"
    assert night.shown(at("2026-07-10T20:00")) == "22:00 CEST"


def test_several_spans_and_those_that_touch() -> None:
    both = in_zone("12:00-13:00,13:00-14:00,22:00-24:00,00:00-01:00", "UTC")
    assert openings(both, "2026-01-10T00:00", "2026-01-11T12:00") == [
        ("10 00:00", "10 01:00"),
        ("10 12:00", "10 14:00"),
        ("10 22:00", "11 01:00"),
    ]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # 29 March 2026: 02:00 CET becomes 03:00 CEST, at 01:00 UTC.
        ("02:15-02:45", [("28 01:15", "28 01:45"), ("30 00:15", "30 00:45")]),
        ("01:30-02:30", [("28 00:30", "28 01:30"), ("29 00:30", "29 01:00"),
                         ("29 23:30", "30 00:30"), ("30 23:30", "31 00:00")]),
        ("02:30-03:30", [("28 01:30", "28 02:30"), ("29 01:00", "29 01:30"),
                         ("30 00:30", "30 01:30")]),
        ("22:00-06:00", [("28 00:00", "28 05:00"), ("28 21:00", "29 04:00"),
                         ("29 20:00", "30 04:00"), ("30 20:00", "31 00:00")]),
    ],
)  # fmt: skip
def test_the_hour_that_summer_time_skips(window: str, expected: list[tuple[str, str]]) -> None:
    timetable = in_zone(window, "Europe/Berlin")
    assert openings(timetable, "2026-03-28T00:00", "2026-03-31T00:00") == expected


def test_the_hour_that_comes_twice() -> None:
    # 25 October 2026: 03:00 CEST becomes 02:00 CET, at 01:00 UTC.
    assert openings(
        in_zone("02:15-02:45", "Europe/Berlin"), "2026-10-24T12:00", "2026-10-26T00:00"
    ) == [("25 00:15", "25 00:45"), ("25 01:15", "25 01:45")]
    assert openings(
        in_zone("02:00-03:00", "Europe/Berlin"), "2026-10-24T12:00", "2026-10-26T00:00"
    ) == [("25 00:00", "25 02:00")]


def test_half_an_hour_of_summer_time() -> None:
    # Lord Howe Island: on 4 October 2026 the clock goes from 02:00 (+10:30) to 02:30 (+11).
    assert openings(
        in_zone("02:00-02:40", "Australia/Lord_Howe"), "2026-10-03T12:00", "2026-10-04T12:00"
    ) == [("03 15:30", "03 15:40")]


def test_a_day_that_a_zone_skips() -> None:
    # Samoa had no 30 December 2011.
    noon = in_zone("12:00-13:00", "Pacific/Apia")
    assert openings(noon, "2011-12-29T00:00", "2012-01-01T00:00") == [
        ("29 22:00", "29 23:00"),
        ("30 22:00", "30 23:00"),
        ("31 22:00", "31 23:00"),
    ]


@pytest.mark.parametrize("window", ["always", "00:00-24:00", "06:00-18:00,18:00-06:00"])
def test_a_window_that_never_closes(window: str) -> None:
    timetable = in_zone(window, "Europe/Berlin")
    assert timetable.is_open(at("2026-01-10T03:00"))
    assert timetable.changes_at(at("2026-01-10T03:00")) is None


@pytest.fixture
def machine_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("machine_in_new_york")
def test_without_a_name_the_zone_is_the_machines() -> None:
    night = in_zone("22:00-06:00", "")
    assert openings(night, "2026-03-07T12:00", "2026-03-09T12:00") == [
        ("08 03:00", "08 10:00"),  # 8 March 2026: an hour shorter
        ("09 02:00", "09 10:00"),
    ]
    assert night.shown(at("2026-01-10T03:00")) == "22:00 EST"


@settings(deadline=None)
@given(
    minutes=st.lists(st.integers(0, 1439), min_size=2, max_size=6, unique=True),
    zone=st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Africa/Casablanca"]
    ),
    start=st.integers(0, 365 * 1440),
)
def test_going_from_change_to_change_misses_nothing(
    minutes: list[int], zone: str, start: int
) -> None:
    pairs = list(zip(minutes[::2], minutes[1::2], strict=False))
    timetable = Timetable([Span(begin, end) for begin, end in pairs], parse_zone(zone))
    base = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    change = timetable.changes_at(base.timestamp())
    if change is None:
        change = int((base + timedelta(days=2)).timestamp())
    else:
        assert timetable.is_open(change) is not timetable.is_open(base.timestamp())
    state = timetable.is_open(base.timestamp())
    for second in range(int(base.timestamp()), change, 600):
        assert timetable.is_open(second) is state
