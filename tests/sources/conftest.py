from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from worker.errors import InputRefused
from worker.model import Entry, SourceSummary
from worker.sources import open_sources
from worker.sources.interface import SourceOptions


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
    (source,) = open_sources([str(path)], options, io.BytesIO())
    entries = [entry for chunk in source.entries() for entry in chunk]
    return Reading(entries, source.summary())


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
        (source,) = open_sources(["-"], SourceOptions(**options), io.BytesIO(data))
        entries = [entry for chunk in source.entries() for entry in chunk]
        return Reading(entries, source.summary())

    return read_stream
