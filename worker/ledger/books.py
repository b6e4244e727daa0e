"""The ledger opened for reading: what the report is written from."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import msgspec

from worker.ledger.database import query
from worker.model import Kind, Outcome, SourceSummary, StopReason, Verb
from worker.orders import Ask, Condition, Order, Pulse, Taken
from worker.report.interface import CallFigures, Line, RunHeader, Session, Verification

if TYPE_CHECKING:
    # What these import would take a status as long as all the rest.
    from worker.fold import Rules
    from worker.holds import Hold

LAST_RULES = "SELECT rules FROM session ORDER BY session_no DESC LIMIT 1"

# One line per row of the input, in its order. A row that was sent reads the standing of its
# pair's first row; a row that was not says why. The row of a whole person has a line for each face
# that was found, and one of its own with an empty face behind them.
LINES = """
SELECT r.record_no,
       CASE r.label WHEN '' THEN s.name || ':' || r.line ELSE r.label END,
       s.name, r.line, r.person_id,
       CASE WHEN f.found_by IS NULL THEN r.face_id ELSE f.face_id END,
       COALESCE(f.outcome, r.fate),
       CASE WHEN f.face_no IS NOT NULL THEN f.code ELSE '' END,
       CASE WHEN f.face_no IS NULL
            THEN CASE r.fault WHEN '' THEN r.reason ELSE r.fault || ': ' || r.reason END
            WHEN f.outcome = 'held' AND f.code = '' THEN 'on the exclusion list'
            WHEN f.outcome = 'conflict' AND f.code = '' THEN 'the same face is under another person'
            WHEN f.code = 'faces_kept' THEN 'only faces that must not be sent are left'
            WHEN f.code = 'record_kept' THEN 'the record stays: some of its faces must not be sent'
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
ORDER BY r.row_no, f.face_id = '', f.face_no
"""

# Lines beyond the rows of the input: faces found for whole persons, under each row that asks for them.
FOUND_LINES = """
SELECT COUNT(*) FROM row r LEFT JOIN repeat d ON d.row_no = r.row_no
JOIN face f ON f.first_row = IFNULL(d.first_row, r.row_no)
WHERE r.fate = 'whole' AND f.found_by IS NOT NULL
"""

# Attempts per operation. A change is a retry where the same had been sent before, for one face at
# least; a lookup is one where it brought nothing. What may have left is what worker.fold says.
CALL_FIGURES = """
SELECT a.operation, COUNT(*),
       COUNT(*) FILTER (WHERE e.kind IS NOT :not_sent
                        AND (e.kind IS NOT :fatal OR e.sent_us IS NOT NULL)),
       CASE a.operation WHEN 'GetPerson' THEN COUNT(*) FILTER (WHERE e.kind NOT IN ('shown', 'no_person'))
            ELSE COUNT(*) FILTER (WHERE e.kind IS NOT :not_sent AND EXISTS (
              SELECT 1 FROM attempt b LEFT JOIN ending x ON x.attempt_seq = b.seq
              WHERE b.call_no = a.call_no AND b.seq < a.seq AND b.step = a.step
              AND x.kind IS NOT :not_sent AND (a.face_ids = b.face_ids OR EXISTS (
                SELECT 1 FROM json_each(a.face_ids) f JOIN json_each(b.face_ids) g
                ON f.value = g.value)))) END,
       COUNT(*) FILTER (WHERE e.kind = :throttled)
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq GROUP BY a.operation ORDER BY 1
"""

SENT_TIMES = """
SELECT e.sent_us FROM ending e JOIN attempt a ON a.seq = e.attempt_seq
WHERE a.operation = ? AND e.sent_us IS NOT NULL ORDER BY e.sent_us
"""

WAITING_CALL = "SELECT 1 FROM call WHERE state < 2 LIMIT 1"

# Settled calls of which a verification was asked for and never answered.
UNVERIFIED = """
SELECT v.call_no FROM verification v JOIN call c USING (call_no)
WHERE c.state = 2 AND NOT EXISTS (
  SELECT 1 FROM attempt a JOIN ending e ON e.attempt_seq = a.seq
  WHERE a.call_no = v.call_no AND a.step = 'verify' AND a.seq > v.since_seq
  AND e.kind IN ('shown', 'no_person'))
AND EXISTS (SELECT 1 FROM face f WHERE f.call_no = v.call_no AND f.outcome IN (
  'deleted', 'absent', 'present', 'no_person', 'person_empty', 'person_deleted'))
"""

# What a resume takes up: distinct faces that are known, their distinct persons, and the calls.
LEFT = """
SELECT COUNT(*) FILTER (WHERE f.face_id <> '' AND (f.step <> '' OR f.outcome IN ('unsent', 'unknown'))),
       COUNT(DISTINCT c.person_id) FILTER (WHERE f.step <> '' OR f.outcome IN ('unsent', 'unknown')),
       COUNT(DISTINCT c.call_no)
FROM call c JOIN face f USING (call_no)
WHERE c.state < 2 OR f.outcome IN ('unsent', 'unknown')
"""
# Put together from a constant, and nothing else.
COUNT_UNVERIFIED = f"SELECT COUNT(*) FROM ({UNVERIFIED})"  # noqa: S608  # nosec B608
# What a new round may take up.
RETRIED = """
SELECT f.outcome, f.code, f.face_id, c.person_id, c.call_no FROM face f JOIN call c USING (call_no)
WHERE f.outcome IN ('present', 'no_person', 'refused')
"""

# Both together: each face, person and call once.
LEFT_AND_RETRIED = """
SELECT COUNT(*) FILTER (WHERE face_id <> '' AND is_sent), COUNT(DISTINCT person_id) FILTER (WHERE is_sent),
       COUNT(DISTINCT call_no)
FROM (
  SELECT face_id, person_id, call_no, is_waiting,
         is_again OR outcome IN ('unsent', 'unknown') OR (is_waiting AND step <> '') AS is_sent
  FROM (
    SELECT f.face_id, f.outcome, f.step, c.person_id, c.call_no, c.state < 2 AS is_waiting,
           f.outcome IN ('present', 'no_person') OR (
             f.outcome = 'refused' AND f.code IN (SELECT value FROM json_each(?))) AS is_again
    FROM call c JOIN face f USING (call_no)))
WHERE is_waiting OR is_sent
"""

# Calls to be verified that hold something to look for, and those of them that a complete lookup has
# answered since, after everything else about them.
VERIFICATION = """
SELECT COUNT(*), COUNT(*) FILTER (WHERE EXISTS (
  SELECT 1 FROM attempt a JOIN ending e ON e.attempt_seq = a.seq
  WHERE a.call_no = v.call_no AND a.step = 'verify' AND a.seq > v.since_seq
  AND e.kind IN ('shown', 'no_person') AND NOT EXISTS (
    SELECT 1 FROM attempt d JOIN ending x ON x.attempt_seq = d.seq
    WHERE d.call_no = v.call_no AND d.step IN ('delete', 'remove') AND x.seq > a.seq
    AND x.kind NOT IN ('throttled', 'again', 'not_sent', 'fatal'))))
FROM verification v WHERE EXISTS (
  SELECT 1 FROM face f WHERE f.call_no = v.call_no AND f.outcome IN (
    'deleted', 'absent', 'present', 'no_person', 'person_empty', 'person_deleted'))
"""


# Two questions, because each has an index that holds nothing but such calls.
WAITS = """
SELECT 1 FROM call WHERE state = 0
UNION ALL SELECT 1 FROM call WHERE state = 1 LIMIT 1
"""

ORDERS = """
SELECT c.seq, c.session_no, c.ask, c.rate_per_second, c.given_us, c.given_by,
       t.taken_us, t.said, t.remedy, t.refused, d.is_withdrawn
FROM command c LEFT JOIN command_taken t ON t.command_seq = c.seq
LEFT JOIN command_decided d ON d.command_seq = c.seq ORDER BY c.seq DESC LIMIT ?
"""

GOES_ON = """
SELECT 1 FROM session
WHERE session_no = (SELECT MAX(session_no) FROM session) AND stop_reason IS NULL
"""

PULSE = """
SELECT condition, waiting, paused_by, rate_now_per_second, mean_rate_per_second,
       rate_configured_per_second, rate_allowed_per_second, calls_in_flight, calls_sent, ends_us, pid, host, beat_us
FROM pulse WHERE session_no = (SELECT MAX(session_no) FROM session)
"""


class Given(NamedTuple):
    """An order as the ledger keeps it."""

    session_no: int
    """The session it was given to, from 1 on."""
    order: Order
    taken: Taken | None
    """None as long as nobody has taken it."""
    is_withdrawn: bool = False
    """Its giver has taken it back, and nobody will take it."""


class Left(NamedTuple):
    """What there is still to do."""

    faces: int
    """Distinct faces that are known and may be sent."""
    persons: int
    """Distinct persons of whom something may be sent."""
    calls: int
    """Calls to be taken up again, also those that only wait for a lookup."""


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
                Verb(verb),
                started_us,
                ended_us,
                StopReason.KILLED if reason is None else StopReason(reason),
                detail,
                msgspec.json.decode(waits, type=dict[str, float]),
            )
            for _, verb, _, _, started_us, ended_us, reason, detail, waits in query(
                self._connection, "SELECT * FROM session ORDER BY session_no"
            )
        ]

    def rules(self) -> Rules | None:
        """By what the last session folded its evidence; None before the first."""
        from worker.fold import Rules  # noqa: PLC0415 (a status takes no such time)

        row = query(self._connection, LAST_RULES).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Rules)

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

    def found_lines(self) -> int:
        (count,) = query(self._connection, FOUND_LINES).fetchone()
        return int(count)

    def verification(self) -> Verification:
        return Verification(*query(self._connection, VERIFICATION).fetchone())

    def has_waiting_calls(self) -> bool:
        return bool(query(self._connection, WAITING_CALL).fetchone())

    def left(self) -> Left:
        """What a resume takes up; what was in flight when a process died is among it."""
        faces, persons, calls = query(self._connection, LEFT).fetchone()
        (unverified,) = query(self._connection, COUNT_UNVERIFIED).fetchone()
        return Left(faces, persons, calls + unverified)

    def retried(self, retryable_codes: Container[str]) -> Left:
        """What a new round takes up."""
        faces, persons, calls = 0, set(), set()
        for outcome, code, face_id, person_id, call_no in query(self._connection, RETRIED):
            if outcome != Outcome.REFUSED or code in retryable_codes:
                faces += face_id != ""
                persons.add(person_id)
                calls.add(call_no)
        return Left(faces, len(persons), len(calls))

    def left_and_retried(self, retryable_codes: Collection[str]) -> Left:
        """What a new round takes up that goes on with the rest as well."""
        codes = msgspec.json.encode(sorted(retryable_codes)).decode()
        faces, persons, calls = query(self._connection, LEFT_AND_RETRIED, (codes,)).fetchone()
        (unverified,) = query(self._connection, COUNT_UNVERIFIED).fetchone()
        return Left(faces, persons, calls + unverified)

    def tally(self) -> dict[str, int]:
        """Distinct faces per outcome."""
        return dict(query(self._connection, "SELECT outcome, faces FROM tally WHERE faces <> 0"))

    def waits(self) -> bool:
        """Whether a call waits to be made, or was in flight when a process died."""
        return query(self._connection, WAITS).fetchone() is not None

    def given(self, *, latest: int) -> Sequence[Given]:
        """The latest orders, the newest last, each with what became of it."""
        rows = query(self._connection, ORDERS, (latest,)).fetchall()
        return [
            Given(
                session_no,
                Order(Ask(ask), given_us, given_by, rate_per_second, seq),
                None if taken_us is None else Taken(taken_us, said, remedy, bool(refused)),
                bool(is_withdrawn),
            )
            for (
                seq,
                session_no,
                ask,
                rate_per_second,
                given_us,
                given_by,
                taken_us,
                said,
                remedy,
                refused,
                is_withdrawn,
            ) in reversed(rows)
        ]

    def goes_on(self) -> bool:
        """Whether the last session has not ended, as far as anybody has said."""
        return query(self._connection, GOES_ON).fetchone() is not None

    def pulse(self) -> Pulse | None:
        """What the last session said of itself; None where it has said nothing yet."""
        row = query(self._connection, PULSE).fetchone()
        return None if row is None else Pulse(Condition(row[0]), *row[1:])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
