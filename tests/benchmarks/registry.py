"""Every bench: how it is started at each scale, and how its figures are read.

A bench is a file ``bench_NAME.py`` beside this one. Most of them sit (``sitting.py``): they take
``--scale`` and ``--json FILE``, and write a ``results.Bench``. Those that write figures of their own
shape have a function here that reads them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.comparison import Comparison, Series
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.results import Bench, read_bench
from tests.benchmarks.sitting import Scale

ROOT: Final = Path(__file__).parents[2]


class BenchFailed(Exception):
    """It ended with another code than 0, and has said why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One bench."""

    name: str
    scales: Sequence[Scale]
    """Those at which it has something to say."""
    run: Callable[[Scale, int | None], Bench]
    """With so many rounds, or as many as it thinks right. Raises ``BenchFailed``."""


def module_of(name: str) -> str:
    return f"tests.benchmarks.bench_{name}"


def _start(name: str, *arguments: str) -> None:
    """It shows its tables on the terminal."""
    command = [sys.executable, "-m", module_of(name), *arguments]
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise BenchFailed(f"bench_{name} ended with {code}")


def _sitting(name: str, *scales: Scale) -> Entry:
    def run(scale: Scale, rounds: int | None) -> Bench:
        with tempfile.TemporaryDirectory() as scratch:
            told = Path(scratch, "bench.json")
            limited = () if rounds is None else ("--rounds", str(rounds))
            _start(name, "--scale", scale, "--json", str(told), *limited)
            return read_bench(told)

    return Entry(name, scales, run)


PIPELINE_CALLS: Final[Mapping[Scale, int]] = {"quick": 500, "small": 20_000, "large": 20_000}
STEADY_CALLS: Final[Mapping[Scale, int]] = {"quick": 100, "small": 300, "large": 300}


def pipeline(scale: Scale, rounds: int | None) -> Bench:
    """Every client in turns."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch, "pipeline.json")
        arguments = ("--calls", str(PIPELINE_CALLS[scale]), "--repeats", str(rounds or 3))
        _start("pipeline", *arguments, "--json", str(told))
        figures: Any = json.loads(told.read_bytes())
        steady = ("--steady", "--calls", str(STEADY_CALLS[scale]), "--repeats", "1")
        _start("pipeline", *steady, "--json", str(told))
        paced: Any = json.loads(told.read_bytes())["steady"]
    series = tuple(
        Series(
            f"{name}, {figures['in_flight'][name]} in flight",
            tuple(
                Measurement(
                    turn["seconds"],
                    turn["cpu_seconds"],
                    turn["peak_mb"],
                    {
                        "calls_per_second": turn["calls"] / turn["seconds"],
                        "CPU_ms_per_call": 1000 * turn["cpu_seconds"] / turn["calls"],
                    },
                )
                for turn in turns
            ),
        )
        for name, turns in figures["turns"].items()
    )
    return Bench(
        "pipeline",
        "How many calls a second does the pipeline make, with everything durable?",
        f"python -m {module_of('pipeline')} {' '.join(arguments)}",
        time.monotonic() - began,
        (
            Comparison(
                f"{PIPELINE_CALLS[scale]:,} calls to a quick server",
                "calls_per_second",
                series[0].contestant,
                series,
                "half of the bare loop, and never below the official SDK",
            ),
            Comparison(
                f"{STEADY_CALLS[scale]:,} calls at 19.8/s",
                "percent_of_a_core",
                next(iter(paced)),
                tuple(
                    Series(
                        name,
                        tuple(
                            Measurement(
                                turn["seconds"],
                                turn["cpu_seconds"],
                                turn["peak_mb"],
                                {"percent_of_a_core": 100 * turn["share_of_a_core"]},
                            )
                            for turn in turns
                        ),
                    )
                    for name, turns in paced.items()
                ),
                "3 % of a core, 100 MB",
            ),
        ),
    )


ENTRIES: Final = (
    _sitting("start", "quick", "small"),
    _sitting("status", "quick", "small", "large"),
    _sitting("ledger", "quick", "small"),
    _sitting("sources", "quick", "small"),
    _sitting("plan", "quick", "small", "large"),
    _sitting("report", "quick", "small", "large"),
    Entry("pipeline", ("quick", "small"), pipeline),
    _sitting("pacing", "quick", "small"),
)
