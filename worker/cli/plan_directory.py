"""The directory of a plan: told from a run's and from anybody's; and either is nobody else's to write."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from worker.errors import GateClosed, UsageRefused
from worker.ledger.database import DRAFT_NAME, FILE_NAME
from worker.locks import run_lock
from worker.sources.folder import is_local_dataset

AGAIN: Final = "plan again: facepurge plan SOURCE... -o DIR"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refuse_plans(specs: Sequence[str]) -> None:
    """What is planned already is no source of a plan; raises ``UsageRefused``."""
    if plans := _plans(specs):
        raise UsageRefused(
            f"{plans[0]}: this is the directory of a plan or a run, and no source of jobs",
            f"to see the plan again: facepurge run {shlex.quote(plans[0])} --dry-run; to make another,"
            " name the files that it was made from",
        )


def is_meant(specs: Sequence[str]) -> bool:
    """Whether the sources of a command are no sources but one plan, in a directory.

    Raises ``UsageRefused`` for a plan among others.
    """
    plans = _plans(specs)
    if len(specs) > 1 and plans:
        raise UsageRefused(
            f"{plans[0]}: this is the directory of a plan or a run, and it is no source among others",
            f"run the plan alone: facepurge run {shlex.quote(plans[0])}; or leave it out",
        )
    if len(specs) != 1 or specs[0] in ("", "-"):
        return False
    # A folder of Parquet parts is a source like any file.
    return bool(plans) or (Path(specs[0]).is_dir() and not is_local_dataset(specs[0]))


def _plans(specs: Sequence[str]) -> list[str]:
    return [spec for spec in specs if spec not in ("", "-") and _holds_ledger(Path(spec))]


def _holds_ledger(directory: Path) -> bool:
    try:
        return (directory / FILE_NAME).exists()
    except (OSError, ValueError):
        return False  # whoever opens it says why it cannot be


def require_plan(directory: Path) -> None:
    """Something complete lies there, and nobody else may write it. Raises ``GateClosed``."""
    require_own(directory, "plan")
    if not (directory / FILE_NAME).exists():
        _refuse_unfinished(directory)


def require_own(directory: Path, what: Literal["plan", "run"]) -> None:
    """What somebody else may write, a plan or the ledger of a run, is nobody's.

    Raises ``GateClosed``. What is not there at all passes: others say what is missing.
    """
    again = AGAIN if what == "plan" else "plan anew from the original input"
    if what == "plan" and directory.is_symlink():
        raise GateClosed(
            f"{directory}: the directory of the plan is a symbolic link, and may lead elsewhere"
            " tomorrow",
            f"name the directory itself: facepurge run {quoted(directory.resolve())}",
        )
    for path in (directory, directory / FILE_NAME):
        try:
            status = path.stat() if path == directory else path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise GateClosed(
                f"{path}: the {what} cannot be read ({error.strerror})",
                "check the owner and the permissions of its directory",
            ) from error
        if status.st_uid != os.geteuid():
            raise GateClosed(
                f"{path}: it belongs to another user (UID {status.st_uid}, and this is"
                f" {os.geteuid()})",
                f"do it as the user who made the {what}, or {again}",
            )
        if stat.S_ISLNK(status.st_mode) or status.st_mode & _WRITABLE_BY_OTHERS:
            flaw = (
                "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "may be written by others"
            )
            raise GateClosed(
                f"{path}: it {flaw}, so nobody knows whose {what} this is",
                f"{again}; or, if certainly nobody has touched it, take the right away: chmod go-w"
                f" {quoted(directory)} {quoted(directory / FILE_NAME)}",
            )


def _refuse_unfinished(directory: Path) -> None:
    """Without a ledger it is half a plan, or nothing of ours."""
    name = quoted(directory)
    if not (directory / DRAFT_NAME).exists():
        raise GateClosed(
            f"{directory}: this is a directory, and there is no plan in it ({FILE_NAME})",
            "if a plan should be there, make it: facepurge plan SOURCE... -o DIR; if its files are"
            f" the input, name them: facepurge run {name}/*.csv",
        )
    with run_lock(directory):  # somebody may be at work on it
        raise GateClosed(
            f"{directory}: the plan was never completed: its planning was interrupted",
            f"make it again in the same place: facepurge plan SOURCE... -o {name}",
        )


def quoted(directory: Path) -> str:
    """A directory as a shell takes it."""
    return shlex.quote(str(directory))
