"""Bytes to text: strict UTF-8, no NUL, capped lines; every refusal names the byte."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from worker.errors import InputRefused
from worker.sources.place import Place


class Block(NamedTuple):
    """Whole lines of a source; only the last block may lack its final line feed."""

    text: str
    line: int
    """1-based number of its first line."""


def line_blocks(pieces: Iterator[bytes], place: Place, max_line_bytes: int) -> Iterator[Block]:
    """Cut ``pieces`` at line feeds and decode them.

    Raises ``InputRefused`` for a line longer than ``max_line_bytes`` (without ever holding much
    more than that), a NUL, or anything that is not UTF-8. A byte order mark is dropped, once.
    """
    tail: list[bytes] = []
    tail_bytes = 0
    line, offset = 1, 0
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if not cut:
            tail.append(piece)
            tail_bytes += len(piece)
        else:
            data = b"".join((*tail, piece[:cut]))
            _check_lines(data, line, place, max_line_bytes)
            yield Block(_decoded(data, offset, line, place), line)
            line += data.count(b"\n")
            offset += len(data)
            tail = [piece[cut:]]
            tail_bytes = len(tail[0])
        if tail_bytes > max_line_bytes:
            raise _long_line(line, place, max_line_bytes)
    data = b"".join(tail)
    if data:
        yield Block(_decoded(data, offset, line, place), line)


def decoded_pieces(pieces: Iterator[bytes], place: Place) -> Iterator[str]:
    """Decode ``pieces`` wherever they are cut; raises as ``line_blocks``, but knows no lines' cap."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    for piece in pieces:
        held = decoder.getstate()[0]
        if b"\0" in piece:
            raise _nul(
                place, offset + piece.index(b"\0"), line + piece[: piece.index(b"\0")].count(b"\n")
            )
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, offset - len(held), line, place) from error
        yield text.removeprefix("\ufeff") if offset == 0 else text
        offset += len(piece)
        line += piece.count(b"\n")
    held = decoder.getstate()[0]
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(error, offset - len(held), line, place) from error


def check_carriage_returns(text: str, line: int, place: Place) -> None:
    """Raise ``InputRefused`` where a carriage return is not followed by a line feed."""
    if "\r" not in text or text.count("\r") == text.count("\r\n"):
        return
    at = next(i for i, c in enumerate(text) if c == "\r" and text[i + 1 : i + 2] != "\n")
    raise lone_carriage_return(place, line + text.count("\n", 0, at))


def lone_carriage_return(place: Place, line: int) -> InputRefused:
    """The refusal for a carriage return on ``line`` that no line feed follows."""
    return place.refused(
        "a carriage return stands alone, as old Macintosh programs end lines",
        "end lines with LF or CRLF; convert it: tr '\\r' '\\n' < FILE > NEW_FILE",
        line,
    )


def _decoded(data: bytes, offset: int, line: int, place: Place) -> str:
    nul = data.find(b"\0")
    if nul >= 0:
        raise _nul(place, offset + nul, line + data.count(b"\n", 0, nul))
    if offset == 0 and data.startswith(codecs.BOM_UTF8):
        data, offset = data[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error, offset, line, place) from error


def _nul(place: Place, offset: int, line: int) -> InputRefused:
    return place.refused(
        f"a NUL at {place.byte(offset)}: this is a binary file or UTF-16, not text",
        "save or export it as UTF-8 text",
        line,
    )


def _not_utf8(error: UnicodeDecodeError, offset: int, line: int, place: Place) -> InputRefused:
    byte = error.object[error.start]
    # The decoder says so only where the source itself ends.
    is_cut = error.reason == "unexpected end of data"
    return place.refused(
        f"byte 0x{byte:02X} at {place.byte(offset + error.start)} is not UTF-8 ({error.reason})",
        ("copy the file again if it was cut" if is_cut else "save it as UTF-8")
        + "; if it is Latin-1 or Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE",
        line + error.object.count(b"\n", 0, error.start),
    )


def _check_lines(data: bytes, line: int, place: Place, max_line_bytes: int) -> None:
    if len(data) <= max_line_bytes:
        return
    for number, content in enumerate(data.split(b"\n"), line):
        if len(content) > max_line_bytes:
            raise _long_line(number, place, max_line_bytes)


def _long_line(line: int, place: Place, max_line_bytes: int) -> InputRefused:
    return place.refused(
        f"the line is longer than {max_line_bytes} bytes",
        "check that the file is what its name says; if such lines are meant, raise max_line_bytes "
        "in the configuration",
        line,
    )
