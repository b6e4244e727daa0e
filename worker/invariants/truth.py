"""What the ledger claims of one person, against what the server really did.

The server's log is played again, request by request. Whether a face was there at a moment is then
known, not known (what the server held at first is not told), or known not to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from worker.invariants.claims import GONE, Complaint
from worker.invariants.evidence import NOTHING_APPLIED, Attempt, Face, Person
from worker.invariants.timeline import Timeline
from worker.invariants.violation import Findings
from worker.invariants.world import Asked, Changed, Scratch
from worker.model import Kind, Outcome

UNTOUCHED = frozenset(
    {Outcome.UNSENT, Outcome.REFUSED, Outcome.HELD, Outcome.CONFLICT, Outcome.PRESENT}
)
"""What a face must not be called that this run has deleted."""


@dataclass(slots=True)
class _Held:
    """What the server holds of the person, as far as that is known."""

    there: dict[str, bool]
    rest_is_gone: bool
    """Whether any other face is known not to be there."""

    def has(self, face_id: str) -> bool | None:
        return self.there.get(face_id, False if self.rest_is_gone else None)

    def change(self, changed: Changed) -> None:
        self.there |= dict.fromkeys(changed.deleted, False) | dict.fromkeys(changed.added, True)
        if changed.person == "deleted":
            self.there, self.rest_is_gone = {}, True

    def now(self) -> _Held:
        """As it is at this moment."""
        return _Held(dict(self.there), self.rest_is_gone)


@dataclass(slots=True)
class _Moment:
    """A request, and what was held when it had been dealt with."""

    asked: Asked
    held: _Held


@dataclass(slots=True)
class _Deletion:
    """This run really deleted a face."""

    request: Asked
    attempt: Attempt


@dataclass(slots=True)
class _Replay:
    """Everything that happened to one person at the server."""

    moments: dict[str, _Moment] = field(default_factory=dict)
    """By nonce."""
    deletions: dict[str, list[_Deletion]] = field(default_factory=dict)
    """By face."""
    shown: dict[str, list[Attempt]] = field(default_factory=dict)
    """By face: lookups that showed it, truly or not: that is what the program had to go by."""
    served: dict[str, list[tuple[Asked, Attempt]]] = field(default_factory=dict)
    """By face: deletions that were let through."""


def check_truth(person: Person, scratch: Scratch, timeline: Timeline, findings: Findings) -> None:
    """Judge every claim about one person."""
    by_nonce = {a.nonce: a for a in person.attempts}
    by_end = {a.ending.seq: a for a in by_nonce.values() if a.ending is not None}
    replay = _replay(person.person_id, scratch, by_nonce, findings)
    for call in person.calls:
        for face in call.faces:
            decided = by_end.get(face.decided_by or 0)
            moment = replay.moments.get(decided.nonce) if decided is not None else None
            judge = _claim if face.face_id else _claim_of_person
            for invariant, sentence in judge(face, moment, replay):
                findings.add(invariant, face.place, sentence)
    for face_id, times in replay.served.items():
        for sentence, place in _twice(face_id, times, replay, timeline):
            findings.add("twice", place, sentence)


def _replay(
    person_id: str, scratch: Scratch, by_nonce: dict[str, Attempt], findings: Findings
) -> _Replay:
    replay = _Replay()
    at_first = scratch.holdings(person_id)
    held = _Held(at_first or {}, rest_is_gone=at_first is not None)
    by_number: dict[int, Asked] = {}
    for event in scratch.events(person_id):
        if isinstance(event, Changed):
            held.change(event)
            request = by_number.get(event.number)
            attempt = None if request is None else by_nonce.get(request.nonce)
            if request is None or attempt is None:
                continue
            for face_id in event.deleted:
                deletion = _Deletion(request, attempt)
                replay.deletions.setdefault(face_id, []).append(deletion)
            if not event.late:
                replay.moments[request.nonce] = _Moment(request, held.now())
            continue
        by_number[event.number] = event
        attempt = by_nonce.get(event.nonce)
        if attempt is None:
            continue
        if attempt.kind is Kind.SHOWN and attempt.ending is not None:
            for face_id in attempt.ending.listed:
                replay.shown.setdefault(face_id, []).append(attempt)
            if not event.lies:
                for sentence in _lookup(attempt, held, complete=scratch.server.complete):
                    findings.add("T2", attempt.place, sentence)
        replay.moments[event.nonce] = _Moment(event, held.now())
        if attempt.deletes and event.served:
            for face_id in event.face_ids:
                replay.served.setdefault(face_id, []).append((event, attempt))
    return replay


def _lookup(attempt: Attempt, held: _Held, *, complete: bool) -> Iterator[str]:
    """T2: a recorded lookup shows what the server had."""
    assert attempt.ending is not None
    for face_id in attempt.ending.listed:
        if held.has(face_id) is False and complete:
            yield "the lookup lists a face that was not there"
        # Where others may change the server's world, somebody has put it back.
        held.there[face_id] = True
    about = attempt.face_ids or tuple(held.there)
    if any(held.has(face_id) and not attempt.lists(face_id) for face_id in about):
        yield "the lookup does not list a face that was there"


def _claim(face: Face, moment: _Moment | None, replay: _Replay) -> Iterator[Complaint]:
    face_id, outcome = face.face_id, face.outcome
    if moment is not None and not moment.asked.lies:
        there = moment.held.has(face_id)
        if outcome in GONE and there:
            yield "false", f"{outcome}, and the service still had it then"
        if outcome is Outcome.DELETED and there is None and face_id not in replay.deletions:
            yield "false", "deleted, and the service has not deleted it"
        if outcome is Outcome.NO_PERSON and there:
            yield "false", "no_person, and the service had the face"
    if outcome in UNTOUCHED:
        for deletion in replay.deletions.get(face_id, ()):
            if not _is_excused(deletion, replay.shown.get(face_id, ())):
                yield "lost", f"{outcome}, and the service has deleted it for this run"


def _is_excused(deletion: _Deletion, shown: Iterable[Attempt]) -> bool:
    """Whether nobody could know: the server denied it, the face came back, or it went too late.

    While the end of the attempt is not written down, the ledger has not spoken about it.
    """
    ending = deletion.attempt.ending
    if deletion.request.lies or ending is None:
        return True
    return any(lookup.seq > ending.seq for lookup in shown)


def _claim_of_person(line: Face, moment: _Moment | None, _replay: _Replay) -> Iterator[Complaint]:
    if moment is None or moment.asked.lies:
        return
    has_faces = any(moment.held.there.values())
    if line.outcome in (Outcome.PERSON_EMPTY, Outcome.PERSON_DELETED) and has_faces:
        yield "false", f"{line.outcome}, and the service still had faces then"
    if line.outcome is Outcome.NO_PERSON and has_faces:
        yield "false", "no_person, and the service had faces of the person"


def _twice(
    face_id: str, times: list[tuple[Asked, Attempt]], replay: _Replay, timeline: Timeline
) -> Iterator[tuple[str, str]]:
    """A second deletion that was let through needs a cause."""
    # In the order of the ledger: a network may deliver the first after the second.
    for (_, earlier), (asked, attempt) in pairwise(sorted(times, key=lambda x: x[1].seq)):
        caused = (
            earlier.kind in NOTHING_APPLIED
            or any(earlier.seq < x.seq < attempt.seq for x in replay.shown.get(face_id, ()))
            or timeline.round_of(attempt.seq) > earlier.seq
        )
        if not caused:
            yield "a face was deleted again, and nothing had shown that it was there", asked.place
