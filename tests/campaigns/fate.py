"""What is to befall a launched program, and at which of its writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class Deed(StrEnum):
    """What a program does to the world outside its memory."""

    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    RENAME = "rename"
    DELETE = "delete"
    SEND = "send"
    """One write to a TCP socket."""


class Place(StrEnum):
    """What it does that to."""

    PLAN = "plan"
    """The draft of the ledger."""
    LEDGER = "ledger"
    LOG = "log"
    """SQLite's write-ahead log of the ledger, or a rollback journal."""
    TEMPORARY = "temporary"
    """SQLite's temporary files."""
    REPORT = "report"
    DIRECTORY = "directory"
    NETWORK = "network"


OF_THE_LEDGER = (Place.PLAN, Place.LEDGER, Place.LOG)


class Point(msgspec.Struct, frozen=True):
    """One deed of the program."""

    number: int
    """Counts from 1 the deeds that the fate counts, over all threads; 0 for one it does not."""
    deed: Deed
    place: Place
    seconds: float
    """Monotonic clock; comparable between processes of a machine."""

    def __str__(self) -> str:
        return f"{self.deed} {self.place}"


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """Which point is struck, and how. Without a ``point`` nothing happens but the counting."""

    point: int = 0
    deeds: tuple[Deed, ...] = ()
    """Only these are counted and struck; none means all."""
    places: tuple[Place, ...] = ()
    stroke: Literal["die before", "die after", "ENOSPC", "EIO"] = "die before"
    lasting: bool = False
    """Whether after an error everything else that is counted fails, too."""
    loss: Literal["nothing", "unsynced", "torn"] = "nothing"
    """What of the disk goes with the process: a killed process loses ``nothing`` it has written; a
    machine without power loses what was not ``unsynced``, or (``torn``) any part of that."""
    seed: int = 0
    """Which part, where it is torn."""
    lying: bool = False
    """Whether a disk that can lose something only pretends to sync: no program survives that."""

    def counts(self, deed: Deed, place: Place) -> bool:
        """Whether the global counter moves at such a deed."""
        return (not self.deeds or deed in self.deeds) and (not self.places or place in self.places)
