"""Everything that was measured, as JSON: to be compared later, and to make tables of.

Each ``bench_*.py`` writes a ``Bench``; a campaign over all of them writes ``Results``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import Machine


@dataclass(frozen=True, slots=True)
class Bench:
    """One ``bench_*.py``, run once."""

    name: str
    """Of the file, without ``bench_``."""
    question: str
    """What it answers, in a sentence."""
    command: str
    seconds: float
    comparisons: tuple[Comparison, ...]

    def __post_init__(self) -> None:
        titles = [comparison.title for comparison in self.comparisons]
        assert len(set(titles)) == len(titles), titles


@dataclass(frozen=True, slots=True)
class Results:
    """A campaign."""

    date: str
    """When it began: ISO 8601, UTC."""
    command: str
    seconds: float
    load: float
    """Of the machine when it began: processes that wanted to run, over a minute."""
    machine: Machine
    benches: tuple[Bench, ...]


def write(path: Path, what: Bench | Results) -> None:
    """As indented JSON; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(what), indent=1) + b"\n")


def read_bench(path: Path) -> Bench:
    """Raises ``msgspec.ValidationError`` where it is no such thing."""
    return msgspec.json.decode(path.read_bytes(), type=Bench)


def read_results(path: Path) -> Results:
    """Raises ``msgspec.ValidationError`` where it is no such thing."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
