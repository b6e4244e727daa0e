"""How fast jobs are read, as a ratio to the barest loop over the same bytes in the same run.

Run it by hand: ``python tests/benchmarks/bench_sources.py [ROWS]``.
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.sources import open_sources
from worker.sources.interface import SourceOptions

_REPEATS = 3


def _seconds(work: Callable[[], int], rows: int) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        assert work() == rows
        best = min(best, time.perf_counter() - started)
    return best


def _ours(path: Path) -> int:
    (source,) = open_sources([str(path)], SourceOptions(), io.BytesIO())
    return sum(map(len, source.entries()))


def _bare_csv(path: Path) -> int:
    with path.open(newline="") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def _bare_json_lines(path: Path) -> int:
    with path.open() as text:
        return sum(1 for line in text if json.loads(line))


def _bare_json(path: Path) -> int:
    return len(json.loads(path.read_text()))


def _quoted(text: str) -> str:
    return "\n".join('"' + line.replace(",", '","') + '"' for line in text.splitlines()) + "\n"


def main() -> None:
    """Write the same rows in every shape, read each twice, print rows per second and the ratio."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    chance = random.Random(7)
    pairs = [
        (f"person_{chance.randrange(10**9):09d}", str(chance.randrange(10**16, 10**17)))
        for _ in range(rows)
    ]
    plain = "person_id,face_id\n" + "".join(f"{p},{f}\n" for p, f in pairs)
    wide = "person_id,face_id,job_id,note\n" + "".join(
        f"{p},{f},job-{p},a note\n" for p, f in pairs
    )
    several = "person_id,face_ids\n" + "".join(
        f"{p},{f};\n".replace(";", f";{f[::-1]}1") for p, f in pairs
    )
    lines = "".join(f'{{"personId":"{p}","faceIds":["{f}"]}}\n' for p, f in pairs)
    carrying = "".join(f'{{"personId":"{p}","faceIds":["{f}"],"n":1.50}}\n' for p, f in pairs)
    array = "[" + lines.rstrip().replace("\n", ",\n") + "]"
    cases: list[tuple[str, str, str, Callable[[Path], int], int]] = [
        ("csv, two columns", "csv", plain, _bare_csv, rows),
        ("csv, every cell quoted", "csv", _quoted(plain), _bare_csv, rows),
        ("csv, label and note", "csv", wide, _bare_csv, rows),
        ("csv, two faces a cell", "csv", several, _bare_csv, 2 * rows),
        ("jsonl", "jsonl", lines, _bare_json_lines, rows),
        ("jsonl, carrying a number", "jsonl", carrying, _bare_json_lines, rows),
        ("json array", "json", array, _bare_json, rows),
    ]
    sys.stdout.write(f"{'case':26} {'rows/s':>10} {'bare/s':>10} {'ratio':>6}\n")
    with TemporaryDirectory() as directory:
        for name, extension, text, bare, expected in cases:
            path = Path(directory, f"jobs.{extension}")
            path.write_text(text)
            ours = _seconds(lambda p=path: _ours(p), expected)  # type: ignore[misc]
            base = _seconds(lambda p=path, b=bare: b(p), rows)  # type: ignore[misc]
            sys.stdout.write(
                f"{name:26} {rows / ours:10,.0f} {rows / base:10,.0f} {base / ours:6.2f}\n"
            )


if __name__ == "__main__":
    main()
