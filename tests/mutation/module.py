"""The modules whose decisions are mutated, and what is known about mutants that survive."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

HERE = Path(__file__).parent


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the program under mutation."""

    files: tuple[str, ...]
    """From the root of the tree."""
    tests: tuple[str, ...]
    """What has to notice each mutant; run in one process, so no test that starts the program."""


class Survivor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mutant that lives because it is no bug."""

    file: str
    code: str
    """The line, without the space around it."""
    before: str
    after: str
    reason: str
    """Why no test can tell it from the original, or need not."""

    @property
    def name(self) -> tuple[str, str, str, str]:
        return self.file, self.code, self.before, self.after


class _Survivors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    survivor: tuple[Survivor, ...] = ()


def all_modules() -> dict[str, Module]:
    """The modules by name."""
    text = (HERE / "modules.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Module])


def all_survivors() -> tuple[Survivor, ...]:
    """Every mutant that is known to live."""
    text = (HERE / "survivors.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _Survivors).survivor
