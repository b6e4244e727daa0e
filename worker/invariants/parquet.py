"""D6: ``results.parquet``, where there is one, against the index and ``results.jsonl`` beside it.

Line by line and not byte by byte: another version of the library would write other bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from worker.invariants.violation import Findings
from worker.report.carried import carried_headers
from worker.report.writing import JOBS, PARQUET

_PLACE = f"report/{PARQUET}"
_TIMES = ("first_sent_at", "finished_at")


def check_parquet(directory: Path, index: Any, summary: Any, findings: Findings) -> None:
    """Judge the file; ``index`` and ``summary`` are the documents of the report in ``directory``.

    Raises ``ValueError``, ``KeyError`` or ``TypeError`` where these are not what they should look like.
    """
    path = directory / PARQUET
    entries = [entry for entry in index["files"] if entry["name"] == PARQUET]
    if path.is_file() != bool(entries):
        findings.add(
            "D6", _PLACE, "the index lists the file or it is there, and one without the other"
        )
        return
    for entry in entries:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if (entry["sha256"], entry["bytes"]) != (digest, file.tell()):
                findings.add("D6", _PLACE, "the file is not the one that the index lists")
                return
        _check_lines(path, entry, summary, findings)


def without_parquet(index: Any) -> Any:
    """The index of the same report without the file."""
    return {**index, "files": [entry for entry in index["files"] if entry["name"] != PARQUET]}


def _check_lines(path: Path, entry: Any, summary: Any, findings: Findings) -> None:
    import pyarrow as pa  # noqa: PLC0415 (heavy)
    import pyarrow.parquet as pq  # noqa: PLC0415 (heavy)

    names = dict.fromkeys(
        name for source in summary["inputs"] for name in source["carried_columns"]
    )
    headers = dict(zip(carried_headers(names), names, strict=True))
    try:
        with pq.ParquetFile(path) as file:
            if entry["rows"] != file.metadata.num_rows:
                findings.add("D6", _PLACE, "the index tells another number of rows")
            rows = (row for batch in file.iter_batches(10_000) for row in batch.to_pylist())
            for row, line in zip_longest(rows, _lines(path.with_name(JOBS))):
                if row is None or line is None:
                    findings.add("D6", _PLACE, f"it does not have a line for each of {JOBS}")
                    break
                if not _agree(row, line, headers):
                    place = f"{line['source']}:{line['line']}"
                    findings.add("D6", place, f"its line of {PARQUET} is not that of {JOBS}")
    except pa.ArrowException:
        findings.add("D6", _PLACE, "the file is not what it should look like")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Each face of ``results.jsonl`` with what its job says, numbers in carried values as text."""
    with path.open(encoding="utf-8", newline="\n") as jobs:
        for text in jobs:
            job = json.loads(text)
            carried = json.loads(text, parse_float=str, parse_int=str)["carried"]
            for face in job["faces"]:
                yield {
                    **{name: job[name] for name in ("job_id", "source", "line", "person_id")},
                    **face,
                    "carried": carried,
                }


def _agree(row: dict[str, Any], line: dict[str, Any], headers: Mapping[str, str]) -> bool:
    carried = line.pop("carried")
    values = {header: row.pop(header) for header in headers}
    times = {name: _iso(row[name]) for name in _TIMES}
    return {**row, **times} == line and all(
        _is_value(values[header], carried, name) for header, name in headers.items()
    )


def _iso(time: datetime | None) -> str | None:
    if time is None:
        return None
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def _is_value(cell: str | None, carried: Mapping[str, Any], name: str) -> bool:
    if cell is None or name not in carried:
        return cell is None and name not in carried
    value = carried[name]
    if isinstance(value, str):
        # Half of a surrogate pair is spelled out, and a number was read as text just before.
        return cell == value.encode(errors="backslashreplace").decode()
    return bool(json.loads(cell, parse_float=str, parse_int=str) == value)
