"""Standard output as the program's result: losing it is noticed, and never ends the work.

A closed pipe or a full disk behind stdout must not stop a run whose ledger is whole, and must not
look like success either: ``write`` goes on without it, and ``exit_code`` turns 0 into 1.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

from worker.cli import stderr


@dataclass(slots=True)
class _State:
    lost: str = ""
    """Why stdout cannot be written any more, or ``""``."""
    said: bool = False
    """Whether that was said: where there is more to say, before it."""


_state = _State()


def begin() -> None:
    """Start with an intact stdout that can show any text; once per process, by ``main``."""
    _state.lost = ""
    _state.said = False
    if sys.stdout is None:
        _lose("it is closed")
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Write the text and a newline at once, or say that stdout is lost; never raises for that."""
    if not _state.lost:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            _lose(_why(error))
    _say()


def is_lost() -> bool:
    """Whether nobody can read what is written any more."""
    return bool(_state.lost)


def exit_code(code: int) -> int:
    """The exit code with a lost stdout taken into account; says so if nobody has heard it yet."""
    if not _state.lost:
        try:
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            _lose(_why(error))
    if not _state.lost:
        return code
    _say()
    return code or 1


def _say() -> None:
    if _state.lost and not _state.said:
        _state.said = True
        stderr.write(
            f"facepurge: stdout: the result could not be written: {_state.lost}", level="error"
        )


def _lose(why: str) -> None:
    """Give stdout up: what is still buffered goes nowhere, so that the exit stays quiet."""
    _state.lost = why
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "unknown cause") if isinstance(error, OSError) else "it is closed"
