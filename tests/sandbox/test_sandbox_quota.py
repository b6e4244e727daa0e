from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox.quota import Gate, Quota

gaps = st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.3, 1.0, 1.5]), min_size=1, max_size=80)


def times(steps: list[float]) -> list[float]:
    now, all_of_them = 100.0, []
    for step in steps:
        now += step
        all_of_them.append(now)
    return all_of_them


def most_in_any_second(admitted: list[float]) -> int:
    return max((sum(t - 1.0 < other <= t for other in admitted) for t in admitted), default=0)


@given(gaps, st.integers(1, 6))
def test_a_sliding_second_lets_through_exactly_what_fits(steps: list[float], calls: int) -> None:
    gate = Gate(Quota(calls_per_second=calls))
    admitted: list[float] = []
    for now in times(steps):
        fits = sum(now - 1.0 < earlier for earlier in admitted) < calls
        wait_seconds = gate.admit("DeleteFaces", now)
        assert (wait_seconds == 0.0) == fits
        if wait_seconds == 0.0:
            admitted.append(now)
        else:
            assert 0.0 < wait_seconds <= 1.0
    assert most_in_any_second(admitted) <= calls


@given(gaps, st.integers(1, 6))
def test_a_calendar_second_starts_anew(steps: list[float], calls: int) -> None:
    gate = Gate(Quota(window="calendar", calls_per_second=calls))
    counts: dict[int, int] = {}
    for now in times(steps):
        wait_seconds = gate.admit("DeleteFaces", now)
        assert (wait_seconds == 0.0) == (counts.get(int(now), 0) < calls)
        if wait_seconds == 0.0:
            counts[int(now)] = counts.get(int(now), 0) + 1
        else:
            assert int(now + wait_seconds + 1e-9) == int(now) + 1


@given(gaps, st.integers(1, 6), st.integers(1, 10))
def test_a_bucket_never_gives_more_than_it_had_and_gained(
    steps: list[float], calls: int, burst: int
) -> None:
    gate = Gate(Quota(window="bucket", calls_per_second=calls, burst=burst))
    admitted = [now for now in times(steps) if gate.admit("DeleteFaces", now) == 0.0]
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            given_out = last - first + 1
            assert given_out <= burst + (admitted[last] - start) * calls + 1e-6


def test_a_calendar_second_lets_twice_as_many_through_around_its_edge() -> None:
    gate = Gate(Quota(window="calendar"))
    assert sum(gate.admit("DeleteFaces", 9.99) == 0.0 for _ in range(30)) == 20
    assert sum(gate.admit("DeleteFaces", 10.0) == 0.0 for _ in range(30)) == 20


@pytest.mark.parametrize(("shared", "second"), [(False, True), (True, False)])
def test_operations_share_a_window_only_when_told_to(shared: bool, second: bool) -> None:  # noqa: FBT001 (a table)
    gate = Gate(Quota(calls_per_second=1, shared=shared))
    assert gate.admit("DeleteFaces", 1.0) == 0.0
    assert (gate.admit("GetPerson", 1.1) == 0.0) is second


@pytest.mark.parametrize("window", ["sliding", "bucket"])
def test_refused_calls_count_only_when_told_to(window: Any) -> None:
    def admitted_at(counting: bool) -> list[int]:  # noqa: FBT001 (one word)
        gate = Gate(Quota(window=window, calls_per_second=2, count_throttled=counting))
        return [n for n in range(40) if gate.admit("DeleteFaces", 1 + n / 10) == 0.0]

    assert len(admitted_at(False)) >= 8
    assert len(admitted_at(True)) <= 4


def test_no_window_lets_everything_through() -> None:
    gate = Gate(Quota(window="off"))
    assert all(gate.admit("DeleteFaces", 1.0) == 0.0 for _ in range(1000))


def test_a_stamp_older_than_the_last_is_taken_as_simultaneous() -> None:
    gate = Gate(Quota(calls_per_second=2))
    waits = [gate.admit("DeleteFaces", now) for now in (5.0, 4.9999, 5.5, 6.0)]
    assert [wait == 0.0 for wait in waits] == [True, True, False, True]
