"""A disk that does as it is told at a numbered write or sync of SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw


class _File(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], tell: Callable[[], None]
    ) -> None:
        self._tell = tell
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 (SQLite's name)
        self._tell()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Not passed on: what was written outlives the process without it, and much faster."""
        self._tell()


class Disk(apsw.VFS):
    """``happens`` is called with the number, from 1, of each write and sync before it is done."""

    def __init__(self, name: str, happens: Callable[[int], None]) -> None:
        self.operations = 0
        self._happens = happens
        super().__init__(name, "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(name, flags, self._tell)

    def _tell(self) -> None:
        self.operations += 1
        self._happens(self.operations)


@contextmanager
def disk(happens: Callable[[int], None]) -> Iterator[Disk]:
    """All of SQLite in this process works on such a disk."""
    one = Disk("told", happens)
    try:
        yield one
    finally:
        apsw.set_default_vfs("unix")
        one.unregister()
