"""The IDs of a column that are ASCII digits, without an object per row.

It loads NumPy and Arrow: to be imported only where there is a column to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from worker.texts import Texts


@dataclass(frozen=True, slots=True)
class ColumnDigits:
    """IDs of digits in a column of texts; implements ``DigitIds``."""

    texts: Texts
    lines: Sequence[int]
    rows: Sequence[int] | NDArray[np.intp]
    """Which of the texts are meant, ascending; a ``range`` where all are."""
    digits: NDArray[np.int32]
    """How many each of them has."""
    firsts: NDArray[np.uint8]
    """The character with which each of them begins."""

    @classmethod
    def among(cls, texts: Texts, lines: Sequence[int]) -> ColumnDigits:
        """Those of ``texts`` that are digits."""
        offsets = np.frombuffer(texts.offsets, np.int32)
        first = int(offsets[0])
        told = np.frombuffer(texts.data, np.uint8)[first : int(offsets[-1])]
        starts, lengths = offsets[:-1] - first, np.diff(offsets)
        # What is below 0 wraps around and is greater than 9 too.
        zero, nine = np.uint8(ord("0")), np.uint8(9)
        if lengths.all() and (told - zero <= nine).all():
            return cls(texts, lines, range(len(texts)), lengths, told[starts])
        filled = np.flatnonzero(lengths)
        # Only what begins with a digit can be nothing else.
        rows = filled[told[starts[filled]] - zero <= nine]
        if len(rows):
            others = np.zeros(len(told) + 1, np.int32)
            np.cumsum(told - zero > nine, out=others[1:])
            begin = starts[rows]
            rows = rows[others[begin + lengths[rows]] == others[begin]]
        return cls(texts, lines, rows, lengths[rows], told[starts[rows]])

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self) -> Mapping[int, int]:
        rows = np.bincount(self.digits)
        return {int(length): int(rows[length]) for length in np.flatnonzero(rows)}

    def zero_led(self) -> int:
        return int(np.count_nonzero(self.firsts == ord("0")))

    def lines_of(self, length: int) -> Iterator[int]:
        return (
            self.lines[int(self.rows[at])] for at in map(int, np.flatnonzero(self.digits == length))
        )

    def pairs(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        if isinstance(self.rows, range):
            return zip(self.texts.part(start, stop).strings(), self.lines[start:stop], strict=True)
        return ((self.texts[row], self.lines[row]) for row in map(int, self.rows[start:stop]))


def rows_but_for_zeros(texts: Texts, wanted: AbstractSet[str]) -> list[int]:
    """The rows whose text would be among ``wanted`` if zeros in front did not count."""
    column = pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(texts.offsets), pa.py_buffer(texts.data)
    )
    bare = pa.array({text.lstrip("0") for text in wanted}, pa.string())
    found = pa.compute.is_in(pa.compute.ascii_ltrim(column, "0"), bare)
    rows: list[int] = pa.compute.indices_nonzero(found).to_pylist()
    return rows
