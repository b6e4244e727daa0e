"""Bytes to text: strict UTF-8, no NUL, capped lines; every refusal names the byte."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from worker.errors import InputRefused
from worker.sources.place import Place

FIRST_BYTES = 1024 * 1024
"""So much of a source comes in the pieces in which it was read: small sources stay small."""

GATHERED_BYTES = 4 * 1024 * 1024
"""How much of the rest is looked at together, where that is faster than piece by piece."""

LEAST_BYTES = 512 * 1024
"""Blocks from this size on are worth a look at them by column."""


class Block(NamedTuple):
    """Whole lines of a source; only the last block may lack its final line feed."""

    text: str
    line: int
    """1-based number of its first line."""


class ByteBlock(NamedTuple):
    """Whole lines of a source before they are decoded; only the last may lack its line feed."""

    data: bytes
    line: int
    """1-based number of its first line."""
    offset: int
    """0-based, of its first byte in the (decompressed) source."""

    def cut(self, size: int) -> Iterator[ByteBlock]:
        """The same lines in blocks of about ``size`` bytes, each of one line at least."""
        data, line, start = self.data, self.line, 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + size) + 1
            end = end or data.find(b"\n", start + size) + 1 or len(data)
            part = data[start:end]
            yield ByteBlock(part, line, self.offset + start)
            line += part.count(b"\n")
            start = end

    def decoded(self, place: Place) -> Block:
        """Its text; raises ``InputRefused`` for a NUL or anything that is not UTF-8."""
        return Block(_decoded(self.data, self.offset, self.line, place), self.line)


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """``pieces`` as they come at first, then joined to ``GATHERED_BYTES`` or a little more."""
    passed = 0
    for piece in pieces:
        yield piece
        passed += len(piece)
        if passed >= FIRST_BYTES:
            break
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        held.append(piece)
        held_bytes += len(piece)
        if held_bytes >= GATHERED_BYTES:
            held, held_bytes = [b"".join(held)], 0
            yield held.pop()
    if held:
        yield b"".join(held)


def byte_blocks(pieces: Iterator[bytes], place: Place, max_line_bytes: int) -> Iterator[ByteBlock]:
    """Cut ``pieces`` at line feeds.

    Raises ``InputRefused`` for a line longer than ``max_line_bytes``, without ever holding much
    more than that and a piece.
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
            data = b"".join((*tail, memoryview(piece)[:cut]))
            _check_lines(data, line, place, max_line_bytes)
            tail = [piece[cut:]]
            tail_bytes = len(tail[0])
            del piece  # Nobody needs it while its lines are worked on.
            yield ByteBlock(data, line, offset)
            line += data.count(b"\n")
            offset += len(data)
        if tail_bytes > max_line_bytes:
            raise _long_line(line, place, max_line_bytes)
    data = b"".join(tail)
    if data:
        yield ByteBlock(data, line, offset)


def decoded_pieces(pieces: Iterator[bytes], place: Place) -> Iterator[str]:
    """Decode ``pieces`` wherever they are cut; raises as a block does."""
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
    start = 0
    while len(data) - start > max_line_bytes:
        # From the beginning of a line to the last end of one that the cap lets it reach.
        end = data.rfind(b"\n", start, start + max_line_bytes + 1)
        if end < 0:
            raise _long_line(line + data.count(b"\n", 0, start), place, max_line_bytes)
        start = end + 1


def _long_line(line: int, place: Place, max_line_bytes: int) -> InputRefused:
    return place.refused(
        f"the line is longer than {max_line_bytes} bytes",
        "check that the file is what its name says; if such lines are meant, raise max_line_bytes "
        "in the configuration",
        line,
    )
