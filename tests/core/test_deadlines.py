"""Due times as the input writes them, and the times at which calls would be made."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.deadlines import Schedule, Undated, due_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(st.datetimes(timezones=zones), st.sampled_from(["T", " "]))
def test_a_date_with_time_and_zone_is_that_moment(moment: datetime, between: str) -> None:
    text = moment.isoformat(sep=between)
    assert due_us(text) == us(moment)
    assert due_us(text.replace("+00:00", "Z")) == us(moment)


@given(st.datetimes(), st.sampled_from(["auto", "minutes", "seconds", "milliseconds"]))
def test_without_a_zone_it_is_utc(moment: datetime, precision: str) -> None:
    text = moment.isoformat(timespec=precision)
    assert due_us(text) == us(datetime.fromisoformat(f"{text}+00:00")) == due_us(f"{text}Z")


@given(st.dates())
def test_a_date_is_due_when_the_day_is_over(day: date) -> None:
    begin = us(datetime.combine(day, time(), UTC))
    assert due_us(day.isoformat()) == begin + 24 * 3600 * 1_000_000


@given(
    st.text(max_size=30)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.Z+-]*)?", fullmatch=True)
)
def test_any_other_text_is_a_reason_and_never_a_crash(text: str) -> None:
    try:
        moment = due_us(text)
    except Undated as error:
        reason = str(error)
    else:
        assert datetime.fromisoformat(text).year == int(text[:4])
        assert isinstance(moment, int)
        return
    assert reason.startswith("due time ")


@pytest.mark.parametrize(("rate", "sent_us"), [(20.0, 1_150_000), (0.5, 7_000_000)])
def test_a_schedule_counts_calls(rate: float, sent_us: int) -> None:
    schedule = Schedule(1_000_000, rate)
    assert schedule.sent_us(0) == 1_000_000
    assert schedule.sent_us(3) == sent_us
