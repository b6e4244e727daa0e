"""The fold, cell by cell of its table, and what must hold for any evidence whatsoever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.core.plain_reading import PROVEN, proven
from tests.core.stories import (
    AGAIN,
    AMBIGUOUS,
    CLOSED,
    DELETED,
    FACE,
    FATAL,
    FATAL_BEFORE,
    FORBIDDEN,
    INTERVAL_US,
    MISSING,
    NOBODY,
    NOT_FOUND,
    NOT_SENT,
    OMITTED,
    OPEN,
    OPEN_LOOKUP,
    OTHER,
    REFUSED,
    SHOWN,
    SWAPPED,
    THROTTLED,
    UNCLEAR,
    Event,
    attempt,
    end_of,
    last_seq,
    lookup,
    told,
)
from worker.fold import (
    FIRST_ROUND,
    NOT_LISTED,
    REAPPEARED,
    STILL_LISTED,
    Horizon,
    Rules,
    Standing,
    Trace,
    fold,
    is_conclusive,
    may_have_left,
    spaced,
    weighs,
)
from worker.model import Evidence, Kind, Outcome, Step
from worker.settings import Settings

RULES = Rules(retryable_codes=frozenset({"401", "403"}))
DELETE, LOOKUP = Step.DELETE, Step.LOOKUP


def stands(*events: Event, rules: Rules = RULES, horizon: Horizon = FIRST_ROUND) -> Standing:
    return fold(FACE, told(*events), rules, horizon)


def verdict(
    *events: Event, rules: Rules = RULES, horizon: Horizon = FIRST_ROUND
) -> tuple[str, ...]:
    """Outcome, code and next step in one line."""
    standing = stands(*events, rules=rules, horizon=horizon)
    return (str(standing.outcome), standing.code, str(standing.step or "-"))


# The table, cell by cell


@pytest.mark.parametrize(
    ("events", "outcome", "code", "step"),
    [
        # Nothing was sent, or only what applied nothing.
        ([], "unsent", "", "delete"),
        ([THROTTLED], "unsent", "throttled", "delete"),
        ([AGAIN], "unsent", "again", "delete"),
        ([NOT_SENT], "unsent", "not_sent", "delete"),
        ([FATAL], "unsent", "fatal", "delete"),
        ([FATAL_BEFORE], "unsent", "fatal", "delete"),
        ([THROTTLED, AGAIN], "unsent", "again", "delete"),
        # A good answer lists it.
        ([DELETED], "deleted", "listed", "-"),
        ([AMBIGUOUS, DELETED], "deleted", "listed", "-"),
        ([DELETED, AMBIGUOUS], "deleted", "listed", "-"),
        ([AMBIGUOUS, SHOWN, DELETED], "deleted", "listed", "-"),
        ([DELETED, MISSING], "deleted", "listed", "-"),
        ([DELETED, NOBODY, NOBODY], "deleted", "listed", "-"),
        ([DELETED, OPEN_LOOKUP], "deleted", "listed", "-"),
        # D may have been applied.
        ([AMBIGUOUS], "unknown", "ambiguous", "lookup"),
        ([CLOSED], "unknown", "closed", "lookup"),
        ([SWAPPED], "unknown", "swapped", "lookup"),
        ([OMITTED], "unknown", NOT_LISTED, "lookup"),
        ([AMBIGUOUS, THROTTLED], "unknown", "ambiguous", "lookup"),
        ([OPEN], "unknown", "no_end_recorded", "-"),
        ([AMBIGUOUS, SHOWN, OPEN], "unknown", "no_end_recorded", "-"),
        # Absent: one lookup after a good answer, otherwise two.
        ([OMITTED, MISSING], "absent", "shown", "-"),
        ([OMITTED, NOT_SENT, MISSING], "absent", "shown", "-"),
        ([AMBIGUOUS, MISSING], "unknown", "ambiguous", "lookup"),
        ([AMBIGUOUS, MISSING, OPEN_LOOKUP], "unknown", "ambiguous", "lookup"),
        ([AMBIGUOUS, MISSING, MISSING], "absent", "shown", "-"),
        ([CLOSED, MISSING, MISSING], "absent", "shown", "-"),
        ([NOT_FOUND, MISSING, MISSING], "absent", "shown", "-"),
        ([AMBIGUOUS, UNCLEAR, MISSING, UNCLEAR, MISSING], "absent", "shown", "-"),
        ([AMBIGUOUS, SHOWN, MISSING], "unknown", NOT_LISTED, "lookup"),
        ([AMBIGUOUS, SHOWN, MISSING, MISSING], "absent", "shown", "-"),
        # Nobody knows the person.
        ([AMBIGUOUS, NOBODY], "unknown", "ambiguous", "lookup"),
        ([AMBIGUOUS, NOBODY, NOBODY], "no_person", "no_person", "-"),
        ([AMBIGUOUS, NOBODY, NOBODY.coded("404")], "no_person", "404", "-"),
        ([OMITTED, NOBODY], "unknown", NOT_LISTED, "lookup"),
        ([OMITTED, NOBODY, NOBODY], "no_person", "no_person", "-"),
        ([NOT_FOUND, NOBODY, NOBODY], "no_person", "no_person", "-"),
        ([AMBIGUOUS, SHOWN, NOBODY], "unknown", NOT_LISTED, "lookup"),
        ([AMBIGUOUS, NOBODY, MISSING], "unknown", "ambiguous", "lookup"),
        ([AMBIGUOUS, NOBODY, MISSING, NOBODY], "no_person", "no_person", "-"),
        ([AMBIGUOUS, NOBODY, MISSING, MISSING], "absent", "shown", "-"),
        # It is still listed, or it was found.
        ([SHOWN], "unsent", "", "delete"),
        ([SHOWN, THROTTLED], "unsent", "", "delete"),
        ([AMBIGUOUS, SHOWN], "unknown", STILL_LISTED, "delete"),
        ([OMITTED, SHOWN], "unknown", STILL_LISTED, "delete"),
        ([AMBIGUOUS, SHOWN, AMBIGUOUS], "unknown", "ambiguous", "lookup"),
        ([AMBIGUOUS, SHOWN, AMBIGUOUS, SHOWN], "unknown", STILL_LISTED, "delete"),
        ([AMBIGUOUS, SHOWN] * 3, "present", STILL_LISTED, "-"),
        ([OMITTED, SHOWN, CLOSED, SHOWN, NOT_FOUND, SHOWN], "refused", "404", "-"),
        ([OMITTED, SHOWN, CLOSED, SHOWN, OMITTED, SHOWN], "present", STILL_LISTED, "-"),
        # Refused.
        ([REFUSED], "refused", "400", "-"),
        ([FORBIDDEN], "refused", "403", "-"),
        ([THROTTLED, REFUSED], "refused", "400", "-"),
        ([REFUSED, THROTTLED], "refused", "400", "-"),
        ([SHOWN, REFUSED], "refused", "400", "-"),
        ([NOT_FOUND], "unknown", "404", "lookup"),
        ([NOT_FOUND, SHOWN], "refused", "404", "-"),
        ([AMBIGUOUS, REFUSED], "unknown", "400", "lookup"),
        ([AMBIGUOUS, REFUSED, SHOWN], "refused", "400", "-"),
        ([AMBIGUOUS, REFUSED, MISSING, MISSING], "absent", "shown", "-"),
        ([AMBIGUOUS, SHOWN, REFUSED], "refused", "400", "-"),
        # There again.
        ([DELETED, SHOWN], "present", REAPPEARED, "-"),
        ([OMITTED, MISSING, SHOWN], "present", REAPPEARED, "-"),
        ([AMBIGUOUS, MISSING, MISSING, SHOWN], "present", REAPPEARED, "-"),
        ([AMBIGUOUS, MISSING, SHOWN], "unknown", STILL_LISTED, "delete"),
        ([AMBIGUOUS, NOBODY, NOBODY, SHOWN], "unknown", STILL_LISTED, "delete"),
        ([DELETED, SHOWN, MISSING], "unknown", NOT_LISTED, "lookup"),
        ([DELETED, SHOWN, MISSING, MISSING], "absent", "shown", "-"),
        ([DELETED, SHOWN, MISSING, SHOWN], "present", REAPPEARED, "-"),
        ([DELETED, SHOWN, DELETED], "deleted", "listed", "-"),
    ],
)  # fmt: skip
def test_the_table(events: list[Event], outcome: str, code: str, step: str) -> None:
    assert verdict(*events) == (outcome, code, step)


def test_the_words_are_those_of_the_report() -> None:
    assert (NOT_LISTED, STILL_LISTED, REAPPEARED) == ("not_listed", "still_listed", "reappeared")


def test_nothing_said_is_what_the_settings_say() -> None:
    settings_, rules = Settings(), Rules()
    assert rules.absence_interval_us == settings_.absence_interval_seconds * 1e6
    assert rules.max_attempts == settings_.max_attempts
    assert rules.max_lookups == settings_.max_lookups
    assert rules.max_rounds == settings_.max_rounds
    assert rules.delete_person is settings_.delete_person
    assert Standing(Outcome.UNSENT) == Standing(Outcome.UNSENT, "", 0, None, None, None, 0)


def test_every_kind_of_ending_has_its_cell() -> None:
    """A kind added to the vocabulary needs a decision here, not a default."""
    deletions = {kind: stands(attempt(kind, FACE)).outcome for kind in Kind}
    assert deletions == {
        Kind.LISTED: Outcome.DELETED,
        Kind.SHOWN: Outcome.UNKNOWN,
        Kind.NO_PERSON: Outcome.UNKNOWN,
        Kind.REMOVED: Outcome.UNKNOWN,
        Kind.REFUSED: Outcome.REFUSED,
        Kind.THROTTLED: Outcome.UNSENT,
        Kind.AGAIN: Outcome.UNSENT,
        Kind.FATAL: Outcome.UNSENT,
        Kind.SWAPPED: Outcome.UNKNOWN,
        Kind.AMBIGUOUS: Outcome.UNKNOWN,
        Kind.NOT_SENT: Outcome.UNSENT,
        Kind.CLOSED: Outcome.UNKNOWN,
    }


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.SHOWN])
def test_no_other_end_of_a_lookup_shows_a_face_or_its_absence(kind: Kind) -> None:
    """T3: whatever else it says and lists, it says nothing about the face."""
    for listed in ((), (FACE,)):
        one = lookup(kind, *listed)
        assert stands(AMBIGUOUS, one, one).outcome is not Outcome.ABSENT
        assert stands(AMBIGUOUS, one).code == "ambiguous"
        assert stands(DELETED, one).outcome is Outcome.DELETED


@pytest.mark.parametrize("step", [Step.LOOKUP, Step.VERIFY])
def test_a_verification_is_a_lookup(step: Step) -> None:
    assert stands(DELETED, lookup(Kind.SHOWN, FACE, step=step)).code == REAPPEARED
    gone = lookup(Kind.SHOWN, step=step)
    assert stands(AMBIGUOUS, gone, gone).outcome is Outcome.ABSENT


def test_a_removal_of_the_person_says_nothing_about_a_face() -> None:
    removal = Event(Step.REMOVE, Kind.REMOVED)
    assert stands(AMBIGUOUS, removal) == stands(AMBIGUOUS)


# One thing that differs, and another verdict


WITHOUT_FACE = lookup(Kind.SHOWN, OTHER)


@pytest.mark.parametrize(
    ("one", "other", "outcomes"),
    [
        pytest.param([OMITTED, MISSING], [AMBIGUOUS, MISSING], "absent unknown", id="good answer"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, UNCLEAR],
                     "absent unknown", id="the second lookup is complete"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, NOBODY],
                     "absent unknown", id="the person is known"),
        pytest.param([AMBIGUOUS, MISSING, MISSING.after(INTERVAL_US)],
                     [AMBIGUOUS, MISSING, MISSING.after(INTERVAL_US - 1)],
                     "absent unknown", id="far enough apart"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [MISSING, AMBIGUOUS, MISSING],
                     "absent unknown", id="both after the attempt"),
        pytest.param([OMITTED, MISSING], [MISSING, OMITTED], "absent unknown", id="after it"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, THROTTLED, MISSING],
                     "absent unknown", id="after the last attempt, whatever became of it"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, NOT_SENT, MISSING],
                     "absent absent", id="what never left is no attempt"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, SHOWN, MISSING],
                     "absent unknown", id="after the last listing"),
        pytest.param([AMBIGUOUS, WITHOUT_FACE, WITHOUT_FACE], [AMBIGUOUS, SHOWN, WITHOUT_FACE],
                     "absent unknown", id="without this face"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, MISSING.about(OTHER)],
                     "absent unknown", id="asked about this face"),
        pytest.param([AMBIGUOUS, MISSING, MISSING], [AMBIGUOUS, MISSING, MISSING.about()],
                     "absent absent", id="asked about every face"),
        pytest.param([AMBIGUOUS, NOBODY, NOBODY], [AMBIGUOUS, NOBODY, MISSING],
                     "no_person unknown", id="twice nobody"),
        pytest.param([AMBIGUOUS, NOBODY, NOBODY.after(INTERVAL_US)],
                     [AMBIGUOUS, NOBODY, NOBODY.after(INTERVAL_US - 1)],
                     "no_person unknown", id="nobody, far enough apart"),
        pytest.param([AMBIGUOUS, NOBODY, NOBODY], [NOBODY, AMBIGUOUS, NOBODY],
                     "no_person unknown", id="nobody, after the attempt"),
        pytest.param([AMBIGUOUS, SHOWN], [REFUSED, SHOWN], "unknown refused", id="refused"),
        pytest.param([NOT_FOUND, SHOWN], [NOT_FOUND.about(FACE, OTHER), SHOWN],
                     "refused unknown", id="refused for this face as it seems"),
        pytest.param([REFUSED], [NOT_FOUND], "refused unknown", id="a code that may mean gone"),
        pytest.param([REFUSED], [OMITTED, REFUSED], "refused unknown", id="doubt before it"),
        pytest.param([SHOWN, REFUSED], [AMBIGUOUS, SHOWN, REFUSED],
                     "refused refused", id="no doubt that a listing has removed"),
        pytest.param([DELETED], [DELETED.about(OTHER)], "deleted unsent", id="about this face"),
        pytest.param([DELETED], [attempt(Kind.LISTED, OTHER)],
                     "deleted unknown", id="listing this face"),
        pytest.param([SHOWN, DELETED], [DELETED, SHOWN], "deleted present", id="last word"),
        pytest.param([AMBIGUOUS, SHOWN] * 2, [AMBIGUOUS, SHOWN] * 3,
                     "unknown present", id="max_attempts"),
        pytest.param([THROTTLED, *[AMBIGUOUS, SHOWN] * 2], [AMBIGUOUS, SHOWN] * 3,
                     "unknown present", id="a throttle uses up no attempt"),
        pytest.param([OMITTED, MISSING, SHOWN], [OMITTED, UNCLEAR, SHOWN],
                     "present unknown", id="it had been gone"),
        pytest.param([OMITTED, MISSING, SHOWN], [OMITTED, MISSING, lookup(Kind.SHOWN, OTHER)],
                     "present absent", id="it is listed again"),
    ],
)  # fmt: skip
def test_one_difference_changes_the_verdict(
    one: list[Event], other: list[Event], outcomes: str
) -> None:
    assert f"{stands(*one).outcome} {stands(*other).outcome}" == outcomes


@pytest.mark.parametrize("absence", [MISSING, NOBODY], ids=["missing", "nobody"])
def test_a_lookup_that_left_before_the_attempt_had_ended_shows_nothing(absence: Event) -> None:
    """Their requests may have overtaken each other on the way."""
    deletion, first, second = told(AMBIGUOUS, absence, absence)
    assert fold(FACE, [deletion, first, second], RULES).outcome in PROVEN
    # The lookup has 2 and its answer 4; the deletion was opened with 1 and ended with 3.
    crossing = [replace(deletion, ending_seq=3), replace(first, attempt_seq=2), second]
    standing = fold(FACE, crossing, RULES)
    assert (standing.outcome, standing.step) == (Outcome.UNKNOWN, LOOKUP)


def test_a_face_is_its_text() -> None:
    """A face whose ID differs by a leading zero is another face."""
    gone = attempt(Kind.LISTED, FACE, OTHER).about(OTHER)
    assert fold(FACE, told(gone)) == fold(FACE, [])
    assert fold(OTHER, told(gone)).outcome is Outcome.DELETED


# Spacing


def looked_at(*sent_us: int) -> list[Trace]:
    """Lookups that take no time, in ledger order."""
    return [
        Trace(n, LOOKUP, (FACE,), us, n + 1, Evidence(Kind.SHOWN, us, us))
        for n, us in zip(range(1, 99, 2), sent_us, strict=False)
    ]


@pytest.mark.parametrize(
    ("sent_us", "counted"),
    [
        ([], []),
        ([5], [5]),
        ([0, 10], [0, 10]),
        ([0, 9], [0]),
        ([0, 9, 10], [0, 10]),
        ([0, 9, 18], [0, 18]),
        ([0, 10, 19, 20], [0, 10, 20]),
        ([0, 4, 8, 12, 16, 20], [0, 12]),
        # The clock was set back: the two are as far apart as they may be, or not at all.
        ([100, 99], [99]),
        ([100, 50, 59], [50]),
        ([100, 50, 60], [50, 60]),
        ([100, 120, 110], [100, 110]),
        ([100, 120, 50], [100, 50]),
    ],
)
def test_lookups_count_where_they_are_apart(sent_us: list[int], counted: list[int]) -> None:
    assert [x.opened_us for x in spaced(looked_at(*sent_us), 10)] == counted


def test_the_interval_lies_between_an_end_and_the_next_sending() -> None:
    """A lookup whose answer takes long may see the service before or after what it saw last."""
    slow = Trace(1, LOOKUP, (FACE,), 0, 2, Evidence(Kind.SHOWN, 8, 0))
    for sent_us, count in ((17, 1), (18, 2)):
        later = Trace(3, LOOKUP, (FACE,), 0, 4, Evidence(Kind.SHOWN, 99, sent_us))
        assert len(spaced([slow, later], 10)) == count


def test_where_the_sending_is_not_known_the_opening_counts() -> None:
    first = Trace(1, LOOKUP, (FACE,), 0, 2, Evidence(Kind.SHOWN, 0))
    for opened_us, count in ((9, 1), (10, 2)):
        later = Trace(3, LOOKUP, (FACE,), opened_us, 4, Evidence(Kind.SHOWN, 99))
        assert len(spaced([first, later], 10)) == count


def test_a_lookup_waits_an_interval_after_whatever_was_answered_last() -> None:
    for events in ([AMBIGUOUS], [OMITTED], [AMBIGUOUS, UNCLEAR], [AMBIGUOUS, MISSING]):
        last = told(*events)[-1].ending
        assert last is not None
        assert stands(*events).not_before_us == last.ended_us + INTERVAL_US
        # What applied nothing is no reason to wait any longer.
        assert (
            stands(*events, lookup(Kind.THROTTLED)).not_before_us
            == stands(*events, lookup(Kind.NOT_SENT)).not_before_us
            == stands(*events).not_before_us
        )


def test_a_deletion_waits_for_nothing() -> None:
    for events in ([], [THROTTLED], [AMBIGUOUS, SHOWN]):
        standing = stands(*events)
        assert (standing.step, standing.not_before_us) == (DELETE, 0)


def test_the_last_end_counts_and_not_the_latest_clock() -> None:
    """Otherwise nothing would keep lookups apart until the clock is where it had been before."""
    hour_us = 3_600_000_000
    attempted, shown = told(AMBIGUOUS, MISSING)
    assert attempted.ending is not None
    assert shown.ending is not None
    ahead = replace(attempted, ending=structs.replace(attempted.ending, ended_us=hour_us))
    standing = fold(FACE, [ahead, shown], RULES)
    assert (standing.step, standing.not_before_us) == (LOOKUP, shown.ending.ended_us + INTERVAL_US)


# What concerns one face of several


def test_a_lookup_that_lists_every_face_shows_each() -> None:
    every = lookup(Kind.SHOWN, OTHER).about()
    traces = told(AMBIGUOUS.about(FACE, OTHER), every, every)
    assert fold(FACE, traces).outcome is Outcome.ABSENT
    assert fold(OTHER, traces).code == STILL_LISTED


def test_a_refusal_for_another_face_is_not_this_ones() -> None:
    """A call of two; one of them is gone, and that may be what was refused."""
    refused = NOT_FOUND.about(FACE, OTHER)
    one_left = lookup(Kind.SHOWN, FACE).about(FACE, OTHER)
    both_left = lookup(Kind.SHOWN, FACE, OTHER).about(FACE, OTHER)
    traces = told(refused, one_left)
    standing = fold(FACE, traces, RULES)
    assert (standing.outcome, standing.step) == (Outcome.UNKNOWN, DELETE)
    assert fold(OTHER, traces, RULES).step is LOOKUP
    for face_id in (FACE, OTHER):
        standing = fold(face_id, told(refused, both_left), RULES)
        assert (standing.outcome, standing.code, standing.step) == (Outcome.REFUSED, "404", None)


def test_alone_it_is_refused_for_itself() -> None:
    one_left = lookup(Kind.SHOWN, FACE).about(FACE, OTHER)
    events = [NOT_FOUND.about(FACE, OTHER), one_left, NOT_FOUND, SHOWN]
    assert verdict(*events) == ("refused", "404", "-")


# The figures of a standing


@pytest.mark.parametrize(
    ("events", "attempts", "first"),
    [
        ([NOT_SENT], 0, None),
        ([FATAL_BEFORE], 0, None),
        ([FATAL], 1, 0),
        ([THROTTLED], 1, 0),
        ([OPEN], 1, 0),
        ([NOT_SENT, THROTTLED, AMBIGUOUS], 2, 1),
        ([SHOWN, AMBIGUOUS, SHOWN], 1, 1),
        ([DELETED.about(OTHER), DELETED], 1, 1),
        ([REFUSED, AMBIGUOUS], 2, 0),
    ],
)
def test_attempts_and_first_sending(events: list[Event], attempts: int, first: int | None) -> None:
    traces = told(*events)
    sent_us = None if first is None else traces[first].opened_us
    standing = fold(FACE, traces, RULES)
    assert (standing.attempts, standing.first_sent_us) == (attempts, sent_us)


def test_where_nobody_knows_when_it_left_the_opening_counts() -> None:
    traces = told(replace(AMBIGUOUS, sent=False))
    assert fold(FACE, traces).first_sent_us == traces[0].opened_us


@pytest.mark.parametrize(
    ("events", "decisive"),
    [
        ([], None),
        ([THROTTLED, NOT_SENT], 1),
        ([DELETED, MISSING], 0),
        ([DELETED, SHOWN, DELETED, MISSING], 2),
        ([OMITTED], 0),
        ([OMITTED, MISSING], 1),
        ([OMITTED, MISSING, MISSING], 2),
        ([AMBIGUOUS, MISSING], 0),
        ([AMBIGUOUS, MISSING, MISSING], 2),
        ([AMBIGUOUS, NOBODY, NOBODY], 2),
        ([AMBIGUOUS, SHOWN], 1),
        ([AMBIGUOUS, SHOWN, MISSING], 1),
        ([OPEN], None),
        ([REFUSED, THROTTLED], 0),
        ([NOT_FOUND, SHOWN], 0),
        ([DELETED, SHOWN], 1),
    ],
)
def test_the_evidence_that_decided_is_named(events: list[Event], decisive: int | None) -> None:
    traces = told(*events)
    expected = None if decisive is None else end_of(traces, decisive)
    assert fold(FACE, traces, RULES).decided_by == expected


def test_what_a_trace_is_worth() -> None:
    (unsent,) = told(FATAL_BEFORE)
    (fatal,) = told(FATAL)
    (still_open,) = told(OPEN)
    assert not may_have_left(unsent.ending)
    assert may_have_left(fatal.ending)
    assert may_have_left(None)
    assert [weighs(x) for x in (unsent, fatal, still_open)] == [False, False, True]
    assert [is_conclusive(x) for x in told(SHOWN, MISSING, NOBODY, UNCLEAR, OPEN)] == [
        True, True, True, False, False,
    ]  # fmt: skip


# Lookups that bring nothing


TIRED = [UNCLEAR] * 5


def test_a_lookup_that_is_refused_is_not_asked_again_in_this_session() -> None:
    refused = lookup(Kind.REFUSED)
    assert verdict(AMBIGUOUS, refused) == ("unknown", "ambiguous", "-")
    assert verdict(AMBIGUOUS, refused, MISSING) == ("unknown", "ambiguous", "lookup")
    seq = last_seq(told(AMBIGUOUS, refused))
    assert stands(AMBIGUOUS, refused, horizon=Horizon(0, seq)).step is LOOKUP


@pytest.mark.parametrize("kind", [Kind.AMBIGUOUS, Kind.SWAPPED])
def test_lookups_in_a_row_that_establish_nothing_are_given_up(kind: Kind) -> None:
    unclear = lookup(kind)
    assert verdict(AMBIGUOUS, *[unclear] * 4) == ("unknown", "ambiguous", "lookup")
    assert verdict(AMBIGUOUS, *[unclear] * 5) == ("unknown", "ambiguous", "-")


@pytest.mark.parametrize("kind", [Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL])
def test_what_was_not_answered_uses_up_no_lookup(kind: Kind) -> None:
    assert stands(AMBIGUOUS, *[lookup(kind)] * 9).step is LOOKUP


def test_a_complete_answer_begins_the_row_anew() -> None:
    for conclusive in (MISSING, NOBODY):
        assert stands(AMBIGUOUS, *[UNCLEAR] * 4, conclusive, *[UNCLEAR] * 4).step is LOOKUP
        assert stands(AMBIGUOUS, conclusive, *TIRED).step is None


def test_every_session_has_lookups_of_its_own() -> None:
    events = [AMBIGUOUS, *TIRED]
    for seen, step in ((0, None), (1, LOOKUP), (2, LOOKUP), (5, LOOKUP)):
        horizon = Horizon(0, told(*events)[seen].ending_seq or 0)
        assert stands(*events, horizon=horizon).step is (LOOKUP if seen else None) is step
    later = Horizon(0, last_seq(told(*events)))
    assert stands(*events, *[UNCLEAR] * 4, horizon=later).step is LOOKUP
    assert stands(*events, *TIRED, horizon=later).step is None


def test_giving_up_lookups_takes_nothing_from_a_deletion() -> None:
    assert stands(AMBIGUOUS, *TIRED, SHOWN).step is DELETE
    assert stands(AMBIGUOUS, SHOWN, *TIRED).step is DELETE


@pytest.mark.parametrize("max_lookups", [1, 2, 7])
def test_how_many_is_a_setting(max_lookups: int) -> None:
    rules = replace(RULES, max_lookups=max_lookups)
    assert stands(AMBIGUOUS, *[UNCLEAR] * (max_lookups - 1), rules=rules).step is LOOKUP
    assert stands(AMBIGUOUS, *[UNCLEAR] * max_lookups, rules=rules).step is None


# Rounds


def in_a_new_round(*before: Event, then: tuple[Event, ...] = (), rules: Rules = RULES) -> Standing:
    """After a retry that began when everything in ``before`` was known."""
    seq = last_seq(told(*before))
    return stands(*before, *then, rules=rules, horizon=Horizon(seq, seq))


STILL_THERE = (AMBIGUOUS, SHOWN) * 3
UNKNOWN_PERSON = (AMBIGUOUS, NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("before", "outcome", "code", "step"),
    [
        (STILL_THERE, Outcome.PRESENT, STILL_LISTED, DELETE),
        ((DELETED, SHOWN), Outcome.PRESENT, REAPPEARED, DELETE),
        (UNKNOWN_PERSON, Outcome.NO_PERSON, "no_person", DELETE),
        ((FORBIDDEN,), Outcome.REFUSED, "403", DELETE),
        ((REFUSED,), Outcome.REFUSED, "400", None),
        ((NOT_FOUND, SHOWN), Outcome.REFUSED, "404", None),
        ((AMBIGUOUS, FORBIDDEN, SHOWN), Outcome.REFUSED, "403", DELETE),
        ((AMBIGUOUS, REFUSED, SHOWN), Outcome.REFUSED, "400", None),
        ((*STILL_THERE[:4], NOT_FOUND, SHOWN), Outcome.REFUSED, "404", None),
        ((*STILL_THERE[:4], FORBIDDEN, SHOWN), Outcome.REFUSED, "403", DELETE),
        ((NOT_FOUND, MISSING, MISSING, SHOWN), Outcome.PRESENT, REAPPEARED, DELETE),
        ((REFUSED, SHOWN, MISSING, MISSING, SHOWN), Outcome.PRESENT, REAPPEARED, DELETE),
        ((DELETED,), Outcome.DELETED, "listed", None),
        ((OMITTED, MISSING), Outcome.ABSENT, "shown", None),
    ],
)
def test_a_round_takes_up_what_it_may_and_keeps_its_outcome(
    before: tuple[Event, ...], outcome: Outcome, code: str, step: Step | None
) -> None:
    standing = in_a_new_round(*before)
    assert (standing.outcome, standing.code, standing.step) == (outcome, code, step)
    assert stands(*before).outcome is outcome
    assert stands(*before).step is None


@pytest.mark.parametrize("before", [STILL_THERE, (DELETED, SHOWN), UNKNOWN_PERSON, (FORBIDDEN,)])
def test_what_applies_nothing_leaves_it_in_the_round(before: tuple[Event, ...]) -> None:
    for event in (NOT_SENT, FATAL_BEFORE):
        assert in_a_new_round(*before, then=(event,)).step is DELETE


@pytest.mark.parametrize("before", [STILL_THERE, (DELETED, SHOWN), UNKNOWN_PERSON, (FORBIDDEN,)])
@pytest.mark.parametrize(
    ("then", "outcome", "step"),
    [
        ((DELETED,), Outcome.DELETED, None),
        ((OMITTED, MISSING), Outcome.ABSENT, None),
        ((AMBIGUOUS,), Outcome.UNKNOWN, LOOKUP),
        ((AMBIGUOUS, NOBODY, NOBODY), Outcome.NO_PERSON, None),
        ((AMBIGUOUS, SHOWN), Outcome.UNKNOWN, DELETE),
        ((AMBIGUOUS, SHOWN) * 2, Outcome.UNKNOWN, DELETE),
        ((AMBIGUOUS, SHOWN) * 3, Outcome.PRESENT, None),
        ((AMBIGUOUS, FORBIDDEN, SHOWN), Outcome.REFUSED, None),
    ],
)
def test_a_round_counts_its_own_attempts(
    before: tuple[Event, ...], then: tuple[Event, ...], outcome: Outcome, step: Step | None
) -> None:
    standing = in_a_new_round(*before, then=then)
    assert (standing.outcome, standing.step) == (outcome, step)


@pytest.mark.parametrize("before", [STILL_THERE, (DELETED, SHOWN), (FORBIDDEN,)])
def test_what_is_refused_in_a_round_is_final_in_it(before: tuple[Event, ...]) -> None:
    for refused in (REFUSED, FORBIDDEN):
        standing = in_a_new_round(*before, then=(refused,))
        assert (standing.outcome, standing.step) == (Outcome.REFUSED, None)


def test_what_is_there_again_is_final_in_its_round_and_retried_in_the_next() -> None:
    first = (DELETED, SHOWN)
    assert verdict(*first) == ("present", REAPPEARED, "-")
    again = in_a_new_round(*first, then=(AMBIGUOUS, SHOWN))
    assert (again.outcome, again.code, again.step) == (Outcome.UNKNOWN, REAPPEARED, DELETE)
    gone_again = in_a_new_round(*first, then=(DELETED, SHOWN))
    assert (gone_again.outcome, gone_again.code) == (Outcome.PRESENT, REAPPEARED)
    assert gone_again.step is None


def test_there_again_stays_the_word_for_it() -> None:
    """However often it is found after that, until it is gone once more."""
    assert verdict(DELETED, SHOWN, SHOWN, UNCLEAR, SHOWN) == ("present", REAPPEARED, "-")
    back = (AMBIGUOUS, MISSING, MISSING, SHOWN)
    again = in_a_new_round(*back, then=(AMBIGUOUS, SHOWN))
    assert (again.outcome, again.code, again.step) == (Outcome.UNKNOWN, REAPPEARED, DELETE)


def test_a_whole_person_looked_at_again_sends_no_refused_face_again() -> None:
    """A lookup of a new round lists a face that the service refused to delete for good."""
    every = SHOWN.about()
    refused = in_a_new_round(SHOWN, REFUSED, then=(every,))
    assert (refused.outcome, refused.code, refused.step) == (Outcome.REFUSED, "400", None)
    mended = in_a_new_round(SHOWN, FORBIDDEN, then=(every,))
    assert (mended.outcome, mended.code, mended.step) == (Outcome.REFUSED, "403", DELETE)


def test_without_attempts_left_what_was_found_stays() -> None:
    """How a ledger says that a face was found too late (``max_rounds``)."""
    none_left = replace(RULES, max_attempts=0)
    assert verdict(SHOWN, rules=none_left) == ("present", STILL_LISTED, "-")


# For any evidence whatsoever


KINDS_OF_DELETION = [
    kind for kind in Kind if kind not in {Kind.SHOWN, Kind.NO_PERSON, Kind.REMOVED}
]
KINDS_OF_LOOKUP = [
    Kind.SHOWN, Kind.SHOWN, Kind.SHOWN, Kind.NO_PERSON, Kind.NO_PERSON, Kind.AMBIGUOUS,
    Kind.REFUSED, Kind.THROTTLED, Kind.NOT_SENT, Kind.CLOSED,
]  # fmt: skip
FACES = st.sampled_from([(FACE,), (OTHER,), (FACE, OTHER)])
WAITS = st.sampled_from([0, INTERVAL_US // 2, INTERVAL_US, 3 * INTERVAL_US])
LISTS = st.sampled_from([(), (FACE,), (OTHER,), (FACE, OTHER)])

deletions = st.builds(
    Event,
    st.just(Step.DELETE),
    st.sampled_from(KINDS_OF_DELETION),
    FACES,
    LISTS,
    st.sampled_from(["", "200", "400", "403", "404"]),
    WAITS,
    st.booleans(),
)
lookups = st.builds(
    Event,
    st.sampled_from([Step.LOOKUP, Step.LOOKUP, Step.VERIFY]),
    st.sampled_from(KINDS_OF_LOOKUP),
    FACES | st.just(()),
    LISTS,
    st.just("c"),
    WAITS,
    st.booleans(),
)
histories = st.lists(deletions | lookups, max_size=9)


@st.composite
def horizons(draw: st.DrawFn, most: int = 20) -> Horizon:
    round_seq = draw(st.integers(0, most))
    return Horizon(round_seq, draw(st.integers(round_seq, most)))


@given(events=histories, still_open=st.booleans(), horizon=horizons(), data=st.data())
def test_order_and_repetition_do_not_matter(
    *, events: list[Event], still_open: bool, horizon: Horizon, data: st.DataObject
) -> None:
    """T5. A repetition may be an attempt as it was before its end was known."""
    traces = told(*events, *[OPEN] * still_open)
    again = [data.draw(st.sampled_from(traces)) for _ in traces]
    unended = [replace(x, ending_seq=None, ending=None) for x in again if x.ending is not None]
    shuffled = data.draw(st.permutations([*traces, *again, *unended]))
    assert fold(FACE, shuffled, RULES, horizon) == fold(FACE, traces, RULES, horizon)


@given(
    events=histories,
    further=st.lists(deletions | lookups, max_size=5),
    still_open=st.booleans(),
    horizon=horizons(),
)
def test_nothing_but_a_later_listing_turns_deleted_into_something_else(
    *, events: list[Event], further: list[Event], still_open: bool, horizon: Horizon
) -> None:
    more = [*further, *[OPEN] * still_open]
    traces = told(*events, DELETED, *more)
    lists_it = any(
        x.step is not DELETE
        and x.ending is not None
        and x.ending.kind is Kind.SHOWN
        and FACE in x.ending.listed
        and FACE in (x.face_ids or (FACE,))
        for x in traces[len(events) + 1 :]
    )
    standing = fold(FACE, traces, RULES, horizon)
    if not lists_it:
        assert (standing.outcome, standing.step) == (Outcome.DELETED, None)
        assert fold(FACE, traces[: len(events) + 1], RULES).outcome is Outcome.DELETED


@settings(max_examples=400)
@given(histories, horizons())
def test_a_plain_reading_of_the_rules_agrees(events: list[Event], horizon: Horizon) -> None:
    traces = told(*events)
    for face_id in (FACE, OTHER):
        outcome = fold(face_id, traces, RULES, horizon).outcome
        assert proven(face_id, traces, INTERVAL_US) == (outcome if outcome in PROVEN else None)


@settings(max_examples=300)
@given(histories)
def test_nothing_is_sent_again_before_it_was_looked_for(events: list[Event]) -> None:
    """T2a, read from behind: since the last listing, nothing that may have been applied."""
    traces = told(*events)
    if fold(FACE, traces, RULES).step is not DELETE:
        return
    for one in reversed(traces):
        assert one.ending is not None
        kind = one.ending.kind
        if one.step is Step.DELETE:
            if FACE in one.face_ids:
                assert kind in {Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL}
        elif kind is Kind.SHOWN and FACE in one.ending.listed and FACE in (one.face_ids or (FACE,)):
            return


@given(histories, horizons())
def test_every_standing_says_what_to_do(events: list[Event], horizon: Horizon) -> None:
    """A final outcome is retried or at rest, an open one goes on or has used up its lookups."""
    standing = fold(FACE, told(*events), RULES, horizon)
    match standing.outcome:
        case Outcome.DELETED | Outcome.ABSENT:
            assert standing.step is None
        case Outcome.PRESENT | Outcome.NO_PERSON | Outcome.REFUSED:
            assert standing.step in {None, DELETE}
        case Outcome.UNSENT:
            assert standing.step is DELETE
        case Outcome.UNKNOWN:
            assert standing.step in {None, DELETE, LOOKUP}
        case _:
            pytest.fail(f"no outcome of a face: {standing.outcome}")
    assert (standing.not_before_us == 0) or standing.step is LOOKUP


@dataclass
class Library:
    """A service with one face of its own mind; ``late`` is applied when somebody looks again."""

    has: bool = True
    late: bool = False
    known: bool = True

    def deletes(self, mood: str) -> Event:
        match mood:
            case "applied unseen":
                self.has = False
            case "applied late":
                self.late = True
            case "omitted":
                return OMITTED
            case "refused":
                return FORBIDDEN
            case "throttled" | "ignored":
                return THROTTLED if mood == "throttled" else AMBIGUOUS
            case _:
                listed, self.has = self.has, False
                return DELETED if listed else OMITTED
        return AMBIGUOUS

    def shows(self, mood: str) -> Event:
        if mood == "unclear":
            return UNCLEAR
        answer = SHOWN if self.has else MISSING if self.known else NOBODY
        if self.late:
            self.has = self.late = False
        return answer


MOODS = st.sampled_from(
    [
        "applied unseen",
        "applied late",
        "omitted",
        "refused",
        "throttled",
        "ignored",
        "unclear",
        "good",
    ]
)


def carried_out(library: Library, moods: list[str], rules: Rules) -> tuple[Standing, list[Event]]:
    """Whatever the fold wants next is done, until it wants nothing more."""
    events: list[Event] = []
    for mood in chain(moods, repeat("good", 50)):
        standing = fold(FACE, told(*events), rules)
        if standing.step is None:
            return standing, events
        act = library.deletes if standing.step is DELETE else library.shows
        events.append(act(mood).after(INTERVAL_US))
    pytest.fail("it never ends")


@settings(max_examples=300)
@given(moods=st.lists(MOODS, max_size=12), has=st.booleans(), known=st.booleans())
def test_when_the_faults_stop_everything_becomes_final_and_true(
    *, moods: list[str], has: bool, known: bool
) -> None:
    """L1, and the claims held against what the service really has."""
    library = Library(has=has, known=known or has)
    standing, events = carried_out(library, moods, RULES)
    assert sum(weighs(x) for x in told(*events) if x.step is DELETE) <= RULES.max_attempts
    match standing.outcome:
        case Outcome.DELETED | Outcome.ABSENT | Outcome.NO_PERSON:
            assert not library.has
        case Outcome.PRESENT:
            assert library.has or "applied late" in moods
        case Outcome.UNKNOWN:
            assert sum(x is UNCLEAR or x.kind is Kind.AMBIGUOUS for x in events) >= 5
        case outcome:
            assert outcome is Outcome.REFUSED
