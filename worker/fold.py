"""The fold: from all evidence about one face to where it stands and what it needs next.

Pure. It depends neither on the order nor on the repetition of what it is given, and no further
evidence turns ``deleted`` into something else, except a later lookup that lists the face again.

Let S be the latest lookup that lists the face, and D the latest attempt to delete it that may have
done so or was refused for good. What is later than S wins:

====================================================  ===========  ==================
what the evidence shows                               outcome      next
====================================================  ===========  ==================
a good answer later than S lists it as deleted        deleted
else: after S and D, complete lookups without it:     absent
one after a good answer that omits it, otherwise two
else: after S and D, two answers "no such person"     no_person
else: one of those is still missing                   unknown      lookup
else, S later than D (or no D):
  D was refused, for this face as it seems, and it    refused
  has not come back since
  it came back in this round                          present
  ``max_attempts`` were made in this round            present
  it may be sent again, or for the first time         unknown,     delete
                                                      unsent
else, D later than S (or no S):
  D has no end yet                                    unknown      (whoever sent it)
  D may have been applied                             unknown      lookup
  D was refused, and it or an attempt since S         unknown      lookup
  leaves open whether the face is there
  D was refused                                       refused
else: nothing was sent, or only what applied nothing  unsent       delete
====================================================  ===========  ==================

What was final before the present round, and belongs into it, keeps its outcome and needs a delete.
Lookups count for an absence only where they are ``absence_interval_us`` apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.model import Evidence, Kind, Outcome, Step

NOTHING_APPLIED = frozenset({Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL})
"""Ends of attempts that changed nothing at the service."""

INCONCLUSIVE = frozenset({Kind.AMBIGUOUS, Kind.REFUSED, Kind.SWAPPED})
"""Ends of lookups that were answered, or may have been, and establish nothing."""

LOOKUPS = frozenset({Step.LOOKUP, Step.VERIFY})

NOT_LISTED = "not_listed"
"""Our code for a face that a complete, good answer did not name among the deleted."""
STILL_LISTED = "still_listed"
"""Our code for a face that a lookup lists after an attempt to delete it."""
REAPPEARED = "reappeared"
"""Our code for a face that a lookup lists after it was established as gone."""

_PROOF_LOOKUPS = 2
"""Complete lookups that show an absence, or unknown persons, after an end that nobody knows."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the settings decides about evidence."""

    absence_interval_us: int = 3_000_000
    """Between lookups that together prove something, and before the first of them."""
    max_attempts: int = 3
    """Attempts per face and round that may have deleted it."""
    max_lookups: int = 5
    """Lookups in a row that establish nothing, before the rest is left to a later session."""
    max_rounds: int = 5
    """Times that faces are looked for and found for a whole person, per round."""
    delete_person: bool = False
    """Whether the record of a whole person goes as well, once it is empty."""
    not_found_codes: frozenset[str] = frozenset({"404"})
    """Codes of refused deletions that may say that there is nothing to delete."""
    retryable_codes: frozenset[str] = frozenset()
    """Codes of refused deletions whose cause can be mended without changing the input."""


DEFAULT_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the present round and the present session begin in the ledger's sequence."""

    round_seq: int = 0
    session_seq: int = 0


FIRST_ROUND = Horizon()


@dataclass(frozen=True, slots=True)
class Trace:
    """One attempt with its end, as the ledger holds them."""

    attempt_seq: int
    step: Step
    face_ids: tuple[str, ...]
    """Of a lookup: none asks about every face of the person."""
    opened_us: int
    ending_seq: int | None
    """None while nobody knows how it ended."""
    ending: Evidence | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one face stands."""

    outcome: Outcome
    code: str = ""
    attempts: int = 0
    """Attempts to delete that left, or may have left, this machine with this face in them."""
    first_sent_us: int | None = None
    decided_by: int | None = None
    """``ending_seq`` of the deciding evidence; None where there is none."""
    step: Step | None = None
    """What it needs next; None where nothing more is to be done in this session."""
    not_before_us: int = 0


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    code: str
    decided_by: int | None = None
    step: Step | None = None


def may_have_left(ending: Evidence | None) -> bool:
    """Whether a byte of the attempt may have left this machine.

    What is fatal before there is an answer (no credential, no trust in the server's certificate)
    has no time of sending.
    """
    if ending is None:
        return True
    if ending.kind is Kind.FATAL:
        return ending.sent_us is not None
    return ending.kind is not Kind.NOT_SENT


def is_conclusive(trace: Trace) -> bool:
    """Whether a lookup says what the service has."""
    return trace.ending is not None and trace.ending.kind in (Kind.SHOWN, Kind.NO_PERSON)


def weighs(trace: Trace) -> bool:
    """Whether an attempt to change something may have done so, or was refused for good."""
    return trace.ending is None or trace.ending.kind not in NOTHING_APPLIED


def spaced(lookups: Sequence[Trace], interval_us: int) -> list[Trace]:
    """Those of ``lookups``, in ledger order, that are far enough apart to count separately."""
    counted: list[Trace] = []
    for lookup in lookups:
        if counted and _sent_us(lookup) < _sent_us(counted[-1]):
            # The clock was set back: how far apart they really are is anybody's guess.
            counted[-1] = lookup
        elif not counted or _sent_us(lookup) - _ended_us(counted[-1]) >= interval_us:
            counted.append(lookup)
    return counted


def given_up(lookups: Sequence[Trace], rules: Rules, horizon: Horizon) -> bool:
    """Whether ``lookups``, in ledger order, brought nothing too often in this session.

    Once is too often where the service refused: it would refuse the same question again.
    """
    in_a_row = 0
    for lookup in lookups:
        if is_conclusive(lookup):
            in_a_row = 0
        elif (
            lookup.attempt_seq > horizon.session_seq
            and lookup.ending is not None
            and lookup.ending.kind in INCONCLUSIVE
        ):
            in_a_row += rules.max_lookups if lookup.ending.kind is Kind.REFUSED else 1
    return in_a_row >= rules.max_lookups


def due_us(traces: Iterable[Trace], rules: Rules) -> int:
    """When the next lookup may leave: an interval after the last end in ``traces``; 0 for none.

    The last one in the ledger, and not the latest by its clock, which may have been set back since.
    """
    ended = [x for x in traces if x.ending is not None and x.ending.kind not in NOTHING_APPLIED]
    if not ended:
        return 0
    return _ended_us(max(ended, key=_end_seq)) + rules.absence_interval_us


def distinct(traces: Iterable[Trace]) -> list[Trace]:
    """``traces`` in ledger order, each attempt once and with its end where that is known."""
    known: dict[int, Trace] = {}
    for trace in traces:
        if trace.attempt_seq not in known or trace.ending is not None:
            known[trace.attempt_seq] = trace
    return [known[seq] for seq in sorted(known)]


def _is(trace: Trace, kind: Kind) -> bool:
    """Whether it ended, and so."""
    return trace.ending is not None and trace.ending.kind is kind


def _sent_us(trace: Trace) -> int:
    sent_us = trace.ending.sent_us if trace.ending is not None else None
    return trace.opened_us if sent_us is None else sent_us


def _ended_us(trace: Trace) -> int:
    assert trace.ending is not None
    return trace.ending.ended_us


def _end_seq(trace: Trace) -> int:
    assert trace.ending_seq is not None
    return trace.ending_seq


@dataclass(frozen=True, slots=True)
class _Story:
    """Everything that concerns one face, in ledger order."""

    face_id: str
    deletes: list[Trace]
    lookups: list[Trace]
    rules: Rules

    @staticmethod
    def of(face_id: str, traces: Iterable[Trace], rules: Rules) -> _Story:
        deletes, lookups = [], []
        for trace in distinct(traces):
            if trace.step is Step.DELETE and face_id in trace.face_ids:
                deletes.append(trace)
            elif trace.step in LOOKUPS and (not trace.face_ids or face_id in trace.face_ids):
                lookups.append(trace)
        return _Story(face_id, deletes, lookups, rules)

    def before(self, attempt_seq: int) -> _Story:
        """What had ended before that attempt began."""
        return _Story(
            self.face_id,
            [x for x in self.deletes if x.ending_seq is not None and x.ending_seq < attempt_seq],
            [x for x in self.lookups if x.ending_seq is not None and x.ending_seq < attempt_seq],
            self.rules,
        )

    def names(self, trace: Trace) -> bool:
        """Whether the answer of ``trace`` names the face."""
        return trace.ending is not None and self.face_id in trace.ending.listed

    @property
    def showings(self) -> list[Trace]:
        return [x for x in self.lookups if _is(x, Kind.SHOWN) and self.names(x)]

    @property
    def weighty(self) -> list[Trace]:
        return [x for x in self.deletes if weighs(x)]


def fold(
    face_id: str,
    traces: Iterable[Trace],
    rules: Rules = DEFAULT_RULES,
    horizon: Horizon = FIRST_ROUND,
) -> Standing:
    """The standing of ``face_id`` after ``traces``, in whatever order they come."""
    story = _Story.of(face_id, traces, rules)
    verdict = _judge(story, horizon)
    step = verdict.step
    if step is Step.LOOKUP and given_up(story.lookups, rules, horizon):
        step = None
    sent = [trace for trace in story.deletes if may_have_left(trace.ending)]
    return Standing(
        verdict.outcome,
        verdict.code,
        len(sent),
        min(map(_sent_us, sent), default=None),
        verdict.decided_by,
        step,
        due_us([*story.deletes, *story.lookups], rules) if step is Step.LOOKUP else 0,
    )


def _judge(story: _Story, horizon: Horizon) -> _Verdict:
    if gone := _gone(story):
        return gone
    shown = max(story.showings, key=_end_seq, default=None)
    tried = story.weighty
    if shown is None and not tried:
        # The latest refusal of a throttle or a dead connection says why it has not left.
        last = max((x for x in story.deletes), key=_end_seq, default=None)
        code = last.ending.code if last is not None and last.ending is not None else ""
        decided_by = None if last is None else last.ending_seq
        return _Verdict(Outcome.UNSENT, code, decided_by, Step.DELETE)
    nobody = _after_all(story, Kind.NO_PERSON)
    if len(spaced(nobody, story.rules.absence_interval_us)) >= _PROOF_LOOKUPS:
        decided_by = _end_seq(nobody[-1])
        again = Step.DELETE if decided_by <= horizon.round_seq else None
        return _Verdict(Outcome.NO_PERSON, _code(nobody[-1]), decided_by, again)
    if shown is not None and not any(x.ending_seq is None or _later(x, shown) for x in tried):
        return _at_hand(story, shown, horizon)
    return _after_attempt(story, shown, horizon)


def _later(delete: Trace, shown: Trace) -> bool:
    return _end_seq(delete) > shown.attempt_seq


def _gone(story: _Story) -> _Verdict | None:
    """That the face is deleted or absent, if that is established."""
    since = max((x.attempt_seq for x in story.showings), default=0)
    confirmed = [
        x for x in story.deletes if _is(x, Kind.LISTED) and story.names(x) and _end_seq(x) > since
    ]
    if confirmed:
        return _Verdict(Outcome.DELETED, _code(confirmed[-1]), _end_seq(confirmed[-1]))
    absences = spaced(_after_all(story, Kind.SHOWN), story.rules.absence_interval_us)
    if absences and len(absences) >= _absences_needed(story):
        return _Verdict(Outcome.ABSENT, _code(absences[-1]), _end_seq(absences[-1]))
    return None


def _absences_needed(story: _Story) -> int:
    """One after a good answer that omits the face, two after anything else."""
    sent = [x for x in story.deletes if may_have_left(x.ending)]
    last = max([*sent, *story.showings], key=_end_seq)
    return 1 if _is(last, Kind.LISTED) else _PROOF_LOOKUPS


def _after_all(story: _Story, kind: Kind) -> list[Trace]:
    """Lookups of ``kind`` that began after every attempt and every listing had ended."""
    sent = [x for x in story.deletes if may_have_left(x.ending)]
    told = [*sent, *story.showings]
    if not told or any(x.ending_seq is None for x in told):
        return []
    since = max(map(_end_seq, told))
    return [x for x in story.lookups if x.attempt_seq > since and _is(x, kind)]


def _at_hand(story: _Story, shown: Trace, horizon: Horizon) -> _Verdict:
    """The face was listed after everything that was done about it."""
    if _after_all(story, Kind.SHOWN) or _after_all(story, Kind.NO_PERSON):
        return _Verdict(Outcome.UNKNOWN, NOT_LISTED, _end_seq(shown), Step.LOOKUP)
    tried = story.weighty
    back_seq = _back_seq(story)
    code = REAPPEARED if back_seq else STILL_LISTED
    present = _Verdict(Outcome.PRESENT, code, _end_seq(shown))
    again = shown.attempt_seq <= horizon.round_seq
    untried = back_seq > max((_end_seq(x) for x in tried), default=0)
    # The same in whatever round it is asked: that a new one has begun is no evidence.
    if not untried and _was_refused(tried, shown):
        return _refused(tried[-1], story, horizon)
    if again:
        return _again(present)
    attempts = sum(x.attempt_seq > horizon.round_seq for x in tried)
    if back_seq > horizon.round_seq or attempts >= story.rules.max_attempts:
        return present
    if not tried:
        return _Verdict(Outcome.UNSENT, "", _end_seq(shown), Step.DELETE)
    return _Verdict(Outcome.UNKNOWN, code, _end_seq(shown), Step.DELETE)


def _again(verdict: _Verdict) -> _Verdict:
    """The same outcome, and a place in the present round."""
    return _Verdict(verdict.outcome, verdict.code, verdict.decided_by, Step.DELETE)


def _was_refused(tried: Sequence[Trace], shown: Trace) -> bool:
    """Whether the last attempt was refused, and not because of other faces in it."""
    if not tried or not _is(tried[-1], Kind.REFUSED):
        return False
    assert shown.ending is not None
    return set(tried[-1].face_ids) <= set(shown.ending.listed)


def _back_seq(story: _Story) -> int:
    """The latest lookup that listed the face after it was established as gone; 0 for none."""
    return max(
        (x.attempt_seq for x in story.showings if _gone(story.before(x.attempt_seq))), default=0
    )


def _after_attempt(story: _Story, shown: Trace | None, horizon: Horizon) -> _Verdict:
    """The last thing that is known of the face is an attempt to delete it."""
    since = [x for x in story.weighty if x.ending is None or shown is None or _later(x, shown)]
    if any(x.ending is None for x in since):
        return _Verdict(Outcome.UNKNOWN, "no_end_recorded")
    last = since[-1]
    if _is(last, Kind.LISTED):
        return _Verdict(Outcome.UNKNOWN, NOT_LISTED, _end_seq(last), Step.LOOKUP)
    in_doubt = _code(last) in story.rules.not_found_codes or any(
        not _is(x, Kind.REFUSED) for x in since
    )
    if in_doubt:
        return _Verdict(Outcome.UNKNOWN, _code(last), _end_seq(last), Step.LOOKUP)
    return _refused(last, story, horizon)


def _refused(last: Trace, story: _Story, horizon: Horizon) -> _Verdict:
    """Final, unless it was so before the present round began, and may be otherwise now."""
    refused = _Verdict(Outcome.REFUSED, _code(last), _end_seq(last))
    mendable = _end_seq(last) <= horizon.round_seq and refused.code in story.rules.retryable_codes
    return _again(refused) if mendable else refused


def _code(trace: Trace) -> str:
    assert trace.ending is not None
    return trace.ending.code
