"""The canary ramp: few persons first, and the rest only after those were looked up and are gone.

``1,20`` reads: one person, then 20 more, then all others. Persons count of whom something is still
to be sent when the stages are laid out. A stage has passed when every face of its persons is in a
wanted state and a complete lookup after the last deletion does not list it. Where a hold has taken
persons out of a stage, it reaches on to the next ones: so many are verified, or all there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from worker.errors import UsageRefused
from worker.model import Outcome

NONE: Final = "none"
MOST_STAGES: Final = 20

MOST_PERSONS: Final = 100_000

_COUNT = re.compile(r"[1-9][0-9]{0,5}")


def parse(text: str, place: str = "canary") -> tuple[int, ...]:
    """Persons of each stage, in order; empty for ``none``. Raises ``UsageRefused``."""
    if text == NONE:
        return ()
    counts = text.split(",")
    for count in counts:
        if not _COUNT.fullmatch(count):
            raise UsageRefused(
                f"{place}: found {count[:40]!r} where a number of persons from 1 to 100000 is"
                " expected",
                "write it like 1,20 (one person, then 20 more, then the rest); none is no canary",
            )
    if len(counts) > MOST_STAGES:
        raise UsageRefused(
            f"{place}: {len(counts)} stages are more than the {MOST_STAGES} that are of use",
            "name fewer and larger stages",
        )
    persons = tuple(map(int, counts))
    if sum(persons) > MOST_PERSONS:
        raise UsageRefused(
            f"{place}: {sum(persons):,} persons in all stages are too many to be a canary, and"
            f" {MOST_PERSONS:,} are the most",
            "name smaller stages; what follows the last stage is the rest of the run",
        )
    return persons


@dataclass(frozen=True, slots=True)
class StagePassed:
    """Everything of a stage is gone, and was looked for; the next calls may be claimed."""

    stage_no: int
    """From 1."""
    stages: int
    persons: int
    """Who was verified, in all stages so far; 0 where holds left nobody to be sent."""

    def __str__(self) -> str:
        whose = "1 person is" if self.persons == 1 else f"{self.persons:,} persons are"
        following = "the next stage" if self.stage_no < self.stages else "the rest"
        return (
            f"canary: stage {self.stage_no} of {self.stages} passed: {whose} settled and verified;"
            f" {following} may go"
        )


@dataclass(frozen=True, slots=True)
class StageReachesOn:
    """Fewer persons of a stage than it asks for were left to be verified: it takes in the next ones."""

    stage_no: int
    stages: int
    persons: int
    """Who was verified in this stage."""
    asked: int
    """How many it is to be."""

    def __str__(self) -> str:
        return (
            f"canary: stage {self.stage_no} of {self.stages} reaches on to the next persons: of"
            f" {self.asked:,} that it asks for {self.persons:,} could be verified, the others are on"
            " the exclusion list or in conflict by now"
        )


@dataclass(frozen=True, slots=True)
class StageFailed:
    """Something of a stage is not as wanted, or could not be verified."""

    stage_no: int
    stages: int
    place: str
    """``source:line`` of the first face at fault."""
    outcome: Outcome
    """As the ledger has it; a wanted one where only the verification is missing."""
    code: str
    verified: bool
    """Whether a complete lookup has answered."""

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        what = (
            f"the face at {self.place} is {self.outcome}{code}"
            if self.verified
            else f"the face at {self.place} is {self.outcome}{code}, and no lookup could confirm it"
        )
        return f"canary: stage {self.stage_no} of {self.stages} failed: {what}"
