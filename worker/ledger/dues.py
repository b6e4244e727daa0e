"""When persons are due, and what that means for the calls as they are lined up."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

import apsw

from worker.deadlines import SHOWN_LATE_JOBS, Forecast, LateJob, Schedule
from worker.ledger.database import query

# The earliest due time of each person who has one, over the rows that are to be sent.
CREATE_PERSON_DUE = """
CREATE TEMP TABLE person_due (person_id TEXT PRIMARY KEY, due_us INTEGER) STRICT, WITHOUT ROWID
"""
FILL_PERSON_DUE = """
INSERT INTO person_due
SELECT r.person_id, MIN(d.due_us) FROM due d JOIN row r USING (row_no)
WHERE r.fate IN ('', 'whole') GROUP BY r.person_id
"""

# Persons by their last call that waits. A call is late when it is sent after it is due, and nothing
# that is past due is in time, whatever the rate.
PERSONS = """
SELECT COUNT(*), MAX(call_no),
       SUM(due_us < :start), SUM(due_us < :start OR :start + call_no * :gap > due_us),
       MAX(CASE WHEN due_us > :start THEN call_no * 1e6 / (due_us - :start) END),
       MIN(CASE WHEN due_us >= :start THEN due_us - call_no * :gap END)
FROM (SELECT MAX(c.call_no) AS call_no, p.due_us FROM person_due p
      CROSS JOIN call c ON c.person_id = p.person_id AND c.state = 0 GROUP BY p.person_id)
"""

# Rows that are to be sent and cannot make it, in input order; a repeated one goes with its first.
LATE_ROWS = """
SELECT r.record_no, s.name || ':' || r.line, d.due_us, f.call_no
FROM due d CROSS JOIN row r ON r.row_no = d.row_no CROSS JOIN source s ON s.source_no = r.source_no
LEFT JOIN repeat p ON p.row_no = d.row_no
CROSS JOIN face f ON f.first_row = IFNULL(p.first_row, d.row_no) AND f.found_by IS NULL
WHERE f.outcome = 'unsent' AND (d.due_us < :start OR :start + f.call_no * :gap > d.due_us)
ORDER BY d.row_no
"""


def collect(connection: apsw.Connection) -> bool:
    """Work out once when each person is due; returns whether anybody is."""
    if not query(connection, "SELECT 1 FROM due LIMIT 1").fetchone():
        return False
    connection.execute(CREATE_PERSON_DUE)
    connection.execute(FILL_PERSON_DUE)
    return bool(query(connection, "SELECT 1 FROM person_due LIMIT 1").fetchone())


def forecast(connection: apsw.Connection, schedule: Schedule) -> Forecast | None:
    """What becomes of the due times that ``collect`` found; None where nobody due waits any more.

    A call is taken to be made at its place in the line, also where holds have since emptied places
    before it.
    """
    bindings = {"start": schedule.start_us, "gap": schedule.gap_us}
    persons, last_call, past, late, rate, start = query(connection, PERSONS, bindings).fetchone()
    if not persons:
        return None
    late_jobs = past_jobs = 0
    first_late: list[LateJob] = []
    if late:
        rows = query(connection, LATE_ROWS, bindings)
        for _, group in groupby(rows, key=itemgetter(0)):
            late_jobs += 1
            place, due_us, call_no = "", 0, 0
            for _, place, due_us, its_call in group:  # noqa: B007 (all the same but the call)
                call_no = max(call_no, its_call)
            past_jobs += due_us < schedule.start_us
            if len(first_late) < SHOWN_LATE_JOBS:
                first_late.append(LateJob(place, due_us, schedule.sent_us(call_no)))
    return Forecast(
        schedule=schedule,
        persons=persons,
        late_persons=late,
        past_due_persons=past,
        late_jobs=late_jobs,
        past_due_jobs=past_jobs,
        first_late=tuple(first_late),
        last_due_call_us=schedule.sent_us(last_call),
        needed_rate_per_second=rate or 0.0,
        latest_start_us=None if start is None else round(start),
    )
