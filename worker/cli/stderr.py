"""Standard error as the place for words to people: plain lines, or one JSON object each.

A stderr that is closed or full never ends the work: there is nobody left to tell.
"""

from __future__ import annotations

import contextlib
import json
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


def write(*lines: str, level: str = "info") -> None:
    """Write ``lines`` at once; control characters in them are shown, never obeyed."""
    if not lines:
        return
    shown = [_printable(line) for line in lines]
    if _state.as_json:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        shown = [
            json.dumps({"event": line.strip(), "level": level, "timestamp": now}) for line in shown
        ]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write("\n".join(shown) + "\n")
        sys.stderr.flush()


def ask(question: str) -> None:
    """Write a question, with the cursor left behind it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(question)
        sys.stderr.flush()


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
