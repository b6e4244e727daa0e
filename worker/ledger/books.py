"""The ledger opened for reading: what the report is written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from worker.holds import Hold
from worker.ledger.database import query
from worker.model import Kind, SourceSummary, StopReason
from worker.report.interface import CallFigures, Line, RunHeader, Session

# One line per row of the input, in its order. A row that was sent reads the standing of its
# pair's first row; a row that was not says why.
LINES = """
SELECT r.record_no,
       CASE r.label WHEN '' THEN s.name || ':' || r.line ELSE r.label END,
       s.name, r.line, r.person_id, r.face_id,
       COALESCE(f.outcome, r.fate),
       CASE WHEN f.face_no IS NOT NULL THEN f.code ELSE '' END,
       CASE WHEN f.face_no IS NULL
            THEN CASE r.fault WHEN '' THEN r.reason ELSE r.fault || ': ' || r.reason END
            WHEN f.outcome = 'held' THEN 'on the exclusion list since the plan'
            ELSE IFNULL(e.message, '') END,
       IFNULL(e.request_id, ''),
       IFNULL(f.attempts, 0), f.first_sent_us, e.ended_us,
       IFNULL(s1.name || ':' || r1.line, ''),
       r.carried
FROM row r
JOIN source s ON s.source_no = r.source_no
LEFT JOIN repeat d ON d.row_no = r.row_no
LEFT JOIN row r1 ON r1.row_no = d.first_row
LEFT JOIN source s1 ON s1.source_no = r1.source_no
LEFT JOIN face f ON f.first_row = IFNULL(d.first_row, r.row_no)
LEFT JOIN ending e ON e.seq = f.decided_by
ORDER BY r.row_no
"""

# Attempts per operation; the first attempt of a call is not a retry. Which of them may have left is
# what worker.fold says.
CALL_FIGURES = """
SELECT a.operation, COUNT(*),
       COUNT(*) FILTER (WHERE e.kind IS NOT :not_sent
                        AND (e.kind IS NOT :fatal OR e.sent_us IS NOT NULL)),
       COUNT(*) - COUNT(DISTINCT a.call_no),
       COUNT(*) FILTER (WHERE e.kind = :throttled)
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq GROUP BY a.operation ORDER BY 1
"""

SENT_TIMES = """
SELECT e.sent_us FROM ending e JOIN attempt a ON a.seq = e.attempt_seq
WHERE a.operation = ? AND e.sent_us IS NOT NULL ORDER BY e.sent_us
"""

# Faces never sent, of calls that wait or were claimed by a process that died before an attempt.
FACES_WAITING = """
SELECT COUNT(*) FROM call c JOIN face f USING (call_no)
WHERE f.outcome = 'unsent' AND (c.state = 0 OR c.state = 1 AND NOT EXISTS (
  SELECT 1 FROM attempt a WHERE a.call_no = c.call_no
  AND NOT EXISTS (SELECT 1 FROM ending e WHERE e.attempt_seq = a.seq)))
"""


class LedgerBooks:
    """Implements ``worker.report.interface.Books`` over a ledger file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def value(self, key: str) -> Any:
        """One of the facts fixed when the plan became durable."""
        (text,) = query(self._connection, "SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        return msgspec.json.decode(text)

    def header(self) -> RunHeader:
        facts: Mapping[str, Any] = {
            key: msgspec.json.decode(value)
            for key, value in query(self._connection, "SELECT key, value FROM run")
        }
        return RunHeader(**{name: facts[name] for name in RunHeader.__dataclass_fields__})

    def sources(self) -> Sequence[SourceSummary]:
        return [
            SourceSummary(
                name,
                form,
                sha256,
                byte_count,
                records,
                entries,
                blank_lines,
                tuple(msgspec.json.decode(columns, type=list[str])),
            )
            for (
                _,
                name,
                form,
                sha256,
                byte_count,
                records,
                entries,
                blank_lines,
                columns,
            ) in query(self._connection, "SELECT * FROM source ORDER BY source_no")
        ]

    def sessions(self) -> Sequence[Session]:
        return [
            Session(
                started_us,
                ended_us,
                StopReason.KILLED if reason is None else StopReason(reason),
                detail,
                msgspec.json.decode(waits, type=dict[str, float]),
            )
            for _, started_us, ended_us, reason, detail, waits in query(
                self._connection, "SELECT * FROM session ORDER BY session_no"
            )
        ]

    def lines(self) -> Iterator[Line]:
        return map(Line._make, query(self._connection, LINES))

    def call_figures(self) -> Sequence[CallFigures]:
        return [
            CallFigures(*figures)
            for figures in query(
                self._connection,
                CALL_FIGURES,
                {
                    "not_sent": str(Kind.NOT_SENT),
                    "fatal": str(Kind.FATAL),
                    "throttled": str(Kind.THROTTLED),
                },
            )
        ]

    def sent_times_us(self, operation: str) -> Iterator[int]:
        for (sent_us,) in query(self._connection, SENT_TIMES, (operation,)):
            yield sent_us

    def holds(self) -> frozenset[Hold]:
        """The exclusion list as far as this run knows it."""
        rows = query(self._connection, "SELECT person_id, face_id FROM hold")
        return frozenset((person_id, face_id) for person_id, face_id in rows)

    def faces_waiting(self) -> int:
        """Distinct faces that a resume would send: none of a claim whose attempt was opened."""
        (count,) = query(self._connection, FACES_WAITING).fetchone()
        return int(count)

    def tally(self) -> dict[str, int]:
        """Distinct faces per outcome."""
        return dict(query(self._connection, "SELECT outcome, faces FROM tally WHERE faces <> 0"))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
