"""Contestants over the same work, round after round, each round against its own baseline.

A shared machine is faster in one minute than in the next. So the contestants take turns, the order
changes from round to round, and a ratio is taken within a round; of the rounds the median counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.measurement import HOUR_SECONDS, Ended, Measurement, measure
from tests.benchmarks.spread import Spread


class WrongAnswer(Exception):
    """A contestant finished with a wrong result: its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """All measurements of one contestant, one for each round."""

    contestant: str
    measurements: tuple[Measurement, ...]

    @property
    def failure(self) -> str:
        """Why not one of them counts; ``""`` where one does."""
        failures = [measurement.failure for measurement in self.measurements]
        return failures[0] if failures and all(failures) else ""

    def spread(self, figure: str) -> Spread | None:
        """Of one figure over the measurements that count; None where none has it."""
        return Spread.of(
            m.figure(figure) for m in self.measurements if not m.failure and _has(m, figure)
        )


def _has(measurement: Measurement, figure: str) -> bool:
    try:
        measurement.figure(figure)
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured of one piece of work."""

    title: str
    figure: str
    """The one that is compared; its unit is in its name."""
    baseline: str
    """The contestant that the others are measured against."""
    series: tuple[Series, ...]
    to_reach: str = ""
    """What the ratio or figure of the program is to be, in words; ``""`` where nothing was set."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Contestants that could not take part, and why."""

    def __post_init__(self) -> None:
        names = [series.contestant for series in self.series]
        assert len(set(names)) == len(names), names
        assert self.baseline in {*names, *self.skipped}, self.baseline

    def of(self, contestant: str) -> Series:
        """Raises ``KeyError`` for a contestant that did not take part."""
        for series in self.series:
            if series.contestant == contestant:
                return series
        raise KeyError(contestant)

    def ratio(self, contestant: str) -> Spread | None:
        """Its figure over the baseline's, round by round; None without a round of both."""
        if self.baseline in self.skipped:
            return None
        rounds = zip(
            self.of(contestant).measurements, self.of(self.baseline).measurements, strict=False
        )
        return Spread.of(
            ours.figure(self.figure) / base.figure(self.figure)
            for ours, base in rounds
            if not ours.failure and not base.failure and base.figure(self.figure)
        )


def _nothing() -> None:
    """There is nothing to prepare."""


def _no_figures(_ended: Ended) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A command that does the work, and the check that it did."""

    name: str
    command: Sequence[str | Path]
    check: Callable[[Ended], Mapping[str, float]] = _no_figures
    """Raises ``WrongAnswer``; otherwise further figures of the run. Not timed."""
    prepare: Callable[[], None] = _nothing
    """Before each run; not timed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    may_fail: bool = False
    """Whether it failing is a result (out of memory) and no reason to stop."""


def _run(contestant: Contestant, limit_seconds: float) -> Measurement:
    contestant.prepare()
    ended = measure(
        contestant.command, environment=contestant.environment, limit_seconds=limit_seconds
    )
    measurement = ended.measurement
    if measurement.failure:
        if not contestant.may_fail:
            raise WrongAnswer(f"{contestant.name}: {measurement.failure}\n{ended.err[-2000:]}")
        return measurement
    return replace(measurement, told=contestant.check(ended))


def compare(
    title: str,
    contestants: Sequence[Contestant],
    *,
    baseline: str,
    figure: str = "wall_seconds",
    rounds: int = 3,
    budget_seconds: float = HOUR_SECONDS,
    limit_seconds: float = HOUR_SECONDS,
    to_reach: str = "",
    skipped: Mapping[str, str] | None = None,
) -> Comparison:
    """Measure ``contestants`` in turn, for so many rounds or until the budget is used up.

    The first round is always finished; none begins that would not fit into what is left of the
    budget. Raises ``WrongAnswer`` where a contestant fails that may not, or a check does.
    """
    taken: dict[str, list[Measurement]] = {contestant.name: [] for contestant in contestants}
    began = time.monotonic()
    for number in range(rounds):
        spent_seconds = time.monotonic() - began
        if number and spent_seconds * (number + 1) / number > budget_seconds:
            break
        turn = number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            of_this = taken[contestant.name]
            if of_this and of_this[0].failure:
                of_this.append(of_this[0])  # it would fail again, and take as long
            else:
                of_this.append(_run(contestant, limit_seconds))
    series = tuple(Series(name, tuple(measured)) for name, measured in taken.items())
    return Comparison(title, figure, baseline, series, to_reach, skipped or {})
