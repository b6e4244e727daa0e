"""Compressed sources, expanded as a stream and never beyond their caps."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from worker.sources.intake import PIECE_BYTES
from worker.sources.interface import SourceOptions
from worker.sources.place import Place

RATIO_FLOOR_BYTES = 64 * 1024 * 1024
"""Below this the ratio is not looked at: a million equal rows compress better than some bombs."""

_XZ_MEMORY_BYTES = 256 * 1024 * 1024
_ZSTD_SLICE_BYTES = 1024


class _Decompressor(Protocol):
    """One member (gzip) or frame (zstd) or stream (bzip2, xz), as the standard library does it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """``zlib`` with the interface of ``bz2`` and ``lzma``; checks the trailer's CRC and size."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        expanded = self._member.decompress(self._member.unconsumed_tail + data, max_length)
        self.needs_input = len(expanded) < max_length and not self._member.unconsumed_tail
        return expanded


class _Zstd:
    """``zstandard`` with the same interface.

    It knows no ``max_length``, so it is fed thin slices: four bytes expand to at most 128 KiB
    (RFC 8878, RLE blocks), a slice to at most 32 MiB.
    """

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + bytes(self._waiting)

    def decompress(self, data: bytes, _max_length: int, /) -> bytes:
        if data:
            self._waiting = memoryview(bytes(self._waiting) + data)
        piece, self._waiting = self._waiting[:_ZSTD_SLICE_BYTES], self._waiting[_ZSTD_SLICE_BYTES:]
        return self._frame.decompress(piece)


def _decompressor(compression: str) -> _Decompressor:
    match compression:
        case "gzip":
            return _Gzip()
        case "bzip2":
            return bz2.BZ2Decompressor()
        case "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        case _:
            return _Zstd()


def expanded(
    pieces: Iterator[bytes], compression: str, place: Place, options: SourceOptions
) -> Iterator[bytes]:
    """Expand ``pieces``; concatenated members follow one another.

    Raises ``InputRefused`` for data that is damaged, cut, followed by anything else, or beyond
    ``max_expanded_bytes`` or ``max_expansion_ratio``.
    """
    raw_bytes = expanded_bytes = members = 0
    member: _Decompressor | None = None
    for piece in pieces:
        raw_bytes += len(piece)
        data = piece
        while data or (member is not None and not member.needs_input):
            if member is None:
                member = _decompressor(compression)
            try:
                output = member.decompress(data, PIECE_BYTES)
            except (OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
                raise _damaged(place, compression, members, error) from error
            data = b""
            expanded_bytes += len(output)
            check_caps(place, raw_bytes, expanded_bytes, options)
            # zstd gives whole blocks, however little was asked for.
            for start in range(0, len(output), PIECE_BYTES):
                yield output[start : start + PIECE_BYTES]
            if member.eof:
                data, member, members = member.unused_data, None, members + 1
    if member is not None:
        raise place.refused(
            f"the {compression} data is cut: it ends in the middle",
            "copy or download the file again, and compare its size with the original",
        )


def check_caps(place: Place, raw_bytes: int, expanded_bytes: int, options: SourceOptions) -> None:
    """Raise ``InputRefused`` where so many bytes are more than ``raw_bytes`` may become."""
    if expanded_bytes > options.max_expanded_bytes:
        raise place.refused(
            f"it expands to more than {options.max_expanded_bytes} bytes",
            "if that is really meant, raise max_expanded_bytes in the configuration",
        )
    ratio = expanded_bytes / raw_bytes
    if expanded_bytes > RATIO_FLOOR_BYTES and ratio > options.max_expansion_ratio:
        raise place.refused(
            f"it expands to more than {options.max_expansion_ratio:g} times its size, as a "
            "compression bomb does",
            "if that is really meant, raise max_expansion_ratio in the configuration, or unpack "
            "the file first",
        )


def _damaged(place: Place, compression: str, members: int, error: Exception) -> Exception:
    if members:
        return place.refused(
            f"something that is not {compression} follows the compressed data, or its next part "
            f"is damaged ({error})",
            "copy or download the file again; cut off what was appended to it",
        )
    return place.refused(
        f"the {compression} data is damaged ({error})", "copy or download the file again"
    )
