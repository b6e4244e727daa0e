"""A run's directory: named, made private, and never mistaken for another's."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.errors import GateClosed
from worker.ledger.database import DRAFT_NAME, FILE_NAME, PARTS_NAME
from worker.locks import LOCK_NAME, run_lock

REPORT = "report"
SANDBOX = "sandbox"
_LEFT_BY_PLANNING = {
    DRAFT_NAME: None,
    LOCK_NAME: None,
    PARTS_NAME: re.compile(r"[a-z.]+\.[0-9]+"),
    REPORT: re.compile(r"rejected\.csv|\.rejected\.csv\.tmp"),
    SANDBOX: re.compile(r"state\.json|\.state\.json\.[0-9]+"),
}
"""What a planning that did not get to the end may have left, and in a directory what of it. Anything
else there is what a run has done, and perhaps all that is left to prove it."""


def new_run_id() -> str:
    """UTC time of planning and a random tail: sorts by time, never twice the same."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


@contextmanager
def made_run_directory(path: Path, flag: str = "--run-dir") -> Iterator[None]:
    """A run directory of this process alone; none is left when the block ends before a plan.

    Raises what ``make_run_directory`` and ``run_lock`` raise.
    """
    made = make_run_directory(path, flag)
    with run_lock(path):
        try:
            yield
        except BaseException:
            if {entry.name for entry in os.scandir(path)} == {LOCK_NAME}:
                with suppress(OSError):
                    (path / LOCK_NAME).unlink()
                    path.rmdir()
                    for parent in made:
                        parent.rmdir()
            raise


def _sync(directory: Path) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_run_directory(path: Path, flag: str = "--run-dir") -> Sequence[Path]:
    """Create ``path``, which ``flag`` named, with mode 0700, or take over an empty one.

    Returns the directories above it that had to be made too, the nearest first. Raises
    ``GateClosed`` when a run or anything else lives there already, or when it cannot be made.
    """
    name = shlex.quote(str(path))
    try:
        if path.is_symlink():
            raise GateClosed(
                f"{path}: the run directory is a symbolic link",
                f"name the directory itself with {flag}",
            )
        made = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync(path.parent)
        content = {entry.name for entry in os.scandir(path)}
        if FILE_NAME in content:
            raise GateClosed(
                f"{path}: a run or a plan lives here already",
                f"go on with a run: facepurge resume {name}; carry out a plan: facepurge run {name};"
                f" or choose another directory with {flag}",
            )
        if foreign := sorted(content - _LEFT_BY_PLANNING.keys()):
            raise GateClosed(
                f"{path}: the directory is not empty (there is {foreign[0]!r})",
                f"choose a new or an empty directory with {flag}",
            )
        if evidence := sorted(_left_by_a_run(path)):
            raise GateClosed(
                f"{path}: a run has left {evidence[0]} here, and its ledger ({FILE_NAME}) is gone",
                "keep that: it may be all that proves what was done; and choose a new or an empty"
                f" directory with {flag}",
            )
        path.chmod(0o700)
    except OSError as error:
        raise GateClosed(
            f"{path}: the run directory cannot be made ({error.strerror})",
            f"choose another place with {flag}",
        ) from error
    return made


def _left_by_a_run(path: Path) -> Iterator[str]:
    """What stands in ``path`` and no planning can have left there. Raises ``OSError``."""
    for name, may_hold in _LEFT_BY_PLANNING.items():
        place = path / name
        if may_hold is None or not os.path.lexists(place):
            continue
        if place.is_symlink() or not place.is_dir():
            yield name
            continue
        for entry in os.scandir(place):
            if not may_hold.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                yield f"{name}/{entry.name}"
