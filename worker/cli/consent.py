"""The operator's word before anything is deleted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal, TypeAlias

from worker.cli import stderr
from worker.cli.preview import counted
from worker.errors import FacepurgeError, GateClosed
from worker.plan import PlanFigures

Noun: TypeAlias = Literal["face", "person"]
"""What is counted: persons where the number of their faces is not known beforehand."""


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


def to_be_confirmed(figures: PlanFigures) -> tuple[int, Noun]:
    """The number somebody has to name before the plan is carried out, and of what it is.

    Persons as soon as there is one of whom everything is to go: nobody knows the faces then.
    """
    if figures.whole_persons:
        return figures.persons, "person"
    return figures.faces, "face"


def obtain(
    plan: Sequence[str],
    count: int,
    noun: Noun,
    *,
    yes: bool,
    confirm: int | None,
    stdin_is_a_source: bool,
    quiet: bool,
) -> None:
    """Return only when what ``count`` of ``noun`` stands for may be deleted; shows ``plan`` first.

    Raises ``GateClosed`` without a word, or with one that names another number.
    """
    asks = not yes and confirm is None
    if asks or not quiet:
        stderr.write("plan", *plan)
    what = counted(count, noun) if noun == "face" else f"faces of {counted(count, noun)}"
    if confirm is not None and confirm != count:
        raise GateClosed(
            f"--confirm says {confirm:,}, and the plan has {counted(count, noun)}",
            "look at the plan; the input is not what the number was taken from",
        )
    if not asks or not count:
        return
    if stdin_is_a_source or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise GateClosed(
            f"{what} would be deleted, and nobody can be asked here",
            f"give --confirm {count} (or --yes, whatever the number)",
        )
    whose = "faces to be deleted" if noun == "face" else "persons whose faces are to be deleted"
    stderr.ask(f"Deletion cannot be undone. To go on, type the number of {whose} ({count}): ")
    answer = sys.stdin.readline().strip()
    if answer.replace(",", "") != str(count):
        raise GateClosed(
            f"the number typed is not the number of {noun}s" if answer else "no number was typed",
            f"start again and type {count}, or give --confirm {count}",
        )
