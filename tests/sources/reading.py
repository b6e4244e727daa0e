"""All that a source gives, in whatever chunks it gives it."""

from __future__ import annotations

import io
from typing import Any, NamedTuple, Protocol

import pytest

from worker.errors import InputRefused
from worker.model import Entry, SourceSummary, Stretch
from worker.sources import cells, jsonlines, open_sources, text
from worker.sources.interface import Source, SourceOptions


def all_entries(source: Source) -> list[Entry]:
    return [
        entry
        for chunk in source.chunks()
        for entry in (chunk.entries() if isinstance(chunk, Stretch) else chunk)
    ]


class Outcome(NamedTuple):
    entries: list[Entry]
    """Those that came before a refusal."""
    summary: SourceSummary | None
    refusal: tuple[str, str] | None
    by_column: int
    """Records that came by column."""

    @property
    def told(self) -> tuple[Any, ...]:
        return self[:3]


def read(data: bytes, **options: Any) -> Outcome:
    (opened,) = open_sources(["-"], SourceOptions(**options), Drops(data))
    entries: list[Entry] = []
    by_column = 0
    try:
        for chunk in opened.chunks():
            if isinstance(chunk, Stretch):
                by_column += len(chunk)
                entries += chunk.entries()
            else:
                entries += chunk
    except InputRefused as refused:
        return Outcome(entries, None, (refused.cause, refused.remedy), by_column)
    return Outcome(entries, opened.summary(), None, by_column)


class Drops(io.BytesIO):
    """Standard input that gives no more than a few bytes at a time."""

    size = 16

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.size)


def cut_at(patch: pytest.MonkeyPatch, gathered_bytes: int, part_bytes: int) -> None:
    """How much is looked at by column, and how much of it again where that is in doubt."""
    patch.setattr(text, "GATHERED_BYTES", gathered_bytes)
    patch.setattr(cells, "PIECE_BYTES", part_bytes)
    patch.setattr(jsonlines, "PIECE_BYTES", part_bytes)


class Carefully(Protocol):
    """``read`` of the same blocks without any columns."""

    def __call__(self, data: bytes, **options: Any) -> Outcome: ...
