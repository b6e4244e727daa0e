"""What every ``bench_*.py`` does around its measurements: options in, table and JSON out."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.results import Bench, write
from tests.benchmarks.table import aligned

Scale = Literal["quick", "small", "large"]
"""``quick`` shows that everything runs; its figures are mostly those of start-up."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every bench; one may add its own."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    made.add_argument("--scale", choices=get_args(Scale), default="small")
    made.add_argument("--rounds", type=int, default=3, help="of each comparison, at most")
    return made


class Sitting:
    """Shows each comparison as soon as it is made, and writes all of them at the end."""

    def __init__(self, name: str, question: str, json: Path | None) -> None:
        self._name = name
        self._question = question
        self._json = json
        self._began = time.monotonic()
        self.comparisons: list[Comparison] = []

    def __enter__(self) -> Self:
        print(self._question, flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._json is not None:
            write(self._json, self.bench())

    def add(self, comparison: Comparison) -> None:
        self.comparisons.append(comparison)
        print(aligned(comparison), flush=True)

    def bench(self) -> Bench:
        return Bench(
            self._name,
            self._question,
            typed(f"tests.benchmarks.bench_{self._name}", sys.argv[1:]),
            time.monotonic() - self._began,
            tuple(self.comparisons),
        )


def typed(module: str, arguments: Sequence[str]) -> str:
    """The command line as somebody types it, without where its results went."""
    words = list(arguments)
    if "--json" in words:
        at = words.index("--json")
        del words[at : at + 2]
    return shlex.join(["python", "-m", module, *words])
