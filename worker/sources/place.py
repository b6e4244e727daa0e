"""Where something was found, in the words of a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from worker.errors import InputRefused


def shown(text: str, limit: int = 60) -> str:
    """``text`` in double quotes for a message: escapes visible, at most ``limit`` characters."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f'"{visible}"'


@dataclass(frozen=True, slots=True)
class Place:
    """One source as messages name it."""

    name: str
    """As reports name it: the path as given, ``-`` for standard input."""
    stream: bool = False
    """Standard input or a named pipe: it can end early without anybody noticing."""
    compressed: bool = False

    @property
    def title(self) -> str:
        return "standard input" if self.name == "-" else self.name

    def refused(self, cause: str, remedy: str, line: int = 0) -> InputRefused:
        """The refusal to raise; ``line`` is 1-based, 0 where the whole source is meant."""
        spot = f"{self.title}:{line}" if line else self.title
        return InputRefused(f"{spot}: {cause}", remedy)

    def byte(self, offset: int) -> str:
        """A 0-based byte offset in words; in a compressed source it counts expanded bytes."""
        return f"byte offset {offset}" + (" after decompression" if self.compressed else "")
