"""The sandbox in the test's own loop: its log is the truth, and its arrivals can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from worker.sandbox.journal import Entry, Journal, Late, Line
from worker.sandbox.options import SandboxOptions
from worker.sandbox.quota import Quota
from worker.sandbox.server import Sandbox

Pair = tuple[str, str]
"""Person and face."""

NO_QUOTA = Quota(window="off")
FAST = ("--raised-quota", "--rate", "500")
"""For runs whose pace is not what the test is about."""


class _WatchedJournal(Journal):
    def __init__(self) -> None:
        super().__init__(None, keep_lines=True)
        self.news = asyncio.Event()

    def write(self, line: Line) -> None:
        super().write(line)
        self.news.set()


class Service(Sandbox):
    """A sandbox with a library of the given pairs, and no quota unless a test sets one."""

    def __init__(self, pairs: list[Pair], **options: Any) -> None:
        super().__init__(SandboxOptions(**{"state": library(pairs), "quota": NO_QUOTA, **options}))
        self.journal: _WatchedJournal = _WatchedJournal()

    async def arrivals(self, count: int) -> None:
        """Wait until that many requests have arrived."""
        async with asyncio.timeout(30):
            while len(self.entries) < count:
                self.journal.news.clear()
                await self.journal.news.wait()

    @property
    def deleted(self) -> set[Pair]:
        """What is really gone, also what went after its client had given up."""
        return truly_deleted(self.journal.lines)


@asynccontextmanager
async def serving(pairs: list[Pair], **options: Any) -> AsyncIterator[Service]:
    async with Service(pairs, **options) as service:
        yield service


def library(pairs: list[Pair]) -> dict[str, list[str]]:
    """The pairs as the state a sandbox begins with."""
    persons: dict[str, list[str]] = {}
    for person, face in pairs:
        faces = persons.setdefault(person, [])
        if face not in faces:
            faces.append(face)
    return persons


def truly_deleted(lines: list[Line]) -> set[Pair]:
    return {
        (line.person_id, face)
        for line in lines
        if isinstance(line, Entry | Late)
        for face in line.deleted
    }
