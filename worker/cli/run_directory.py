"""A run's directory: named, made private, and never mistaken for another's."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.errors import GateClosed
from worker.ledger.database import DRAFT_NAME, FILE_NAME
from worker.locks import LOCK_NAME, run_lock

REPORT = "report"
SANDBOX = "sandbox"
_OURS = frozenset({DRAFT_NAME, REPORT, SANDBOX, LOCK_NAME})
"""What a planning that did not get to the end may have left."""


def new_run_id() -> str:
    """UTC time of planning and a random tail: sorts by time, never twice the same."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


@contextmanager
def made_run_directory(path: Path) -> Iterator[None]:
    """A run directory of this process alone; none is left when the block ends before a plan.

    Raises what ``make_run_directory`` and ``run_lock`` raise.
    """
    make_run_directory(path)
    with run_lock(path):
        try:
            yield
        except BaseException:
            if {entry.name for entry in os.scandir(path)} == {LOCK_NAME}:
                with suppress(OSError):
                    (path / LOCK_NAME).unlink()
                    path.rmdir()
            raise


def _sync(directory: Path) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_run_directory(path: Path) -> None:
    """Create ``path`` with mode 0700, or take over an empty one.

    Raises ``GateClosed`` when a run or anything else lives there already, or when it cannot be
    made.
    """
    try:
        if path.is_symlink():
            raise GateClosed(
                f"{path}: the run directory is a symbolic link",
                "name the directory itself with --run-dir",
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync(path.parent)
        content = {entry.name for entry in os.scandir(path)}
        if FILE_NAME in content:
            raise GateClosed(
                f"{path}: a run lives here already",
                f"go on with it: facepurge resume {path}; or choose another --run-dir",
            )
        if foreign := sorted(content - _OURS):
            raise GateClosed(
                f"{path}: the directory is not empty (there is {foreign[0]!r})",
                "choose a new or an empty directory with --run-dir",
            )
        path.chmod(0o700)
    except OSError as error:
        raise GateClosed(
            f"{path}: the run directory cannot be made ({error.strerror})",
            "choose another place with --run-dir",
        ) from error
