"""Columns of text in two buffers, as Arrow keeps them: no object per text until it is asked for.

A million IDs are a million Python objects of 66 bytes each, or 17 MB of text and 4 MB of offsets.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

_ARROW_SAYS = ("offset overflow", "overflowed binary array", "input array too large")


class TooMuchText(Exception):
    """More than 2 GB in one column."""


def is_too_much(error: Exception) -> bool:
    """Whether ``error`` is that one, or what Arrow raises in its place."""
    if isinstance(error, TooMuchText) or type(error).__name__ == "ArrowCapacityError":
        return True
    return type(error).__name__ == "ArrowInvalid" and any(x in str(error) for x in _ARROW_SAYS)


@dataclass(frozen=True, slots=True)
class Texts:
    """So many texts, one behind the other; at most 2 GB together."""

    data: memoryview
    """UTF-8 of all texts, without anything between them."""
    offsets: memoryview
    """Where in ``data`` each begins, and last where the last one ends: 32-bit, native order."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """The same texts; a lone surrogate raises ``UnicodeEncodeError``, 2 GB ``TooMuchText``."""
        encoded = [text.encode() for text in texts]
        try:
            ends = array("i", accumulate(map(len, encoded), initial=0))
        except OverflowError:
            raise TooMuchText from None
        return cls(memoryview(b"".join(encoded)), memoryview(ends))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if index < 0:
            index += len(self)
        return str(self.data[self.offsets[index] : self.offsets[index + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings())

    def part(self, start: int, stop: int) -> Texts:
        """Some of them, without a copy of what they say; its offsets need not begin at 0."""
        return Texts(self.data, self.offsets[start : stop + 1])

    def strings(self) -> list[str]:
        """All of them as objects."""
        first, last = self.offsets[0], self.offsets[-1]
        text = str(self.data[first:last], "utf-8")
        ends: Sequence[int] = self.offsets.tolist()
        if len(text) == last - first:
            # A byte is a character: the offsets hold for the decoded text as well.
            return [text[start - first : end - first] for start, end in pairwise(ends)]
        return [str(self.data[start:end], "utf-8") for start, end in pairwise(ends)]
