"""T1, T2 and T5: whether the evidence bears out what the ledger says of every face."""

from __future__ import annotations

import math
from collections.abc import Iterator

from worker.invariants.evidence import Attempt, Call, Face, Person
from worker.invariants.proof import Dossier, Story, established
from worker.invariants.timeline import Timeline
from worker.invariants.violation import Findings
from worker.model import UNFINISHED, Kind, Outcome

STILL_LISTED = "still_listed"
REAPPEARED = "reappeared"

GONE = frozenset({Outcome.DELETED, Outcome.ABSENT})
SET_ASIDE = frozenset({Outcome.HELD, Outcome.CONFLICT})

Complaint = tuple[str, str]
"""Invariant and sentence."""


def check_claims(person: Person, timeline: Timeline, findings: Findings, *, finished: bool) -> None:
    """Judge every face of one person; ``finished``: nothing may be left open."""
    dossier = Dossier(person.attempts)
    for call in person.calls:
        own = Dossier(call.attempts)
        by_end = {a.ending.seq: a for a in call.attempts if a.ending is not None}
        for face in call.faces:
            if finished and face.outcome in UNFINISHED:
                findings.add(
                    "L1", face.place, f"the run has come to its end, and it is {face.outcome}"
                )
            if not face.face_id:
                continue
            story = dossier.story(face.face_id)
            complaints = [
                *_claim(face, call, story, timeline),
                *_figures(face, own.story(face.face_id)),
                *_decision(face, by_end),
            ]
            for invariant, sentence in complaints:
                findings.add(invariant, face.place, sentence)
        if finished and call.state < 2:
            findings.add("L1", call.place, "the run has come to its end, and it still waits")


def _claim(face: Face, call: Call, story: Story, timeline: Timeline) -> Iterator[Complaint]:
    proved = established(story, timeline.shortest_interval_us)
    outcome = face.outcome
    match outcome:
        case Outcome.DELETED if proved is not Outcome.DELETED:
            yield "T1", "deleted, and no answer that is still good lists it"
        case Outcome.ABSENT if proved is not Outcome.ABSENT:
            yield "T2", "absent, and complete lookups have not shown that"
        case Outcome.NO_PERSON if proved is not Outcome.NO_PERSON:
            yield "T2", "no_person, and the service has not said so twice"
        case Outcome.PRESENT:
            yield from _present(face, call, story, timeline)
        case Outcome.REFUSED:
            yield from _refused(story)
        case Outcome.UNKNOWN if not story.weighty and not story.showings:
            yield "T5", "unknown, and nothing was done about it that may have changed anything"
        case Outcome.UNSENT if story.weighty:
            yield "T5", "unsent, and an attempt may have changed it, or was refused for good"
        case Outcome.INVALID | Outcome.PERSON_EMPTY | Outcome.PERSON_DELETED:
            yield "T4", f"{outcome}, which no face can be"
    yield from _overlooked(face, story, timeline)


def _overlooked(face: Face, story: Story, timeline: Timeline) -> Iterator[Complaint]:
    """What is proved, also if every session had kept its lookups as far apart as any."""
    proved = established(story, _longest(timeline))
    if proved is None or proved is face.outcome:
        return
    if proved is not Outcome.DELETED and face.outcome in SET_ASIDE:
        return
    yield "T5", f"{face.outcome}, and the evidence proves {proved}"


def _present(face: Face, call: Call, story: Story, timeline: Timeline) -> Iterator[Complaint]:
    if not story.showings:
        yield "T2", "present, and no lookup lists it"
        return
    shown = story.showings[-1]
    if any(a.end_seq > shown.seq for a in story.weighty):
        yield "T2", "present, and nobody has looked since the last attempt"
    back = _back(story, timeline.shortest_interval_us)
    if face.code == REAPPEARED and not back:
        yield "T5", "reappeared, and it was never established as gone"
    if face.code != REAPPEARED and _back(story, _longest(timeline)):
        yield "T5", "present, and nobody says that it had been established as gone"
    round_seq = timeline.round_of(shown.seq)
    tried = [a for a in story.weighty if round_seq < a.seq < shown.seq]
    if any(a.seq > round_seq for a in back) or len(tried) >= timeline.fewest_attempts(round_seq):
        return
    if face.found_by is not None:
        found = {x.found_by for x in call.faces if x.found_by is not None}
        until = [seq for seq in found if round_seq < seq <= face.found_by]
        if len(until) > timeline.fewest_rounds(round_seq):
            return
    yield "T2", "present, and not all was done that could be done about it"


def _back(story: Story, interval_us: float) -> list[Attempt]:
    """Lookups that list the face after it was established as gone."""
    return [a for a in story.showings if established(story.before(a.seq), interval_us) in GONE]


def _longest(timeline: Timeline) -> float:
    longest = timeline.longest_interval_us
    return math.inf if longest is None else longest


def _refused(story: Story) -> Iterator[Complaint]:
    if not story.weighty or story.weighty[-1].kind is not Kind.REFUSED:
        yield "T5", "refused, and the last attempt that counts was not"
        return
    for attempt in story.weighty:
        if attempt.kind is not Kind.REFUSED and not any(
            a.seq > attempt.end_seq for a in story.showings
        ):
            yield "T2a", "refused, and after an earlier attempt nobody has looked"


def _figures(face: Face, story: Story) -> Iterator[Complaint]:
    """What the report says of the attempts."""
    sent = [a for a in story.deletes if a.may_have_left]
    if face.attempts != len(sent):
        yield "T6", f"{face.attempts} attempts are told, and {len(sent)} may have left"
    if face.first_sent_us != min((a.departed_us for a in sent), default=None):
        yield "T6", "the time of the first attempt is not that of any"


def _decision(face: Face, by_end: dict[int, Attempt]) -> Iterator[Complaint]:
    """The evidence that an outcome names must say so itself: the report shows its request ID."""
    needed = face.outcome in GONE | {Outcome.PRESENT, Outcome.NO_PERSON, Outcome.REFUSED}
    if face.decided_by is None:
        if needed:
            yield "T5", f"{face.outcome}, and no evidence is named for it"
        return
    attempt = by_end.get(face.decided_by)
    if attempt is None:
        yield "T5", "decided by evidence that is not of its call"
        return
    assert attempt.ending is not None
    listed, kind = attempt.lists(face.face_id), attempt.ending.kind
    says = {
        Outcome.DELETED: kind is Kind.LISTED and listed,
        Outcome.ABSENT: kind is Kind.SHOWN and not listed and attempt.is_about(face.face_id),
        Outcome.PRESENT: kind is Kind.SHOWN and listed,
        Outcome.NO_PERSON: kind is Kind.NO_PERSON,
        Outcome.REFUSED: kind is Kind.REFUSED and face.face_id in attempt.face_ids,
    }
    if not says.get(face.outcome, True):
        yield "T5", f"{face.outcome}, and the evidence that is named for it does not say so"
    elif needed and face.outcome is not Outcome.PRESENT and face.code != attempt.ending.code:
        yield "T6", "its code is not that of the evidence that is named for it"
