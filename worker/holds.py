"""The exclusion list: legal holds, which may only grow while a run lasts."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.errors import GateClosed, InputRefused

Hold = tuple[str, str]
"""(person ID, face ID), or (person ID, "") for everything of that person."""

REMEDY = (
    "the exclusion list has one `person` or `person,face` per line, and comments on lines of their"
    " own that begin with `#`; IDs are taken exactly as written, without quotes"
)

NOT_OF_AN_ID = re.compile(r'[\s"#;]')
"""Signs of a list written for something else: taken as part of an ID, it would hold nobody."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What IDs look like, as the settings say; a hold that no row can match is a typing error."""

    person_id_pattern: str = ".+"
    face_id_pattern: str = ".+"

    def misfit(self, person: str, face: str) -> str:
        """Which of the two cannot be the ID of any row, or ``""``."""
        if not re.fullmatch(self.person_id_pattern, person, re.ASCII):
            return "person ID"
        if face and not re.fullmatch(self.face_id_pattern, face, re.ASCII):
            return "face ID"
        return ""


ANY_ID = Grammar()


@dataclass(frozen=True, slots=True)
class Holds:
    """What must not be sent, as one version of the file said it."""

    entries: frozenset[Hold]
    sha256: str
    """Digest of the file, or ``""`` when there is none."""


NO_HOLDS = Holds(frozenset(), "")


def _parse(path: Path, content: bytes, grammar: Grammar) -> frozenset[Hold]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputRefused(
            f"{path}: the exclusion list is not UTF-8 (byte {error.start})", REMEDY
        ) from None
    holds = set()
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        person, *faces = line.split(",")
        if len(faces) > 1:
            raise InputRefused(f"{path}:{number}: more than one comma", REMEDY)
        face = faces[0] if faces else ""
        if not person or person != person.strip() or face != face.strip():
            raise InputRefused(f"{path}:{number}: an ID is empty or has spaces around it", REMEDY)
        if faces and not face:
            raise InputRefused(
                f"{path}:{number}: the face after the comma is missing; to hold the whole person,"
                " leave out the comma",
                REMEDY,
            )
        if any(not character.isprintable() for character in line):
            raise InputRefused(f"{path}:{number}: a control character in an ID", REMEDY)
        if foreign := NOT_OF_AN_ID.search(line):
            raise InputRefused(
                f"{path}:{number}: {foreign.group()!r} is not expected in an ID", REMEDY
            )
        if misfit := grammar.misfit(person, face):
            raise InputRefused(
                f"{path}:{number}: no row can have this {misfit}, so the line would hold nothing",
                "correct the line, or the pattern of such IDs in the configuration",
            )
        holds.add((person, face))
    return frozenset(holds)


def read_holds(path: Path, grammar: Grammar = ANY_ID) -> Holds:
    """The exclusion list in ``path``.

    Raises ``InputRefused`` naming the line when it is not one, or when it cannot be read: a hold
    that is not understood is never skipped.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputRefused(
            f"{path}: the exclusion list cannot be read ({error.strerror})",
            "check the path given with --exclude-from",
        ) from error
    return Holds(_parse(path, content, grammar), hashlib.sha256(content).hexdigest())


class HoldKeeper(Protocol):
    """Where additions are put before the next claim; the ledger provides it."""

    async def hold(self, additions: frozenset[Hold]) -> int: ...


class HoldWatch:
    """Looks before each claim whether the list has grown.

    A removal is refused: a list that got shorter while a run depends on it is a mistake until a
    person says otherwise. So is a list that vanished or can no longer be understood.
    """

    def __init__(
        self,
        path: Path,
        known: frozenset[Hold],
        keeper: HoldKeeper,
        grammar: Grammar = ANY_ID,
    ) -> None:
        self._path = path
        self._grammar = grammar
        self._known = known
        self._keeper = keeper
        self._seen: tuple[int, int, int] | None = None
        self._reading = asyncio.Lock()

    def _state(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise GateClosed(
                f"{self._path}: the exclusion list can no longer be read ({error.strerror}), so no"
                " further call is made",
                "put the list back, then go on",
            ) from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    async def check(self) -> None:
        """Take over additions since the last look.

        Raises ``GateClosed`` or ``InputRefused`` when new calls must not be made.
        """
        if self._state() == self._seen:
            return
        async with self._reading:
            state = self._state()
            if state == self._seen:
                return
            current = (await asyncio.to_thread(read_holds, self._path, self._grammar)).entries
            if removed := len(self._known - current):
                raise GateClosed(
                    f"{self._path}: {removed} {'entry' if removed == 1 else 'entries'} of the"
                    " exclusion list disappeared since the plan; holds may only grow",
                    "put the entries back, or plan a new run with the shorter list",
                )
            if additions := current - self._known:
                await self._keeper.hold(additions)
                self._known = current
            self._seen = state
