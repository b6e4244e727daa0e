"""SQLite's files as points: a VFS over the system's own."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import apsw

from tests.campaigns.fate import Deed, Place
from tests.campaigns.page_cache import CachedFile
from tests.campaigns.points import Points
from worker.ledger.database import DRAFT_NAME

_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_BASE = "unix"


def _place(name: str, kind: int) -> Place:
    if not name or not kind & (apsw.SQLITE_OPEN_MAIN_DB | _JOURNALS):
        return Place.TEMPORARY
    path = Path(name)
    if path.parent.name == "report":
        return Place.REPORT
    if kind & _JOURNALS:
        return Place.LOG
    return Place.PLAN if path.name == DRAFT_NAME else Place.LEDGER


def _error(code: int, io_error: int) -> apsw.Error:
    """What the system's own VFS makes of an errno."""
    if code == errno.ENOSPC and io_error == apsw.SQLITE_IOERR_WRITE:
        return apsw.FullError("the disk is full")
    error: Any = apsw.IOError("the disk failed")
    error.extendedresult = io_error
    return cast("apsw.Error", error)


class _File(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], points: Points
    ) -> None:
        self._points = points
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._place = _place(self._path, flags[0])
        super().__init__(_BASE, name, flags)
        self._cached: CachedFile | None = None
        if points.page_cache is not None and self._place is not Place.TEMPORARY:
            self._cached = points.page_cache.file(self._path)
        # The system's VFS syncs the directory with the first sync of a journal it has made.
        self._names_unsynced = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _JOURNALS)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 (SQLite's name)
        if self._cached is not None:
            return self._cached.read(amount, offset)
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:  # noqa: N802 (SQLite's name)
        return super().xFileSize() if self._cached is None else len(self._cached.content)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 (SQLite's name)
        def write() -> None:
            if self._cached is None:
                super(_File, self).xWrite(data, offset)
            else:
                self._cached.write(bytes(data), offset)

        self._points.passing(
            Deed.WRITE, self._place, write, lambda code: _error(code, apsw.SQLITE_IOERR_WRITE)
        )

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 (SQLite's name)
        def truncate() -> None:
            if self._cached is None:
                super(_File, self).xTruncate(newsize)
            else:
                self._cached.truncate(newsize)

        self._points.passing(
            Deed.TRUNCATE,
            self._place,
            truncate,
            lambda code: _error(code, apsw.SQLITE_IOERR_TRUNCATE),
        )

    def xSync(self, flags: int) -> None:  # noqa: N802 (SQLite's name)
        page_cache = self._points.page_cache

        def sync() -> None:
            if page_cache is not None and self._cached is not None and not page_cache.lying:
                self._cached.sync(super(_File, self).xWrite, super(_File, self).xTruncate)
            super(_File, self).xSync(flags)
            if page_cache is not None and self._names_unsynced:
                page_cache.synced(str(Path(self._path).parent))
            self._names_unsynced = False

        self._points.passing(
            Deed.SYNC, self._place, sync, lambda code: _error(code, apsw.SQLITE_IOERR_FSYNC)
        )

    def excepthook(self, *_error: object) -> bool:
        """SQLite ignores some errors, as those of the last checkpoint, and so does this."""
        return True


class Storage(apsw.VFS):
    """The default storage of this process once it is made."""

    def __init__(self, points: Points) -> None:
        self._points = points
        super().__init__("struck", _BASE, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 (SQLite's name)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        if path and (Path(path).exists() or not flags[0] & apsw.SQLITE_OPEN_CREATE):
            return _File(name, flags, self._points)
        return self._points.passing(
            Deed.CREATE,
            _place(path, flags[0]),
            lambda: _File(name, flags, self._points),
            lambda code: apsw.CantOpenError("the disk has no room for a new file"),
        )

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001 (SQLite's name)
        page_cache = self._points.page_cache

        def delete() -> None:
            if page_cache is not None and Path(filename).exists():
                page_cache.deleting(filename)
            super(Storage, self).xDelete(filename, syncdir)
            if syncdir and page_cache is not None:
                page_cache.synced(str(Path(filename).parent))

        self._points.passing(
            Deed.DELETE,
            _place(filename, apsw.SQLITE_OPEN_WAL),
            delete,
            lambda code: _error(code, apsw.SQLITE_IOERR_DELETE),
        )

    def excepthook(self, *_error: object) -> bool:
        return True


class _Connection(apsw.Connection):
    """SQLite ignores that the last checkpoint fails; apsw passes on what a VFS in Python raised."""

    def close(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 (apsw's signature)
        with suppress(apsw.FullError, apsw.IOError):
            super().close(force)


def strike_storage(points: Points) -> Storage:
    """All of SQLite in this process passes ``points`` as long as the result lives."""
    apsw.Connection = _Connection  # type: ignore[misc]  # a class is no variable to mypy
    return Storage(points)
