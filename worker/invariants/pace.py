"""R1, S4 and D3 over the whole run: how fast it was, when it began, what crashes left open.

Times of sending are by the wall clock of the machine, which may be set while the run lasts. Within
a session they are compared only as long as the clock was not set back; where it was set forward,
calls look further apart than they were, and that cannot be known here. What the rate is really
worth shows at the server, by a clock that nobody sets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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
        most = math.ceil(terms.rate_per_second)
        for operation in ("",) if terms.shared_quota else OPERATIONS:
            sent = query(connection, SENT, (stretch.after_seq, stretch.last_seq, operation))
            for seq in crowded(((sent_us / 1e6, seq) for sent_us, seq in sent), most):
                noun = operation or "call"
                sentence = f"more than {most} calls ({noun}) within a second, this one the last"
                findings.add("R1", f"attempt {seq}", sentence)


def crowded(times: Iterable[tuple[float, int]], most: int) -> Iterator[int]:
    """The numbers of those that come within a second of the ``most``-th before them."""
    window: deque[float] = deque(maxlen=most)
    for seconds, number in times:
        if len(window) == most and seconds - window[0] < 1.0:
            yield number
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
