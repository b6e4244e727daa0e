"""An independent reading of a ledger: what must hold in it at any moment."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import apsw

from tests.core.plain_reading import PROVEN, REFUSED_AT_FIRST, left, proven
from worker.fold import DEFAULT_RULES, Rules, Trace
from worker.ledger.unrolling import unrolled
from worker.model import UNFINISHED, Evidence, Kind, Outcome, Step

SETTLED, CLAIMED = 2, 1


def rows(connection: apsw.Connection, sql: str) -> list[Any]:
    return connection.execute(sql).fetchall()


def _traces(connection: apsw.Connection) -> dict[int, list[Trace]]:
    """The attempts of each call, in their order."""
    calls: dict[int, list[Trace]] = {}
    for call_no, seq, step, faces, opened, end, kind, ended, sent, code, listed in rows(
        connection,
        "SELECT a.call_no, a.seq, a.step, a.face_ids, a.opened_us, e.seq, e.kind, e.ended_us,"
        " e.sent_us, e.code, e.listed FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq"
        " ORDER BY a.seq",
    ):
        ending = (
            None
            if kind is None
            else Evidence(Kind(kind), ended, sent, code=code, listed=tuple(json.loads(listed)))
        )
        trace = Trace(seq, Step(step), tuple(json.loads(faces)), opened, end, ending)
        calls.setdefault(call_no, []).append(trace)
    return calls


def audit(connection: apsw.Connection, rules: Rules = DEFAULT_RULES) -> dict[str, int]:
    """Fail where the books contradict themselves; returns faces and whole persons per outcome."""
    with unrolled(connection):
        return _audit(connection, rules)


def _audit(connection: apsw.Connection, rules: Rules) -> dict[str, int]:
    counted = dict(rows(connection, "SELECT outcome, COUNT(*) FROM face GROUP BY outcome"))
    tally = {o: n for o, n in rows(connection, "SELECT outcome, faces FROM tally") if n}
    assert tally == counted
    _audit_numbers(connection)
    calls = {
        row[0]: row
        for row in rows(connection, "SELECT call_no, person_id, whole, state, step FROM call")
    }
    claimed = Counter(person for _, person, _, state, _ in calls.values() if state == CLAIMED)
    assert max(claimed.values(), default=0) <= 1, "two calls in flight for one person"
    traces = _traces(connection)
    _audit_person_order(calls, traces)
    faces: dict[int, list[Any]] = {}
    for call_no, *face in rows(
        connection,
        "SELECT call_no, face_id, found_by, step, outcome, attempts FROM face ORDER BY face_no",
    ):
        faces.setdefault(call_no, []).append(face)
    for call_no, (_, _, whole, state, step) in calls.items():
        mine = traces.get(call_no, [])
        open_now = [x for x in mine if x.ending is None]
        assert len(open_now) <= (state == CLAIMED), "an attempt without an end, and nobody claimed"
        steps = {face[2] for face in faces[call_no]}
        if state == SETTLED:
            assert (step, steps) == ("", {""}), "settled, and something is to be done"
        elif state != CLAIMED:
            assert step == "verify" or step in steps, "it waits for what nobody needs"
            assert "lookup" not in steps or step == "lookup", "nothing before it was looked for"
        _audit_what_left({face[0]: face[1] for face in faces[call_no]}, mine, whole=bool(whole))
        for face_id, _, face_step, outcome, attempts in faces[call_no]:
            if face_id:
                _audit_face(face_id, face_step, outcome, attempts, mine, rules=rules)
            else:
                _audit_line(face_step, outcome, mine, {f[3] for f in faces[call_no] if f[0]})
            assert outcome != "unsent" or state != SETTLED, "settled with a face unsent"
    return counted


def _audit_numbers(connection: apsw.Connection) -> None:
    attempts = rows(connection, "SELECT seq, nonce FROM attempt")
    endings = rows(connection, "SELECT seq, attempt_seq FROM ending")
    opened, ended = {a[0] for a in attempts}, {e[1] for e in endings}
    assert not opened & {e[0] for e in endings}, "one number for two records"
    assert ended <= opened
    assert all(seq > attempt_seq for seq, attempt_seq in endings)
    assert max(Counter(a[1] for a in attempts).values(), default=1) == 1, "a nonce used twice"


def _audit_person_order(calls: dict[int, Any], traces: dict[int, list[Trace]]) -> None:
    """No two attempts of one person overlap, whatever calls they belong to."""
    persons: dict[str, list[Trace]] = {}
    for call_no, mine in traces.items():
        persons.setdefault(calls[call_no][1], []).extend(mine)
    for attempts in persons.values():
        attempts.sort(key=lambda x: x.attempt_seq)
        for one, two in pairwise(attempts):
            assert one.ending_seq is not None
            assert one.ending_seq < two.attempt_seq, "two in flight for one person"


def _audit_what_left(found_by: dict[str, int | None], mine: list[Trace], *, whole: bool) -> None:
    """S1: what was to be deleted was planned, or listed by a recorded lookup before."""
    for one in mine:
        if one.step is Step.DELETE:
            assert one.face_ids
            assert len(set(one.face_ids)) == len(one.face_ids)
            for face_id in one.face_ids:
                listed_by = found_by[face_id]
                if listed_by is None:
                    continue  # the input names it
                assert whole
                (look,) = [x for x in mine if x.ending_seq == listed_by]
                assert look.step is Step.LOOKUP
                assert listed_by < one.attempt_seq
                assert look.ending is not None
                assert look.ending.kind is Kind.SHOWN
                assert face_id in look.ending.listed
        elif one.step in {Step.LOOKUP, Step.VERIFY}:
            assert whole is not bool(one.face_ids)
        else:
            assert whole


def _audit_face(
    face_id: str, step: str, outcome: str, attempts: int, mine: list[Trace], *, rules: Rules
) -> None:
    ended = [x for x in mine if x.ending is not None]
    tried = [x for x in ended if x.step is Step.DELETE and face_id in x.face_ids]
    assert attempts == sum(left(x) for x in tried)
    assert outcome in {"held", "conflict"} or not step or outcome not in {"deleted", "absent"}
    _audit_order(face_id, tried, ended)
    if outcome in {"held", "conflict"}:
        assert not step
        return
    proof = proven(face_id, ended, rules.absence_interval_us)
    assert proof == (outcome if outcome in PROVEN else None)
    nothing_done = REFUSED_AT_FIRST | {Kind.NOT_SENT}
    if all(x.ending is not None and x.ending.kind in nothing_done for x in tried) and proof is None:
        assert outcome in {"unsent", "unknown", "present"}
    elif outcome == "unsent":
        raise AssertionError("unsent, and something was done")


def _audit_order(face_id: str, tried: list[Trace], ended: list[Trace]) -> None:
    """T2a: after an unknown end, another attempt only for what was listed, or for nobody."""
    nothing_done = REFUSED_AT_FIRST | {Kind.NOT_SENT, Kind.REFUSED}
    weighty = [x for x in tried if x.ending is not None and x.ending.kind not in nothing_done]
    for one in weighty:
        later = [x for x in tried if x.attempt_seq > one.attempt_seq]
        if not later:
            continue
        between = [
            x
            for x in ended
            if one.attempt_seq < x.attempt_seq < later[0].attempt_seq and x.ending is not None
        ]
        listed = any(
            x.ending is not None and x.ending.kind is Kind.SHOWN and face_id in x.ending.listed
            for x in between
        )
        nobody = [x for x in between if x.ending is not None and x.ending.kind is Kind.NO_PERSON]
        assert listed or len(nobody) >= 2, "sent again before it was looked for"


def _audit_line(step: str, outcome: str, mine: list[Trace], faces: set[str]) -> None:
    """The line of a whole person, as far as its last words go."""
    ended = [x for x in mine if x.ending is not None]
    removals = [x for x in ended if x.step is Step.REMOVE and left(x)]
    if outcome in {Outcome.PERSON_EMPTY, Outcome.PERSON_DELETED, Outcome.NO_PERSON}:
        assert not faces & {str(x) for x in UNFINISHED}, "done, and a face is not"
        said = [
            x
            for x in ended
            if x.ending is not None and x.ending.kind in {Kind.SHOWN, Kind.NO_PERSON, Kind.REMOVED}
        ]
        assert said
        assert said[-1].ending is not None
        assert not said[-1].ending.listed
    if outcome == Outcome.PERSON_DELETED:
        assert removals
    if outcome == Outcome.UNSENT:
        assert not removals
        assert step or faces
