"""A disk that has, when the power goes, what SQLite had synced by then and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], kept: Path) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = Path(path) if path else None
        self._kept = kept
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 (SQLite's name)
        super().xSync(flags)
        if self._path is not None:
            shutil.copyfile(self._path, self._kept / self._path.name)


class _Disk(apsw.VFS):
    def __init__(self, kept: Path) -> None:
        self._kept = kept
        super().__init__("synced", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(name, flags, self._kept)


@contextmanager
def power_may_go(directory: Path, kept: Path) -> Iterator[None]:
    """``kept`` always holds what would be left of the files in ``directory``.

    What is there at the beginning counts as synced.
    """
    shutil.copytree(directory, kept)
    one = _Disk(kept)
    try:
        yield
    finally:
        apsw.set_default_vfs("unix")
        one.unregister()
