"""Memory stays flat for a line of a gigabyte, for bombs, and for long sources."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard

from worker.errors import InputRefused
from worker.sources import open_sources
from worker.sources.interface import SourceOptions

MB = 1024 * 1024


class Endless(io.BytesIO):
    """Standard input that repeats ``beat`` after ``start``, up to ``size`` bytes."""

    def __init__(self, start: bytes, beat: bytes, size: int) -> None:
        super().__init__(start)
        self._beat = beat
        self.left = size

    def read(self, size: int | None = -1, /) -> bytes:
        assert size
        if head := super().read(size):
            return head
        piece = self._beat * (min(size, self.left) // len(self._beat))
        self.left -= len(piece)
        return piece


@contextmanager
def peak_below(limit_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit_bytes, f"{peak / MB:.1f} MB"


HUGE = {
    "header": (b"", b"x", "line is longer", "csv"),
    "row": (b"person_id,face_id\np,", b"1", "line is longer", "csv"),
    "quoted cell": (b'person_id,face_id\np,"', b"1\n", "not closed within", "csv"),
    "json line": (b'{"personId":"', b"p", "line is longer", "jsonl"),
    "json array": (b'[{"personId":"', b"p", "element is longer", "json"),
    "array of one list": (b'[{"faceIds":[', b'"1",', "element is longer", "json"),
    "open brackets": (b"", b"[", "line is longer|nested", "jsonl"),
    "open brackets in an array": (b"", b"[", "nested too deeply", "json"),
    "digits": (b"[", b"1", "element is longer", "json"),
}


@pytest.mark.parametrize(("start", "beat", "cause", "format_"), HUGE.values(), ids=HUGE.keys())
def test_one_line_of_a_gigabyte_is_refused_at_the_cap(
    start: bytes, beat: bytes, cause: str, format_: str
) -> None:
    stdin = Endless(start, beat, 1024 * MB)
    options = SourceOptions(format=format_, max_line_bytes=MB)
    (source,) = open_sources(["-"], options, stdin)
    with peak_below(60 * MB), pytest.raises(InputRefused, match=cause):
        list(source.chunks())
    assert stdin.left > 1000 * MB


def test_a_gigabyte_of_blank_space_in_an_array_is_dropped_as_it_comes() -> None:
    stdin = Endless(b"[", b" \n", 64 * MB)
    (source,) = open_sources(["-"], SourceOptions(format="json"), stdin)
    with peak_below(6 * MB), pytest.raises(InputRefused, match="ends in the middle"):
        list(source.chunks())
    assert stdin.left == 0


def test_a_sparse_file_of_a_gigabyte_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.truncate(1024 * MB)
    (source,) = open_sources([str(path)], SourceOptions(), io.BytesIO())
    with peak_below(20 * MB), pytest.raises(InputRefused, match=r"NUL at byte offset 0|longer"):
        list(source.chunks())


BOMBS: dict[str, Any] = {".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("extension", BOMBS)
@pytest.mark.parametrize("beat", [b"p,1\n", b"1"], ids=["rows", "one line"])
def test_a_bomb_is_stopped_in_flat_memory(tmp_path: Path, extension: str, beat: bytes) -> None:
    bomb = BOMBS[extension](b"person_id,face_id\n" + beat * (16 * MB // len(beat)))
    path = tmp_path / f"bomb.csv{extension}"
    path.write_bytes(bomb)
    options = SourceOptions(max_expanded_bytes=MB, max_line_bytes=MB // 2)
    (source,) = open_sources([str(path)], options, io.BytesIO())
    with peak_below(100 * MB), pytest.raises(InputRefused, match=r"expands to|longer"):
        for _ in source.chunks():
            pass


LONG = {
    "csv": (b"person_id,face_id,note\n", b"p,1,a note\n"),
    "jsonl": (b"", b'{"personId":"p","faceIds":["1"],"n":1}\n'),
}


@pytest.mark.parametrize(("format_", "parts"), LONG.items())
def test_a_long_source_is_read_in_flat_memory(format_: str, parts: tuple[bytes, bytes]) -> None:
    start, beat = parts
    size = len(beat) * 60_000
    (source,) = open_sources(["-"], SourceOptions(format=format_), Endless(start, beat, size))
    with peak_below(24 * MB):
        assert sum(map(len, source.chunks())) == 60_000
