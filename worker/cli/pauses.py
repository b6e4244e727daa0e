"""What keeps a run paused, as its pulse says it, and what a person does about each of it."""

from __future__ import annotations

import re
import shlex
from typing import Final

_ORDER: Final = re.compile(r"(?:^|, )order(?=, |$)")
_FILE: Final = re.compile(
    r"(?:^|, )file: (.+?) (exists|cannot be looked at)(?: \([^)]*\))?(?=, |$)"
)
_WINDOW: Final = re.compile(r"(?:^|, )window(?: until ([^,]+))?(?=, |$)")


def way_on(paused_by: str, directory: str) -> str:
    """How a run goes on that is paused by ``paused_by`` (``worker.orders.Pulse``).

    ``directory`` is the run's, fit for a shell.
    """
    steps: list[str] = []
    if file := _FILE.search(paused_by):
        path = shlex.quote(file[1])
        steps.append(f"remove {path}" if file[2] == "exists" else f"let the run look at {path}")
    rest = _FILE.sub("", paused_by)
    window = _WINDOW.search(rest)
    # Where nothing is named, an order is the likeliest.
    if _ORDER.search(rest) or not (steps or window):
        steps.append(f"type: facepurge unpause {directory}")
    to_do = f"to go on {' and '.join(steps)}" if steps else ""
    if window is None:
        return to_do
    if not to_do:
        return f"it goes on by itself {f'at {window[1]}' if window[1] else 'once its window opens'}"
    return f"its window {f'opens at {window[1]}' if window[1] else 'is closed'}; {to_do}"
