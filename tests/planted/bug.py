"""A bug that somebody might write one day: where it sits, what goes wrong, who has to notice."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

BUGS = Path(__file__).with_name("bugs")


class Unplantable(Exception):
    """An entry of the list that cannot be applied to the tree as it is; says why."""


class Bug(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One replacement of text in one file."""

    name: str
    file: str
    """From the root of the tree."""
    wrong: str
    """What goes wrong, in one sentence."""
    old: str
    """Stands in ``file`` exactly once."""
    new: str
    caught_by: tuple[str, ...]
    """Tests (``file::function`` or ``file::function[case]``), each of which has to fail."""

    def planted(self, text: str) -> str:
        """``text`` of the file with the bug in it; raises ``Unplantable``."""
        if (count := text.count(self.old)) != 1:
            raise Unplantable(
                f"{self.name}: the old text is {count} times in {self.file}, not once"
            )
        changed = text.replace(self.old, self.new)
        try:
            if self.file.endswith(".py"):
                compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise Unplantable(f"{self.name}: {self.file} does not compile: {error}") from None
        if changed == text:
            raise Unplantable(f"{self.name}: the new text is the old one")
        return changed


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bug: tuple[Bug, ...]


def all_bugs(directory: Path = BUGS) -> dict[str, tuple[Bug, ...]]:
    """The list by part of the program, which is the stem of the file that the bugs stand in."""
    return {
        path.stem: msgspec.convert(tomllib.loads(path.read_text("utf-8")), _Part).bug
        for path in sorted(directory.glob("*.toml"))
    }
