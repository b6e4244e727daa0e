"""The sessions and rounds of a run, and the settings by which the work of each is judged."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw
import msgspec

from worker.ledger.database import query
from worker.model import Verb

SESSIONS = (
    "SELECT session_no, verb, first_seq, started_us, ended_us FROM session ORDER BY session_no"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of a session as far as they decide what is right."""

    absence_interval_us: int
    max_attempts: int
    max_rounds: int
    delete_person: bool
    concurrency: int
    rate_per_second: float
    """0 where the rate is not to be judged."""
    shared_quota: bool

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Terms:
        """From settings under their names. Raises ``KeyError`` where one is missing."""
        return cls(
            absence_interval_us=round(settings["absence_interval_seconds"] * 1e6),
            max_attempts=settings["max_attempts"],
            max_rounds=settings["max_rounds"],
            delete_person=settings["delete_person"],
            concurrency=settings["concurrency"],
            rate_per_second=settings["rate_per_second"],
            shared_quota=settings["shared_quota"],
        )


@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of work."""

    session_no: int
    verb: str
    first_seq: int
    """What is later in the ledger is of this session or a later one."""
    started_us: int
    ended_us: int | None
    terms: Terms | None
    """None where nobody knows what was set."""


def planned_terms(connection: apsw.Connection) -> Terms:
    """The settings with which the run was planned."""
    ((settings,),) = query(connection, "SELECT value FROM run WHERE key = 'settings'").fetchall()
    return Terms.of(msgspec.json.decode(settings))


class Timeline:
    """What of the ledger belongs to which session and which round.

    The plan's settings are those of the first session. Another session may be given others, and the
    ledger does not tell which: what depends on them is then judged only as far as it must be so
    whatever they were. ``later`` are the settings of all later sessions, where the caller knows.
    """

    def __init__(self, connection: apsw.Connection, later: Terms | None) -> None:
        ((settings,),) = query(
            connection, "SELECT value FROM run WHERE key = 'settings'"
        ).fetchall()
        self.planned = Terms.of(msgspec.json.decode(settings))
        self.sessions = [
            Session(session_no, verb, first_seq, started, ended, later if number else self.planned)
            for number, (session_no, verb, first_seq, started, ended) in enumerate(
                query(connection, SESSIONS).fetchall()
            )
        ]
        self._rounds = [x.first_seq for x in self.sessions if x.verb in (Verb.RUN, Verb.RETRY)]
        known = [x.terms for x in self.sessions]
        intervals = [0 if x is None else x.absence_interval_us for x in known]
        self.shortest_interval_us = min(intervals, default=0)
        """Lookups closer to one another than this prove nothing."""
        self.longest_interval_us = None if None in known else max(intervals, default=0)
        """Lookups this far apart prove what they show; None where nobody knows."""
        self.deletes_persons = {None if x is None else x.delete_person for x in known}
        """Whether emptied person records were to be removed; None among them where nobody knows."""

    def round_of(self, seq: int) -> int:
        """Where the round begins to which a number of the ledger belongs."""
        later = bisect_left(self._rounds, seq)
        return self._rounds[later - 1] if later else 0

    def _of(self, round_seq: int) -> list[Session]:
        ends = [x for x in self._rounds if x > round_seq]
        end = min(ends, default=None)
        return [
            x
            for x in self.sessions
            if x.first_seq >= round_seq and (end is None or x.first_seq < end)
        ]

    def fewest_attempts(self, round_seq: int) -> int:
        """Attempts after which a face may be given up in that round."""
        return min(
            (1 if x.terms is None else x.terms.max_attempts for x in self._of(round_seq)), default=1
        )

    def most_attempts(self, round_seq: int) -> int | None:
        """Attempts that a face may at most have in that round; None where nobody knows."""
        terms = [x.terms for x in self._of(round_seq)]
        known = [x.max_attempts for x in terms if x is not None]
        return max(known) if known and len(known) == len(terms) else None

    def fewest_rounds(self, round_seq: int) -> int:
        """Findings of a whole person after which what is found later is left alone."""
        return min(
            (0 if x.terms is None else x.terms.max_rounds for x in self._of(round_seq)), default=0
        )
