"""How much of the allowed 20 calls a second a run uses, and that it never takes more: ``pace.py``, in short.

``python -m tests.benchmarks.bench_pacing`` takes a minute and a half, and needs the machine for itself: what
delays the sandbox's clock shows as a pace that was not kept. ``make pace`` sends four times as much.
"""

from __future__ import annotations

import time
from typing import Final

from tests.benchmarks.comparison import Comparison, Series
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.pace import ALLOWED, SHORT_CALLS, Seen, all_series, seen_of
from tests.benchmarks.sitting import Sitting, parser

QUESTION: Final = "How much of the allowed rate does a run use, as the server sees it?"
QUICK_CALLS: Final = 220
"""A stretch counts from a hundred calls on, and two series have two."""

BASELINE: Final = f"the allowed {ALLOWED}/s"


def told_by(seen: Seen, wall_seconds: float) -> Measurement:
    """Of the slowest busy stretch; the processes themselves were not measured."""
    told = {
        "calls_per_second": min(seen.shares, default=0.0) * ALLOWED,
        "most_in_any_second": float(seen.most_in_any_second),
        "calls_throttled": float(seen.throttled),
    }
    return Measurement(wall_seconds, None, None, told)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--calls", type=int, help="of each series")
    options.add_argument("--only", default="", help="a part of the series' names")
    options.set_defaults(rounds=1)
    given = options.parse_args()
    calls: int = given.calls or (QUICK_CALLS if given.scale == "quick" else SHORT_CALLS)
    chosen = [series for series in all_series(calls) if given.only in series.name]
    with Sitting("pacing", QUESTION, given.json) as sitting:
        measured: dict[str, list[Measurement]] = {series.name: [] for series in chosen}
        for _ in range(given.rounds):
            for series in chosen:
                began = time.monotonic()
                seen = seen_of(series, calls)
                measured[series.name].append(told_by(seen, time.monotonic() - began))
        allowed = Measurement(0.0, None, None, {"calls_per_second": float(ALLOWED)})
        sitting.add(
            Comparison(
                f"{calls} calls to the sandbox",
                "calls_per_second",
                BASELINE,
                (
                    Series(BASELINE, (allowed,) * given.rounds),
                    *(Series(name, tuple(taken)) for name, taken in measured.items()),
                ),
                "98.5 %, and at most 20 in any second",
            )
        )


if __name__ == "__main__":
    main()
