"""IDs that a program took for numbers and rounded: how a handful of them shows it.

Every third or tenth ID may be one that a rounding leaves as it is; that nearly all are is no chance.
Three roundings are known:

- to 15 significant digits, as spreadsheets keep them,
- to a double (IEEE 754, 53 bits), written with all its digits (C, Java's BigDecimal, pandas),
- to a double, written with the fewest digits that name it (JavaScript; ECMA-262, Number::toString).

IDs may also be *made* so that a rounding leaves them as they are: a snowflake's idle sequence is a
run of zero bits, a time in nanoseconds may only count microseconds. Such IDs are alike in the
digits next to those that would be lost; rounded ones differ there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DOUBLE_BITS = 53
"""Of a double's significand; every whole number up to 2^53, which has 16 digits, is a double."""

DOUBLE_DIGITS = 17
"""Significant digits that name any double."""

SHEET_DIGITS = 15
"""Significant digits that spreadsheets keep, and that every double keeps."""

MOST_DIGITS = 40
"""What is longer was never a number to any program."""

LongIds = Sequence[tuple[str, int]]
"""Distinct IDs that are long enough to be rounded, without leading zeros, each with its line."""


class Trial(NamedTuple):
    """What one ID says about one rounding."""

    line: int
    hit: bool
    """Whether the rounding would leave it as it is."""
    last: int
    """The last digits or bits that the rounding keeps."""
    kept: bool
    """Whether the very last of them is other than 0."""
    chance: float
    """How likely ``hit`` is for an ID that nothing rounded."""


def chance_of_at_least(hits: int, chances: Sequence[float]) -> float:
    """How likely ``hits`` or more of independent events with these ``chances`` are."""
    misses = len(chances) - hits
    likely = [1.0] + [0.0] * misses
    for chance in chances:
        for n in range(misses, 0, -1):
            likely[n] = likely[n] * chance + likely[n - 1] * (1 - chance)
        likely[0] *= chance
    return min(1.0, sum(likely))


def long_ids(ids: Mapping[str, int]) -> LongIds:
    """Those of ``ids`` (digits, to their lines) that say something about a rounding."""
    bare = [(text.lstrip("0"), line) for text, line in ids.items()]
    return [pair for pair in bare if SHEET_DIGITS < len(pair[0]) <= MOST_DIGITS]


def _zeros(digits: str) -> int:
    return len(digits) - len(digits.rstrip("0"))


def _sheet_trials(ids: LongIds) -> Iterator[Trial]:
    for digits, line in ids:
        yield Trial(
            line,
            hit=not digits[SHEET_DIGITS:].strip("0"),
            last=int(digits[SHEET_DIGITS - 1]),
            kept=digits[SHEET_DIGITS - 1] != "0",
            chance=10.0 ** (SHEET_DIGITS - len(digits)),
        )


def _exact_trials(ids: LongIds) -> Iterator[Trial]:
    values = [int(digits) for digits, _ in ids]
    most_lost = max(values, default=0).bit_length() - DOUBLE_BITS
    mask = (1 << max(most_lost, 0) + 4) - 1
    for (digits, line), value in zip(ids, values, strict=True):
        lost = value.bit_length() - DOUBLE_BITS
        # An ID that was made with zeros at its end is a multiple of as many twos.
        free = lost - _zeros(digits)
        if free > 0:
            exact = int(float(value))
            yield Trial(line, value == exact, exact & mask, bool(exact >> lost & 1), 2.0**-free)


def _shortest_trials(ids: LongIds) -> Iterator[Trial]:
    # Zeros that all of them end with may be of their making.
    is_bare = any(digits[-1] != "0" for digits, _ in ids)
    zeros = 0 if is_bare else min((_zeros(digits) for digits, _ in ids), default=0)
    for digits, line in ids:
        value = int(digits)
        chance = 10.0**zeros / 2.0 ** (value.bit_length() - DOUBLE_BITS)
        significant = digits.rstrip("0")
        if chance < 1 and len(significant) > SHEET_DIGITS:
            hit = len(significant) <= DOUBLE_DIGITS and _shortest(value) == digits
            yield Trial(line, hit, int(significant[-1]), kept=True, chance=chance)


def _shortest(value: int) -> str:
    """The number that JavaScript would write for ``value``, without an exponent."""
    digits, _, exponent = repr(float(value)).partition("e")
    whole, _, fraction = digits.partition(".")
    return whole + fraction.ljust(int(exponent), "0") if exponent else whole


@dataclass(frozen=True, slots=True)
class Rounding:
    """How IDs that were rounded in one way are recognised, and what is said of them."""

    sentence: str
    """What they are and what did it; it follows on "these IDs"."""
    trials: Callable[[LongIds], Iterator[Trial]]
    least_kept: float
    """Share of ``Trial.kept`` among rounded IDs, at least; for random ones far above it."""
    most_kept: float

    def verdict(self, ids: LongIds) -> Verdict | None:
        """What ``ids`` say about it together; None where they do not look so, or by design."""
        trials: list[Trial] = []
        misses = 0
        for trial in self.trials(ids):
            trials.append(trial)
            misses += not trial.hit
            # As with nearly all IDs there are: whatever the others say, most are no hits.
            if 2 * misses > len(ids):
                return None
        hits = [trial for trial in trials if trial.hit]
        if 2 * len(hits) < len(trials) or not hits:
            return None
        kept = sum(trial.kept for trial in hits) / len(hits)
        alike = max(Counter(trial.last for trial in hits).values()) / len(hits)
        if not self.least_kept <= kept <= self.most_kept or alike > 0.5:
            return None
        chance = chance_of_at_least(len(hits), [trial.chance for trial in trials])
        return Verdict(self, chance, len(trials), tuple(trial.line for trial in hits))


class Verdict(NamedTuple):
    """What some IDs say about a rounding that they look like."""

    rounding: Rounding
    chance: float
    """How likely it is that they look so if nothing rounded them."""
    compared: int
    """IDs that could have shown it."""
    lines: tuple[int, ...]
    """Of those that look rounded."""


ROUNDINGS = (
    Rounding(
        "have only zeros behind their 15th digit: a spreadsheet, which keeps 15 digits, has rounded"
        " them",
        _sheet_trials,
        least_kept=0.5,
        most_kept=1.0,
    ),
    Rounding(
        "are numbers that a double can hold, which few numbers of this length are: a program that"
        " keeps numbers as doubles has rounded them",
        _exact_trials,
        least_kept=0.2,
        most_kept=0.8,
    ),
    Rounding(
        "are written as JavaScript writes a double, which few numbers of this length are: a program"
        " that keeps numbers as doubles has rounded them",
        _shortest_trials,
        least_kept=0.0,
        most_kept=1.0,
    ),
)
"""What is looked for, the most telling first."""
