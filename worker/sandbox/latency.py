"""How long the sandbox takes to answer."""

from __future__ import annotations

import math
import random
from typing import assert_never

import msgspec

from worker.errors import UsageRefused


class NoLatency(msgspec.Struct, frozen=True):
    """Answers at once."""


class FixedLatency(msgspec.Struct, frozen=True):
    """Every answer takes the same time."""

    seconds: float


class LogNormalLatency(msgspec.Struct, frozen=True):
    """Most answers take about ``median_seconds``, a few much longer."""

    median_seconds: float
    sigma: float = 0.5
    """Standard deviation of the logarithm; 0.5 puts one answer in a hundred above 3.2 medians."""


Latency = NoLatency | FixedLatency | LogNormalLatency


class LatencySampler:
    """Draws the seconds of each answer; the same seed draws the same series."""

    def __init__(self, latency: Latency, seed: int) -> None:
        self._latency = latency
        self._random = random.Random(seed)  # noqa: S311 (a reproducible series, not a secret)

    def draw_seconds(self) -> float:
        match self._latency:
            case NoLatency():
                return 0.0
            case FixedLatency(seconds):
                return seconds
            case LogNormalLatency(median_seconds, sigma):
                return self._random.lognormvariate(math.log(median_seconds), sigma)
            case _ as unreachable:
                assert_never(unreachable)


def parse_latency(text: str) -> Latency:
    """``none``, ``fixed:SECONDS`` or ``lognormal:MEDIAN_SECONDS[:SIGMA]``.

    Raises ``UsageRefused``.
    """
    form, *words = text.split(":")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if all(math.isfinite(number) and number >= 0 for number in numbers):
        match form, numbers:
            case "none", []:
                return NoLatency()
            case "fixed", [seconds]:
                return FixedLatency(seconds)
            case "lognormal", [median, *sigma] if median > 0 and len(sigma) <= 1:
                return LogNormalLatency(median, *sigma)
    raise UsageRefused(
        f"--latency {text!r} is not a latency",
        "write none, fixed:SECONDS or lognormal:MEDIAN_SECONDS[:SIGMA], e.g. lognormal:0.05:0.5",
    )
