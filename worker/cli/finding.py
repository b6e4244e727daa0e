"""What one check of ``doctor`` has found: a grade, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.errors import FacepurgeError


class Grade(StrEnum):
    """How well a check came out."""

    OK = "ok"
    WARN = "warn"
    """A run would work, perhaps not as it should."""
    FAIL = "FAIL"
    """A run would be refused, or stop."""
    SKIPPED = "skipped"
    """Not done, because another check has failed or nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    grade: Grade
    sentence: str
    remedy: str = ""
    """What to do; always there for ``WARN`` and ``FAIL``."""

    def as_line(self) -> str:
        """One line for a person."""
        line = f"{self.grade:<7} {self.check:<13} {ended(self.sentence)}"
        return f"{line} To do: {ended(self.remedy)}" if self.remedy else line


def failed(check: str, error: FacepurgeError) -> Finding:
    """What kept a run from beginning is what the check has found."""
    return Finding(check, Grade.FAIL, error.cause, error.remedy)


def ended(sentence: str) -> str:
    """With a full stop, and in one line."""
    text = " ".join(sentence.split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def named(findings: Sequence[Finding], grade: Grade) -> str:
    """The checks that came out so, for a sentence; ``""`` for none."""
    return ", ".join(finding.check for finding in findings if finding.grade is grade)
