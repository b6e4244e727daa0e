"""When rows are due: all of it in a file, and a sample in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MOST_SAMPLED = 100_000
"""Of the rows that are due, to tell where one in a hundred of them begins."""

ROWS_READ_AT_ONCE = 100_000

NO_DUE = np.iinfo(np.int64).max
"""In the place of a due time, behind all of them: the input says none."""

_COLUMNS = 5


class DueFile:
    """When rows are due, as far as any is, and a sample by which persons are split in that order.

    The rows are kept in a file: they are wanted once more, at the end and in their order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sample: list[NDArray[np.complex128]] = []
        self._sampled = 0
        self._step = 1
        """Of so many due rows one is in the sample."""
        self._rows = 0

    def take_note(self, rows: Integers) -> None:
        """``rows``: row, due time, record, source and line of each, due or not."""
        due = rows[rows[:, 1] != NO_DUE]
        if not len(due):
            return
        with self._path.open("ab") as file:
            file.write(due.tobytes())
        some = due[-self._rows % self._step :: self._step]
        self._rows += len(due)
        self._sample.append(some[:, 1] + 1j * some[:, 0])
        self._sampled += len(some)
        while self._sampled > MOST_SAMPLED:
            self._step *= 2
            self._sample = [np.concatenate(self._sample)[::2]]
            self._sampled = len(self._sample[0])

    @property
    def are_any(self) -> bool:
        return self._rows > 0

    def by_span(self, span: int) -> Iterator[tuple[int, Integers]]:
        """The rows that are due, as ``take_note`` was told them, none of two spans of rows together."""
        if not self.are_any:
            return
        with self._path.open("rb") as file:
            while len(rows := np.fromfile(file, np.int64, ROWS_READ_AT_ONCE * _COLUMNS)):
                rows = rows.reshape(-1, _COLUMNS)
                spans = rows[:, 0] // span
                for some in np.split(rows, np.flatnonzero(np.diff(spans)) + 1):
                    yield int(some[0, 0]) // span, some

    def bounds(self, parts: int) -> NDArray[np.complex128]:
        """Between so many parts, each due before the next."""
        if not self.are_any:
            return np.empty(0, np.complex128)
        sample = np.sort(np.concatenate(self._sample))
        chosen = np.linspace(0, len(sample) - 1, parts + 1).astype(np.int64)[1:-1]
        return np.asarray(sample[chosen], np.complex128)
