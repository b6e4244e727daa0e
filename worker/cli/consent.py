"""The operator's word before anything is deleted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO, TypeAlias

from worker.cli import stderr
from worker.cli.preview import counted
from worker.errors import GateClosed
from worker.plan import PlanFigures

Noun: TypeAlias = Literal["face", "person"]
"""What is counted: persons where the number of their faces is not known beforehand."""


def asks(*, yes: bool, confirm: int | None) -> bool:
    """Whether nobody has said anything yet."""
    return not yes and confirm is None


def _is_terminal(stream: TextIO | None) -> bool:
    """A process may be started without it, and Python has none then."""
    return stream is not None and stream.isatty()


def to_be_confirmed(figures: PlanFigures) -> tuple[int, Noun]:
    """The number somebody has to name before the plan is carried out, and of what it is.

    Persons as soon as there is one of whom everything is to go: nobody knows the faces then.
    """
    if figures.whole_persons:
        return figures.persons, "person"
    return figures.faces, "face"


@contextmanager
def shown(plan: Sequence[str], *, at_once: bool) -> Iterator[None]:
    """The plan, before anybody is asked about it, and whenever it is refused inside."""
    if at_once:
        stderr.write("plan", *plan)
    try:
        yield
    except GateClosed:
        if not at_once:
            stderr.write("plan", *plan)
        raise


def obtain(
    count: int,
    noun: Noun,
    *,
    yes: bool,
    confirm: int | None,
    stdin_is_a_source: bool,
    of_what: Literal["plan", "rest"] = "plan",
) -> None:
    """Return only when what ``count`` of ``noun`` stands for may be deleted.

    The caller has ``shown`` what that is: the whole plan, or the rest that a later session takes up.
    Raises ``GateClosed`` without a word, or with one that names another number.
    """
    what = counted(count, noun) if noun == "face" else f"faces of {counted(count, noun)}"
    if confirm is not None and confirm != count:
        if of_what == "rest":
            raise GateClosed(
                f"--confirm says {confirm:,}, and {counted(count, noun)} would be taken up now",
                "the number is of what the run has left to do, not of all that was planned; if that is"
                f" right, give --confirm {count}",
            )
        raise GateClosed(
            f"--confirm says {confirm:,}, and the plan has {counted(count, noun)}",
            "look at the plan: the number was taken from another input, or another exclusion list",
        )
    if not asks(yes=yes, confirm=confirm) or not count:
        return
    if stdin_is_a_source or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
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
