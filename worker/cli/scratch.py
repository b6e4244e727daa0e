"""A place among the temporary files for a plan that is only looked at.

It is gone afterwards, also where the process was killed: whoever needs such a place next removes those
that nobody holds any more. What says so is a lock of the kernel's, which ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from worker.errors import GateClosed
from worker.ledger.database import DRAFT_NAME, PARTS_NAME
from worker.ledger.draft import no_room_remedy
from worker.locks import LOCK_NAME

PREFIX: Final = "facepurge-scratch-"
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
_CONTENT = frozenset({LOCK_NAME, DRAFT_NAME, PARTS_NAME})
"""All that is ever in it; whatever holds anything else was not made here."""

ATTEMPTS: Final = 5


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards. Raises ``GateClosed`` where nobody may make one."""
    try:
        _remove_left()
        directory, lock = _made()
    except OSError as error:
        raise GateClosed(
            f"TMPDIR: the plan could not be written among the temporary files ({error.strerror});"
            " nothing was sent",
            no_room_remedy("TMPDIR"),
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _made() -> tuple[Path, int]:
    """A new directory, and the descriptor that holds it."""
    for _ in range(ATTEMPTS):
        directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Another process may take it for one that was left, and remove it.
        with suppress(FileNotFoundError, BlockingIOError):
            return directory, _held(directory, required=False)
    raise BlockingIOError(0, "other processes remove what is made there")


def _remove_left() -> None:
    """Remove the directories of processes that were killed; one that resists is left for the next."""
    with suppress(OSError):
        for path in list(Path(tempfile.gettempdir()).iterdir()):
            if _NAME.fullmatch(path.name):
                with suppress(OSError):
                    _remove(path)


def _remove(directory: Path) -> None:
    """Remove one that nobody holds and that holds nothing else; raises ``OSError``."""
    if not _is_ours(directory):
        return
    lock = _held(directory, required=True)
    try:
        if _is_ours(directory):
            shutil.rmtree(directory)
    finally:
        os.close(lock)


def _is_ours(directory: Path) -> bool:
    return _CONTENT.issuperset(path.name for path in directory.iterdir())


def _held(directory: Path, *, required: bool) -> int:
    """A descriptor that holds ``directory`` until it is closed.

    Where no lock can be had at all, nobody can take one away, and only who removes has to have it.
    Raises ``OSError`` for what is no directory of this user, is held by another process, or was removed.
    """
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(place).st_uid != os.geteuid():
            raise PermissionError(0, "it belongs to another user")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(LOCK_NAME, flags, 0o600, dir_fd=place)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                if required:
                    raise
            # Who removed it meanwhile had the lock of the same file.
            named = os.stat(LOCK_NAME, dir_fd=place, follow_symlinks=False)
            if not os.path.samestat(named, os.fstat(lock)):
                raise FileNotFoundError(0, "another process has removed it")
        except BaseException:
            os.close(lock)
            raise
    finally:
        os.close(place)
    return lock
