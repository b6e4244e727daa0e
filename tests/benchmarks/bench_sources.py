"""How fast jobs are read, as a ratio to the barest loop over the same bytes in the same run.

``python -m tests.benchmarks.bench_sources [--rows N]``. A second is one of CPU time, which other
programs cannot stretch, and includes what loading Arrow takes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.comparison import Contestant, WrongAnswer, compare
from tests.benchmarks.measurement import Ended
from tests.benchmarks.sitting import Sitting, parser
from worker.sources import open_sources
from worker.sources.interface import SourceOptions

QUESTION = "How fast are jobs read?"
BARE = "bare loop"
FIGURE = "rows_per_second_of_CPU"
BUDGET_SECONDS = 5.0


def _ours(path: Path) -> int:
    (source,) = open_sources([str(path)], SourceOptions(), io.BytesIO())
    return sum(map(len, source.chunks()))


def _bare_csv(path: Path) -> int:
    with path.open(newline="") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def _bare_csv_gz(path: Path) -> int:
    with gzip.open(path, "rt", newline="") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def _bare_jsonl(path: Path) -> int:
    with path.open() as text:
        return sum(1 for line in text if json.loads(line))


def _bare_json(path: Path) -> int:
    return len(json.loads(path.read_text()))


def _bare_parquet(path: Path) -> int:
    from pyarrow.parquet import ParquetFile

    return sum(map(len, ParquetFile(path).iter_batches()))


WAYS: dict[str, Callable[[Path], int]] = {
    "ours": _ours,
    "csv": _bare_csv,
    "csv.gz": _bare_csv_gz,
    "jsonl": _bare_jsonl,
    "json": _bare_json,
    "parquet": _bare_parquet,
}


def _read_once(way: str, path: Path) -> None:
    """In a process of its own: read ``path`` and print what it took."""
    started = time.process_time()
    entries = WAYS[way](path)
    sys.stdout.write(json.dumps([entries, time.process_time() - started]))


def _reader(name: str, way: str, path: Path, rows: int, entries: int) -> Contestant:
    """One that reads ``rows`` rows, and has to find ``entries`` in them."""

    def check(ended: Ended) -> Mapping[str, float]:
        found, seconds = json.loads(ended.out)
        if found != entries:
            raise WrongAnswer(f"{path.name}: {name} found {found} entries of {entries}")
        return {FIGURE: rows / seconds}

    command = [sys.executable, "-m", "tests.benchmarks.bench_sources", "--way", way]
    return Contestant(name, [*command, "--path", path], check)


def _quoted(text: str) -> str:
    return "\n".join('"' + line.replace(",", '","') + '"' for line in text.splitlines()) + "\n"


def _shapes(rows: int) -> dict[str, tuple[str, str, int]]:
    """Case to extension, text, and entries."""
    chance = random.Random(7)
    pairs = [
        (f"person_{chance.randrange(10**9):09d}", str(chance.randrange(10**16, 10**17)))
        for _ in range(rows)
    ]
    plain = "person_id,face_id\n" + "".join(f"{p},{f}\n" for p, f in pairs)
    wide = "person_id,face_id,job_id,note\n" + "".join(
        f"{p},{f},job-{p},a note\n" for p, f in pairs
    )
    several = "person_id,face_ids\n" + "".join(f"{p},{f};{f[::-1]}1\n" for p, f in pairs)
    hundredth = "person_id,face_id\n" + "".join(
        f"{p},{f}{' ' if n % 100 == 0 else ''}\n" for n, (p, f) in enumerate(pairs)
    )
    lines = "".join(f'{{"personId":"{p}","faceIds":["{f}"]}}\n' for p, f in pairs)
    carrying = "".join(
        f'{{"personId":"{p}","faceIds":["{f}"],"n":1.50,"note":"of {p}"}}\n' for p, f in pairs
    )
    lists = "".join(f'{{"personId":"{p}","faceIds":["{f}","{f[::-1]}1"]}}\n' for p, f in pairs)
    return {
        "csv, two columns": ("csv", plain, rows),
        "csv, CRLF": ("csv", plain.replace("\n", "\r\n"), rows),
        "csv, compressed": ("csv.gz", plain, rows),
        "csv, every cell quoted": ("csv", _quoted(plain), rows),
        "csv, label and note": ("csv", wide, rows),
        "csv, each 100th row bad": ("csv", hundredth, rows),
        "csv, two faces a cell": ("csv", several, 2 * rows),
        "jsonl": ("jsonl", lines, rows),
        "jsonl, carrying": ("jsonl", carrying, rows),
        "jsonl, two faces a line": ("jsonl", lists, 2 * rows),
        "parquet, two columns": ("parquet", plain, rows),
        "parquet, label and note": ("parquet", wide, rows),
        "parquet, each 100th bad": ("parquet", hundredth, rows),
        "json array": ("json", "[" + lines.rstrip().replace("\n", ",\n") + "]", rows),
    }


def _write(path: Path, data: bytes) -> None:
    """``data`` as the extension says; of Parquet it is the same table in text."""
    if path.suffix == ".parquet":
        _write_parquet(path, data)
    else:
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def _write_parquet(path: Path, data: bytes) -> None:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    names = data.partition(b"\n")[0].decode().split(",")
    as_text = arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = arrow_csv.read_csv(pa.BufferReader(data), convert_options=as_text)
    parquet.write_table(table, path, write_page_checksum=True)


def main() -> None:
    """Write the same rows in every shape, and read each in turn."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int)
    options.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.way:
        _read_once(given.way, given.path)
        return
    rows: int = given.rows or (20_000 if given.scale == "quick" else 1_000_000)
    with TemporaryDirectory() as directory, Sitting("sources", QUESTION, given.json) as sitting:
        for case, (extension, text, entries) in _shapes(rows).items():
            path = Path(directory, f"jobs.{extension}")
            data = text.encode()
            _write(path, data)
            readers = [
                _reader(BARE, extension, path, rows, rows),
                _reader("facepurge", "ours", path, rows, entries),
            ]
            sitting.add(
                compare(
                    f"{rows:,} rows: {case}",
                    readers,
                    baseline=BARE,
                    figure=FIGURE,
                    rounds=given.rounds,
                    budget_seconds=BUDGET_SECONDS,
                )
            )
            path.unlink()


if __name__ == "__main__":
    main()
