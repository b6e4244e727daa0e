"""Standard error as the place for words to people: plain lines, or one JSON object each.

A stderr that is closed or full never ends the work: there is nobody left to tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(slots=True)
class _State:
    as_json: bool = False


_state = _State()


def begin(log_format: str) -> None:
    """From here on in ``console`` or ``json`` form, as ``--log-format`` says."""
    _state.as_json = log_format == "json"


def write(*lines: str, level: str = "info", below_display: bool = False) -> None:
    """Write ``lines`` at once; control characters in them are shown, never obeyed.

    ``below_display``: the cursor may stand at the end of what a display has drawn.
    """
    if not lines:
        return
    shown = [_printable(line) for line in lines]
    if _state.as_json:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        shown = [
            json.dumps({"event": line.strip(), "level": level, "timestamp": now}) for line in shown
        ]
    before = "\n" if below_display and not _state.as_json else ""
    _put(before + "\n".join(shown) + "\n")


def ask(question: str) -> None:
    """Write a question, with the cursor left behind it."""
    _put(question)


def _put(text: str) -> None:
    """Past Python's buffer, which would keep what could not be written and fail again at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            descriptor = sys.stderr.fileno()
        except OSError:
            sys.stderr.write(text)
            sys.stderr.flush()
            return
        rest = memoryview(text.encode(sys.stderr.encoding, "backslashreplace"))
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
