"""R1, S4 and D3 over the whole run: how fast it was, when it began, what crashes left open.

Times of sending are by the wall clock of the machine, which may be set while the run lasts. Within
a session they are compared only as long as the clock was not set back; where it was set forward,
calls look further apart than they were, and that cannot be known here. What the rate is really
worth shows at the server, by a clock that nobody sets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import apsw

from worker.invariants.shapes import OPERATIONS
from worker.invariants.timeline import Session, Timeline
from worker.invariants.violation import Findings
from worker.ledger.database import query

SET_BACK_US = 1_000_000
"""Attempts are opened in order; one that seems so much older than another saw another clock."""

OPENED = "SELECT seq, opened_us FROM attempt WHERE seq > ? AND seq <= ? ORDER BY seq"

SENT = """
SELECT e.sent_us, a.seq FROM attempt a JOIN ending e ON e.attempt_seq = a.seq
WHERE a.seq > ?1 AND a.seq <= ?2 AND e.sent_us IS NOT NULL AND ?3 IN ('', a.operation)
ORDER BY e.sent_us
"""

# Rates that were ordered while a session worked; what it refused changed nothing.
ORDERED = """
SELECT t.taken_us, c.rate_per_second FROM command c JOIN command_taken t ON t.command_seq = c.seq
WHERE c.session_no = ? AND c.ask = 'rate' AND t.refused = 0 ORDER BY c.seq
"""

UNDER_WAY_SECONDS = 0.25
"""A call that was granted its departure just before a lower rate was ordered may leave after it."""

LEFT_OPEN = """
SELECT a.operation, COUNT(*) FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq
WHERE a.seq > ? AND a.seq <= ? AND (e.seq IS NULL OR e.kind = 'closed') GROUP BY a.operation
"""

FIRST = "SELECT MIN(seq), opened_us FROM attempt"
LAST_SEQ = "SELECT IFNULL(MAX(seq), 0) FROM attempt"
PLANNED = "SELECT CAST(value AS INTEGER) FROM run WHERE key = 'planned_us'"


class Stretch(NamedTuple):
    """Attempts of one session between which the clock was not set back."""

    session: Session
    after_seq: int
    last_seq: int


def check_pace(connection: apsw.Connection, timeline: Timeline, findings: Findings) -> None:
    """Judge the run as a whole."""
    _check_beginning(connection, timeline, findings)
    for session, last_seq in _sessions(connection, timeline):
        _check_left_open(connection, session, last_seq, findings)
    for stretch in _stretches(connection, timeline):
        terms = stretch.session.terms
        if terms is None or not terms.rate_per_second:
            continue
        ordered = query(connection, ORDERED, (stretch.session.session_no,)).fetchall()
        ceiling = OrderedCeiling(terms.rate_per_second, ordered)
        for operation in ("",) if terms.shared_quota else OPERATIONS:
            sent = query(connection, SENT, (stretch.after_seq, stretch.last_seq, operation))
            for seq, most in crowded(((us / 1e6, seq) for us, seq in sent), ceiling):
                noun = operation or "call"
                sentence = f"more than {most} calls ({noun}) within a second, this one the last"
                findings.add("R1", f"attempt {seq}", sentence)


class Ceiling(Protocol):
    """How many calls there may be in the second that ends at a moment, in seconds."""

    @property
    def highest(self) -> int:
        """The most at any moment."""
        ...

    def at(self, seconds: float) -> int: ...


class FixedCeiling:
    """The same at every moment."""

    def __init__(self, most: int) -> None:
        self.highest = most

    def at(self, seconds: float) -> int:
        del seconds
        return self.highest


class OrderedCeiling:
    """The rate of a session as it was set, and then as it was ordered while it worked."""

    def __init__(self, rate_per_second: float, ordered: Sequence[tuple[int, float]]) -> None:
        """``ordered``: from which microsecond on each of the later rates counted."""
        self._rates = [(float("-inf"), rate_per_second)]
        self._rates += [(taken_us / 1e6, rate) for taken_us, rate in ordered]
        self.highest = math.ceil(max(rate for _, rate in self._rates))

    def at(self, seconds: float) -> int:
        since = seconds - UNDER_WAY_SECONDS
        settled = [rate for taken, rate in self._rates if taken <= since][-1]
        recent = [rate for taken, rate in self._rates if since < taken <= seconds]
        return math.ceil(max([settled, *recent]))


def crowded(times: Iterable[tuple[float, int]], ceiling: Ceiling) -> Iterator[tuple[int, int]]:
    """The numbers of those that come within a second of too many, and how many there may be."""
    window: deque[float] = deque(maxlen=ceiling.highest)
    for seconds, number in times:
        most = ceiling.at(seconds)
        if len(window) >= most and seconds - window[-most] < 1.0:
            yield number, most
        window.append(seconds)


def _check_beginning(connection: apsw.Connection, timeline: Timeline, findings: Findings) -> None:
    first_seq, opened_us = query(connection, FIRST).fetchone()
    if first_seq is None:
        return
    if not timeline.sessions or first_seq <= timeline.sessions[0].first_seq:
        findings.add("S4", f"attempt {first_seq}", "it was made before any work on the run began")
        return
    ((planned_us,),) = query(connection, PLANNED).fetchall()
    # A clock that was set back between plan and start makes the start look too early as well.
    if opened_us < planned_us <= timeline.sessions[0].started_us:
        findings.add("S4", f"attempt {first_seq}", "it is older than the plan")


def _sessions(connection: apsw.Connection, timeline: Timeline) -> Iterator[tuple[Session, int]]:
    """Each session with the last number of the ledger that is its own."""
    ((last_seq,),) = query(connection, LAST_SEQ).fetchall()
    ends = [*(x.first_seq for x in timeline.sessions[1:]), last_seq]
    yield from zip(timeline.sessions, ends, strict=False)


def _check_left_open(
    connection: apsw.Connection, session: Session, last_seq: int, findings: Findings
) -> None:
    """D3: of every operation, at most as many as there were loops."""
    if session.terms is None:
        return
    for operation, count in query(connection, LEFT_OPEN, (session.first_seq, last_seq)):
        if count > session.terms.concurrency:
            findings.add(
                "D3",
                f"session {session.session_no}",
                f"{count} attempts ({operation}) were left open, and"
                f" {session.terms.concurrency} could be in flight",
            )


def _stretches(connection: apsw.Connection, timeline: Timeline) -> Iterator[Stretch]:
    for session, last_seq in _sessions(connection, timeline):
        begin, latest_us = session.first_seq, 0
        for seq, opened_us in query(connection, OPENED, (session.first_seq, last_seq)):
            if opened_us < latest_us - SET_BACK_US:
                yield Stretch(session, begin, seq - 1)
                begin, latest_us = seq - 1, opened_us
            latest_us = max(latest_us, opened_us)
        yield Stretch(session, begin, last_seq)
