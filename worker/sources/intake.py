"""The raw bytes of a source: read once, counted and digested on their way."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO, cast

from worker.sources.place import Place

PIECE_BYTES = 256 * 1024
"""How much is read at a time; it also makes a chunk of a few thousand rows."""


class Intake:
    """Reads what ``opened`` opens, to its end; ``place`` names it in refusals.

    ``opened`` may raise ``OSError``. Standard input is read but never closed.
    """

    def __init__(self, place: Place, opened: Callable[[], BinaryIO]) -> None:
        self._place = place
        self._opened = opened
        self._sha256 = hashlib.sha256()
        self.byte_count = 0

    @property
    def sha256(self) -> str:
        """Hex digest of what was read so far."""
        return self._sha256.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The source's bytes; raises ``InputRefused`` when it cannot be read or changes meanwhile."""
        try:
            stream = self._opened()
            if self._place.name == "-":
                yield from self._read(stream)
                return
            with closing(stream):
                before = self._identity(stream)
                yield from self._read(stream)
                if self._identity(stream) != before:
                    raise self._place.refused(
                        "the file changed while it was being read",
                        "run again when whatever writes it has finished",
                    )
        except OSError as error:
            raise self._place.refused(
                f"it cannot be read ({error.strerror or error})",
                "check the file, its permissions and the disk it lies on",
            ) from error

    def _read(self, stream: BinaryIO) -> Iterator[bytes]:
        while piece := self._next(stream):
            self._sha256.update(piece)
            self.byte_count += len(piece)
            yield piece

    def _next(self, stream: BinaryIO) -> bytes:
        # None comes from a descriptor that another program has switched to non-blocking; taking it
        # for the end would lose the rest silently.
        piece = cast("bytes | None", stream.read(PIECE_BYTES))
        if piece is None:
            raise self._place.refused(
                "it is switched to non-blocking mode and has nothing to read at the moment",
                "write it to a file first and name that",
            )
        return piece

    @staticmethod
    def _identity(stream: BinaryIO) -> tuple[int, ...]:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
