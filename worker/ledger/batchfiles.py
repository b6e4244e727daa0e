"""Rows by column, split over many files: what is grouped next to each other comes to lie in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_JOINED = 1024**3
"""Of rows that are read again: half of what Arrow joins."""


class BatchFiles:
    """Record batches split over so many files."""

    def __init__(self, directory: Path, name: str, count: int, schema: pa.Schema) -> None:
        self._paths = [directory / f"{name}.{number}" for number in range(count)]
        self._schema = schema
        self._writers: dict[int, tuple[Any, Any]] = {}

    def split(self, batch: pa.RecordBatch, places: NDArray[Any]) -> None:
        """Append each row to the file that its place names."""
        order = np.argsort(places, kind="stable")
        ordered = batch.take(pa.array(order))
        places = places[order]
        starts = np.flatnonzero(np.diff(places, prepend=places[0])).tolist()
        for start, stop in zip([0, *starts], [*starts, len(places)], strict=True):
            self._writer(int(places[start])).write_batch(ordered.slice(start, stop - start))

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            try:
                file = pa.OSFile(str(self._paths[number]), "wb")
            except OSError:
                # Whoever removes the directory has to open it, which too many open files prevent.
                for _, other in self._writers.values():
                    other.close()
                raise
            self._writers[number] = pa.ipc.new_stream(file, self._schema), file
        return self._writers[number][0]

    def close(self) -> None:
        """Nothing is to be appended any more."""
        for writer, file in self._writers.values():
            writer.close()
            file.close()  # A writer leaves it open, and all that are open together have a limit.
        self._writers = {}

    def numbers(self) -> Sequence[int]:
        """The files that hold anything, in the order of their places."""
        return [number for number, path in enumerate(self._paths) if path.exists()]

    def table(self, number: int) -> pa.RecordBatch:
        """What a file holds."""
        with pa.OSFile(str(self._paths[number]), "rb") as file:
            return joined(list(pa.ipc.open_stream(file)))

    def tables(self, number: int, rows: Callable[[], int]) -> Iterator[pa.RecordBatch]:
        """What a file holds, about as many rows at a time as ``rows`` says then, or fewer long ones."""
        some: list[pa.RecordBatch] = []
        size = 0
        with pa.OSFile(str(self._paths[number]), "rb") as file:
            for batch in pa.ipc.open_stream(file):
                some.append(batch)
                size += batch.nbytes
                if size >= BYTES_JOINED or sum(map(len, some)) >= rows():
                    # Nothing of it is kept here while somebody else works on it.
                    some, size = [joined(some)], 0
                    yield some.pop()
        if some:
            some = [joined(some)]
            yield some.pop()


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One of all of them."""
    return pa.concat_batches(batches)
