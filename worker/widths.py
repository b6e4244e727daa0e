"""How long the IDs of a column are, and whether they may have lost leading zeros."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from worker.digits import DigitIds

LEAST_PADDED_ROWS = 20
LEAST_SAMPLE = 200
LEAST_WIDTH = 6
"""Below these nothing is said: too much looks like too much else."""

CHI_SQUARE_LIMIT = 27.88
"""Exceeded once in 1,000 times by ten equally likely first digits (nine degrees of freedom)."""

KEPT_LINES = 3


@dataclass(slots=True)
class Widths:
    """Counts the digits of the IDs of one column, in every row and in a sample of distinct ones."""

    lengths: Counter[int] = field(default_factory=Counter)
    """Number of digits to rows."""
    zero_led: int = 0
    """Rows whose ID begins with 0."""
    lines: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Number of digits to the first lines with such an ID."""
    sample: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Number of digits and first digit to distinct IDs."""

    def count(self, ids: DigitIds) -> None:
        """Take note of more rows."""
        lengths = ids.lengths()
        self.lengths.update(lengths)
        self.zero_led += ids.zero_led()
        for length in lengths:
            known = self.lines.get(length, ())
            if len(known) < KEPT_LINES:
                found = dict.fromkeys(known)
                for line in ids.lines_of(length):
                    found[line] = None
                    if len(found) == KEPT_LINES:
                        break
                self.lines[length] = tuple(found)

    @property
    def rows(self) -> int:
        return self.lengths.total()

    @property
    def width(self) -> int:
        """The most frequent number of digits; of equals the greatest."""
        return max(self.lengths, key=lambda length: (self.lengths[length], length))

    @property
    def shorter(self) -> int:
        """Rows with an ID of fewer digits than ``width``."""
        return sum(rows for length, rows in self.lengths.items() if length < self.width)

    @property
    def lines_of_shorter(self) -> tuple[int, ...]:
        """The first of them."""
        kept = (self.lines[length] for length in self.lines if length < self.width)
        return tuple(sorted(line for lines in kept for line in lines))[:KEPT_LINES]

    @property
    def sampled(self) -> int:
        return self.sample.total()

    @property
    def is_padded(self) -> bool:
        """Whether nearly all IDs have one width, and some begin with 0 to have it."""
        return (
            self.rows >= LEAST_PADDED_ROWS
            and self.zero_led >= max(2, self.rows // 50)
            and self.lengths[self.width] >= 0.9 * self.rows
        )

    @property
    def may_have_lost_zeros(self) -> bool:
        """Whether no ID begins with 0, some are shorter than most, and none is longer."""
        return not self.zero_led and max(self.lengths) == self.width and bool(self.shorter)

    @property
    def looks_stripped(self) -> bool:
        """Whether widths and first digits are those of random IDs of one width without their zeros.

        With the zeros put back, every first digit is equally frequent. Numbers that a counter gave
        out end where the counter is, which shows in their first digits unless it stands just below
        a power of ten; numbers that were counted without gaps are as many as their range is wide.
        """
        if (
            not self.may_have_lost_zeros
            or self.width < LEAST_WIDTH
            or self.sampled < LEAST_SAMPLE
            or 100 * self.rows > 10**self.width
        ):
            return False
        firsts = Counter[str]()
        for (length, first), ids in self.sample.items():
            firsts[first if length == self.width else "0"] += ids
        expected = self.sampled / 10
        deviation = sum((firsts[digit] - expected) ** 2 for digit in "0123456789") / expected
        return deviation <= CHI_SQUARE_LIMIT

    def chance_of_no_zeros(self, other: Widths) -> float:
        """How likely it is that no ID here begins with 0, if as many did as in ``other``."""
        zero_led = sum(ids for (_, first), ids in other.sample.items() if first == "0")
        return (1 - zero_led / other.sampled) ** self.sampled
