"""What became of a job, in one of four words.

A job's status follows from which kinds of outcome its faces have, so a set of kinds is all that
has to be kept while faces stream by, and the status of a label over many records is that of the
union of their sets.
"""

from __future__ import annotations

from collections.abc import Container
from enum import IntFlag, StrEnum

from worker.model import Outcome


class Status(StrEnum):
    """A job's status, as ``results.jsonl`` and ``summary.json`` write it."""

    SUCCEEDED = "succeeded"
    """Every face is in a wanted state, or held back on request."""
    PARTIAL = "partial"
    """Some faces are in a wanted state and some are neither that nor held."""
    UNSENT = "unsent"
    """Nothing of the job was sent, and some of it still can be."""
    FAILED = "failed"
    """Everything else: no face is in a wanted state."""


class Kinds(IntFlag):
    """Which kinds of outcome occur in a job."""

    NOTHING = 0
    WANTED = 1
    HELD = 2
    UNSENT = 4
    NEVER_SENT = 8
    """``conflict`` and ``invalid``."""
    OTHER = 16


_PARTICULAR = {
    Outcome.HELD: Kinds.HELD,
    Outcome.UNSENT: Kinds.UNSENT,
    Outcome.CONFLICT: Kinds.NEVER_SENT,
    Outcome.INVALID: Kinds.NEVER_SENT,
}


def kinds_of_outcomes(wanted: Container[str]) -> dict[str, int]:
    """The kind of each outcome where those in ``wanted`` are what the run was after.

    Plain integers: they are combined once for every face.
    """
    return {
        outcome: int(Kinds.WANTED if outcome in wanted else _PARTICULAR.get(outcome, Kinds.OTHER))
        for outcome in Outcome
    }


def status_of(kinds: int) -> Status:
    """The status of a job whose faces have these ``Kinds``."""
    if not kinds & ~(Kinds.WANTED | Kinds.HELD):
        return Status.SUCCEEDED
    if kinds & Kinds.WANTED:
        return Status.PARTIAL
    if kinds & Kinds.UNSENT and not kinds & Kinds.OTHER:
        return Status.UNSENT
    return Status.FAILED


STATUSES: tuple[Status, ...] = tuple(status_of(kinds) for kinds in range(32))
"""``status_of`` as a table, indexed by ``Kinds``."""
