"""When persons are due, and what that means for the calls as they are lined up."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

import apsw

from worker.deadlines import SHOWN_LATE_JOBS, Forecast, LateJob, Schedule
from worker.ledger.database import query

# Persons by their last call that waits: the last of all, unless something was said of that since. A call is late when it is sent after
# it is due, and nothing that is past due is in time, whatever the rate.
PERSONS = """
SELECT COUNT(*), MAX(call_no),
       SUM(due_us < :start), SUM(due_us < :start OR :start + call_no * :gap > due_us),
       MAX(CASE WHEN due_us > :start THEN call_no * 1e6 / (due_us - :start) END),
       MIN(CASE WHEN due_us >= :start THEN due_us - call_no * :gap END)
FROM (SELECT MIN(d.due_us) AS due_us,
             CASE WHEN IFNULL(l.state, 0) = 0 THEN d.last_call_no ELSE (
               SELECT MAX(c.call_no) FROM call c WHERE c.person_id = l.person_id AND c.state = 0
             ) END AS call_no
      FROM due d LEFT JOIN call l ON l.call_no = d.last_call_no GROUP BY d.last_call_no)
WHERE call_no IS NOT NULL
"""

# Rows that are to be sent and cannot make it, in input order; a repeated one goes with its first.
LATE_ROWS = """
SELECT d.record_no, s.name || ':' || d.line, d.due_us, d.call_no
FROM due d CROSS JOIN source s ON s.source_no = d.source_no
LEFT JOIN face f ON f.first_row = d.first_row AND f.call_no = d.call_no AND f.found_by IS NULL
WHERE IFNULL(f.outcome, 'unsent') = 'unsent'
AND (d.due_us < :start OR :start + d.call_no * :gap > d.due_us)
ORDER BY d.row_no
"""


def forecast(connection: apsw.Connection, schedule: Schedule) -> Forecast | None:
    """What becomes of the due times of the plan; None where nobody due waits.

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
