from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.displayed import BUSY, NOW
from worker.cli.progress import LaneProgress, duration_text, eta_text, facts, moment_text


def test_the_end_as_a_time_of_day_and_a_duration() -> None:
    assert eta_text(BUSY, NOW) == "ETA 23:00 (in 1 h 30 min)"
    tomorrow = replace(BUSY, eta_seconds=3 * 3600)
    assert eta_text(tomorrow, NOW) == "ETA Fri 2 Jan 00:30 (in 3 h 00 min)"
    assert eta_text(replace(BUSY, eta_seconds=None), NOW) == "ETA not known"
    assert eta_text(replace(BUSY, waiting="paused"), NOW) == "ETA not known while paused"
    assert eta_text(replace(BUSY, faces_done=BUSY.faces_total), NOW) == "all settled"


def test_a_moment_says_as_much_of_its_date_as_it_takes() -> None:
    assert moment_text(NOW, NOW) == "21:30"
    assert moment_text(NOW - timedelta(days=1), NOW) == "Wed 31 Dec 2025 21:30"
    assert moment_text(NOW + timedelta(days=40), NOW) == "Tue 10 Feb 21:30"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (90_000, "1 d 01 h")],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text


def test_the_share_of_the_quota_is_that_of_the_busiest_lane() -> None:
    assert BUSY.busiest_lane is BUSY.lanes[0]
    assert BUSY.lanes[0].quota_share == pytest.approx(0.98, abs=0.01)
    assert replace(BUSY, lanes=()).busiest_lane is None
    assert LaneProgress("deletions", 20.4, 19.8, 1, "").quota_share == 1.0
    assert LaneProgress("deletions", 20.4, 0.0, 1, "").quota_share == 0.0


def test_the_facts_of_a_line_of_the_log() -> None:
    told = facts(BUSY)
    eta = datetime.fromisoformat(str(told.pop("eta")))
    assert eta - datetime.now(UTC) == pytest.approx(
        timedelta(seconds=5400), abs=timedelta(seconds=60)
    )
    assert told == {
        "faces_done": 1_234_567,
        "faces_total": 2_000_000,
        "rate_per_second": 19.8,
        "mean_rate_per_second": 19.7,
        "calls_sent": 312_412,
        "calls_in_flight": 12,
        "waiting": "throttled",
        "quota_share": 0.98,
        "eta_in": "1 h 30 min",
        "deleted": 1_230_000,
        "refused": 4_567,
        "unsent": 765_433,
        "repeats": 41,
        "throttles": 3,
        "latency_ms": {"p50": 84.0, "p95": 210.0, "p99": 1240.0},
        "lanes": {"deletions": "19.4/s, throttled", "lookups": "0.4/s, backoff"},
        "trouble": {
            "refused 400": {
                "count": 12,
                "last_seen": "2026-01-01T21:29:40+00:00",
                "place": "in.csv:1234",
            },
            "ambiguous read timeout": {
                "count": 4,
                "last_seen": "2025-12-31T08:05:00+00:00",
                "place": "in.csv:99",
            },
        },
    }


def test_a_line_of_the_log_leaves_out_what_is_nothing() -> None:
    quiet = replace(
        BUSY, repeats=0, throttles=0, latency=None, lanes=(), troubles=(), eta_seconds=None
    )
    assert not facts(quiet).keys() & {
        *("repeats", "throttles", "latency_ms", "lanes", "trouble", "eta", "eta_in", "why"),
        *("present", "quota_share"),
    }
    paused = replace(quiet, waiting="paused", why="window until 22:00")
    assert facts(paused)["why"] == "window until 22:00"


def test_a_verification_is_done_when_it_has_been_answered() -> None:
    settled = replace(BUSY, faces_done=2_000_000, lookups_answered=250, lookups_left=750)
    assert settled.share == 0.25
    assert eta_text(settled, NOW) == "ETA 23:00 (in 1 h 30 min)"
    told = facts(settled)
    assert (told["lookups_answered"], told["lookups_asked"]) == (250, 1000)
    assert told["eta_in"] == "1 h 30 min"
    # As long as faces are to be settled, they are what it is about.
    assert replace(settled, faces_done=500_000).share == 0.25
    assert replace(settled, faces_done=1_000_000).share == 0.5
    done = replace(settled, lookups_answered=1000, lookups_left=0)
    assert (done.share, eta_text(done, NOW)) == (1.0, "all settled")
