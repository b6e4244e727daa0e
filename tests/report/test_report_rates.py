from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.report.rates import measure


def test_a_second_is_half_open() -> None:
    assert measure([0, 999_999], 20).max_in_any_second == 2
    assert measure([0, 1_000_000], 20).max_in_any_second == 1


@given(st.lists(st.integers(0, 5_000_000), min_size=1, max_size=60).map(sorted))
def test_the_window_agrees_with_counting_from_every_call(times: list[int]) -> None:
    naive = max(sum(begin <= other < begin + 1_000_000 for other in times) for begin in times)
    rate = measure(times, 20)
    assert rate.max_in_any_second == naive
    assert rate.sent == len(times)


def test_an_idle_pause_is_not_busy_time() -> None:
    first = [step * 50_000 for step in range(21)]
    later = [60_000_000 + time for time in first]
    rate = measure(first + later, 20)
    assert rate.busy_seconds == pytest.approx(2.0)
    assert rate.per_second == pytest.approx(20.0)


def test_a_slow_configured_rate_is_not_a_series_of_pauses() -> None:
    rate = measure([0, 10_000_000, 20_000_000], 0.1)
    assert rate.per_second == pytest.approx(0.1)


def test_one_call_has_no_rate() -> None:
    assert measure([7], 20).per_second is None
    assert measure([], 20).max_in_any_second == 0
