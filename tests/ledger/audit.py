"""An independent reading of a ledger: what must hold in it at any moment."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import apsw

from worker.model import Kind

MAY_BE_GONE = {Kind.LISTED, Kind.AMBIGUOUS, Kind.SWAPPED, Kind.CLOSED, None}


def rows(connection: apsw.Connection, sql: str) -> list[Any]:
    return connection.execute(sql).fetchall()


def _expected(face_id: str, ends: list[tuple[str | None, list[str]]]) -> str:
    if any(kind == Kind.LISTED and face_id in listed for kind, listed in ends):
        return "deleted"
    if any(kind in MAY_BE_GONE for kind, _ in ends):
        return "unknown"
    return "refused" if any(kind == Kind.REFUSED for kind, _ in ends) else "unsent"


def audit(connection: apsw.Connection) -> dict[str, int]:
    """Fail where the books contradict themselves; returns distinct faces per outcome."""
    counted = dict(rows(connection, "SELECT outcome, COUNT(*) FROM face GROUP BY outcome"))
    tally = {o: n for o, n in rows(connection, "SELECT outcome, faces FROM tally") if n}
    assert tally == counted

    attempts = rows(connection, "SELECT seq, call_no, face_ids, nonce FROM attempt ORDER BY seq")
    endings = rows(connection, "SELECT seq, attempt_seq, kind, listed FROM ending ORDER BY seq")
    opened, ended = {a[0] for a in attempts}, {e[1] for e in endings}
    assert not opened & {e[0] for e in endings}, "one number for two records"
    assert ended <= opened
    assert all(seq > attempt_seq for seq, attempt_seq, _, _ in endings)
    assert max(Counter(a[3] for a in attempts).values(), default=1) == 1, "a nonce used twice"

    end_of = {e[1]: (e[2], json.loads(e[3])) for e in endings}
    state = {
        no: (person, s)
        for no, person, s in rows(connection, "SELECT call_no, person_id, state FROM call")
    }
    claimed = Counter(person for person, s in state.values() if s == 1)
    assert max(claimed.values(), default=0) <= 1, "two calls in flight for one person"

    for call_no, face_id, outcome, count in rows(
        connection, "SELECT call_no, face_id, outcome, attempts FROM face"
    ):
        assert outcome != "unsent" or state[call_no][1] != 2, "settled with a face unsent"
        mine = [a[0] for a in attempts if a[1] == call_no and face_id in json.loads(a[2])]
        assert count <= len(mine)
        if outcome == "held":
            continue
        # An attempt still open is not folded in before something is recorded for its call.
        ends = [end_of[seq] for seq in mine if seq in end_of]
        still_open = len(mine) - len(ends)
        assert still_open <= 1
        assert outcome in {
            _expected(face_id, ends),
            _expected(face_id, [*ends, *[(None, [])] * still_open]),
        }
    return counted
