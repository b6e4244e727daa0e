"""Which column or key holds the person, the faces, the job's label and when it is due."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["person", "face", "job", "due"]

ROLES: tuple[Role, ...] = ("person", "face", "job", "due")

SINGLE_FACE = ("face_id", "faceId")
SEVERAL_FACES = ("face_ids", "faceIds")

WHOLE_KEY = "faces"
"""The key of a JSON record that asks for everything of its person, in place of face IDs."""

WHOLE_VALUE = "all"
"""The only value of that key; any other is refused."""

_ACCEPTED: dict[Role, tuple[str, ...]] = {
    "person": ("person_id", "personId"),
    "face": SINGLE_FACE + SEVERAL_FACES,
    "job": ("job_id", "jobId"),
    "due": ("due_at", "dueAt"),
}

_SUSPECTS: dict[Role, str] = {
    "person": r"person|user|uid|customer|member|subject|owner|people|employee|client|account",
    "face": r"face|img|image|photo|picture|fid|pic",
    "job": r"job|request|ticket|case",
    "due": r"due|deadline",
}

_FACE_WORD = re.compile(r"(?:face|img|image|photo|picture|pic)s?(?:ids?)?|fids?")


@dataclass(frozen=True, slots=True)
class RoleNames:
    """The names under which each role may appear; ``--columns`` leaves exactly one."""

    columns: Mapping[str, str]

    def accepted(self, role: Role) -> tuple[str, ...]:
        mapped = self.columns.get(role)
        return _ACCEPTED[role] if mapped is None else (mapped,)

    def present(self, role: Role, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that have ``role``; more than one is an ambiguity."""
        accepted = self.accepted(role)
        return [name for name in names if name in accepted]

    def has_whole_key(self, keys: Sequence[str]) -> bool:
        """Whether ``faces`` is among ``keys``, unless ``--columns`` gives it another meaning."""
        return WHOLE_KEY in keys and WHOLE_KEY not in self.columns.values()

    def face_like(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that may hold face IDs, whatever they are called; for a table."""
        others = {name for role in ("person", "job", "due") for name in self.present(role, names)}
        return [name for name in names if name not in others and _is_face_like(name)]

    def expected(self, role: Role) -> str:
        """For a message: ``person_id or personId``."""
        *most, last = self.accepted(role)
        return f"{', '.join(most)} or {last}" if most else last


def columns_flag(
    names: Sequence[str], roles: RoleNames, wanted: Sequence[Role] = ("person", "face")
) -> str:
    """The ``--columns`` flag to add for ``names``, with the best guesses that they allow."""
    chosen: dict[Role, str] = {}
    missing: list[Role] = []
    for role in wanted:
        present = roles.present(role, names)
        if present and roles.columns.get(role) is None:
            chosen[role] = ""  # Found by its own name: nothing to say about it.
        elif present:
            chosen[role] = present[0]
        else:
            missing.append(role)
    taken = {name for role in ROLES for name in roles.present(role, names)}
    free = [name for name in names if name and name not in taken]
    for role in missing:
        guessed = guess(role, free)
        if guessed:
            free.remove(guessed)
        chosen[role] = guessed or "NAME"
    for role in ("job", "due"):
        if roles.columns.get(role) in names:
            chosen[role] = roles.columns[role]
    value = ",".join(f"{role}={chosen[role]}" for role in ROLES if chosen.get(role))
    return f"--columns {shlex.quote(value)}"


def _is_face_like(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return any(_FACE_WORD.fullmatch(word.casefold()) for word in words)


def guess(role: Role, names: Sequence[str]) -> str:
    """The one of ``names`` that most likely has ``role``, or ``""``."""
    plain = {re.sub(r"[\W_]+", "", name).casefold(): name for name in reversed(names)}
    wanted = [re.sub("_", "", name).casefold() for name in _ACCEPTED[role]]
    for candidate in (*wanted, *difflib.get_close_matches(wanted[0], list(plain), 1, 0.75)):
        if candidate in plain:
            return plain[candidate]
    return next((n for n in names if re.search(_SUSPECTS[role], n, re.IGNORECASE)), "")
