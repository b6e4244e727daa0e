"""The line of a whole person: from all evidence about the person to where the erasure stands.

Pure, like the fold of a face, on which it builds: the faces that were found have standings of their
own, and the person is empty only when a complete lookup lists none of them and nothing else.

================================================  ===============  ============
what the evidence shows                           outcome          next
================================================  ===============  ============
the record was removed                            person_deleted
it was, or seemed empty, and a later lookup       present
lists a face again
a face that was found waits for something         unknown, unsent  (the face)
nobody has looked since the last change           unknown, unsent  lookup
what is listed is on the exclusion list           held
what is listed is in conflict                     conflict
what is listed could not be deleted               present
two answers "no such person": after a removal,    person_deleted
or where the record was to be removed
after faces of the person were deleted            person_empty
otherwise                                         no_person
nothing is listed: one lookup after a good        person_empty     remove, where it
answer, otherwise two                                              was asked for
the removal was refused                           refused
================================================  ===============  ============
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from worker.fold import (
    LOOKUPS,
    REAPPEARED,
    STILL_LISTED,
    Horizon,
    Rules,
    Standing,
    Trace,
    distinct,
    due_us,
    given_up,
    is_conclusive,
    may_have_left,
    spaced,
    weighs,
)
from worker.model import Kind, Outcome, Step

FACES_KEPT = "faces_kept"
"""Our code for a person of whom only faces are left that must not be sent."""
EMPTY = "person_empty"
"""Our code for a person without faces whose record is still to be removed."""
RECORD_KEPT = "record_kept"
"""Our code for an empty person whose record stays, because some of the faces must not go."""
NOT_REMOVED = "not_removed"
"""Our code for a person record that is empty and still there after all attempts to remove it."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where one face that was found for the person stands."""

    outcome: Outcome
    waits: bool
    """Whether anything is still to be done about it, in this session or later."""


def fold_person(
    traces: Iterable[Trace],
    found: Mapping[str, Found],
    rules: Rules,
    horizon: Horizon,
) -> Standing:
    """The standing of the line with the empty face; ``found`` is keyed by face ID."""
    story = distinct(traces)
    lookups = [x for x in story if x.step in LOOKUPS and not x.face_ids]
    changes = [x for x in story if x.step in (Step.DELETE, Step.REMOVE) and weighs(x)]
    removals = [x for x in story if x.step is Step.REMOVE]
    sent = [x for x in removals if may_have_left(x.ending)]
    standing = _judge(lookups, changes, found, rules, horizon)
    step, not_before_us = standing.step, 0
    outcome = standing.outcome
    if step is Step.LOOKUP:
        not_before_us = due_us([*changes, *lookups], rules)
        if given_up(lookups, rules, horizon):
            step = None
            # What is left to a later session is not what nobody has got to yet.
            outcome = Outcome.UNKNOWN if outcome is Outcome.UNSENT else outcome
    first_sent_us = min(
        (
            x.opened_us if x.ending is None or x.ending.sent_us is None else x.ending.sent_us
            for x in sent
        ),
        default=None,
    )
    return replace(
        standing,
        outcome=outcome,
        attempts=len(sent),
        first_sent_us=first_sent_us,
        step=step,
        not_before_us=not_before_us,
    )


def _judge(
    lookups: Sequence[Trace],
    changes: Sequence[Trace],
    found: Mapping[str, Found],
    rules: Rules,
    horizon: Horizon,
) -> Standing:
    unknown = changes or any(face.outcome is Outcome.UNKNOWN for face in found.values())
    unsettled = Outcome.UNKNOWN if unknown else Outcome.UNSENT
    if any(x.ending is None for x in changes):
        return Standing(Outcome.UNKNOWN, "no_end_recorded")
    gone = _gone(lookups, changes, rules)
    last = changes[-1] if changes else None
    shown = _last([x for x in lookups if is_conclusive(x)])
    if last is not None and _kind(last) is Kind.REMOVED:
        back = _last(_after(lookups, _end_seq(last), Kind.SHOWN, listing=True))
        if back is None:
            return Standing(Outcome.PERSON_DELETED, _code(last), decided_by=last.ending_seq)
        if back is shown:
            return _back(back, horizon)
        # Looked for since, and not listed any more: as if it had never been removed.
    if shown is not None and _lists(shown) and _gone_before(lookups, changes, shown, rules):
        return _back(shown, horizon)
    if any(face.waits for face in found.values()):
        return Standing(unsettled)
    since = 0 if last is None else _end_seq(last)
    if shown is None or shown.attempt_seq < since:
        return Standing(unsettled, step=Step.LOOKUP)
    if _lists(shown):
        return _left(shown, found, horizon)
    if gone is None:
        return Standing(Outcome.UNKNOWN, step=Step.LOOKUP)
    if _kind(gone) is Kind.NO_PERSON:
        return _unknown_to_the_service(gone, lookups, changes, rules, horizon)
    return _emptied(gone, changes, rules, horizon)


def _left(shown: Trace, found: Mapping[str, Found], horizon: Horizon) -> Standing:
    """The last lookup lists faces about which nothing more can be done."""
    assert shown.ending is not None
    left = {found[face_id].outcome for face_id in shown.ending.listed if face_id in found}
    unasked = any(face_id not in found for face_id in shown.ending.listed)
    if not unasked and left <= {Outcome.HELD, Outcome.CONFLICT}:
        outcome = Outcome.HELD if Outcome.HELD in left else Outcome.CONFLICT
        return Standing(outcome, FACES_KEPT, decided_by=shown.ending_seq)
    again = Step.LOOKUP if shown.attempt_seq <= horizon.round_seq else None
    return Standing(Outcome.PRESENT, STILL_LISTED, decided_by=shown.ending_seq, step=again)


def _back(shown: Trace, horizon: Horizon) -> Standing:
    again = Step.LOOKUP if shown.attempt_seq <= horizon.round_seq else None
    return Standing(Outcome.PRESENT, REAPPEARED, decided_by=shown.ending_seq, step=again)


def _unknown_to_the_service(
    gone: Trace,
    lookups: Sequence[Trace],
    changes: Sequence[Trace],
    rules: Rules,
    horizon: Horizon,
) -> Standing:
    """It says that there is no such person.

    Which may be a wrong account or region, unless the service has shown in this run that there was.
    """
    decided_by = _end_seq(gone)
    known = _was_known(lookups, changes, rules)
    if _was_removed(changes) or (known and rules.delete_person):
        return Standing(Outcome.PERSON_DELETED, _code(gone), decided_by=decided_by)
    if known:
        return Standing(Outcome.PERSON_EMPTY, _code(gone), decided_by=decided_by)
    again = Step.LOOKUP if decided_by <= horizon.round_seq else None
    return Standing(Outcome.NO_PERSON, _code(gone), decided_by=decided_by, step=again)


def _was_known(lookups: Sequence[Trace], changes: Sequence[Trace], rules: Rules) -> bool:
    """Whether a good answer named a deleted face, or lookups showed the person without one."""
    if any(_kind(x) is Kind.LISTED and x.ending and x.ending.listed for x in changes):
        return True
    shown = [x for x in lookups if is_conclusive(x) and _kind(x) is Kind.SHOWN]
    return _gone(shown, changes, rules) is not None


def _was_removed(changes: Sequence[Trace]) -> bool:
    return any(x.step is Step.REMOVE for x in changes[-1:])


def _emptied(gone: Trace, changes: Sequence[Trace], rules: Rules, horizon: Horizon) -> Standing:
    """Nothing is listed any more."""
    if not rules.delete_person:
        return Standing(Outcome.PERSON_EMPTY, _code(gone), decided_by=_end_seq(gone))
    return _to_be_removed(gone, changes, rules, horizon)


def _to_be_removed(
    gone: Trace, changes: Sequence[Trace], rules: Rules, horizon: Horizon
) -> Standing:
    """The record of a person without faces is to go as well.

    A removal takes every face along that was added meanwhile: whether there is none was not seen
    too long ago, but in this session.
    """
    decided_by = _end_seq(gone)
    step = Step.REMOVE if decided_by > horizon.session_seq else Step.LOOKUP
    removals = [x for x in changes if x.step is Step.REMOVE]
    last = _last(removals)
    if last is not None and _kind(last) is Kind.REFUSED:
        mendable = _end_seq(last) <= horizon.round_seq and _code(last) in rules.retryable_codes
        return Standing(
            Outcome.REFUSED,
            _code(last),
            decided_by=last.ending_seq,
            step=step if mendable else None,
        )
    if sum(x.attempt_seq > horizon.round_seq for x in removals) >= rules.max_attempts:
        return Standing(Outcome.PRESENT, NOT_REMOVED, decided_by=decided_by)
    if removals and decided_by <= horizon.round_seq:
        return Standing(Outcome.PRESENT, NOT_REMOVED, decided_by=decided_by, step=step)
    return Standing(Outcome.UNKNOWN, EMPTY, decided_by=decided_by, step=step)


def _gone(lookups: Sequence[Trace], changes: Sequence[Trace], rules: Rules) -> Trace | None:
    """The lookup that proves that nothing is left, or that nobody knows the person."""
    since = max((_end_seq(x) for x in changes), default=0)
    since = max([since, *(_end_seq(x) for x in lookups if _lists(x))])
    good = bool(changes) and _end_seq(changes[-1]) == since and _kind(changes[-1]) is Kind.LISTED
    empty = spaced(_after(lookups, since, Kind.SHOWN), rules.absence_interval_us)
    # What is later wins: somebody else may have removed the record of an emptied person.
    since = max([since, *(_end_seq(x) for x in empty)])
    nobody = spaced(_after(lookups, since, Kind.NO_PERSON), rules.absence_interval_us)
    if len(nobody) >= 2:
        return nobody[-1]
    return empty[-1] if len(empty) >= (1 if good else 2) else None


def _gone_before(
    lookups: Sequence[Trace], changes: Sequence[Trace], shown: Trace, rules: Rules
) -> bool:
    """Whether the person had been established as empty or removed, and nothing was done since."""
    earlier = [x for x in lookups if x.ending_seq is not None and x.ending_seq < shown.attempt_seq]
    # After a later change nothing of that counts.
    if _gone(earlier, changes, rules) is None:
        return False
    return _was_removed(changes) or _was_known(earlier, changes, rules)


def _after(
    lookups: Sequence[Trace], since: int, kind: Kind, *, listing: bool = False
) -> list[Trace]:
    return [
        x
        for x in lookups
        if x.attempt_seq > since
        and x.ending is not None
        and x.ending.kind is kind
        and _lists(x) is listing
    ]


def _lists(lookup: Trace) -> bool:
    return is_conclusive(lookup) and lookup.ending is not None and bool(lookup.ending.listed)


def _last(traces: Sequence[Trace]) -> Trace | None:
    return traces[-1] if traces else None


def _kind(trace: Trace) -> Kind:
    assert trace.ending is not None
    return trace.ending.kind


def _code(trace: Trace) -> str:
    assert trace.ending is not None
    return trace.ending.code


def _end_seq(trace: Trace) -> int:
    assert trace.ending_seq is not None
    return trace.ending_seq
