"""Inputs of runs: made-up pairs, and the files that hold them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.e2e.service import Pair


def persons(count: int, faces: int = 1, *, first: int = 0) -> list[Pair]:
    """``count`` persons with ``faces`` faces each; IDs that no number could hold."""
    return [
        (f"person-{number}", f"00{number:04d}31842550077981745{face:02d}")
        for number in range(first, first + count)
        for face in range(faces)
    ]


def write_table(
    path: Path, rows: Iterable[Sequence[str]], header: Sequence[str] = ("person_id", "face_id")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
