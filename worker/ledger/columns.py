"""Columns packed into one sealed block: how the ledger keeps what is written once and read in order.

A block holds a few thousand rows by column, compressed, in a row of its own table. Millions of rows
of the input are then a few hundred rows of SQLite, which are written and read at the disk's speed, and
a digest over each block tells a flipped bit before anybody believes it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import zstandard

from worker.texts import Texts

Numbers: TypeAlias = "range | memoryview | int"
"""A column of integers below 2^63: in steps, as 64-bit signed integers, or all of them the same."""

Column: TypeAlias = "Texts | Numbers | str"
"""A column; ``str`` is a text that all rows have."""

_LEVEL = 1
"""Of Zstandard: the fastest; a higher one costs more time than the disk takes for the difference."""


def numbers(values: Sequence[int]) -> Numbers:
    """``values`` as a column, in the shortest form that they allow."""
    if isinstance(values, range) or not values:
        return values if isinstance(values, range) else 0
    first, step = values[0], (values[1] - values[0] if len(values) > 1 else 0)
    if step == 0 and values.count(first) == len(values):
        return first
    if step and values[-1] == first + step * (len(values) - 1):
        line = range(first, values[-1] + (1 if step > 0 else -1), step)
        if list(values) == list(line):
            return line
    return memoryview(array("q", values))


def packed(columns: Mapping[str, Column]) -> bytes:
    """``columns`` as one compressed text of bytes."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(
        msgspec.msgpack.encode({name: _plain(column) for name, column in columns.items()})
    )


def unpacked(data: bytes) -> dict[str, Column]:
    """What ``packed`` made; its rows are as many as somebody has to know from elsewhere."""
    plain = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data))
    return {name: _column(value) for name, value in plain.items()}


def seal_of(kind: str, run_id: str, numbers: Sequence[int], data: bytes) -> bytes:
    """Digest that ties a block to its place; ``numbers`` is all else that its row says of it."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{kind}\n{run_id}\n{' '.join(map(str, numbers))}\n".encode())
    digest.update(data)
    return digest.digest()


def integers(column: Column, count: int) -> Sequence[int]:
    """A column of ``count`` integers, to be indexed."""
    if isinstance(column, int):
        return [column] * count
    assert isinstance(column, range | memoryview)
    _require(count, len(column))
    return column if isinstance(column, range) else column.tolist()


def strings(column: Column, count: int) -> list[str]:
    """A column of ``count`` texts as objects."""
    if isinstance(column, str):
        return [column] * count
    assert isinstance(column, Texts)
    _require(count, len(column))
    return column.strings()


def _require(count: int, found: int) -> None:
    """Columns are read side by side, and the shortest one would end all of them without a word."""
    if found != count:
        raise RuntimeError(f"a column has {found} values for {count} rows")


def _plain(column: Column) -> object:
    if isinstance(column, Texts):
        first, last = column.offsets[0], column.offsets[-1]
        return ["texts", column.data[first:last], column.offsets.cast("B"), first]
    if isinstance(column, range):
        return ["range", column.start, column.stop, column.step]
    if isinstance(column, memoryview):
        return ["numbers", column.cast("B")]
    return column


def _column(plain: Any) -> Column:
    if not isinstance(plain, list):
        return plain  # type: ignore[no-any-return]  # an int or a str, as _plain left it
    kind, *parts = plain
    if kind == "range":
        return range(*parts)
    if kind == "numbers":
        return memoryview(parts[0]).cast("q")
    data, offsets, first = parts
    ends = memoryview(offsets).cast("i")
    if first:
        ends = memoryview(array("i", [end - first for end in ends]))
    return Texts(memoryview(data), ends)
