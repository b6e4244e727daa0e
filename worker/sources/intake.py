"""The raw bytes of a source: read once, counted and digested on their way."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from worker.errors import InputRefused
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
                self._require_same(stream, before)
        except OSError as error:
            raise self._unreadable(error) from error

    @contextmanager
    def resting(self) -> Iterator[BinaryIO]:
        """The whole source, digested, to be read in any order while the block lasts.

        A file is read where it lies, anything else from a copy. Raises as ``pieces``, for a file that
        changed at the end of the block.
        """
        try:
            stream = self._opened()
        except OSError as error:
            raise self._unreadable(error) from error
        with closing(stream):
            before = self._identity(stream)
            if not before:
                with self.copied(self._read(stream)) as copy:
                    yield copy
                return
            for _ in self._read(stream):
                pass
            yield stream
            self._require_same(stream, before)

    @contextmanager
    def copied(self, pieces: Iterator[bytes]) -> Iterator[BinaryIO]:
        """``pieces`` in a file without a name, which is gone after the block, however that ends.

        Raises ``InputRefused`` where there is no room for it.
        """
        with ExitStack() as held:
            try:
                copy = held.enter_context(TemporaryFile(prefix="facepurge-"))
                for piece in pieces:
                    copy.write(piece)
                copy.flush()
            except OSError as error:
                raise self._place.refused(
                    "it can be read only as a file, and no copy of it could be written among the "
                    f"temporary files ({error.strerror or error})",
                    "make room where TMPDIR leads, or name another place with TMPDIR",
                ) from error
            yield copy

    def _require_same(self, stream: BinaryIO, before: tuple[int, ...]) -> None:
        if self._identity(stream) != before:
            raise self._place.refused(
                "the file changed while it was being read",
                "run again when whatever writes it has finished",
            )

    def _unreadable(self, error: OSError) -> InputRefused:
        return self._place.refused(
            f"it cannot be read ({error.strerror or error})",
            "check the file, its permissions and the disk it lies on",
        )

    def _read(self, stream: BinaryIO) -> Iterator[bytes]:
        while piece := self._next(stream):
            self._sha256.update(piece)
            self.byte_count += len(piece)
            yield piece

    def _next(self, stream: BinaryIO) -> bytes:
        # None comes from a descriptor that another program has switched to non-blocking; taking it
        # for the end would lose the rest silently.
        try:
            piece = cast("bytes | None", stream.read(PIECE_BYTES))
        except OSError as error:
            raise self._unreadable(error) from error
        if piece is None:
            raise self._place.refused(
                "it is switched to non-blocking mode and has nothing to read at the moment",
                "write it to a file first and name that",
            )
        return piece

    @staticmethod
    def _identity(stream: BinaryIO) -> tuple[int, ...]:
        try:
            status = os.fstat(stream.fileno())
        except io.UnsupportedOperation:
            return ()  # an object in a store, which looks after itself
        if not stat.S_ISREG(status.st_mode):
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
