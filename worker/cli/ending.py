"""How the program ends: every error as sentences on stderr and one exit code.

Nothing of an unexpected error but its type and its places is ever shown: messages and local
variables may hold signatures, tokens or IDs.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from worker import interruption
from worker.cli import stderr
from worker.errors import FacepurgeError
from worker.interruption import Terminated

NOTHING_SENT = "nothing was sent"
NO_ORDER = "no order was given"
"""Of the verbs that steer: the run that they are about may well be sending."""
INTERRUPTED = 130


class FailedElsewhere(Exception):
    """An unexpected error of another process of ours, which has said there what may be said of it."""

    def __init__(self, sentence: str, places: list[str]) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.places = places


def told_elsewhere(error: BaseException) -> FailedElsewhere:
    """What to say of ``error`` in the process that has begun this one."""
    return FailedElsewhere(_unexpected(error), _places(error))


@contextlib.contextmanager
def known(sentence: str | Callable[[], str]) -> Iterator[None]:
    """Whatever error leaves this block, the program's last line is ``sentence``, or what it returns.

    The innermost block wins, so that a verb can begin with ``known(NOTHING_SENT)`` and say more
    once the first call may have left: where the ledger is, and the next command to type. From the
    first block on a signal is an error like any other; until then the process ends at once.
    """
    interruption.raise_from_here()
    try:
        yield
    except BaseException as error:
        error.add_note(sentence if isinstance(sentence, str) else sentence())
        raise


def tell(error: BaseException, *, verbose: bool) -> int:
    """Say on stderr what happened, why, what to do and what is known; returns the exit code."""
    cause = _leaf(error)
    notes = [*getattr(cause, "__notes__", ()), *getattr(error, "__notes__", ())]
    if isinstance(cause, click.ClickException):
        lines, code = _usage(cause), 2
    elif isinstance(cause, FacepurgeError):
        lines, code = [f"facepurge: {cause.cause}"], cause.exit_code
        if cause.remedy:
            lines.append(f"  remedy: {cause.remedy}")
    elif isinstance(cause, Terminated):
        lines, code = [f"facepurge: {cause.words}"], cause.exit_code
    elif isinstance(cause, (KeyboardInterrupt, EOFError, click.Abort)):
        lines, code = ["facepurge: interrupted"], INTERRUPTED
    else:
        lines, code = [_unexpected(cause)], 1
    if verbose and not isinstance(cause, click.ClickException):
        lines += _places(cause)
    if notes:
        lines.append(notes[0])
    elif code in (2, 3):
        lines.append(NOTHING_SENT)
    else:
        lines.append("what was done is in the ledger of the run directory, if one was made")
    stderr.write(*lines, level="error")
    return code


def _leaf(error: BaseException) -> BaseException:
    """The error that decides, out of a group: an interruption, then ours by precedence, then any."""
    leaves = list(_leaves(error))
    for kinds in (KeyboardInterrupt, FacepurgeError):
        ours = [leaf for leaf in leaves if isinstance(leaf, kinds)]
        if ours:
            return min(ours, key=_precedence)
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _precedence(error: BaseException) -> int:
    order = (1, 7, 3, 2)
    code = getattr(error, "exit_code", 0)
    return order.index(code) if code in order else len(order)


def _usage(error: click.ClickException) -> list[str]:
    from worker.configuration import credential_refused, looks_like_credential  # noqa: PLC0415 (start-up)

    if isinstance(error, click.NoSuchOption) and looks_like_credential(error.option_name):
        refused = credential_refused(error.option_name)
        return [f"facepurge: {refused.cause}", f"  remedy: {refused.remedy}"]
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "facepurge"
    return [f"facepurge: {_sentence(error)}", f"  remedy: see {path} --help"]


def _sentence(error: click.ClickException) -> str:
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        place = error.param.opts[-1]
        if isinstance(error, click.MissingParameter):
            return error.format_message().rstrip(".")
        return f"{place}: {error.message.rstrip('.')}"
    return error.format_message().rstrip(".")


def _unexpected(error: BaseException) -> str:
    if isinstance(error, FailedElsewhere):
        return error.sentence
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    place = f" at {_place(own[-1])}" if own else ""
    return (
        f"facepurge: an error of the program itself ({type(error).__name__}{place}); "
        "please report this line (-v adds where it passed through)"
    )


def _is_own(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parent.parent)


def _place(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    parts = path.parts
    start = len(parts) - parts[::-1].index("worker") - 1 if "worker" in parts else len(parts) - 2
    return f"{'/'.join(parts[max(start, 0) :])}:{frame.lineno} in {frame.name}"


def _places(error: BaseException | None) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, FailedElsewhere):
            lines += error.places
        lines.append(f"  {type(error).__name__} came through:")
        lines += [f"    {_place(f)}" for f in traceback.extract_tb(error.__traceback__)]
        error = error.__cause__ or error.__context__
    return lines
