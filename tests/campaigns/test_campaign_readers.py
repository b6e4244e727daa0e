"""The readers' campaign in short, and what it would find."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.campaigns.readers import (
    Observed,
    Program,
    Reader,
    difference_of,
    examined,
    keep,
    kept,
    shrunk,
)
from tests.sources.generated_files import GeneratedFile, Size, generated_file
from tests.sources.plain.words import Asked, Read, Refusal

SEED = 20261126
FILES = 300


@pytest.mark.campaign
def test_the_program_reads_what_a_plain_reader_reads() -> None:
    """`make readers` does this with thousands of files, and with bigger ones."""
    tally = examined(SEED, Size.SMALL, range(FILES))
    assert tally.differences == []
    used = tally.files - tally.refused_files.total()
    assert min(used, tally.refused_files.total()) > FILES / 4
    assert len(tally.refused_files) > 12
    assert len(tally.refused_rows) > 20


def _last_row_lost(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    read = program(data, name, asked)
    return Read(read.rows[:-1], read.records, read.blank_lines) if isinstance(read, Read) else read


def _rows_swapped(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    read = program(data, name, asked)
    if isinstance(read, Read):
        return Read([*read.rows[1:], *read.rows[:1]], read.records, read.blank_lines)
    return read


def _ids_trimmed(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    return program(re.sub(rb" +(?=[,\n])", b"", data), name, asked)


def _carriage_returns_accepted(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    return program(re.sub(rb"\r(?!\n)", b"\n", data), name, asked)


def _quotes_forgiven(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    return program(data + b'"' if data.count(b'"') % 2 else data, name, asked)


def _bad_bytes_replaced(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    return program(data.decode(errors="replace").encode(), name, asked)


def _blank_lines_not_counted(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    read = program(data, name, asked)
    return Read(read.rows, read.records, 0) if isinstance(read, Read) else read


def _lines_miscounted(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    read = program(data, name, asked)
    if isinstance(read, Read):
        return Read(
            [row._replace(line=row.record + 2) for row in read.rows], read.records, read.blank_lines
        )
    return read._replace(line=read.line + 1) if isinstance(read, Refusal) and read.line else read


def _numbers_rounded(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    read = program(data, name, asked)
    if not isinstance(read, Read):
        return read
    rows = [
        row._replace(face_id=f"{float(row.face_id):.0f}") if row.face_id.isdecimal() else row
        for row in read.rows
    ]
    return Read(rows, read.records, read.blank_lines)


def _ends_ignored(program: Reader, data: bytes, name: str, asked: Asked) -> Observed:
    return program(data[: data.rfind(b"\n") + 1] or data, name, asked)


@pytest.mark.parametrize(
    "planted",
    [
        _last_row_lost,
        _rows_swapped,
        _ids_trimmed,
        _carriage_returns_accepted,
        _quotes_forgiven,
        _bad_bytes_replaced,
        _blank_lines_not_counted,
        _lines_miscounted,
        _numbers_rounded,
        _ends_ignored,
    ],
)
def test_a_reader_with_a_bug_is_found(planted: Callable[..., Observed], tmp_path: Path) -> None:
    read = partial(planted, Program(tmp_path))
    for number in range(1000):
        file = generated_file(SEED, number, Size.SMALL)
        if difference_of(file, read):
            return
    raise AssertionError("the bug was not found")


def test_a_file_that_makes_a_difference_is_made_small_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = "".join(f"p{number},{number}\n" for number in range(50))
    asked = Asked(columns={"person": "uid"}, delimiter=",")
    file = GeneratedFile("a.csv", f"uid,face_id\n{rows}q,7 \n{rows}".encode(), asked, "")
    program = Program(tmp_path)
    planted = partial(_ids_trimmed, program)
    small = shrunk(file, planted, seconds=60)
    assert small.data.startswith(b"uid,face_id\n")
    assert len(small.data) < len(b"uid,face_id\nq,7 \n")
    again = kept(keep(small))
    assert again[:3] == small[:3]
    assert difference_of(again, planted)
    assert not difference_of(again, program)
