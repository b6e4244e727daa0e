"""What was sent: S1, S2, T2a, R4 and the order of T5, for all attempts of one person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise

from worker.invariants.evidence import END_UNKNOWN, KEPT, Attempt, Call, Face, Person
from worker.invariants.proof import Dossier, Story, emptiness, established
from worker.invariants.timeline import Timeline
from worker.invariants.violation import Findings
from worker.ledger.database import CLAIMED, SETTLED, WAITING, seal
from worker.model import Kind, Outcome, Step

FACES_PER_REQUEST = 20
"""The documented maximum of faces of one person."""

OPERATION_OF = {
    Step.DELETE: "DeleteFaces",
    Step.LOOKUP: "GetPerson",
    Step.VERIFY: "GetPerson",
    Step.REMOVE: "DeletePerson",
}

HEXADECIMAL = frozenset("0123456789abcdef")
NONCE_DIGITS = 32


def body_sha256(operation: str, person_id: str, face_ids: Sequence[str]) -> str:
    """Digest of the one body that a request about these faces can have."""
    document: dict[str, object] = {"personId": person_id}
    if operation == "DeleteFaces":
        document["faceIds"] = list(face_ids)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_sending(person: Person, timeline: Timeline, run_id: str, findings: Findings) -> None:
    """Judge every attempt of one person."""
    for call in person.calls:
        _check_call(call, run_id, person.held, findings)
        for attempt in call.attempts:
            _check_request(call, attempt, timeline, findings)
    attempts = person.attempts
    for one, next_one in pairwise(attempts):
        if one.ending is None or one.ending.seq > next_one.seq:
            sentence = "it began before the last one of the same person had ended"
            findings.add("T5", next_one.place, sentence)
    dossier = Dossier(attempts)
    for face_id in dict.fromkeys(x for a in attempts if a.deletes for x in a.face_ids):
        _check_repetition(dossier.story(face_id), timeline, findings)
    _check_rounds([a for a in attempts if a.step is Step.REMOVE and a.weighs], timeline, findings)


def _check_call(call: Call, run_id: str, held: frozenset[str], findings: Findings) -> None:
    ids = [face.face_id for face in call.faces]
    if seal(run_id, call.call_no, call.person_id, ids) != call.seal:
        findings.add("seal", call.place, "its seal is not that of its person and faces")
    if len(set(ids)) != len(ids):
        findings.add("S1", call.place, "a face is in it twice")
    if call.whole != ("" in ids):
        findings.add("S1", call.place, "an empty face is where none must be, or is missing")
    for face in call.faces:
        _check_origin(call, face, findings)
        _check_waiting(call, face, held, findings)
    if call.state not in (WAITING, CLAIMED, SETTLED):
        findings.add("T5", call.place, "nobody knows its state")
    if (call.state == SETTLED) != (call.step == ""):
        findings.add("L1", call.place, "it waits for nothing and is not settled, or the reverse")
    for attempt in call.attempts:
        if attempt.ending is None and call.state != CLAIMED:
            findings.add("D3", attempt.place, "it has no end, and nobody works on its call")


def _check_origin(call: Call, face: Face, findings: Findings) -> None:
    """S1 and S2: where a face of a call comes from."""
    if face.row_person_id != call.person_id:
        findings.add("S1", face.place, "the row that asked for the face names another person")
    if face.found_by is None:
        fate = "whole" if face.face_id == "" else ""
        if face.row_face_id != face.face_id:
            findings.add("S1", face.place, "the row that asked for the face names another one")
        if face.row_fate != fate:
            invariant = "S1" if face.row_fate in ("", "whole") else "S2"
            findings.add(invariant, face.place, "a row that must not be sent is in a call")
        return
    if not call.whole or face.row_fate != "whole":
        findings.add("S1", face.place, "a face was found, and nobody asked for a whole person")
    found = [a for a in call.attempts if a.ending is not None and a.ending.seq == face.found_by]
    listed = any(a.looks and a.kind is Kind.SHOWN and not a.face_ids for a in found)
    if not listed or not found[0].lists(face.face_id):
        findings.add("S1", face.place, "no complete lookup of the person listed a found face")


def _check_waiting(call: Call, face: Face, held: frozenset[str], findings: Findings) -> None:
    if face.step and call.state == SETTLED:
        findings.add("L1", face.place, "something is still to be done, and its call is settled")
    on_the_list = bool(held & {"", face.face_id})
    if face.code == "record_kept":
        on_the_list = bool(held)
    if face.outcome is Outcome.HELD and face.code not in KEPT and not on_the_list:
        findings.add("S2", face.place, "it is called held, and is not on the exclusion list")
    if face.step == Step.DELETE and on_the_list and call.state == WAITING:
        findings.add("S2", face.place, "it is on the exclusion list, and waits to be deleted")


def _check_request(call: Call, attempt: Attempt, timeline: Timeline, findings: Findings) -> None:
    """S1, D1 and R2: what one request asks for, and what was written down of it."""
    asked = set(attempt.face_ids)
    faces = {face.face_id: face for face in call.faces if face.face_id}
    place = attempt.place
    if attempt.operation != OPERATION_OF[attempt.step]:
        findings.add("D1", place, "its operation is not that of its step")
    if len(asked) != len(attempt.face_ids):
        findings.add("S1", place, "it names a face twice")
    for face_id in attempt.face_ids:
        found_by = faces[face_id].found_by if face_id in faces else None
        if face_id not in faces:
            findings.add("S1", place, "it names a face that its call does not have")
        elif found_by is not None and found_by > attempt.seq:
            findings.add("S1", place, "it names a face that was found only later")
    if attempt.deletes and not attempt.face_ids:
        findings.add("S1", place, "it deletes faces and names none")
    if attempt.deletes and len(attempt.face_ids) > FACES_PER_REQUEST:
        findings.add("S1", place, "it names more faces than a person can have")
    if attempt.looks and not attempt.face_ids and not call.whole:
        findings.add("S1", place, "it asks for everything of a person whom nobody asked for")
    if attempt.step is Step.REMOVE:
        _check_removal(call, attempt, timeline, findings)
    if attempt.body_sha256 != body_sha256(attempt.operation, call.person_id, attempt.face_ids):
        findings.add("D1", place, "its body was not about this person and these faces")
    if len(attempt.nonce) != NONCE_DIGITS or not HEXADECIMAL.issuperset(attempt.nonce):
        findings.add("R2", place, "its nonce is none")
    _check_ending(attempt, findings)


def _check_removal(call: Call, attempt: Attempt, timeline: Timeline, findings: Findings) -> None:
    if not call.whole or attempt.face_ids:
        findings.add("S1", attempt.place, "it removes a person whom nobody asked to remove")
    if timeline.deletes_persons == {False}:
        findings.add("S1", attempt.place, "it removes a person record, and delete_person is off")
    earlier = [a for a in call.attempts if a.ending is not None and a.ending.seq < attempt.seq]
    if emptiness(earlier, timeline.shortest_interval_us) is not Kind.SHOWN:
        sentence = "it removes a person record that was not established as empty"
        findings.add("S1", attempt.place, sentence)


def _check_ending(attempt: Attempt, findings: Findings) -> None:
    """What an answer may name: nothing that was not asked for."""
    ending = attempt.ending
    if ending is None:
        return
    asked = set(attempt.face_ids)
    listed = set(ending.listed)
    if len(listed) != len(ending.listed):
        findings.add("T1", attempt.place, "its answer lists a face twice")
    if asked and not listed <= asked:
        findings.add("T1", attempt.place, "its answer lists a face that nobody asked for")
    if listed and ending.kind not in (Kind.LISTED, Kind.SHOWN):
        findings.add("T1", attempt.place, "faces are listed by an answer that was not complete")
    if ending.kind in (Kind.LISTED, Kind.SHOWN, Kind.REMOVED) and (
        ending.http_status != 200 or ending.code != "200" or ending.sent_us is None
    ):
        findings.add("T1", attempt.place, "a good answer needs HTTP 200 and the code 200")
    of_step = {
        Kind.LISTED: attempt.deletes,
        Kind.SHOWN: attempt.looks,
        Kind.NO_PERSON: attempt.looks,
        Kind.REMOVED: attempt.step is Step.REMOVE,
    }
    if not of_step.get(ending.kind, True):
        findings.add("T5", attempt.place, "its end is that of another operation")


def _check_repetition(story: Story, timeline: Timeline, findings: Findings) -> None:
    """T2a and R4: why a face was sent again."""
    _check_rounds([a for a in story.deletes if a.weighs], timeline, findings)
    for attempt in story.deletes:
        before = story.before(attempt.seq)
        weighty = [a for a in before.deletes if a.weighs]
        if not weighty:
            continue
        last = weighty[-1]
        if any(a.seq > last.end_seq for a in before.showings):
            continue
        new_round = timeline.round_of(attempt.seq) >= last.end_seq
        if new_round and (
            last.kind is Kind.REFUSED
            or established(before, timeline.shortest_interval_us) is Outcome.NO_PERSON
        ):
            continue
        if last.kind is Kind.REFUSED:
            sentence = "a face is to be sent again in the round in which it was refused"
            findings.add("R4", attempt.place, sentence)
            continue
        told = "which nobody knows the end of" if last.kind in END_UNKNOWN else "which was answered"
        findings.add(
            "T2a",
            attempt.place,
            f"a face is to be sent again that no lookup has listed since {last.place}, {told}",
        )


def _check_rounds(weighty: Sequence[Attempt], timeline: Timeline, findings: Findings) -> None:
    """R4: no more than ``max_attempts`` in a round; throttles and the like do not count."""
    counts: dict[int, int] = {}
    for attempt in weighty:
        round_seq = timeline.round_of(attempt.seq)
        counts[round_seq] = counts.get(round_seq, 0) + 1
        most = timeline.most_attempts(round_seq)
        if most is not None and counts[round_seq] > most:
            findings.add("R4", attempt.place, "it goes beyond max_attempts of its round")
