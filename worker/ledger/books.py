"""The ledger opened for reading: what the report is written from."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import msgspec

from worker.errors import GateClosed
from worker.ledger.database import damaged, query, seal
from worker.ledger.rowmap import INVALID, WHOLE, RowMap, reason_of
from worker.ledger.tape import Tape
from worker.model import UNFINISHED, Kind, Outcome, SourceSummary, StopReason, Verb
from worker.orders import Ask, Condition, Order, Pulse, Taken
from worker.report.interface import CallFigures, Line, RunHeader, Session, Verification

if TYPE_CHECKING:
    # What these import would take a status as long as all the rest.
    from worker.fold import Rules
    from worker.holds import Hold

SENDABLE = frozenset({"", WHOLE})
"""Fates of rows that are not set aside."""

RETRIED_OUTCOMES = frozenset({Outcome.PRESENT, Outcome.NO_PERSON, Outcome.REFUSED})
"""What a new round may take up."""

_UNSENT = str(Outcome.UNSENT)

LAST_RULES = "SELECT rules FROM session ORDER BY session_no DESC LIMIT 1"

# The standing of every face that was begun, in the order of their rows: the faces that were found for
# a whole person share one, and its own line is behind them.
STANDINGS = """
SELECT f.first_row, f.face_id, f.found_by IS NOT NULL, f.outcome, f.code,
       CASE WHEN f.outcome = 'held' AND f.code = '' THEN 'on the exclusion list'
            WHEN f.outcome = 'conflict' AND f.code = '' THEN 'the same face is under another person'
            WHEN f.code = 'faces_kept' THEN 'only faces that must not be sent are left'
            WHEN f.code = 'record_kept' THEN 'the record stays: some of its faces must not be sent'
            ELSE IFNULL(e.message, '') END,
       IFNULL(e.request_id, ''), f.attempts, f.first_sent_us, e.ended_us
FROM face f LEFT JOIN ending e ON e.seq = f.decided_by
{where} ORDER BY f.first_row, f.face_id = '', f.face_no
"""
ALL_STANDINGS = STANDINGS.format(where="")
STANDINGS_OF_ROW = STANDINGS.format(where="WHERE f.first_row = +?")

# Lines beyond the rows of the input: the faces found for whole persons, and the rows that repeat the
# request for one, under each of which they are once more.
FOUND_FACES = """
SELECT first_row, COUNT(*) FROM face WHERE found_by IS NOT NULL GROUP BY first_row
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

# Whether anything has left, or may have, by an attempt behind a number.
SENT_SINCE = """
SELECT 1 FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq
WHERE a.seq > :seq AND e.kind IS NOT :not_sent AND (e.kind IS NOT :fatal OR e.sent_us IS NOT NULL)
LIMIT 1
"""
LAST_ATTEMPT = "SELECT IFNULL(MAX(seq), 0) FROM attempt"

SENT_TIMES = """
SELECT e.sent_us FROM ending e JOIN attempt a ON a.seq = e.attempt_seq
WHERE a.operation = ? AND e.sent_us IS NOT NULL ORDER BY e.sent_us
"""

# Settled calls of which a verification was asked for and never answered.
UNVERIFIED = """
SELECT v.call_no FROM verification v CROSS JOIN call c USING (call_no)
WHERE c.state = 2 AND NOT EXISTS (
  SELECT 1 FROM attempt a JOIN ending e ON e.attempt_seq = a.seq
  WHERE a.call_no = v.call_no AND a.step = 'verify' AND a.seq > v.since_seq
  AND e.kind IN ('shown', 'no_person'))
AND EXISTS (SELECT 1 FROM face f WHERE f.call_no = v.call_no AND f.outcome IN (
  'deleted', 'absent', 'present', 'no_person', 'person_empty', 'person_deleted'))
"""

# Calls that were begun and are left: not settled, with faces that are not, or never verified. The
# first three have an index each that holds nothing else. All are put together from constants.
LEFT_CALLS = f"""
SELECT call_no, 1 AS is_left FROM call WHERE state = 0 UNION ALL SELECT call_no, 1 FROM call WHERE state = 1
UNION ALL SELECT call_no, 1 FROM face WHERE outcome = 'unknown' UNION ALL SELECT call_no, 1 FROM ({UNVERIFIED})
"""  # noqa: S608  # nosec B608
# What a new round may take up as well, which is left only if it does.
RETRIED_CALLS = """
UNION ALL SELECT call_no, 0 FROM face WHERE outcome IN ('present', 'no_person', 'refused')
"""
# Their faces, the calls of one person adjacent.
FACES_OF_CALLS = """
SELECT c.call_no, c.person_id, is_left, c.state < 2, f.face_id, f.step, f.outcome, f.code
FROM (SELECT call_no, MAX(is_left) AS is_left FROM ({calls}) GROUP BY call_no)
CROSS JOIN call c USING (call_no) CROSS JOIN face f USING (call_no) ORDER BY call_no
"""
LEFT = FACES_OF_CALLS.format(calls=LEFT_CALLS)
LEFT_AND_RETRIED = FACES_OF_CALLS.format(calls=LEFT_CALLS + RETRIED_CALLS)
# What a new round may take up.
RETRIED = """
SELECT f.outcome, f.code, f.face_id, c.person_id, c.call_no FROM face f JOIN call c USING (call_no)
WHERE f.outcome IN ('present', 'no_person', 'refused')
"""
# What has rows already of what the tape counts. A whole person has one call; of others there are few.
BEGUN_AHEAD = """
SELECT COUNT(*), SUM(whole),
       (SELECT COUNT(*) FROM face WHERE call_no >= ?1 AND found_by IS NULL AND face_id <> '')
FROM call WHERE call_no >= ?1
"""
CALLS_AHEAD = "SELECT call_no, person_id FROM call WHERE call_no >= ? AND whole = 0"
CALLS_AS_SEALED = """
SELECT c.call_no, c.person_id, c.seal, f.face_id FROM call c LEFT JOIN face f USING (call_no)
ORDER BY c.call_no, f.face_no
"""
COUNT_BEGUN = "SELECT COUNT(*) FROM call WHERE call_no >= ?"
LAST_CALL = "SELECT IFNULL(MAX(first_call_no + calls), 0) - 1 FROM plan_block"
FRONTIER = "SELECT call_no FROM frontier"

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
ANY_WAITING = """
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


class _InOrder:
    """The standings of faces while their rows are gone through in order, without an index in memory."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._rows = groupby(query(connection, ALL_STANDINGS), key=itemgetter(0))
        self._next = next(self._rows, None)

    def of(self, first_row: int, *, is_first: bool) -> Sequence[Any]:
        """The standings of a row's faces; ``is_first`` says that it repeats no other."""
        if not is_first:
            return query(self._connection, STANDINGS_OF_ROW, (first_row,)).fetchall()  # type: ignore[no-any-return]  # untyped rows
        if self._next is None or self._next[0] > first_row:
            return ()
        if self._next[0] < first_row:
            raise _astray(self._connection)
        standings = list(self._next[1])
        self._next = next(self._rows, None)
        return standings

    def end(self) -> None:
        """No row follows."""
        if self._next is not None:
            raise _astray(self._connection)


def _astray(connection: apsw.Connection) -> GateClosed:
    return damaged(connection.filename, "the ledger is damaged (a face is not where its row says)")


class _Unbegun:
    """What the plan has beyond the calls that were begun."""

    def __init__(self, connection: apsw.Connection, run_id: str) -> None:
        self._connection = connection
        self._tape = Tape(connection, run_id)
        (self._frontier,) = query(connection, FRONTIER).fetchone()
        begun_calls, begun_whole, begun_faces = query(
            connection, BEGUN_AHEAD, (self._frontier,)
        ).fetchone()
        planned = self._tape.ahead(self._frontier)
        self.calls = planned.calls - begun_calls
        self.faces = planned.faces - begun_faces
        self._persons = planned.persons - (begun_whole or 0)

    def persons(self) -> tuple[int, set[str]]:
        """How many its calls are about, and those of them of whom others may have been begun."""
        begun = dict(query(self._connection, CALLS_AHEAD, (self._frontier,)).fetchall())
        some = {person_id: call_no for call_no, person_id in begun.items()}
        following = self._tape.call(self._frontier)
        if following is not None and not following.whole:
            some[following.person_id] = self._frontier
        shared = {
            person_id
            for person_id, call_no in some.items()
            if any(n >= self._frontier and n not in begun for n in self._tape.calls_beside(call_no))
        }
        return self._persons - (len(some) - len(shared)), shared


def _is_retried(retryable_codes: Container[str], outcome: str, code: str) -> bool:
    return outcome in RETRIED_OUTCOMES and (outcome != Outcome.REFUSED or code in retryable_codes)


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
        """Every line in input order; raises ``GateClosed`` where rows and faces do not fit."""
        names = self._source_names()
        standings = _InOrder(self._connection)
        unbegun = 0
        for row, amendment in RowMap(self._connection).amended():
            _, record_no, source_no, number, label, person_id, face_id = row[:7]
            source = names[source_no]
            label = label or f"{source}:{number}"
            duplicate_of = reason = ""
            fate, first_row = row.fate, row.row_no
            if fate == INVALID:
                reason = f"{row.fault}: {row.reason}" if row.fault else row.reason
            if amendment is not None:
                fate = amendment.fate or fate
                reason = reason_of(amendment, names)
                if amendment.first_row >= 0:
                    first_row = amendment.first_row
                    duplicate_of = f"{names[amendment.first_source_no]}:{amendment.first_line}"
            head = (record_no, label, source, number, person_id)
            tail = (duplicate_of, row.carried)
            if fate not in SENDABLE:
                yield Line(*head, face_id, fate, "", reason, "", 0, None, None, *tail)
                continue
            found = standings.of(first_row, is_first=first_row == row.row_no)
            if not found:
                unbegun += first_row == row.row_no
                yield Line(*head, face_id, _UNSENT, "", "", "", 0, None, None, *tail)
            for _, its_id, was_found, *standing in found:
                if its_id != face_id and not was_found:
                    # Somebody would take one face for another.
                    raise _astray(self._connection)
                yield Line._make((*head, its_id, *standing, *tail))
        standings.end()
        if not self._is_unsent(unbegun):
            # What was deleted would be called unsent.
            cause = "the ledger is damaged (faces of calls that were begun are gone)"
            raise damaged(self._connection.filename, cause)

    def _is_unsent(self, faces: int) -> bool:
        """Whether so many faces that stand nowhere are those of the calls that nobody has begun."""
        run_id = self.value("run_id")
        try:
            return bool(faces == _Unbegun(self._connection, run_id).faces)
        except GateClosed:
            # What is damaged is the plan, where the run has stopped for just that: those that were begun
            # tell whether they are whole.
            calls = groupby(query(self._connection, CALLS_AS_SEALED), key=itemgetter(0, 1, 2))
            return all(
                sealed == seal(run_id, call_no, person_id, [row[3] for row in rows])
                for (call_no, person_id, sealed), rows in calls
            )

    def _source_names(self) -> dict[int, str]:
        return dict(query(self._connection, "SELECT source_no, name FROM source").fetchall())

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

    def last_attempt(self) -> int:
        """The number of the last attempt; 0 before the first."""
        (seq,) = query(self._connection, LAST_ATTEMPT).fetchone()
        return int(seq)

    def has_sent_since(self, attempt: int) -> bool:
        """Whether a call has left, or may have, by an attempt behind that number."""
        kinds = {"not_sent": str(Kind.NOT_SENT), "fatal": str(Kind.FATAL)}
        row = query(self._connection, SENT_SINCE, {"seq": attempt, **kinds}).fetchone()
        return row is not None

    def sent_times_us(self, operation: str) -> Iterator[int]:
        for (sent_us,) in query(self._connection, SENT_TIMES, (operation,)):
            yield sent_us

    def holds(self) -> frozenset[Hold]:
        """The exclusion list as far as this run knows it."""
        rows = query(self._connection, "SELECT person_id, face_id FROM hold")
        return frozenset((person_id, face_id) for person_id, face_id in rows)

    def found_lines(self) -> int:
        found = dict(query(self._connection, FOUND_FACES).fetchall())
        if not found:
            return 0
        repeats = (x.first_row for x in RowMap(self._connection).amendments() if not x.fate)
        return int(sum(found.values()) + sum(found.get(row, 0) for row in repeats))

    def verification(self) -> Verification:
        return Verification(*query(self._connection, VERIFICATION).fetchone())

    def left(self) -> Left:
        """What a resume takes up; what was in flight when a process died is among it."""
        return self._left(LEFT, lambda *_: False)

    def retried(self, retryable_codes: Container[str]) -> Left:
        """What a new round takes up."""
        faces, persons, calls = 0, set(), set()
        for outcome, code, face_id, person_id, call_no in query(self._connection, RETRIED):
            if _is_retried(retryable_codes, outcome, code):
                faces += face_id != ""
                persons.add(person_id)
                calls.add(call_no)
        return Left(faces, len(persons), len(calls))

    def left_and_retried(self, retryable_codes: Container[str]) -> Left:
        """What a new round takes up that goes on with the rest as well."""
        return self._left(LEFT_AND_RETRIED, partial(_is_retried, retryable_codes))

    def _left(self, of_calls: str, is_retried: Callable[[str, str], bool]) -> Left:
        unbegun = _Unbegun(self._connection, self.value("run_id"))
        faces, calls = unbegun.faces, unbegun.calls
        persons, shared = unbegun.persons()
        last_person = None
        rows = query(self._connection, of_calls)
        for (_, person_id, is_left, waits), group in groupby(rows, key=itemgetter(0, 1, 2, 3)):
            is_sent = False
            for *_, face_id, step, outcome, code in group:
                if is_retried(outcome, code) or outcome in UNFINISHED or (waits and step):
                    is_sent = True
                    faces += face_id != ""
            calls += bool(is_left) or is_sent
            if is_sent and person_id != last_person:
                last_person = person_id
                persons += person_id not in shared
        return Left(faces, persons, calls)

    def tally(self) -> dict[str, int]:
        """Distinct faces per outcome."""
        return dict(query(self._connection, "SELECT outcome, faces FROM tally WHERE faces <> 0"))

    def has_waiting_calls(self) -> bool:
        """Whether a call waits to be made, or was in flight when a process died."""
        if query(self._connection, ANY_WAITING).fetchone() is not None:
            return True
        (frontier,) = query(self._connection, FRONTIER).fetchone()
        (last_call,) = query(self._connection, LAST_CALL).fetchone()
        (begun,) = query(self._connection, COUNT_BEGUN, (frontier,)).fetchone()
        return bool(last_call - frontier + 1 > begun)

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
