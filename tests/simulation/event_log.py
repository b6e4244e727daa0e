"""Everything that happened in one simulation, line by line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tests.simulation.simulated_loop import now_seconds


class EventLog:
    """Digested as it grows; each line is also told to ``tell``."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self._tell = tell
        self.lines = 0

    def note(self, who: str, what: str) -> None:
        """Append a line; it must not hold anything that differs from one process to the next."""
        line = f"{now_seconds():14.6f} {who:<8} {what}"
        self._digest.update(line.encode())
        self._digest.update(b"\n")
        self.lines += 1
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        """Of all lines so far."""
        return self._digest.hexdigest()
