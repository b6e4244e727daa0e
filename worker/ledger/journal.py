"""The ledger of a run at work: claims, attempts, evidence, outcomes, sessions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping

import apsw
import msgspec

from worker.errors import LedgerDamaged
from worker.fold import Trace, fold
from worker.holds import Hold
from worker.ledger.database import SETTLED, WAITING, query, seal
from worker.ledger.writer import Writer, ledger_failed
from worker.model import Call, Evidence, Kind, Outcome, Request, StopReason

RUN_ID = "SELECT value FROM run WHERE key = 'run_id'"
LAST_SEQ = """
SELECT MAX((SELECT IFNULL(MAX(seq), 0) FROM attempt), (SELECT IFNULL(MAX(seq), 0) FROM ending))
"""
LAST_SESSION = "SELECT IFNULL(MAX(session_no), 0) FROM session"

# The first call nobody has claimed, unless another call of the same person is in flight. The
# persons in flight are listed once: there are few of them, while one person may have many calls.
CLAIM = """
UPDATE call SET state = 1 WHERE call_no = (
  SELECT call_no FROM call WHERE state = 0
  AND person_id NOT IN (SELECT person_id FROM call WHERE state = 1)
  ORDER BY call_no LIMIT 1)
RETURNING call_no, person_id, seal
"""

# The faces of a call in their order, with the place of the first row of each.
FACES_OF_CALL = """
SELECT f.face_id, f.outcome, s.name || ':' || r.line FROM face f
JOIN row r ON r.row_no = f.first_row JOIN source s USING (source_no)
WHERE f.call_no = ? ORDER BY f.face_no
"""

SET_STATE = "UPDATE call SET state = ? WHERE call_no = ?"

INSERT_ATTEMPT = "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERT_ENDING = "INSERT INTO ending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Everything that is known about the attempts of a call.
TRACES_OF_CALL = """
SELECT a.seq, a.face_ids, a.opened_us, e.seq, e.kind, e.ended_us, e.sent_us, e.code, e.listed
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq WHERE a.call_no = ?
"""

STANDINGS_OF_CALL = "SELECT face_no, face_id, outcome FROM face WHERE call_no = ?"

SET_STANDING = """
UPDATE face SET outcome = ?, code = ?, attempts = ?, first_sent_us = ?, decided_by = ?
WHERE face_no = ?
"""

ADD_TO_TALLY = """
INSERT INTO tally VALUES (?, ?) ON CONFLICT (outcome) DO UPDATE SET faces = faces + excluded.faces
"""

# Faces still unsent of calls nobody has claimed, for a hold on a person or on one face.
HELD_FACES = """
SELECT f.face_no, f.call_no FROM call c JOIN face f USING (call_no)
WHERE c.person_id = ?1 AND c.state = 0 AND f.outcome = 'unsent' AND ?2 IN ('', f.face_id)
"""

# Faces of a call on the exclusion list, which may have grown while the call was claimed.
HELD_MEANWHILE = """
SELECT f.face_no, f.call_no FROM call c JOIN face f USING (call_no)
WHERE c.call_no = ?1 AND f.outcome = 'unsent' AND EXISTS (
  SELECT 1 FROM hold h WHERE h.person_id = c.person_id AND h.face_id IN ('', f.face_id))
"""

SET_HELD = "UPDATE face SET outcome = 'held', code = '' WHERE face_no = ?"

# Calls of a person that hold nothing to send any more.
SETTLE_EMPTY = """
UPDATE call SET state = 2 WHERE state = 0 AND call_no = ?1 AND NOT EXISTS (
  SELECT 1 FROM face WHERE call_no = ?1 AND outcome = 'unsent')
"""

# Claims a dead process left behind, with their attempt if one was opened and never ended.
LEFT_BEHIND = """
SELECT c.call_no, a.seq FROM call c
LEFT JOIN attempt a ON a.call_no = c.call_no
  AND NOT EXISTS (SELECT 1 FROM ending e WHERE e.attempt_seq = a.seq)
WHERE c.state = 1
"""


def _damaged(path: str, call_no: int) -> LedgerDamaged:
    return LedgerDamaged(
        f"{path}: call {call_no} of the ledger is not what was planned (its seal does not match), so nothing"
        " more is sent",
        "the disk or a person has changed the ledger: restore the run directory from a copy",
    )


class Ledger:
    """The books of a run while it works; implements the ports of the pipeline.

    Every method is durable when it returns. Cancelling the caller ends its waiting, never the
    write. All, the constructor included, raise ``LedgerFailed`` once the ledger has failed.
    """

    def __init__(
        self, connection: apsw.Connection, make_writer: Callable[[apsw.Connection], Writer]
    ) -> None:
        self._path = connection.filename
        try:
            (run_id,) = query(connection, RUN_ID).fetchone()
            (last_seq,) = query(connection, LAST_SEQ).fetchone()
            (last_session,) = query(connection, LAST_SESSION).fetchone()
        except apsw.Error as error:
            connection.close()
            raise ledger_failed(self._path, error) from error
        self._run_id: str = msgspec.json.decode(run_id)
        self._seq: int = last_seq
        self._session_no: int = last_session
        self._writer = make_writer(connection)

    async def close(self) -> None:
        """Wait for what was submitted, then close the file."""
        await self._writer.close()

    # Claims

    async def claim(self) -> Call | None:
        """The next call, now claimed; None when nothing can be claimed at present.

        Raises ``LedgerDamaged`` for a call that is not what was planned; others can still be
        recorded.
        """
        claimed = await self._writer.submit(self._claim)
        if isinstance(claimed, LedgerDamaged):
            raise claimed
        return claimed

    def _claim(self, connection: apsw.Connection) -> Call | LedgerDamaged | None:
        claimed = query(connection, CLAIM).fetchone()
        if claimed is None:
            return None
        call_no, person_id, sealed = claimed
        faces = query(connection, FACES_OF_CALL, (call_no,)).fetchall()
        if seal(self._run_id, call_no, person_id, [face_id for face_id, _, _ in faces]) != sealed:
            # A value: raised here, it would undo what other loops record in the same commit.
            connection.execute(SET_STATE, (WAITING, call_no))
            return _damaged(self._path, call_no)
        to_send = [
            (face_id, place) for face_id, outcome, place in faces if outcome == Outcome.UNSENT
        ]
        return Call(
            call_no,
            person_id,
            tuple(face_id for face_id, _ in to_send),
            tuple(place for _, place in to_send),
        )

    def _put_back(self, connection: apsw.Connection, call_no: int) -> None:
        """The call waits again, without what the exclusion list has come to name."""
        connection.execute(SET_STATE, (WAITING, call_no))
        self._take_out(connection, query(connection, HELD_MEANWHILE, (call_no,)).fetchall())

    def _take_out(self, connection: apsw.Connection, faces: list[tuple[int, int]]) -> int:
        """Make waiting faces, given with their calls, ``held``; returns how many."""
        connection.executemany(SET_HELD, [(face_no,) for face_no, _ in faces])
        connection.executemany(SETTLE_EMPTY, {(call_no,) for _, call_no in faces})
        self._add_to_tally(connection, {Outcome.UNSENT: -len(faces), Outcome.HELD: len(faces)})
        return len(faces)

    # Attempts and evidence

    async def open_attempt(self, request: Request, opened_us: int) -> int:
        """Write the attempt ahead of its first byte; returns its sequence number."""

        def write(connection: apsw.Connection) -> int:
            self._seq += 1
            connection.execute(
                INSERT_ATTEMPT,
                (
                    self._seq,
                    request.call_no,
                    request.operation,
                    request.nonce,
                    hashlib.sha256(request.body).hexdigest(),
                    msgspec.json.encode(request.face_ids).decode(),
                    opened_us,
                ),
            )
            return self._seq

        return await self._writer.submit(write)

    async def record(
        self, attempt_seq: int, call_no: int, evidence: Evidence, *, settled: bool
    ) -> None:
        """Write how an attempt ended, and what its faces are now, in one transaction.

        The write is queued before this method first waits: a cancelled caller loses nothing.
        ``settled`` false gives the claim back: the call waits again.
        """

        def write(connection: apsw.Connection) -> None:
            self._append_ending(connection, attempt_seq, evidence)
            self._restate(connection, call_no)
            if settled:
                connection.execute(SET_STATE, (SETTLED, call_no))
            else:
                self._put_back(connection, call_no)

        await self._writer.submit(write)

    def _append_ending(
        self, connection: apsw.Connection, attempt_seq: int, evidence: Evidence
    ) -> None:
        self._seq += 1
        connection.execute(
            INSERT_ENDING,
            (
                self._seq,
                attempt_seq,
                str(evidence.kind),
                evidence.ended_us,
                evidence.sent_us,
                evidence.http_status,
                evidence.code,
                evidence.message,
                evidence.request_id,
                msgspec.json.encode(evidence.listed).decode(),
                evidence.retry_after_seconds,
            ),
        )

    def _restate(self, connection: apsw.Connection, call_no: int) -> None:
        """Fold the evidence of a call anew and keep the tally in step."""
        traces = [
            Trace(
                attempt_seq,
                tuple(msgspec.json.decode(face_ids, type=list[str])),
                opened_us,
                ending_seq,
                None
                if kind is None
                else Evidence(
                    Kind(kind),
                    ended_us,
                    sent_us,
                    code=code,
                    listed=tuple(msgspec.json.decode(listed, type=list[str])),
                ),
            )
            for (
                attempt_seq,
                face_ids,
                opened_us,
                ending_seq,
                kind,
                ended_us,
                sent_us,
                code,
                listed,
            ) in query(connection, TRACES_OF_CALL, (call_no,))
        ]
        change: Counter[str] = Counter()
        for face_no, face_id, outcome in query(
            connection, STANDINGS_OF_CALL, (call_no,)
        ).fetchall():
            if outcome == Outcome.HELD:
                continue
            now = fold(face_id, traces)
            connection.execute(
                SET_STANDING,
                (now.outcome, now.code, now.attempts, now.first_sent_us, now.decided_by, face_no),
            )
            change[outcome] -= 1
            change[now.outcome] += 1
        self._add_to_tally(connection, change)

    @staticmethod
    def _add_to_tally(connection: apsw.Connection, change: Mapping[str, int]) -> None:
        for outcome, faces in change.items():
            if faces:
                connection.execute(ADD_TO_TALLY, (str(outcome), faces))

    async def close_open_attempts(self, now_us: int) -> int:
        """Close what a dead process left open; returns the number of ambiguous attempts.

        An attempt without an end may have been applied; a claim without an attempt was never sent
        and waits again.
        """

        def write(connection: apsw.Connection) -> int:
            closed = 0
            for call_no, attempt_seq in query(connection, LEFT_BEHIND).fetchall():
                if attempt_seq is None:
                    self._put_back(connection, call_no)
                    continue
                self._append_ending(
                    connection,
                    attempt_seq,
                    Evidence(
                        Kind.CLOSED,
                        now_us,
                        code="closed_after_crash",
                        message="the process died before the end of this attempt was recorded",
                    ),
                )
                self._restate(connection, call_no)
                connection.execute(SET_STATE, (SETTLED, call_no))
                closed += 1
            return closed

        return await self._writer.submit(write)

    # Holds

    async def hold(self, additions: frozenset[Hold]) -> int:
        """Take faces out of calls that nobody has claimed yet; returns how many.

        A call in flight is looked at again when it comes back unsettled.
        """

        def write(connection: apsw.Connection) -> int:
            held = 0
            connection.executemany("INSERT OR IGNORE INTO hold VALUES (?, ?)", sorted(additions))
            for person_id, face_id in additions:
                faces = query(connection, HELD_FACES, (person_id, face_id)).fetchall()
                held += self._take_out(connection, faces)
            return held

        return await self._writer.submit(write)

    # Sessions and figures

    async def begin_session(self, started_us: int) -> None:
        """Note that work begins."""

        def write(connection: apsw.Connection) -> None:
            self._session_no += 1
            connection.execute(
                "INSERT INTO session VALUES (?, ?, NULL, NULL, '', '{}')",
                (self._session_no, started_us),
            )

        await self._writer.submit(write)

    async def end_session(
        self, ended_us: int, reason: StopReason, detail: str, waits_seconds: Mapping[str, float]
    ) -> None:
        """Note why the work ended and where the time went."""
        waits = msgspec.json.encode({key: round(value, 3) for key, value in waits_seconds.items()})
        await self._writer.submit(
            lambda c: c.execute(
                "UPDATE session SET ended_us = ?, stop_reason = ?, detail = ?, waits = ?"
                " WHERE session_no = ?",
                (ended_us, str(reason), detail, waits.decode(), self._session_no),
            )
        )

    async def tally(self) -> dict[str, int]:
        """Distinct faces per outcome, as committed."""
        return await self._writer.submit(
            lambda c: dict(query(c, "SELECT outcome, faces FROM tally WHERE faces <> 0"))
        )

    async def waiting_calls(self) -> int:
        """Calls that nobody has claimed and that have something to send."""
        return await self._writer.submit(
            lambda c: query(c, "SELECT COUNT(*) FROM call WHERE state = 0").fetchone()[0]
        )
