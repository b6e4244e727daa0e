"""The operator's word before anything is deleted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from worker.cli import stderr
from worker.cli.planning import counted
from worker.errors import FacepurgeError, GateClosed


class Terminated(FacepurgeError):
    """SIGTERM outside the work on the calls, which has an end of its own for it."""

    exit_code = 143


@contextmanager
def terminating() -> Iterator[None]:
    """SIGTERM inside ends the program with 143 and a sentence, and cleans up on the way."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        raise Terminated("terminated (SIGTERM)")

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def obtain(
    plan: Sequence[str],
    faces: int,
    *,
    yes: bool,
    confirm: int | None,
    stdin_is_a_source: bool,
    quiet: bool,
) -> None:
    """Return only when ``faces`` distinct faces may be deleted; shows ``plan`` first.

    Raises ``GateClosed`` without a word, or with one that names another number.
    """
    asks = not yes and confirm is None
    if asks or not quiet:
        stderr.write("plan", *plan)
    if confirm is not None and confirm != faces:
        raise GateClosed(
            f"--confirm says {confirm:,}, and the plan has {counted(faces, 'face')}",
            "look at the plan; the input is not what the number was taken from",
        )
    if not asks or not faces:
        return
    if stdin_is_a_source or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise GateClosed(
            f"{counted(faces, 'face')} would be deleted, and nobody can be asked here",
            f"give --confirm {faces} (or --yes, whatever the number)",
        )
    stderr.ask(
        f"Deletion cannot be undone. To go on, type the number of faces to be deleted ({faces}): "
    )
    answer = sys.stdin.readline().strip()
    if answer.replace(",", "") != str(faces):
        raise GateClosed(
            "the number typed is not the number of faces" if answer else "no number was typed",
            f"start again and type {faces}, or give --confirm {faces}",
        )
