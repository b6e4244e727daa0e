"""Manifests of any size, whose totals are known from arithmetic and not from any program.

``python -m tests.benchmarks.manifest FILE --rows N [--shape SHAPE] [--seed N]`` writes one and prints
its totals as JSON. Nine in ten rows are distinct pairs; the tenth repeats one of them, drawn. Persons
have 1 to 9 faces, 5 on average: 10 million rows are 9 million pairs of 1.8 million persons.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = Literal["shuffled", "sorted", "labelled", "quoted", "jsonl", "gz", "parquet"]
SHAPES: Final[tuple[Shape, ...]] = (
    "shuffled",
    "sorted",
    "labelled",
    "quoted",
    "jsonl",
    "gz",
    "parquet",
)
SUFFIXES: Final = {"jsonl": ".jsonl", "gz": ".csv.gz", "parquet": ".parquet"}

CHUNK_ROWS: Final = 1 << 18
# Nine persons in a row have 1, 2, ... 9 faces: 45 pairs.
PERSONS_PER_GROUP: Final = 9
PAIRS_PER_GROUP: Final = 45
_GROUP: Final = np.repeat(np.arange(9, dtype=np.int64), np.arange(1, 10))

FACE_BASE: Final = 10**16
# An odd factor makes a different number of each pair, below a power of two.
_FACE_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_FACE_MASK: Final = np.uint64((1 << 53) - 1)

HEADERS: Final = {
    "labelled": b"person_id,face_id,job_id,region,note\n",
    "quoted": b'"person_id","face_id"\n',
    "jsonl": b"",
}
LINES: Final = {
    "labelled": b"person_PPPPPPPPP,FFFFFFFFFFFFFFFFF,job-RRRRRRRRRR,eu-G,seen again: NNNNNNNN\n",
    "quoted": b'"person_PPPPPPPPP","FFFFFFFFFFFFFFFFF"\n',
    "jsonl": b'{"personId":"person_PPPPPPPPP","faceIds":["FFFFFFFFFFFFFFFFF"]}\n',
}
HEADER: Final = b"person_id,face_id\n"
LINE: Final = b"person_PPPPPPPPP,FFFFFFFFFFFFFFFFF\n"


@dataclass(frozen=True, slots=True)
class Totals:
    """What a manifest holds."""

    rows: int
    pairs: int
    """Distinct."""
    persons: int
    """Distinct, each with one pair at least."""
    repeats: int
    distinct_lines: int
    """As ``sort -u`` counts them: with the header."""


def totals_of(shape: Shape, rows: int) -> Totals:
    """By arithmetic alone."""
    pairs = rows - rows // 10
    groups, rest = divmod(pairs, PAIRS_PER_GROUP)
    persons = groups * PERSONS_PER_GROUP + (int(_GROUP[rest - 1]) + 1 if rest else 0)
    lines = rows if shape == "labelled" else pairs
    return Totals(rows, pairs, persons, rows - pairs, lines + (shape != "jsonl"))


def person_of(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the persons to whom pairs belong, by the numbers of the pairs."""
    groups, within = np.divmod(pairs, PAIRS_PER_GROUP)
    return cast("NDArray[np.int64]", groups * PERSONS_PER_GROUP + _GROUP[within])


def face_of(pairs: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Face IDs of 17 digits that look drawn; no two pairs have the same."""
    mixed = pairs.astype(np.uint64) * _FACE_FACTOR
    return cast("NDArray[np.uint64]", (mixed & _FACE_MASK) + np.uint64(FACE_BASE))


def faces_of(person: int, pairs: int) -> list[str]:
    """All faces of one person of a manifest with so many distinct pairs."""
    group, place = divmod(person, PERSONS_PER_GROUP)
    first = group * PAIRS_PER_GROUP + place * (place + 1) // 2
    numbers = np.arange(first, min(first + place + 1, pairs), dtype=np.int64)
    return [str(face) for face in face_of(numbers)]


def order_of(shape: Shape, rows: int, seed: int) -> NDArray[np.int32]:
    """The number of the pair of each row."""
    chance = np.random.default_rng(seed)
    totals = totals_of(shape, rows)
    order = np.empty(rows, dtype=np.int32)
    order[: totals.pairs] = np.arange(totals.pairs, dtype=np.int32)
    if totals.repeats:
        order[totals.pairs :] = chance.integers(
            0, totals.pairs, size=totals.repeats, dtype=np.int32
        )
    if shape == "sorted":
        order.sort()
    else:
        chance.shuffle(order)
    return order


def _write_digits(into: NDArray[np.uint8], letter: bytes, numbers: NDArray[np.uint64]) -> None:
    """Fill the columns that hold ``letter`` with decimal digits, the last one last."""
    columns = np.flatnonzero(into[0] == ord(letter))
    left = numbers
    for column in columns[::-1]:
        left, digit = np.divmod(left, np.uint64(10))
        into[:, column] = digit.astype(np.uint8) + ord("0")


def _lines(line: bytes, pairs: NDArray[np.int64], first_row: int) -> NDArray[np.uint8]:
    """One row of bytes for each pair."""
    rows = np.arange(first_row, first_row + len(pairs), dtype=np.uint64)
    made = np.tile(np.frombuffer(line, dtype=np.uint8), (len(pairs), 1))
    # All positions are looked up before a digit is written: none of them is one of the letters.
    _write_digits(made, b"P", person_of(pairs).astype(np.uint64))
    _write_digits(made, b"F", face_of(pairs))
    if b"R" in line:
        _write_digits(made, b"R", rows)
        _write_digits(made, b"G", rows % np.uint64(7))
        _write_digits(made, b"N", rows * np.uint64(7_919) % np.uint64(10**8))
    return made


def _chunks(order: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    for start in range(0, len(order), CHUNK_ROWS):
        yield start, order[start : start + CHUNK_ROWS].astype(np.int64)


def _write_text(path: Path, shape: Shape, order: NDArray[np.int32]) -> None:
    with _opened(path, shape) as file:
        file.write(HEADERS.get(shape, HEADER))
        for start, pairs in _chunks(order):
            file.write(_lines(LINES.get(shape, LINE), pairs, start).tobytes())


@contextmanager
def _opened(path: Path, shape: Shape) -> Iterator[BinaryIO]:
    if shape == "gz":
        # Without a time: the same manifest is the same bytes.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
            yield cast("BinaryIO", file)
    else:
        with path.open("wb") as plain:
            yield plain


def _write_parquet(path: Path, order: NDArray[np.int32]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def texts(part: NDArray[np.uint8]) -> pa.Array:
        buffer = pa.py_buffer(np.ascontiguousarray(part))
        fixed = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(part.shape[1]), len(part), [None, buffer]
        )
        return fixed.cast(pa.binary()).cast(pa.string())

    schema = pa.schema([("person_id", pa.string()), ("face_id", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for start, pairs in _chunks(order):
            lines = _lines(LINE, pairs, start)
            columns = [texts(lines[:, :16]), texts(lines[:, 17:34])]
            writer.write_table(pa.table(columns, schema=schema))


def write_manifest(path: Path, shape: Shape, rows: int, seed: int = 1) -> Totals:
    """Write ``rows`` rows, the same bytes for the same arguments; a row more takes a few bytes of memory."""
    order = order_of(shape, rows, seed)
    write: Callable[[], None] = (
        (lambda: _write_parquet(path, order))
        if shape == "parquet"
        else (lambda: _write_text(path, shape, order))
    )
    write()
    return totals_of(shape, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="shuffled")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    totals = write_manifest(options.file, options.shape, options.rows, options.seed)
    print(json.dumps(asdict(totals)))


if __name__ == "__main__":
    main()
