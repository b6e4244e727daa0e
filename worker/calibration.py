"""What an account was seen to answer about a person who does not exist, kept for later runs.

The service does not document it. One small file for each account and endpoint, beside the locks of
the same user; whatever is wrong with one, it counts as not there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from worker.errors import FacepurgeError, GateClosed
from worker.locks import make_private, state_directory

Answer: TypeAlias = Literal["code-404", "code-400", "empty-data", "empty-list"]
"""What can be found: the values of the setting ``unknown_person``, except for an empty one."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BYTES_AT_MOST = 65_536
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotRecorded(FacepurgeError):
    """A calibration could not be kept; what the service answered is still true."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finding."""

    account: str
    endpoint: str
    """Scheme, host and port, as in a run's header."""
    answer: Answer
    time: str
    """When the service answered; UTC, ISO 8601."""
    http_status: int
    code: str
    """As evidence has it (``worker.model.Evidence.code``)."""


def path_of(account: str, endpoint: str) -> Path:
    """Where the calibration of this account and endpoint is kept.

    Raises ``GateClosed`` for a user without a home.
    """
    key = hashlib.sha256(f"{account}\n{endpoint}".encode()).hexdigest()[:32]
    return state_directory() / "calibration" / f"{key}.json"


def record(calibration: Calibration) -> Path:
    """Keep ``calibration`` in place of an older one; returns its file, which is on disk then.

    Raises ``NotRecorded``. The caller sees to it that no other process records the same.
    """
    path = path_of(calibration.account, calibration.endpoint)
    try:
        make_private(path.parent)
        with _opened(path.parent, _DIRECTORY) as directory:
            os.fchmod(directory, 0o700)
            _replace(directory, path.name, msgspec.json.encode(calibration) + b"\n")
    except OSError as error:
        raise NotRecorded(
            f"{path}: the calibration cannot be recorded ({error.strerror})",
            "check the owner and the permissions of its directory, and that the disk has room; or "
            f'write unknown_person = "{calibration.answer}" into the configuration',
        ) from error
    return path


def calibrated(account: str, endpoint: str) -> str:
    """The recorded value of ``unknown_person``; ``""`` where there is none to be relied on.

    Not relied on: a link, a file that somebody else owns or may write, one that cannot be read or
    understood, or one about another account or endpoint.
    """
    with suppress(OSError, ValueError, GateClosed, msgspec.MsgspecError):
        path = path_of(account, endpoint)
        with (
            _opened(path.parent, _DIRECTORY) as directory,
            _opened(path.name, _OLD_FILE, directory) as descriptor,
        ):
            status = os.fstat(descriptor)
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_uid != os.geteuid()
                or status.st_mode & _WRITABLE_BY_OTHERS
            ):
                return ""
            found = msgspec.json.decode(os.read(descriptor, _BYTES_AT_MOST), type=Calibration)
        if (found.account, found.endpoint) == (account, endpoint):
            return found.answer
    return ""


def _replace(directory: int, name: str, data: bytes) -> None:
    """A file that appears whole or not at all, mode 0600. Raises ``OSError``."""
    temporary = f".{name}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    try:
        with _opened(temporary, _NEW_FILE, directory) as descriptor:
            os.fchmod(descriptor, 0o600)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


@contextmanager
def _opened(path: Path | str, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
