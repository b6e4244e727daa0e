"""T2 for whole persons: whether the evidence bears out what the ledger says of each."""

from __future__ import annotations

import math
from collections.abc import Iterator

from worker.invariants.claims import REAPPEARED, SET_ASIDE, STILL_LISTED, Complaint
from worker.invariants.evidence import FACES_KEPT, RECORD_KEPT, Attempt, Call, Face, Person
from worker.invariants.proof import emptiness, removed
from worker.invariants.timeline import Timeline
from worker.invariants.violation import Findings
from worker.model import UNFINISHED, Kind, Outcome, Step

NOT_REMOVED = "not_removed"


def check_wholes(person: Person, timeline: Timeline, findings: Findings) -> None:
    """Judge the line of the person itself, if everything of the person was asked to go."""
    for call in person.calls:
        for face in call.faces:
            if not face.face_id:
                for invariant, sentence in _complaints(face, call, person.held, timeline):
                    findings.add(invariant, face.place, sentence)


def _complaints(
    line: Face, call: Call, held: frozenset[str], timeline: Timeline
) -> Iterator[Complaint]:
    attempts = [a for a in call.attempts if a.ending is not None]
    lookups = [a for a in attempts if a.is_complete_lookup and not a.face_ids]
    changes = [a for a in attempts if not a.looks and a.weighs]
    listing = [a for a in lookups if a.ending is not None and a.ending.listed]
    shown = listing[-1] if listing else None
    proved = emptiness(attempts, timeline.shortest_interval_us)
    removal = removed(attempts)
    # Faces may have come, and been deleted, since it was refused.
    removals = _removals(changes)
    known = _was_known(attempts, timeline.shortest_interval_us)
    vanished = proved is Kind.NO_PERSON and known
    outcome = line.outcome
    match outcome:
        case Outcome.PERSON_EMPTY if proved is not Kind.SHOWN and not vanished:
            yield "T2", "person_empty, and complete lookups have not shown that"
        case Outcome.PERSON_DELETED if removal is None and vanished:
            if True not in timeline.deletes_persons:
                yield "S1", "person_deleted, and nobody asked for that"
        case Outcome.PERSON_DELETED:
            yield from _removed(removal, shown, proved)
        case Outcome.NO_PERSON if proved is not Kind.NO_PERSON or removal is not None or known:
            yield "T2", "no_person, and the service has not said so twice of one it never showed"
        case Outcome.PRESENT:
            yield from _present(line, shown, changes, proved, timeline)
        case Outcome.HELD | Outcome.CONFLICT if line.code == FACES_KEPT:
            yield from _kept(call, shown)
        case Outcome.HELD if line.code == RECORD_KEPT:
            if proved is not Kind.SHOWN or not held:
                yield "T2", "record_kept, and the person is not empty, or nothing of theirs is held"
        case Outcome.CONFLICT:
            yield "T4", "a person can be in conflict only by their faces"
        case Outcome.REFUSED if not removals or removals[-1].kind is not Kind.REFUSED:
            yield "T5", "refused, and the last removal of the person was not"
        case Outcome.UNSENT if changes:
            yield "T5", "unsent, and an attempt may have changed something"
        case Outcome.DELETED | Outcome.ABSENT | Outcome.INVALID:
            yield "T4", f"{outcome}, which no person can be"
    yield from _overlooked(line, call, attempts, timeline)
    yield from _figures(line, attempts)


def _was_known(attempts: list[Attempt], interval_us: float) -> bool:
    """Whether the service has shown in this run that there was such a person."""
    return any(
        a.kind is Kind.LISTED and a.ending is not None and a.ending.listed for a in attempts
    ) or (
        emptiness([a for a in attempts if a.kind is not Kind.NO_PERSON], interval_us) is Kind.SHOWN
    )


def _removed(
    removal: Attempt | None, shown: Attempt | None, proved: Kind | None
) -> Iterator[Complaint]:
    if removal is None:
        yield "T1", "person_deleted, and the last change of the person was no removal"
    elif removal.kind is not Kind.REMOVED and proved is not Kind.NO_PERSON:
        yield "T1", "person_deleted, and neither the removal's answer nor two lookups say so"
    elif shown is not None and shown.seq > removal.end_seq and proved is not Kind.NO_PERSON:
        yield "T5", "person_deleted, and a later lookup lists faces"


def _present(
    line: Face,
    shown: Attempt | None,
    changes: list[Attempt],
    proved: Kind | None,
    timeline: Timeline,
) -> Iterator[Complaint]:
    if line.code == NOT_REMOVED:
        removals = _removals(changes)
        if proved is not Kind.SHOWN or not removals:
            yield "T2", "not_removed, and the record is not known to be empty and still there"
            return
        round_seq = timeline.round_of(removals[-1].seq)
        tried = [a for a in removals if a.seq > round_seq]
        if len(tried) < timeline.fewest_attempts(round_seq):
            yield "T2", "not_removed, and not all was done that could be done about it"
        return
    if line.code not in (STILL_LISTED, REAPPEARED):
        yield "T5", "present, and nobody says why"
    if shown is None or any(a.end_seq > shown.seq for a in changes):
        yield "T2", "present, and no lookup since the last change lists a face"


def _removals(changes: list[Attempt]) -> list[Attempt]:
    return [a for a in changes if a.step is Step.REMOVE]


def _kept(call: Call, shown: Attempt | None) -> Iterator[Complaint]:
    """Only faces that must not be sent are left."""
    kept = {face.face_id for face in call.faces if face.outcome in SET_ASIDE}
    listed = set(shown.ending.listed) if shown is not None and shown.ending is not None else set()
    if not listed or not listed <= kept:
        yield "T2", "faces_kept, and what was listed last is not held or in conflict"


def _overlooked(
    line: Face, call: Call, attempts: list[Attempt], timeline: Timeline
) -> Iterator[Complaint]:
    """What is proved about a person must be said once nothing is left to be done."""
    removal = removed(attempts)
    listed_after = removal is not None and any(
        a.is_complete_lookup
        and a.seq > removal.end_seq
        and a.ending is not None
        and a.ending.listed
        for a in attempts
    )
    if removal is not None and removal.kind is Kind.REMOVED and not listed_after:
        if line.outcome is not Outcome.PERSON_DELETED:
            yield "T5", f"{line.outcome}, and the evidence proves person_deleted"
        return
    longest = timeline.longest_interval_us
    proved = emptiness(attempts, math.inf if longest is None else longest)
    waits = any(face.step or (face.face_id and face.outcome in UNFINISHED) for face in call.faces)
    if waits or line.outcome not in UNFINISHED:
        return
    if proved is Kind.NO_PERSON:
        yield "T5", f"{line.outcome}, and the evidence proves that the person is not known"
    if proved is Kind.SHOWN and timeline.deletes_persons == {False}:
        yield "T5", f"{line.outcome}, and the evidence proves person_empty"


def _figures(line: Face, attempts: list[Attempt]) -> Iterator[Complaint]:
    sent = [a for a in attempts if a.step is Step.REMOVE and a.may_have_left]
    if line.attempts != len(sent):
        yield "T6", f"{line.attempts} removals are told, and {len(sent)} may have left"
    if line.first_sent_us != min((a.departed_us for a in sent), default=None):
        yield "T6", "the time of the first removal is not that of any"
    if line.decided_by is not None and line.decided_by not in {a.end_seq for a in attempts}:
        yield "T5", "decided by evidence that is not of its call"
