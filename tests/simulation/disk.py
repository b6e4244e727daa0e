"""The disk under a ledger: which commit fails, and at which one the process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import apsw

from worker.ledger.writer import InlineWriter, Write

T = TypeVar("T")

Deed = Literal["die-before-commit", "die-after-commit", "disk-full", "commit-in-doubt"]
"""``die-*``: the process dies at a commit, which is lost or durable. ``disk-full``: it is rolled
back and reported. ``commit-in-doubt``: it is durable and reported as failed."""


@dataclass(frozen=True, slots=True)
class DiskTrouble:
    """What happens at a commit, counted from 1 over one life of the program."""

    deed: Deed
    at_commit: int


class SimulatedWriter:
    """The program's own writer over a disk with trouble; implements ``worker.ledger.writer.Writer``.

    ``die`` is called where the process is to die; from then on nothing is written.
    """

    def __init__(
        self,
        inline: InlineWriter,
        trouble: DiskTrouble | None,
        die: Callable[[], None],
        struck: Callable[[str], None],
    ) -> None:
        self._inline = inline
        self._trouble = trouble
        self._die = die
        self._struck = struck
        self._commits = 0
        self.dead = False

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        if self.dead:
            return self._never()
        self._commits += 1
        trouble = self._trouble
        if trouble is None or self._commits != trouble.at_commit:
            return self._inline.submit(write)
        self._struck(trouble.deed)
        match trouble.deed:
            case "die-before-commit":
                self._die()
                return self._never()
            case "die-after-commit":
                self._inline.submit(write)
                self._die()
                return self._never()
            case "commit-in-doubt":
                self._inline.submit(write)
                return self._inline.submit(self._failing(lambda _: None))
            case "disk-full":
                return self._inline.submit(self._failing(write))

    @staticmethod
    def _failing(write: Callable[[apsw.Connection], object]) -> Write[T]:
        def fail(connection: apsw.Connection) -> T:
            write(connection)
            raise apsw.FullError("database or disk is full")

        return fail

    @staticmethod
    def _never() -> asyncio.Future[T]:
        """What a dead process would have waited for."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.cancel()
        return future

    async def close(self) -> None:
        await self._inline.close()
