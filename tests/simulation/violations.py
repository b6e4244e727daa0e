"""What must not happen, and did."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """One breach of a rule."""

    rule: str
    """The invariant's name in short, e.g. ``T2``."""
    what: str


class Violations:
    """Collected while a simulation lasts; each is kept once."""

    def __init__(self) -> None:
        self._found: dict[Violation, None] = {}

    def report(self, rule: str, what: str) -> None:
        self._found[Violation(rule, what)] = None

    @property
    def found(self) -> list[Violation]:
        return list(self._found)
