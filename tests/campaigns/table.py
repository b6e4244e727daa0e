"""What a campaign tells while it runs: a line for each of its stages, and what was violated."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from tests.campaigns.judgement import Violation

FIRST_WIDTH = 44
SHOWN_VIOLATIONS = 10


class Outcome(Protocol):
    """What one point of a campaign came to."""

    @property
    def struck(self) -> str:
        """What happened there, or ``""`` where the point was not reached."""
        ...

    @property
    def violations(self) -> Sequence[Violation]: ...

    @property
    def kept(self) -> str:
        """Where the directory of a violated run is, or ``""``."""
        ...


class Table:
    """Lines under headings; each is shown as soon as it is known."""

    def __init__(self, headings: Sequence[str]) -> None:
        self._widths = [max(7, len(heading)) for heading in headings]
        self._show("stage", headings)

    def line(self, name: str, *values: object) -> None:
        """The figures of one stage."""
        self._show(name, [str(value) for value in values])

    def _show(self, name: str, cells: Sequence[str]) -> None:
        columns = (f"{cell:>{width}}" for cell, width in zip(cells, self._widths, strict=True))
        say(f"{name:<{FIRST_WIDTH}}" + "  ".join(columns))


def held(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing was violated; what was is shown."""
    violations = Counter(violation for outcome in outcomes for violation in outcome.violations)
    for violation, count in violations.most_common(SHOWN_VIOLATIONS):
        say(f"    VIOLATED {count} times: {violation.kind}: {violation.what}")
    for outcome in outcomes:
        if outcome.kept:
            say(f"    kept: {outcome.kept} ({outcome.struck or 'no point reached'})")
    return not violations


def say(line: str) -> None:
    """Show a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
