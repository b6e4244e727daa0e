"""What a source of jobs is to the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from worker.model import Chunk, SourceSummary


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are to be read; the defaults are those of ``worker.settings``."""

    format: str = ""
    """``csv``, ``tsv``, ``jsonl``, ``ndjson``, ``json``, ``parquet``; ``""`` goes by the file's extension."""
    columns: dict[str, str] = field(default_factory=dict)
    """``person``, ``face``, ``job``, ``due`` to the name used by the source's header or keys."""
    delimiter: str = ""
    whole_persons: bool = False
    """Whether a table without a face column asks for everything of each person it names; JSON
    records say so themselves (``"faces": "all"``)."""
    person_id_pattern: str = "[A-Za-z0-9_-]{1,32}"
    face_id_pattern: str = "[0-9]{1,32}"
    max_line_bytes: int = 8 * 1024 * 1024
    max_expanded_bytes: int = 1024**4
    max_expansion_ratio: float = 2000.0


class Source(Protocol):
    """One file or stream, read once from its beginning to its end."""

    name: str
    """As reports name it: the path as given (or as its glob found it), ``-`` for standard input."""

    def chunks(self) -> Iterator[Chunk]:
        """What it holds, in input order, with flat memory.

        Raises ``worker.errors.InputRefused`` when the source as a whole cannot be trusted.
        """
        ...

    def summary(self) -> SourceSummary:
        """What it held; only after ``chunks`` is exhausted."""
        ...
