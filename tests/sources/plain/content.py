"""From the bytes of a file to its text."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import zstandard

from tests.sources.plain.words import Kind, Refusal

COMPRESSIONS: dict[str, Callable[[], Any]] = {
    "gz": partial(zlib.decompressobj, wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "xz": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ),
    "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_BROKEN = (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError)
_MAGIC = (
    b"\x1f\x8b",
    *(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"PAR1\x15",
    b"%PDF-",
    b"\xff\xfe",
    b"\xfe\xff",
)
_PAGES = (b"<!doctype", b"<html", b"<?xml")


def expanded(data: bytes, compression: str) -> tuple[bytes, bool]:
    """The content, member by member, and whether it is whole; otherwise as much as can be had."""
    content = bytearray()
    while data:
        member = COMPRESSIONS[compression]()
        try:
            content += member.decompress(data)
        except _BROKEN:
            # Byte by byte, so that nothing is lost that came out before the defect.
            member = COMPRESSIONS[compression]()
            with suppress(*_BROKEN):
                for byte in data:
                    content += member.decompress(bytes([byte]))
            return bytes(content), False
        if not member.eof:
            return bytes(content), False
        data = member.unused_data
    return bytes(content), True


def is_another_file(data: bytes) -> bool:
    """Whether the first bytes are those of something that is no text, or a page."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\v\f").lower()
    return data.startswith(_MAGIC) or start.startswith(_PAGES)


def read_text(data: bytes, longest: int | None, *, cut: bool) -> tuple[str, list[Refusal]]:
    """The text in front of the first defect, and of each kind of defect the first.

    UTF-8 without NUL, with one byte order mark at most, in lines of ``longest`` bytes at most.
    """
    ends: list[tuple[int, Refusal]] = []

    def note(kind: Kind, at: int) -> None:
        line = 1 + data.count(b"\n", 0, at)
        ends.append((at, Refusal(kind, line, None if kind is Kind.LONG_LINE else at)))

    nul = data.find(b"\0")
    if nul >= 0:
        note(Kind.NUL, nul)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if cut and error.reason == "unexpected end of data":
            data = data[: error.start]
        else:
            note(Kind.NOT_UTF8, error.start)
    at = 0
    for line in data.split(b"\n"):
        if longest is not None and len(line) > longest:
            note(Kind.LONG_LINE, at)
            break
        at += len(line) + 1
    text = data[: min([at for at, _ in ends], default=None)].decode()
    return text.removeprefix("\ufeff"), [refusal for _, refusal in ends]
