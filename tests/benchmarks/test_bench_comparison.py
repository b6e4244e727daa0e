"""Medians, ratios and rounds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.benchmarks.comparison import Comparison, Contestant, Series, WrongAnswer, compare
from tests.benchmarks.measurement import Ended, Measurement
from tests.benchmarks.spread import Spread


def _series(name: str, *seconds: float, failure: str = "") -> Series:
    return Series(name, tuple(Measurement(s, s, 10.0, {"rows": s}, failure) for s in seconds))


def _of(*series: Series, figure: str = "wall_seconds") -> Comparison:
    return Comparison("work", figure, series[0].contestant, series)


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([3.0], Spread(3.0, 3.0, 3.0)),
        ([9.0, 1.0, 2.0], Spread(2.0, 1.0, 9.0)),
        ([4.0, 1.0, 2.0, 9.0], Spread(3.0, 1.0, 9.0)),
        ([], None),
    ],
)
def test_a_spread_is_median_least_and_most(values: list[float], spread: Spread | None) -> None:
    assert Spread.of(values) == spread


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Spread(1234.5, 1234.5, 1234.5), "1,234"),
        (Spread(12.34, 1.234, 123.4), "12.3 (1.23..123)"),
        (Spread(0.0123, 0.0, 0.5), "0.012 (0.00..0.500)"),
    ],
)
def test_a_spread_shows_three_digits(value: Spread, shown: str) -> None:
    assert str(value) == shown


def test_a_ratio_is_taken_within_a_round() -> None:
    # The machine was three times slower in the second round; each round says 2.
    slow = _of(_series("base", 1.0, 3.0, 1.0), _series("ours", 2.0, 6.0, 2.0))
    assert slow.ratio("ours") == Spread(2.0, 2.0, 2.0)
    apart = _of(_series("base", 1.0, 2.0, 4.0), _series("ours", 3.0, 3.0, 3.0))
    assert apart.ratio("ours") == Spread(1.5, 0.75, 3.0)


def test_a_ratio_is_of_the_figure_that_is_compared() -> None:
    base = Series("base", (Measurement(1.0, 1.0, 1.0, {"calls_per_second": 8.0}),))
    ours = Series("ours", (Measurement(1.0, 1.0, 1.0, {"calls_per_second": 4.0}),))
    comparison = _of(base, ours, figure="calls_per_second")
    assert comparison.ratio("ours") == Spread(0.5, 0.5, 0.5)


def test_a_round_in_which_one_failed_has_no_ratio() -> None:
    comparison = _of(_series("base", 1.0), _series("ours", 2.0, failure="out of memory"))
    assert comparison.ratio("ours") is None
    assert comparison.of("ours").spread("wall_seconds") is None
    assert comparison.of("ours").failure == "out of memory"


def test_a_baseline_that_is_missing_is_no_ratio() -> None:
    comparison = Comparison(
        "work", "wall_seconds", "base", (_series("ours", 2.0),), "", {"base": "not installed"}
    )
    assert comparison.ratio("ours") is None


def test_a_baseline_has_to_be_somebody() -> None:
    with pytest.raises(AssertionError, match="nobody"):
        Comparison("work", "wall_seconds", "nobody", (_series("ours", 1.0),))


def _writes(name: str, log: Path, *more: str) -> Contestant:
    script = f"open({str(log)!r}, 'a').write({name!r}); {'; '.join(more)}"
    return Contestant(name, [sys.executable, "-c", script])


def test_contestants_take_turns_and_change_places(tmp_path: Path) -> None:
    log = tmp_path / "log"
    contestants = [_writes(name, log) for name in "abc"]
    comparison = compare("work", contestants, baseline="a", rounds=4)
    assert log.read_text() == "abcbcacababc"
    assert [len(series.measurements) for series in comparison.series] == [4, 4, 4]


def test_the_budget_ends_the_rounds_but_not_the_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    compare("work", [_writes("a", log)], baseline="a", rounds=5, budget_seconds=0.0)
    assert log.read_text() == "a"


def test_it_is_prepared_and_checked_each_time(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def check(ended: Ended) -> Mapping[str, float]:
        return {"size": float(len(log.read_text())), "said": float(ended.out)}

    contestant = Contestant(
        "a", [sys.executable, "-c", f"open({str(log)!r}, 'a').write('a'); print(7)"], check
    )
    told = [m.told for m in compare("w", [contestant], baseline="a", rounds=2).of("a").measurements]
    assert told == [{"size": 1.0, "said": 7.0}, {"size": 2.0, "said": 7.0}]
    cleared = Contestant("a", contestant.command, check, lambda: log.unlink(missing_ok=True))
    told = [m.told for m in compare("w", [cleared], baseline="a", rounds=2).of("a").measurements]
    assert [figures["size"] for figures in told] == [1.0, 1.0]


def test_a_wrong_answer_is_no_measurement() -> None:
    def check(_ended: Ended) -> Mapping[str, float]:
        raise WrongAnswer("it counted 3 of 4")

    contestant = Contestant("a", [sys.executable, "-c", ""], check)
    with pytest.raises(WrongAnswer, match="3 of 4"):
        compare("work", [contestant], baseline="a")


def test_a_failure_ends_the_comparison_unless_it_is_a_result(tmp_path: Path) -> None:
    log = tmp_path / "log"
    broken = _writes("a", log, "raise SystemExit('out of memory')")
    with pytest.raises(WrongAnswer, match="out of memory"):
        compare("work", [broken], baseline="a")
    log.unlink()
    tolerated = Contestant("a", broken.command, may_fail=True)
    comparison = compare("work", [tolerated], baseline="a", rounds=3)
    assert comparison.of("a").failure == "ended with 1: out of memory"
    assert log.read_text() == "a"  # once is enough
