"""Which format and which compression a source has, by its name or by its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, TypeAlias

from worker.sources.magic import is_parquet

Format: TypeAlias = Literal["csv", "tsv", "jsonl", "json", "parquet"]

FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
}
"""What ``--format`` may say, and the format each names."""

EXTENSIONS: dict[str, Format] = {**FORMATS, "pq": "parquet"}
"""The same for file extensions."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Extensions of compressed sources, and the compression each names."""


@dataclass(frozen=True, slots=True)
class NamedFormat:
    """What a file's name says about its content."""

    format: Format | None
    """None where the extension (below a compression's) is not one of ours."""
    compression: str
    """A value of ``COMPRESSIONS``, or ``""``."""
    extension: str
    """The extension that should name the format, lower case with its dot, or ``""``."""


def named_format(path: str) -> NamedFormat:
    """Read ``jobs.jsonl.gz`` as JSON Lines in gzip; letter case does not matter."""
    pure = PurePath(path.lower())
    compression = COMPRESSIONS.get(pure.suffix, "")
    extension = PurePath(pure.stem).suffix if compression else pure.suffix
    return NamedFormat(EXTENSIONS.get(extension.removeprefix(".")), compression, extension)


_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*([^\r\n]*)")


def sniffed_format(head: bytes, delimiter: str) -> Format:
    """The format of a stream without a name, by its first line that is not blank.

    ``{`` begins JSON Lines and ``[`` a JSON array; anything else is a table, separated by tabs
    where its header has tabs and no comma. A given ``delimiter`` says that it is a table. Parquet
    says so itself.
    """
    if is_parquet(head):
        return "parquet"
    match = _START.match(head)
    line = match[1] if match else b""
    if not delimiter and line.startswith(b"{"):
        return "jsonl"
    if not delimiter and line.startswith(b"["):
        return "json"
    return "tsv" if b"\t" in line and b"," not in line else "csv"
