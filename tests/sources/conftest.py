from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.sources.reading import Carefully, Outcome, all_entries, cut_at
from tests.sources.reading import read as read_in_drops
from worker.errors import InputRefused
from worker.model import Entry, SourceSummary
from worker.sources import cells, jsonlines, open_sources, source, text
from worker.sources.interface import SourceOptions
from worker.sources.jsonlines import JsonLinesReader
from worker.sources.table import TableReader


class Reading(NamedTuple):
    entries: list[Entry]
    summary: SourceSummary

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(e.person_id, e.face_id) for e in self.entries]

    @property
    def reasons(self) -> list[str]:
        return [e.reason for e in self.entries]


Read = Callable[..., Reading]
Refuse = Callable[..., InputRefused]


def _read(path: Path, data: bytes, options: SourceOptions) -> Reading:
    path.write_bytes(data)
    (opened,) = open_sources([str(path)], options, io.BytesIO())
    entries = all_entries(opened)
    return Reading(entries, opened.summary())


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Read bytes through a real file whose name says its format."""
    directory = tmp_path_factory.mktemp("read")

    def read_bytes(data: bytes, name: str = "jobs.csv", **options: Any) -> Reading:
        return _read(directory / name, data, SourceOptions(**options))

    return read_bytes


@pytest.fixture(scope="session")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Refuse:
    """The refusal of bytes in a real file; its cause has the path's directory taken off."""
    directory = tmp_path_factory.mktemp("refuse")

    def refused(data: bytes, name: str = "jobs.csv", **options: Any) -> InputRefused:
        with pytest.raises(InputRefused) as caught:
            _read(directory / name, data, SourceOptions(**options))
        cause = caught.value.cause.removeprefix(f"{directory}/")
        return InputRefused(cause, caught.value.remedy)

    return refused


@pytest.fixture(scope="session")
def read_stdin() -> Read:
    def read_stream(data: bytes, **options: Any) -> Reading:
        (opened,) = open_sources(["-"], SourceOptions(**options), io.BytesIO(data))
        entries = all_entries(opened)
        return Reading(entries, opened.summary())

    return read_stream


@pytest.fixture
def from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is too small to be read by column, and all but the first pieces are joined."""
    monkeypatch.setattr(source, "HEAD_BYTES", 4)
    monkeypatch.setattr(text, "FIRST_BYTES", 1)
    monkeypatch.setattr(cells, "LEAST_BYTES", 1)
    monkeypatch.setattr(jsonlines, "LEAST_BYTES", 1)
    cut_at(monkeypatch, 64, 24)


@pytest.fixture
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> Carefully:
    """``read`` of the same blocks without any columns."""

    def carefully(data: bytes, **options: Any) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(TableReader, "_has_columns", lambda *_: False)
            patch.setattr(JsonLinesReader, "_by_column", lambda *_: None)
            outcome = read_in_drops(data, **options)
        assert not outcome.by_column
        return outcome

    return carefully
