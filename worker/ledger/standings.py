"""Where the faces of a call stand by the evidence, under holds and conflicts, and what it waits for.

What the evidence about one face shows is the fold's word (``worker.fold``), about a whole person that
of ``worker.erasure``. What must not be sent all the same is known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

import apsw
import msgspec

from worker.erasure import EMPTY, FACES_KEPT, RECORD_KEPT, Found, fold_person
from worker.fold import Horizon, Rules, Standing, Trace, fold
from worker.ledger.database import query
from worker.ledger.facts import Planned
from worker.model import UNFINISHED, Evidence, Kind, Outcome, Step, Waiting

# A bound value is written +? for the reason that is given in worker.ledger.claims.

# Everything that is known about the attempts of a call, in their order.
TRACES_OF_CALL = """
SELECT a.seq, a.step, a.face_ids, a.opened_us,
       e.seq, e.kind, e.ended_us, e.sent_us, e.code, e.listed
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq WHERE a.call_no = +? ORDER BY a.seq
"""

STANDINGS_OF_CALL = """
SELECT face_no, first_row, source_no, line,
       face_id, found_by, step, outcome, code, attempts, first_sent_us, decided_by
FROM face WHERE call_no = +? ORDER BY face_no
"""

CONTESTED = "SELECT face_id FROM contested JOIN face USING (face_id) WHERE call_no = +?"


class Face(NamedTuple):
    """A row of ``face`` as STANDINGS_OF_CALL gives it."""

    face_no: int
    first_row: int
    source_no: int
    line: int
    face_id: str
    found_by: int | None
    step: str
    outcome: str
    code: str
    attempts: int
    first_sent_us: int | None
    decided_by: int | None


class Standings:
    """The rules by which faces are stated, at the present horizon. Used by the ledger's writer only."""

    def __init__(self, planned: Planned, rules: Rules, horizon: Horizon) -> None:
        self._planned = planned
        self._rules = rules
        self.horizon = horizon
        """Where the present round and the present session begin; a new session moves it."""

    def of(
        self,
        connection: apsw.Connection,
        call_no: int,
        person_id: str,
        faces: Sequence[Face],
        traces: Sequence[Trace],
    ) -> dict[str, Standing]:
        """Where the faces of a call stand by ``traces``, under holds and conflicts; by face ID."""
        held = held_faces(connection, person_id)
        contested = self._contested(connection, call_no)
        last_round = self._last_round(faces)
        standings: dict[str, Standing] = {}
        for face in faces:
            if face.face_id:
                rules = self._rules
                if face.found_by is not None and face.found_by > last_round:
                    # Found too late to be sent in this round: somebody keeps adding faces.
                    rules = replace(rules, max_attempts=0)
                barred = None
                if held & {"", face.face_id}:
                    barred = Outcome.HELD
                elif face.face_id in contested:
                    barred = Outcome.CONFLICT
                standings[face.face_id] = self._stand(face, traces, rules, barred)
        for face in faces:
            if not face.face_id:
                standings[""] = self._stand_whole(face, standings, traces, held)
        return standings

    def _last_round(self, faces: Sequence[Face]) -> float:
        """``found_by`` of the last faces that were found in time to be sent in this round."""
        lookups = {x.found_by for x in faces if x.found_by is not None}
        of_this_round = sorted(seq for seq in lookups if seq > self.horizon.round_seq)
        if len(of_this_round) <= self._rules.max_rounds:
            return inf
        return of_this_round[self._rules.max_rounds - 1]

    def _stand(
        self, face: Face, traces: Sequence[Trace], rules: Rules, barred: Outcome | None
    ) -> Standing:
        """``barred``: what a face that must not be sent is called."""
        if face.outcome in (Outcome.HELD, Outcome.CONFLICT):
            return _as_stored(face)
        standing = fold(face.face_id, traces, rules, self.horizon)
        if standing.step is Step.DELETE and barred is not None:
            if standing.outcome not in UNFINISHED:
                # A new round must not send it, and what was established before stands.
                return replace(standing, step=None)
            return replace(standing, outcome=barred, code="", step=None)
        return standing

    def _stand_whole(
        self,
        line: Face,
        standings: Mapping[str, Standing],
        traces: Sequence[Trace],
        held: set[str],
    ) -> Standing:
        if line.outcome == Outcome.HELD and line.code not in (FACES_KEPT, RECORD_KEPT):
            return _as_stored(line)
        found = {
            face_id: Found(x.outcome, x.step is not None or x.outcome in UNFINISHED)
            for face_id, x in standings.items()
        }
        standing = fold_person(traces, found, self._rules, self.horizon)
        waits = any(x.waits for x in found.values())
        kept = "" in held and standing.outcome in UNFINISHED and not waits
        if kept:
            return replace(standing, outcome=Outcome.HELD, code="", step=None)
        emptied = standing.outcome is Outcome.UNKNOWN and standing.code == EMPTY
        if held and (emptied or standing.step is Step.REMOVE):
            # With the record goes every face that it may have by then, also one that is held.
            return replace(standing, outcome=Outcome.HELD, code=RECORD_KEPT, step=None)
        return standing

    def _contested(self, connection: apsw.Connection, call_no: int) -> set[str]:
        """Faces of the call that were found under another person too."""
        if not self._planned.whole_persons:
            return set()
        return {face_id for (face_id,) in query(connection, CONTESTED, (call_no,))}


def faces_of(connection: apsw.Connection, call_no: int) -> list[Face]:
    """The faces of a call as they are stated, in their order."""
    return list(map(Face._make, query(connection, STANDINGS_OF_CALL, (call_no,)).fetchall()))


def held_faces(connection: apsw.Connection, person_id: str) -> set[str]:
    """Faces of the person on the exclusion list; ``""`` stands for all of them."""
    rows = query(connection, "SELECT face_id FROM hold WHERE person_id = ?", (person_id,))
    return {face_id for (face_id,) in rows}


def traces_of(connection: apsw.Connection, call_no: int) -> list[Trace]:
    """Every attempt at a call, with its end where that is known."""
    return [
        Trace(
            attempt_seq,
            Step(step),
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
            step,
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


def next_step(standings: Collection[Standing]) -> Waiting | None:
    """What a call waits for whose faces stand so; None where they need nothing more.

    One lookup serves all faces; nothing is sent again before it has been looked for.
    """
    lookups = [x.not_before_us for x in standings if x.step is Step.LOOKUP]
    if lookups:
        return Waiting(Step.LOOKUP, max(lookups))
    for step in (Step.DELETE, Step.REMOVE):
        if any(x.step is step for x in standings):
            return Waiting(step, 0)
    return None


def _as_stored(face: Face) -> Standing:
    """What no evidence changes any more."""
    return Standing(
        Outcome(face.outcome), face.code, face.attempts, face.first_sent_us, face.decided_by
    )
