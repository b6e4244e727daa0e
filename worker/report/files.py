"""Files that appear whole or not at all.

Every file is written under a temporary name in its own directory, synced, and renamed only when
all of them are complete; so a disk that fills up leaves the old report, or none. The directory is
locked while that happens: a second writer waits, and what a killed one left behind is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from worker.errors import ReportFailed
from worker.interruption import disregarded

_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A finished file, as ``index.json`` lists it."""

    name: str
    rows: int
    """Records, without a header line."""
    bytes: int
    sha256: str


class ReportFile:
    """A file under its temporary name. ``write`` and ``seal`` raise ``ReportFailed``."""

    def __init__(self, directory: ReportDirectory, name: str) -> None:
        self.name = name
        self.rows = 0
        self._directory = directory
        self._digest = hashlib.sha256()
        self._byte_count = 0
        with directory.failing(name):
            self._descriptor = directory.create(name)

    def write(self, data: bytes, rows: int = 0) -> None:
        """Append ``data``, which holds ``rows`` whole records."""
        with self._directory.failing(self.name):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._digest.update(data)
        self._byte_count += len(data)
        self.rows += rows

    def seal(self) -> FileEntry:
        """Everything on disk, still under the temporary name."""
        with self._directory.failing(self.name):
            os.fsync(self._descriptor)
            self.close()
        return FileEntry(self.name, self.rows, self._byte_count, self._digest.hexdigest())

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class ReportDirectory:
    """The directory of a report, locked and 0700 while it is open as a context.

    ``names`` are those of all files that it may hold: what is there under one that is not written
    this time goes when the others are published.

    Raises ``ReportFailed`` where the directory or one of ``names`` is a link, or cannot be used.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path = path
        self._names = names
        self._descriptor = -1
        self._files: list[ReportFile] = []

    def __enter__(self) -> Self:
        if self.path.is_symlink():
            raise self.failure("", "it is a symbolic link")
        with self.failing(""):
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            self._descriptor = os.open(
                self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        try:
            with self.failing(""):
                os.fchmod(self._descriptor, 0o700)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            for name in self._names:
                self._refuse_link(name)
                with self.failing(name):
                    self._remove(self._temporary(name))
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for file in self._files:
                file.close()
                with contextlib.suppress(OSError):
                    self._remove(self._temporary(file.name))
        finally:
            os.close(self._descriptor)

    def file(self, name: str) -> ReportFile:
        """A new file that will be called ``name``."""
        file = ReportFile(self, name)
        self._files.append(file)
        return file

    def create(self, name: str) -> int:
        """A descriptor of a new, empty file under ``name``'s temporary name, mode 0600."""
        descriptor = os.open(
            self._temporary(name), _NEW_FILE | os.O_WRONLY, 0o600, dir_fd=self._descriptor
        )
        os.fchmod(descriptor, 0o600)
        return descriptor

    def scratch(self) -> IO[bytes]:
        """An unnamed file on the report's disk, gone when closed. Raises ``OSError``."""
        name = self._temporary("scratch")
        self._remove(name)
        descriptor = os.open(name, _NEW_FILE | os.O_RDWR, 0o600, dir_fd=self._descriptor)
        os.unlink(name, dir_fd=self._descriptor)
        return os.fdopen(descriptor, "w+b")

    def seal(self) -> list[FileEntry]:
        """Every file that was begun so far, complete, in that order."""
        return [file.seal() for file in self._files]

    def publish(self) -> None:
        """Give every sealed file its name, in the order in which they were begun.

        A signal in the middle of it would leave files of two reports side by side.
        """
        with disregarded():
            # First of all: a file that is missing is noticed, one of another report is believed.
            for name in set(self._names).difference(file.name for file in self._files):
                with self.failing(name):
                    self._remove(name)
            for file in self._files:
                with self.failing(file.name):
                    os.rename(
                        self._temporary(file.name),
                        file.name,
                        src_dir_fd=self._descriptor,
                        dst_dir_fd=self._descriptor,
                    )
            with self.failing(""):
                os.fsync(self._descriptor)

    @contextlib.contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Any ``OSError`` inside becomes a ``ReportFailed`` about the file ``name``."""
        try:
            yield
        except OSError as error:
            raise self.failure(name, error.strerror or str(error), full=_is_full(error)) from error

    def failure(self, name: str, cause: str, *, full: bool = False) -> ReportFailed:
        """What is raised when ``name`` (``""``: the directory) cannot be written."""
        place = self.path / name if name else self.path
        first = "free some space on that disk" if full else "mend that"
        command = f"facepurge report {shlex.quote(str(self.path.parent))}"
        return ReportFailed(
            f"{place}: the report could not be written ({cause}); the ledger is whole",
            f"{first}, then type: {command}",
        )

    @staticmethod
    def _temporary(name: str) -> str:
        return f".{name}.tmp"

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def _refuse_link(self, name: str) -> None:
        with self.failing(name):
            try:
                mode = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
        if not stat.S_ISREG(mode):
            raise self.failure(name, "it is a link or something else that is not a plain file")


class UnkeptFile(ReportFile):
    """A file of which nothing is kept but the number of its rows."""

    def write(self, data: bytes, rows: int = 0) -> None:  # noqa: ARG002 (what it does not keep)
        self.rows += rows


class UnkeptReport(ReportDirectory):
    """Where a report is made for what it says, among the temporary files, and not kept.

    Raises ``OSError`` where there is no place for temporary files.
    """

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="facepurge-")
        super().__init__(Path(self._place.name) / "report", ())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._place.cleanup()

    def file(self, name: str) -> ReportFile:
        file = UnkeptFile(self, name)
        self._files.append(file)
        return file

    def publish(self) -> None:
        """Nothing: there is nobody to show it to."""


def _is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
