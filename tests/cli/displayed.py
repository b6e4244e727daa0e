"""A run in full swing, as the display is asked to show it."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.cli.latency import Percentiles
from worker.cli.progress import LaneProgress, Progress
from worker.cli.troubles import Trouble

NOW = datetime(2026, 1, 1, 21, 30, tzinfo=UTC)

BUSY = Progress(
    faces_done=1_234_567,
    faces_total=2_000_000,
    outcomes={"unsent": 765_433, "deleted": 1_230_000, "present": 0, "refused": 4_567},
    calls_sent=312_412,
    calls_in_flight=12,
    repeats=41,
    throttles=3,
    rate_per_second=19.8,
    mean_rate_per_second=19.74,
    elapsed_seconds=62_400.0,
    eta_seconds=5_400.4,
    waiting="throttled",
    lanes=(
        LaneProgress("deletions", 19.4, 19.8, 11, "throttled"),
        LaneProgress("lookups", 0.4, 19.8, 1, "backoff"),
    ),
    latency=Percentiles(0.084, 0.21, 1.24),
    troubles=(
        Trouble("refused 400", 12, NOW.timestamp() - 20, "in.csv:1234"),
        Trouble(
            "ambiguous read timeout",
            4,
            datetime(2025, 12, 31, 8, 5, tzinfo=UTC).timestamp(),
            "in.csv:99",
        ),
    ),
)
