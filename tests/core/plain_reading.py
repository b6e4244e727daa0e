"""T1 and T2 read aloud, independent of the fold and as plainly as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from worker.fold import Trace
from worker.model import Kind, Outcome, Step

PROVEN = frozenset({Outcome.DELETED, Outcome.ABSENT, Outcome.NO_PERSON})
"""What can only be said where evidence proves it."""

REFUSED_AT_FIRST = frozenset({Kind.THROTTLED, Kind.AGAIN, Kind.FATAL})
"""Attempts that left, perhaps, and changed nothing."""


def left(attempt: Trace) -> bool:
    """Whether it may have left this machine; attempts without an end are not asked about."""
    assert attempt.ending is not None
    if attempt.ending.kind is Kind.FATAL:
        return attempt.ending.sent_us is not None
    return attempt.ending.kind is not Kind.NOT_SENT


def _answered(lookups: Sequence[Trace], kind: Kind) -> list[Trace]:
    return [x for x in lookups if x.ending is not None and x.ending.kind is kind]


def _lists(trace: Trace, face_id: str) -> bool:
    return trace.ending is not None and face_id in trace.ending.listed


def _sent_us(trace: Trace) -> int:
    assert trace.ending is not None
    return trace.opened_us if trace.ending.sent_us is None else trace.ending.sent_us


def proven(face_id: str, traces: Sequence[Trace], interval_us: int) -> Outcome | None:
    """One of ``PROVEN``, or None, after attempts that were made one after another.

    Attempts without an end are left out. The clock must not have been set back.
    """
    ended = sorted((x for x in traces if x.ending is not None), key=lambda x: x.attempt_seq)
    attempts = [x for x in ended if x.step is Step.DELETE and face_id in x.face_ids and left(x)]
    lookups = [
        x
        for x in ended
        if x.step in {Step.LOOKUP, Step.VERIFY} and (not x.face_ids or face_id in x.face_ids)
    ]
    shown = _answered(lookups, Kind.SHOWN)
    listings = [x for x in shown if _lists(x, face_id)]
    for one in _answered(attempts, Kind.LISTED):
        listed_again = any(x.attempt_seq > one.attempt_seq for x in listings)
        if _lists(one, face_id) and not listed_again:
            return Outcome.DELETED
    known = sorted([*attempts, *listings], key=lambda x: x.attempt_seq)
    if not known:
        return None
    last = known[-1]

    def twice(found: Sequence[Trace]) -> bool:
        return any(
            one.ending is not None and _sent_us(two) >= one.ending.ended_us + interval_us
            for one, two in combinations(found, 2)
        )

    absences = [x for x in shown if x.attempt_seq > last.attempt_seq]
    good = bool(_answered([last], Kind.LISTED))
    if twice(absences) or (good and absences):
        return Outcome.ABSENT
    nobody = [x for x in _answered(lookups, Kind.NO_PERSON) if x.attempt_seq > last.attempt_seq]
    tried = [x for x in attempts if x.ending is not None and x.ending.kind not in REFUSED_AT_FIRST]
    return Outcome.NO_PERSON if twice(nobody) and (tried or listings) else None
