"""What a machine without power forgets: contents and names that nobody has synced.

While a program runs on a ``PageCache``, SQLite's writes stay in memory until their file is synced,
and renames and deletions can be taken back until their directory is. ``forget`` leaves on the disk
what a power failure at that instant may leave there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.campaigns.fate import Fate

SECTOR_BYTES = 512
"""The unit in which a disk writes all or nothing."""

_open, _pwrite, _rename = os.open, os.pwrite, os.rename  # the program's own are struck

Write = Callable[[bytes, int], object]
"""Takes data and its offset."""
Truncate = Callable[[int], object]
"""Takes the size."""


@dataclass(frozen=True, slots=True)
class _Written:
    data: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class _Cut:
    size: int


@dataclass(slots=True)
class CachedFile:
    """A file as the program sees it, and how it differs from what is on the disk."""

    content: bytearray
    unsynced: list[_Written | _Cut] = field(default_factory=list)

    def read(self, amount: int, offset: int) -> bytes:
        return bytes(self.content[offset : offset + amount])

    def write(self, data: bytes, offset: int) -> None:
        self.unsynced.append(_Written(data, offset))
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.unsynced.append(_Cut(size))
        del self.content[size:]

    def sync(self, write: Write, truncate: Truncate) -> None:
        """Hand every change to the disk, in the order in which they were made."""
        changes, self.unsynced = self.unsynced, []
        for change in changes:
            match change:
                case _Written(data, offset):
                    write(data, offset)
                case _Cut(size):
                    truncate(size)

    def tear(self, random: Random) -> None:
        """Keep any part of the changes: a disk may write unsynced sectors, and may not."""
        torn: list[_Written | _Cut] = []
        for change in self.unsynced:
            match change:
                case _Written(data, offset):
                    torn += [
                        _Written(data[start : start + SECTOR_BYTES], offset + start)
                        for start in range(0, len(data), SECTOR_BYTES)
                        if random.random() < 0.5
                    ]
                case _Cut() if random.random() < 0.5:
                    torn.append(change)
        self.unsynced = torn


class PageCache:
    """The cache of one process under ``fate``."""

    def __init__(self, fate: Fate) -> None:
        self.lying = fate.lying
        self._torn = fate.loss == "torn"
        self._random = Random(fate.seed)
        self._files: dict[str, CachedFile] = {}
        self._synced_bytes: dict[str, int] = {}
        self._undo: dict[str, list[Callable[[], object]]] = {}

    def file(self, path: str) -> CachedFile:
        """The one view of the file at ``path`` that all who open it through SQLite share."""
        if path not in self._files:
            self._files[path] = CachedFile(bytearray(Path(path).read_bytes()))
        return self._files[path]

    # What the program does with other files, and with names

    def appended(self, path: str) -> None:
        """The program has appended to the file at ``path``."""
        self._synced_bytes.setdefault(path, 0)

    def synced(self, path: str) -> None:
        """The program has synced the file at ``path``, or the names in the directory at ``path``.

        SQLite must hold no lock on the file: opening and closing it here would end that.
        """
        if self.lying:
            return
        if Path(path).is_dir():
            self._undo.pop(path, None)
        elif path in self._files:
            self._bring(path)
        elif path in self._synced_bytes:
            self._synced_bytes[path] = Path(path).stat().st_size

    def renaming(self, old: str, new: str) -> None:
        """The program is about to rename."""
        before = Path(new).read_bytes() if Path(new).exists() else None

        def undo() -> None:
            _rename(new, old)
            self._move(new, old)
            if before is not None:
                Path(new).write_bytes(before)

        self._move(old, new)
        self._undo.setdefault(str(Path(new).parent), []).append(undo)

    def deleting(self, path: str) -> None:
        """The program is about to delete a file that exists."""
        before = Path(path).read_bytes()
        self._files.pop(path, None)
        entries = self._undo.setdefault(str(Path(path).parent), [])
        entries.append(lambda: Path(path).write_bytes(before))

    def _move(self, old: str, new: str) -> None:
        caches: tuple[dict[str, Any], ...] = (self._files, self._synced_bytes)
        for cache in caches:
            cache.pop(new, None)
            if old in cache:
                cache[new] = cache.pop(old)

    # The end

    def settle(self) -> None:
        """The process ends in peace: the system writes everything in its own time."""
        for path in self._files:
            self._bring(path)

    def forget(self) -> None:
        """The power fails."""
        for path, file in self._files.items():
            if self._torn:
                file.tear(self._random)
                self._bring(path)
        for path, synced in self._synced_bytes.items():
            size = Path(path).stat().st_size if Path(path).exists() else 0
            if size > synced:
                os.truncate(path, self._random.randint(synced, size) if self._torn else synced)
        for entries in self._undo.values():
            kept = self._random.randint(0, len(entries)) if self._torn else 0
            for undo in reversed(entries[kept:]):
                undo()

    def _bring(self, path: str) -> None:
        """Hand the changes of a file that SQLite has closed, or never will again, to the disk."""
        if not self._files[path].unsynced or not Path(path).exists():
            return
        descriptor = _open(path, os.O_WRONLY)
        self._files[path].sync(
            lambda data, offset: _pwrite(descriptor, data, offset),
            lambda size: os.ftruncate(descriptor, size),
        )
        os.close(descriptor)
