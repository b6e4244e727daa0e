"""What the checker finds: which invariant does not hold, and where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

INVARIANTS = {
    "S1": "only what the input names, or a lookup of a whole person listed, is ever sent",
    "S2": "what is held, in conflict or invalid is never sent",
    "S4": "nothing is sent before the plan is durable",
    "T1": "deleted is what a complete answer lists",
    "T2": "absent, no_person and person_empty are what complete lookups show",
    "T2a": "after an end that nobody knows, look first",
    "T4": "every line has exactly one outcome, and the sums balance",
    "T5": "the evidence has an order, and outcomes follow from it",
    "T6": "the figures of the report are those of the ledger",
    "D1": "every request has its attempt record, written before it",
    "D3": "what a crash leaves open is no more than was in flight",
    "D6": "a report file is whole",
    "D7": "the same ledger gives the same report",
    "R1": "no more calls in a second than the rate",
    "R2": "a nonce is used once",
    "R3": "every attempt without a request says so",
    "R4": "what was refused is not repeated, and nothing more than max_attempts times",
    "L1": "when the faults stop, everything becomes final",
    "seal": "calls and facts are what was planned",
    "false": "nothing is called gone that the service still has",
    "lost": "nothing that this run deleted is called anything else",
    "twice": "nothing is deleted twice without cause",
}
"""Every invariant by its name. Those with a capital letter follow the design; ``seal`` guards the
ledger, and the last three compare claims with what the server really did."""

SHOWN_PER_INVARIANT = 100
"""Violations kept of each invariant; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be."""

    invariant: str
    """A key of ``INVARIANTS``."""
    place: str
    """``source:line``, or the number of a call, an attempt or a request; never an ID."""
    sentence: str
    """What is wrong; names no IDs."""

    def __str__(self) -> str:
        return f"{self.invariant} {self.place}: {self.sentence}"


class Findings:
    """Violations in the making: all are counted, and enough of them kept to be looked into."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Violations per invariant."""
        self.kept: list[Violation] = []

    def add(self, invariant: str, place: str, sentence: str) -> None:
        assert invariant in INVARIANTS, invariant
        self.counts[invariant] += 1
        if self.counts[invariant] <= SHOWN_PER_INVARIANT:
            self.kept.append(Violation(invariant, place, sentence))
