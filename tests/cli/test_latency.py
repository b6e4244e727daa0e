from __future__ import annotations

import random
import sys

import pytest

from worker.cli.latency import SPAN_SECONDS, Latencies


def test_nothing_is_known_of_nothing() -> None:
    assert Latencies().percentiles(0.0) is None


def test_percentiles_are_off_by_two_percent_at_most() -> None:
    chance = random.Random(5)
    seconds = [chance.lognormvariate(-2.5, 1.0) for _ in range(20_000)]
    latencies = Latencies()
    for one in seconds:
        latencies.add(one, 1.0)
    told = latencies.percentiles(2.0)
    assert told is not None
    seconds.sort()
    for share, value in zip((0.50, 0.95, 0.99), told, strict=True):
        assert value == pytest.approx(seconds[int(share * len(seconds)) - 1], rel=0.025)


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0.0001), (1e-9, 0.0001), (1e9, 3600.0)])
def test_what_is_out_of_range_counts_at_its_end(seconds: float, told: float) -> None:
    latencies = Latencies()
    latencies.add(seconds, 1.0)
    percentiles = latencies.percentiles(1.0)
    assert percentiles is not None
    assert percentiles.p50 == percentiles.p99 == pytest.approx(told, rel=0.05)


def test_what_is_long_past_is_forgotten() -> None:
    latencies = Latencies()
    latencies.add(5.0, 0.0)
    latencies.add(0.1, SPAN_SECONDS + 1)
    both = latencies.percentiles(SPAN_SECONDS + 2)
    assert both is not None
    assert both.p99 > 4.5
    latencies.add(0.1, 2 * SPAN_SECONDS + 2)
    later = latencies.percentiles(2 * SPAN_SECONDS + 3)
    assert later is not None
    assert later.p99 < 0.2
    # Nothing was answered for a long time: nothing is known of now.
    assert latencies.percentiles(9 * SPAN_SECONDS) is None


def test_days_take_no_more_memory_than_seconds() -> None:
    latencies = Latencies()
    latencies.add(0.08, 0.0)
    before = sum(map(sys.getsizeof, (latencies._older, latencies._newer)))
    for second in range(0, 3 * 86_400, 60):
        latencies.add(0.08 + second % 7, float(second))
    assert sum(map(sys.getsizeof, (latencies._older, latencies._newer))) <= before
