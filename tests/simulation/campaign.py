"""Thousands of simulated runs, one seed each: ``make simulate RUNS=10000``.

The real pipeline, ledger, client, pacing and fold on a virtual clock, against the sandbox's own
service and its own truth, with seeded faults of network, service, ledger, signals, crashes, clocks
and other users of the account. Every claim is held against the truth when it is made, and every
invariant at the end. ``make simulate SEED=123 RUNS=1 VERBOSE=1`` tells everything that happened in
one of them; two calls with the same seeds print the same digest.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.simulation.simulation import Simulated, scratch_directory, simulate

SHOWN_VIOLATIONS = 20
PROGRESS_SECONDS = 15.0
FEWEST_KINDS = 10
"""Of faults that a series of many runs has to meet, or it tests less than it says."""

MANY_RUNS = 100


class Figures:
    """What a series of simulations came to."""

    def __init__(self) -> None:
        self.runs = 0
        self.requests = 0
        self.lives = 0
        self.events = 0
        self.virtual_seconds = 0.0
        self.seen: Counter[str] = Counter()
        self.runs_with: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.exit_codes: Counter[int] = Counter()
        self.failed: list[Simulated] = []
        self._digest = hashlib.blake2b(digest_size=8)

    def add(self, simulated: Simulated) -> None:
        self.runs += 1
        self.requests += simulated.requests
        self.lives += simulated.lives
        self.events += simulated.events
        self.virtual_seconds += simulated.virtual_seconds
        self.seen += simulated.seen
        self.runs_with.update(simulated.seen.keys())
        self.outcomes += simulated.outcomes
        self.stops += simulated.stops
        self.exit_codes += simulated.exit_codes
        self._digest.update(simulated.digest.encode())
        if simulated.violations:
            self.failed.append(simulated)

    @property
    def digest(self) -> str:
        """Over the event logs of all of them, in order."""
        return self._digest.hexdigest()

    @property
    def good(self) -> bool:
        """Whether nothing was violated, and enough was tried to say so."""
        return not self.failed and (self.runs < MANY_RUNS or len(self.seen) >= FEWEST_KINDS)


def say(line: str = "") -> None:
    """Show a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(figures: Figures, seconds: float) -> None:
    """Everything that a reader has to know about a series."""
    say(f"{'fault or event':<26}{'times':>9}{'runs':>8}")
    for kind in sorted(figures.seen, key=lambda kind: (-figures.seen[kind], kind)):
        say(f"  {kind:<24}{figures.seen[kind]:>9,}{figures.runs_with[kind]:>8,}")
    for title, counts in (
        ("outcomes", figures.outcomes),
        ("lives ended", figures.stops),
        ("exit codes", {str(code): n for code, n in figures.exit_codes.items()}),
    ):
        listed = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        say(f"{title}: {listed}")
    say(
        f"{figures.runs:,} runs, {figures.virtual_seconds / 3600:,.1f} virtual hours,"
        f" {figures.lives:,} lives of the program, {figures.requests:,} requests,"
        f" {figures.events:,} events, {len(figures.seen)} kinds of faults and events"
    )
    say(f"event log {figures.digest}; {seconds:.0f} s")
    rules = Counter(violation.rule for run in figures.failed for violation in run.violations)
    if rules:
        say("by rule: " + ", ".join(f"{count} {rule}" for rule, count in rules.most_common()))
    say(f"{sum(rules.values())} violations in {len(figures.failed)} of {figures.runs:,} runs")


def show_violations(run: Simulated) -> None:
    """What was violated in one of them, and how to see it again."""
    say(f"VIOLATED, to replay: make simulate SEED={run.seed} RUNS=1 VERBOSE=1")
    for violation in run.violations[:SHOWN_VIOLATIONS]:
        say(f"    {violation.rule}: {violation.what}")


def campaign(first_seed: int, runs: int, *, verbose: bool) -> Figures:
    """Simulate ``runs`` seeds from ``first_seed`` on."""
    figures, directory = Figures(), scratch_directory()
    told = time.monotonic()
    try:
        for seed in range(first_seed, first_seed + runs):
            simulated = simulate(seed, directory, say if verbose else None)
            figures.add(simulated)
            if simulated.violations:
                show_violations(simulated)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"{figures.runs:,} runs, {len(figures.failed)} of them with violations")
    finally:
        shutil.rmtree(directory)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--verbose", action="store_true", help="tell every event")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    figures = campaign(options.seed, options.runs, verbose=options.verbose)
    show(figures, time.monotonic() - began)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
