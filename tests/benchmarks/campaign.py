"""Every benchmark, one after the other, into one file of results: ``make bench``, ``make bench-large``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from tests.benchmarks.machine import this_machine
from tests.benchmarks.registry import ENTRIES, BenchFailed, Entry
from tests.benchmarks.results import Bench, Results, write
from tests.benchmarks.sitting import Scale
from tests.benchmarks.table import markdown

TARGETS = {"quick": "make bench SCALE=quick", "small": "make bench", "large": "make bench-large"}
BUSY_PER_CORE = 0.5
"""Load beyond which another process gets in the way of what is measured."""


def run_all(chosen: Sequence[Entry], scale: Scale, rounds: int | None) -> Iterator[Bench]:
    """Those that fail say so, and the others go on."""
    for entry in chosen:
        print(f"== {entry.name}", flush=True)
        try:
            yield entry.run(scale, rounds)
        except BenchFailed as failure:
            print(f"FAILED: {failure}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=get_args(Scale), default="small")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these benches")
    parser.add_argument("--rounds", type=int, help="of each comparison, at most")
    options = parser.parse_args()
    runnable = {entry.name: entry for entry in ENTRIES if options.scale in entry.scales}
    if unknown := set(options.only) - set(runnable):
        parser.error(
            f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(runnable)}"
        )
    chosen = [runnable[name] for name in options.only or runnable]
    load = os.getloadavg()[0]
    machine = this_machine()
    if load > BUSY_PER_CORE * machine.cores:
        print(f"the machine is busy (load {load:.1f}): CPU seconds say more than wall seconds")
    date, began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    command = TARGETS[options.scale]
    if options.only:
        command += f" ONLY='{' '.join(options.only)}'"
    if options.rounds:
        command += f" ROUNDS={options.rounds}"
    results = Results(date, command, 0.0, load, machine, ())
    for bench in run_all(chosen, options.scale, options.rounds):
        seconds = time.monotonic() - began
        results = replace(results, seconds=seconds, benches=(*results.benches, bench))
        write(options.json, results)  # what is there is kept if somebody ends it here
    print(f"\n{markdown(results)}\n\nevery measurement is in {options.json}")
    measured = {bench.name for bench in results.benches}
    failed = [entry.name for entry in chosen if entry.name not in measured]
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
