"""Columns of Arrow as NumPy, as the texts of a ledger, and as its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from worker.ledger.columns import Numbers
from worker.texts import Texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


def codes(texts: pa.Array) -> Integers:
    """A number for each distinct text."""
    return integers(texts.dictionary_encode().indices)


def integers(column: pa.Array) -> Integers:
    """The values of a column without nulls."""
    return np.asarray(column).astype(np.int64, copy=False)


def strings(texts: Texts) -> pa.Array:
    """The same texts, where they lie."""
    buffers = [None, pa.py_buffer(texts.offsets), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def texts_of(strings: pa.Array) -> Texts:
    """The same texts, where they lie."""
    _, offsets, data = strings.buffers()
    ends = (
        memoryview(offsets).cast("B").cast("i")[strings.offset : strings.offset + len(strings) + 1]
    )
    return Texts(memoryview(data or b"").cast("B"), ends)


def numbers_of(values: Integers) -> Numbers:
    """The same numbers, as a range or as one number where that says all of them; at least one."""
    first = int(values[0])
    steps = np.diff(values)
    if not len(steps) or (steps[0] == 0 and not steps.any()):
        return first
    step = int(steps[0])
    if step and (steps == step).all():
        return range(first, int(values[-1]) + (1 if step > 0 else -1), step)
    return np.ascontiguousarray(values).data
