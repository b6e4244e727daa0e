"""When a run that goes badly stops by itself: the rule after ``--halt``, after GNU parallel's.

``soon,fail=20%`` reads: when a fifth of the faces settled in this session failed, begin no further
call and let those in flight finish. ``now`` does not wait for them; ``resume`` settles what became
of them. Several conditions may follow, and the first that is met counts. ``never`` is no rule.

The line of a whole person counts like a face, as it does in the report: that there is no such
person, or that the record could not be removed, shows in no other line.

Pure: it is told the outcomes of each call as the call is settled, and says when it is enough.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from worker.errors import UsageRefused
from worker.model import WANTED, Outcome

NEVER: Final = "never"

LEAST_CALLS: Final = 10
"""Calls with a face that counts, before a percentage is taken: one person, who may have 20 faces,
says nothing about all others."""

FAIL: Final = "fail"
FAILURES: Final = (Outcome.PRESENT, Outcome.NO_PERSON, Outcome.REFUSED, Outcome.UNKNOWN)
"""What ``fail`` adds up; an outcome the run is after is not among it."""

_WHENS: Final = ("soon", "now")
_WHATS: Final = (FAIL, *map(str, FAILURES))
_AMOUNT = re.compile(r"([1-9][0-9]{0,11})|([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_REMEDY: Final = (
    "write it like soon,fail=20 or soon,fail=20% or now,present=1 (soon lets calls in flight finish,"
    " now does not); never is no rule"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """So many faces with such an outcome, or such a share of those that are settled."""

    what: str
    """``fail`` or an outcome."""
    faces: int = 0
    """0 where a share counts."""
    percent: float = 0.0

    def __str__(self) -> str:
        return f"{self.what}={self.percent:g}%" if self.percent else f"{self.what}={self.faces}"


@dataclass(frozen=True, slots=True)
class HaltRule:
    """When to stop, and how."""

    at_once: bool
    """``now``: what is in flight is not waited for."""
    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return ",".join(["now" if self.at_once else "soon", *map(str, self.conditions)])


def parse(text: str, place: str = "halt") -> HaltRule | None:
    """The rule ``text`` means, None for ``never``; raises ``UsageRefused`` naming ``place``."""
    if text == NEVER:
        return None
    when, *conditions = text.split(",")
    if when not in _WHENS:
        raise UsageRefused(
            f"{place}: it begins with {when[:40]!r}, and soon, now or never is expected", _REMEDY
        )
    if not conditions:
        raise UsageRefused(f"{place}: {when} is not followed by a condition", _REMEDY)
    parsed = tuple(_condition(condition, place) for condition in conditions)
    twice = [what for what, count in Counter(x.what for x in parsed).items() if count > 1]
    if twice:
        raise UsageRefused(
            f"{place}: {twice[0]} has two limits, and only the lower one would count",
            "keep one of them",
        )
    return HaltRule(when == "now", parsed)


def _condition(text: str, place: str) -> Condition:
    what, equals, amount = text.partition("=")
    if what not in _WHATS:
        near = difflib.get_close_matches(what, _WHATS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the known ones are {', '.join(_WHATS)}"
        raise UsageRefused(f"{place}: {what[:40]!r} is nothing that can be counted", hint)
    matched = _AMOUNT.fullmatch(amount) if equals else None
    percent = float(matched[2]) if matched is not None and matched[2] else 0.0
    if matched is None or (not matched[1] and not 0 < percent <= 100):
        raise UsageRefused(
            f"{place}: {what} is followed by {(equals + amount)[:40]!r}, and = with a number of faces"
            " from 1 up, or a percentage above 0 and up to 100, is expected",
            _REMEDY,
        )
    return Condition(what, 0, percent) if percent else Condition(what, int(matched[1]))


class Halting:
    """Counts the faces that are settled, and knows when a rule is met."""

    def __init__(self, rule: HaltRule, wanted: Collection[str] = WANTED) -> None:
        self._rule = rule
        self._failures = frozenset(FAILURES) - frozenset(map(Outcome, wanted))
        self._faces: Counter[Outcome] = Counter()
        self._calls = 0

    def settled(self, outcomes: Mapping[Outcome, int]) -> str:
        """Take note of a call that is settled, by outcome of the faces that this session settled.

        Returns ``""``, or the sentence with the figures once a condition is met.
        """
        faces_told = {x: n for x, n in outcomes.items() if x in WANTED or x in FAILURES}
        # A call that brought nothing new says nothing about the others.
        self._calls += bool(faces_told)
        self._faces.update(faces_told)
        settled = self._faces.total()
        for condition in self._rule.conditions:
            counted = self._counted(condition.what)
            faces = sum(counted.values())
            if condition.percent:
                met = (
                    self._calls >= LEAST_CALLS
                    and faces * 100 >= condition.percent * settled
                    and faces > 0
                )
            else:
                met = faces >= condition.faces
            if met:
                which = ", ".join(f"{n:,} {x}" for x, n in counted.items() if n)
                share = f"{100 * faces / settled:.1f} %"
                return (
                    f"--halt {self._rule}: of {settled:,} faces settled in this session {faces:,}"
                    f" ({share}) are not as wanted ({which})"
                )
        return ""

    def _counted(self, what: str) -> dict[Outcome, int]:
        """The faces that count for ``what``; asked for by name, an outcome always counts."""
        outcomes = self._failures if what == FAIL else {Outcome(what)}
        return {x: self._faces[x] for x in FAILURES if x in outcomes}
