"""The IDs of a chunk that are ASCII digits, whether they came as objects or by column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Protocol

_ALL_DIGITS = re.compile(r"(?:[0-9]++\n)*+[0-9]++")
_ANY_DIGITS = re.compile(r"^[0-9]+$", re.MULTILINE)


class DigitIds(Protocol):
    """Rows of a chunk, in order, each an ID of at least one digit and a line."""

    def __len__(self) -> int: ...

    def lengths(self) -> Mapping[int, int]:
        """Number of digits to rows."""
        ...

    def zero_led(self) -> int:
        """Rows whose ID begins with 0."""
        ...

    def lines_of(self, length: int) -> Iterable[int]:
        """The lines with an ID of so many digits."""
        ...

    def pairs(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        """The IDs of some rows, each with its line."""
        ...


@dataclass(frozen=True, slots=True)
class ListedDigits:
    """IDs of digits as objects; implements ``DigitIds``."""

    ids: Sequence[str]
    lines: Sequence[int]

    @classmethod
    def among(cls, ids: Sequence[str], lines: Sequence[int]) -> ListedDigits:
        """Those of ``ids`` that are digits."""
        together = "\n".join(ids)
        if together.count("\n") == len(ids) - 1:
            if _ALL_DIGITS.fullmatch(together):
                return cls(ids, lines)
            if not _ANY_DIGITS.search(together):
                return cls((), ())
        chosen = [text.isascii() and text.isdecimal() for text in ids]
        return cls(list(compress(ids, chosen)), list(compress(lines, chosen)))

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self) -> Mapping[int, int]:
        return Counter(map(len, self.ids))

    def zero_led(self) -> int:
        return "\n".join(("", *self.ids)).count("\n0")

    def lines_of(self, length: int) -> Iterator[int]:
        rows = zip(self.ids, self.lines, strict=True)
        return (line for text, line in rows if len(text) == length)

    def pairs(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        return zip(self.ids[start:stop], self.lines[start:stop], strict=True)
