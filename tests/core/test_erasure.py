"""The line of a whole person, cell by cell of its table, and a person followed to the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.core.stories import (
    AMBIGUOUS,
    DELETED,
    FACE,
    INTERVAL_US,
    OMITTED,
    OPEN,
    OPEN_LOOKUP,
    OTHER,
    REFUSED,
    THROTTLED,
    Event,
    attempt,
    last_seq,
    lookup,
    told,
)
from worker.erasure import FACES_KEPT, NOT_REMOVED, RECORD_KEPT, Found, fold_person
from worker.fold import FIRST_ROUND, REAPPEARED, STILL_LISTED, Horizon, Rules, Standing, fold
from worker.model import Kind, Outcome, Step

RULES = Rules(retryable_codes=frozenset({"403"}))
WITH_RECORD = replace(RULES, delete_person=True)
"""The record of the person is to go as well."""

LISTS = lookup(Kind.SHOWN, FACE).about()
LISTS_OTHER = lookup(Kind.SHOWN, OTHER).about()
EMPTY = lookup(Kind.SHOWN).about()
NOBODY = lookup(Kind.NO_PERSON).about()
UNCLEAR = lookup(Kind.AMBIGUOUS).about()
CLOSED_LOOKUP = lookup(Kind.CLOSED).about()


def removal(kind: Kind | None, code: str = "") -> Event:
    return Event(Step.REMOVE, kind, (), code=code or (kind or ""))


REMOVED = removal(Kind.REMOVED)
REMOVAL_LOST = removal(Kind.AMBIGUOUS)
REMOVAL_REFUSED = removal(Kind.REFUSED, "400")
REMOVAL_FORBIDDEN = removal(Kind.REFUSED, "403")
REMOVAL_THROTTLED = removal(Kind.THROTTLED)
REMOVAL_OPEN = removal(None)
REMOVAL_UNSENT = replace(removal(Kind.NOT_SENT), sent=False)

GONE = {FACE: Found(Outcome.DELETED, waits=False)}
WAITS = {FACE: Found(Outcome.UNSENT, waits=True)}


def found(**outcomes: Outcome) -> dict[str, Found]:
    """What became of FACE (``one``) and OTHER (``other``); nothing more is to be done."""
    names = {"one": FACE, "other": OTHER}
    return {names[name]: Found(outcome, waits=False) for name, outcome in outcomes.items()}


def line(
    *events: Event,
    faces: Mapping[str, Found] = GONE,
    rules: Rules = RULES,
    horizon: Horizon = FIRST_ROUND,
) -> Standing:
    return fold_person(told(*events), faces, rules, horizon)


def verdict(
    *events: Event, faces: Mapping[str, Found] = GONE, rules: Rules = RULES
) -> tuple[str, str, str]:
    standing = line(*events, faces=faces, rules=rules)
    return str(standing.outcome), standing.code, str(standing.step or "-")


# The table, cell by cell


@pytest.mark.parametrize(
    ("events", "faces", "outcome", "code", "step"),
    [
        # Nobody has looked since the last change.
        ([], {}, "unsent", "", "lookup"),
        ([UNCLEAR], {}, "unsent", "", "lookup"),
        ([OPEN_LOOKUP.about()], {}, "unsent", "", "lookup"),
        ([THROTTLED], {}, "unsent", "", "lookup"),
        ([LISTS, DELETED], GONE, "unknown", "", "lookup"),
        ([LISTS, DELETED, UNCLEAR], GONE, "unknown", "", "lookup"),
        ([LISTS, DELETED, CLOSED_LOOKUP], GONE, "unknown", "", "lookup"),
        ([LISTS, REFUSED], found(one=Outcome.REFUSED), "unknown", "", "lookup"),
        # A face that was found waits for something.
        ([LISTS], WAITS, "unsent", "", "-"),
        ([LISTS, THROTTLED], WAITS, "unsent", "", "-"),
        ([LISTS, AMBIGUOUS], {FACE: Found(Outcome.UNKNOWN, waits=True)}, "unknown", "", "-"),
        ([LISTS, EMPTY], {FACE: Found(Outcome.UNKNOWN, waits=True)}, "unknown", "", "-"),
        ([LISTS, OPEN], {FACE: Found(Outcome.UNKNOWN, waits=True)},
         "unknown", "no_end_recorded", "-"),
        # What is listed must stay, or could not be deleted.
        ([LISTS], found(one=Outcome.HELD), "held", "faces_kept", "-"),
        ([LISTS], found(one=Outcome.CONFLICT), "conflict", "faces_kept", "-"),
        ([lookup(Kind.SHOWN, FACE, OTHER).about()],
         found(one=Outcome.CONFLICT, other=Outcome.HELD), "held", "faces_kept", "-"),
        ([lookup(Kind.SHOWN, FACE, OTHER).about()],
         found(one=Outcome.REFUSED, other=Outcome.HELD), "present", STILL_LISTED, "-"),
        ([lookup(Kind.SHOWN, FACE, OTHER).about()],
         found(one=Outcome.HELD), "present", STILL_LISTED, "-"),
        ([LISTS, REFUSED, LISTS], found(one=Outcome.REFUSED), "present", STILL_LISTED, "-"),
        ([LISTS, DELETED, LISTS_OTHER], GONE, "present", STILL_LISTED, "-"),
        # Nothing is listed: one lookup after a good answer, otherwise two.
        ([EMPTY], {}, "unknown", "", "lookup"),
        ([EMPTY, EMPTY], {}, "person_empty", "shown", "-"),
        ([LISTS, DELETED, EMPTY], GONE, "person_empty", "shown", "-"),
        ([LISTS, OMITTED, EMPTY], found(one=Outcome.ABSENT), "person_empty", "shown", "-"),
        ([LISTS, AMBIGUOUS, EMPTY], found(one=Outcome.ABSENT), "unknown", "", "lookup"),
        ([LISTS, AMBIGUOUS, EMPTY, OPEN_LOOKUP.about()], found(one=Outcome.ABSENT),
         "unknown", "", "lookup"),
        ([LISTS, DELETED, LISTS_OTHER, EMPTY], GONE, "unknown", "", "lookup"),
        ([LISTS, AMBIGUOUS, EMPTY, EMPTY], found(one=Outcome.ABSENT),
         "person_empty", "shown", "-"),
        ([LISTS, DELETED, THROTTLED, EMPTY], GONE, "person_empty", "shown", "-"),
        ([LISTS, EMPTY, EMPTY], found(one=Outcome.ABSENT), "person_empty", "shown", "-"),
        # Nobody knows the person.
        ([NOBODY], {}, "unknown", "", "lookup"),
        ([NOBODY, NOBODY], {}, "no_person", "no_person", "-"),
        ([NOBODY, EMPTY], {}, "unknown", "", "lookup"),
        ([NOBODY, EMPTY, NOBODY], {}, "unknown", "", "lookup"),
        ([NOBODY, EMPTY, EMPTY], {}, "person_empty", "shown", "-"),
        ([LISTS, DELETED, NOBODY], GONE, "unknown", "", "lookup"),
        ([LISTS, AMBIGUOUS, NOBODY, NOBODY], found(one=Outcome.NO_PERSON),
         "no_person", "no_person", "-"),
        ([LISTS, OMITTED, NOBODY, NOBODY], found(one=Outcome.NO_PERSON),
         "no_person", "no_person", "-"),
        # Nobody knows the person any more whom the service has shown in this run.
        ([LISTS, DELETED, NOBODY, NOBODY], GONE, "person_empty", "no_person", "-"),
        ([EMPTY, EMPTY, NOBODY], {}, "person_empty", "shown", "-"),
        ([EMPTY, EMPTY, NOBODY, NOBODY], {}, "person_empty", "no_person", "-"),
        ([EMPTY, NOBODY, NOBODY], {}, "no_person", "no_person", "-"),
        # Faces again.
        ([EMPTY, EMPTY, LISTS], {}, "present", REAPPEARED, "-"),
        ([LISTS, DELETED, EMPTY, LISTS], GONE, "present", REAPPEARED, "-"),
        ([LISTS, DELETED, EMPTY, LISTS], WAITS, "present", REAPPEARED, "-"),
        ([EMPTY, LISTS], WAITS, "unsent", "", "-"),
        ([NOBODY, NOBODY, LISTS], WAITS, "unsent", "", "-"),
        ([LISTS, AMBIGUOUS, NOBODY, NOBODY, LISTS_OTHER], GONE, "present", STILL_LISTED, "-"),
        ([LISTS, DELETED, NOBODY, NOBODY, LISTS_OTHER], GONE, "present", REAPPEARED, "-"),
        ([LISTS, DELETED, EMPTY, LISTS, DELETED], GONE, "unknown", "", "lookup"),
    ],
)  # fmt: skip
def test_the_table(
    events: list[Event], faces: Mapping[str, Found], outcome: str, code: str, step: str
) -> None:
    assert verdict(*events, faces=faces) == (outcome, code, step)


EMPTIED = (LISTS, DELETED, EMPTY)


@pytest.mark.parametrize(
    ("events", "outcome", "code", "step"),
    [
        # Nothing is removed before the person is empty.
        ([], "unsent", "", "lookup"),
        ([LISTS, DELETED], "unknown", "", "lookup"),
        ([NOBODY, NOBODY], "no_person", "no_person", "-"),
        # Empty: the record goes.
        ([EMPTY, EMPTY], "unknown", "person_empty", "remove"),
        ([*EMPTIED], "unknown", "person_empty", "remove"),
        ([*EMPTIED, REMOVAL_THROTTLED], "unknown", "person_empty", "remove"),
        ([*EMPTIED, REMOVAL_UNSENT], "unknown", "person_empty", "remove"),
        ([*EMPTIED, REMOVED], "person_deleted", "removed", "-"),
        ([*EMPTIED, REMOVED, NOBODY], "person_deleted", "removed", "-"),
        ([*EMPTIED, REMOVED, EMPTY], "person_deleted", "removed", "-"),
        # Somebody else was faster.
        ([*EMPTIED, NOBODY, NOBODY], "person_deleted", "no_person", "-"),
        ([LISTS, DELETED, NOBODY, NOBODY], "person_deleted", "no_person", "-"),
        # It may be gone: look first.
        ([*EMPTIED, REMOVAL_OPEN], "unknown", "no_end_recorded", "-"),
        ([*EMPTIED, REMOVAL_LOST], "unknown", "", "lookup"),
        ([*EMPTIED, REMOVAL_LOST, NOBODY], "unknown", "", "lookup"),
        ([*EMPTIED, REMOVAL_LOST, NOBODY, NOBODY], "person_deleted", "no_person", "-"),
        ([*EMPTIED, REMOVAL_LOST, EMPTY], "unknown", "", "lookup"),
        ([*EMPTIED, REMOVAL_LOST, EMPTY, EMPTY], "unknown", "person_empty", "remove"),
        ([*EMPTIED, *[REMOVAL_LOST, EMPTY, EMPTY] * 2], "unknown", "person_empty", "remove"),
        ([*EMPTIED, *[REMOVAL_LOST, EMPTY, EMPTY] * 3], "present", NOT_REMOVED, "-"),
        # Refused.
        ([*EMPTIED, REMOVAL_REFUSED], "unknown", "", "lookup"),
        ([*EMPTIED, REMOVAL_REFUSED, EMPTY, EMPTY], "refused", "400", "-"),
        ([*EMPTIED, REMOVAL_FORBIDDEN, EMPTY, EMPTY], "refused", "403", "-"),
        # Faces again.
        ([*EMPTIED, REMOVED, LISTS], "present", REAPPEARED, "-"),
        ([*EMPTIED, REMOVED, NOBODY, LISTS_OTHER], "present", REAPPEARED, "-"),
        ([*EMPTIED, REMOVAL_LOST, NOBODY, NOBODY, LISTS_OTHER], "present", REAPPEARED, "-"),
        ([*EMPTIED, LISTS], "present", REAPPEARED, "-"),
        ([*EMPTIED, REMOVAL_LOST, LISTS_OTHER], "present", STILL_LISTED, "-"),
        ([*EMPTIED, REMOVED, LISTS, DELETED], "unknown", "", "lookup"),
        # And gone again: the latest lookups count.
        ([*EMPTIED, REMOVED, LISTS, NOBODY], "unknown", "", "lookup"),
        ([*EMPTIED, REMOVED, LISTS, NOBODY, NOBODY], "person_deleted", "no_person", "-"),
        ([*EMPTIED, REMOVED, LISTS, EMPTY, EMPTY], "unknown", "person_empty", "remove"),
        ([*EMPTIED, REMOVED, LISTS, DELETED, EMPTY], "unknown", "person_empty", "remove"),
    ],
)  # fmt: skip
def test_the_table_where_the_record_goes_as_well(
    events: list[Event], outcome: str, code: str, step: str
) -> None:
    assert verdict(*events, rules=WITH_RECORD) == (outcome, code, step)


# One thing that differs, and another verdict


KEPT = found(one=Outcome.HELD)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(line(EMPTY, EMPTY), line(EMPTY, EMPTY, rules=WITH_RECORD), id="delete_person"),
        pytest.param(line(*EMPTIED), line(LISTS, AMBIGUOUS, EMPTY), id="good answer"),
        pytest.param(line(EMPTY, EMPTY), line(EMPTY, EMPTY.after(INTERVAL_US - 1)), id="apart"),
        pytest.param(line(EMPTY, EMPTY), line(EMPTY, LISTS, EMPTY), id="no listing between"),
        pytest.param(line(EMPTY, EMPTY), line(EMPTY, NOBODY), id="both without faces"),
        pytest.param(line(NOBODY, NOBODY), line(NOBODY, NOBODY.after(0)), id="nobody, apart"),
        pytest.param(line(LISTS, DELETED, EMPTY), line(LISTS, EMPTY, DELETED), id="after it"),
        pytest.param(line(LISTS, faces=KEPT), line(LISTS_OTHER, faces=KEPT), id="what is listed"),
        pytest.param(line(LISTS, faces=KEPT), line(LISTS, faces=GONE), id="what may be kept"),
        pytest.param(line(*EMPTIED), line(*EMPTIED, faces=WAITS), id="a face waits"),
    ],
)
def test_one_difference_changes_the_verdict(one: Standing, other: Standing) -> None:
    assert (one.outcome, one.step) != (other.outcome, other.step)


# What a lookup waits for, and when it is given up


def test_the_first_lookup_leaves_at_once_and_each_other_one_an_interval_later() -> None:
    assert line(faces={}).not_before_us == 0
    for events in ([EMPTY], [UNCLEAR], [LISTS, DELETED], [*EMPTIED, REMOVAL_LOST]):
        last = told(*events)[-1].ending
        assert last is not None
        standing = line(*events, rules=WITH_RECORD)
        assert standing.step is Step.LOOKUP
        assert standing.not_before_us == last.ended_us + INTERVAL_US


def test_a_lookup_about_named_faces_says_nothing_of_the_person() -> None:
    assert line(lookup(Kind.SHOWN), lookup(Kind.SHOWN), faces={}) == line(faces={})


def test_lookups_that_bring_nothing_are_given_up_and_the_line_stays_unknown() -> None:
    """Not ``unsent``: what a session gave up is taken up by the next one."""
    assert verdict(*[UNCLEAR] * 4, faces={}) == ("unsent", "", "lookup")
    assert verdict(*[UNCLEAR] * 5, faces={}) == ("unknown", "", "-")
    assert verdict(*EMPTIED[:2], *[UNCLEAR] * 5) == ("unknown", "", "-")
    lost = line(*EMPTIED, REMOVAL_LOST, *[UNCLEAR] * 4, rules=WITH_RECORD)
    assert lost.step is Step.LOOKUP, "a removal is no lookup"
    given_up = {FACE: Found(Outcome.UNKNOWN, waits=True)}
    assert verdict(LISTS, EMPTY, *[UNCLEAR] * 5, faces=given_up) == ("unknown", "", "-")
    stuck = in_a_new_round(*STUCK, then=(UNCLEAR,) * 5, faces=STUCK_FACE)
    assert stuck == ("present", STILL_LISTED, "-"), "what was final stays what it was"
    tired = told(*[UNCLEAR] * 5)
    later = fold_person(tired, {}, RULES, Horizon(0, last_seq(tired)))
    assert (later.outcome, later.step) == (Outcome.UNSENT, Step.LOOKUP)


def test_a_removal_waits_for_no_time() -> None:
    standing = line(*EMPTIED, rules=WITH_RECORD)
    assert (standing.step, standing.not_before_us) == (Step.REMOVE, 0)


# The figures of the line


def test_the_words_are_those_of_the_report() -> None:
    words = (FACES_KEPT, RECORD_KEPT, NOT_REMOVED)
    assert words == ("faces_kept", "record_kept", "not_removed")


def test_a_removal_is_dated_by_its_sending_where_that_is_known() -> None:
    *before, removal_ = told(*EMPTIED, REMOVED)
    assert removal_.ending is not None
    later_us = removal_.opened_us + 700
    late = replace(removal_, ending=structs.replace(removal_.ending, sent_us=later_us))
    standing = fold_person([*before, late], GONE, WITH_RECORD, FIRST_ROUND)
    assert standing.first_sent_us == later_us


@pytest.mark.parametrize(
    ("events", "faces", "code"),
    [
        ((LISTS,), found(one=Outcome.HELD), FACES_KEPT),
        ((*EMPTIED, *[REMOVAL_LOST, EMPTY, EMPTY] * 3), GONE, NOT_REMOVED),
        (EMPTIED, GONE, "person_empty"),
    ],
)
def test_the_last_lookup_is_named_where_it_decides(
    events: tuple[Event, ...], faces: Mapping[str, Found], code: str
) -> None:
    standing = line(*events, faces=faces, rules=WITH_RECORD)
    assert (standing.code, standing.decided_by) == (code, told(*events)[-1].ending_seq)


@pytest.mark.parametrize(
    ("events", "attempts", "first"),
    [
        ([*EMPTIED], 0, None),
        ([*EMPTIED, REMOVAL_UNSENT], 0, None),
        ([*EMPTIED, REMOVAL_THROTTLED], 1, 3),
        ([*EMPTIED, REMOVAL_OPEN], 1, 3),
        ([*EMPTIED, replace(REMOVED, sent=False)], 1, 3),
        ([*EMPTIED, REMOVAL_UNSENT, REMOVAL_LOST, EMPTY, EMPTY, REMOVED], 2, 4),
    ],
)
def test_attempts_are_those_to_remove_the_record(
    events: list[Event], attempts: int, first: int | None
) -> None:
    standing = line(*events, rules=WITH_RECORD)
    sent_us = None if first is None else told(*events)[first].opened_us
    assert (standing.attempts, standing.first_sent_us) == (attempts, sent_us)


@pytest.mark.parametrize(
    ("events", "decisive"),
    [
        ([], None),
        ([EMPTY], None),
        ([EMPTY, EMPTY], 1),
        ([LISTS, DELETED, EMPTY, EMPTY], 3),
        ([NOBODY, NOBODY], 1),
        ([LISTS, REFUSED, LISTS], 2),
        ([*EMPTIED, LISTS], 3),
        ([*EMPTIED, REMOVED, NOBODY], 3),
        ([*EMPTIED, REMOVAL_REFUSED, EMPTY, EMPTY], 3),
        ([*EMPTIED, REMOVAL_LOST, NOBODY, NOBODY], 5),
    ],
)
def test_the_evidence_that_decided_is_named(events: list[Event], decisive: int | None) -> None:
    rules = replace(RULES, delete_person=any(x.step is Step.REMOVE for x in events))
    expected = None if decisive is None else told(*events)[decisive].ending_seq
    assert line(*events, rules=rules).decided_by == expected


# Rounds


def in_a_new_round(
    *before: Event,
    then: tuple[Event, ...] = (),
    faces: Mapping[str, Found] = GONE,
    rules: Rules = RULES,
) -> tuple[str, str, str]:
    seq = last_seq(told(*before))
    standing = line(*before, *then, faces=faces, rules=rules, horizon=Horizon(seq, seq))
    return str(standing.outcome), standing.code, str(standing.step or "-")


STUCK = (LISTS, REFUSED, LISTS)
STUCK_FACE = found(one=Outcome.REFUSED)
RECORD_STAYS = (*EMPTIED, *[REMOVAL_LOST, EMPTY, EMPTY] * 3)


@pytest.mark.parametrize(
    ("before", "outcome", "code", "step"),
    [
        (EMPTIED, "person_empty", "shown", "-"),
        ((*EMPTIED, LISTS), "present", REAPPEARED, "lookup"),
        ((NOBODY, NOBODY), "no_person", "no_person", "lookup"),
    ],
)
def test_a_round_looks_again_at_what_it_may_take_up(
    before: tuple[Event, ...], outcome: str, code: str, step: str
) -> None:
    assert in_a_new_round(*before) == (outcome, code, step)


@pytest.mark.parametrize("now", [(EMPTY, EMPTY), (NOBODY, NOBODY)])
def test_whoever_came_back_after_the_removal_and_went_again_is_not_looked_for_for_ever(
    now: tuple[Event, ...],
) -> None:
    before = (*EMPTIED, REMOVED, LISTS)
    assert in_a_new_round(*before, rules=WITH_RECORD) == ("present", REAPPEARED, "lookup")
    outcome, _, step = in_a_new_round(*before, then=now, rules=WITH_RECORD)
    assert (outcome, step) in {("unknown", "remove"), ("person_deleted", "-")}


@pytest.mark.parametrize("rules", [RULES, WITH_RECORD])
def test_who_vanished_is_decided_by_the_second_answer_that_says_so(rules: Rules) -> None:
    events = (*EMPTIED, NOBODY, NOBODY)
    assert line(*events, rules=rules).decided_by == last_seq(told(*events))


def test_what_could_not_be_deleted_is_looked_at_again() -> None:
    assert in_a_new_round(*STUCK, faces=STUCK_FACE) == ("present", STILL_LISTED, "lookup")
    assert in_a_new_round(*STUCK, then=(LISTS,), faces=STUCK_FACE) == (
        "present", STILL_LISTED, "-",
    )  # fmt: skip


def test_a_face_that_goes_again_takes_its_person_along() -> None:
    assert in_a_new_round(*STUCK, faces=WAITS) == ("unknown", "", "-")
    assert in_a_new_round(*STUCK, then=(DELETED, EMPTY)) == ("person_empty", "shown", "-")


def test_a_removed_person_that_is_there_again() -> None:
    back = (*EMPTIED, REMOVED, LISTS)
    with_record = WITH_RECORD
    assert in_a_new_round(*back, rules=with_record) == ("present", REAPPEARED, "lookup")
    assert in_a_new_round(*back, then=(LISTS,), rules=with_record) == ("present", REAPPEARED, "-")
    then = (LISTS, DELETED, EMPTY)
    assert in_a_new_round(*back, then=then, rules=with_record) == (
        "unknown", "person_empty", "remove",
    )  # fmt: skip
    assert in_a_new_round(*back, then=(*then, REMOVED), rules=with_record) == (
        "person_deleted", "removed", "-",
    )  # fmt: skip


def test_a_record_that_stays_is_tried_again_after_a_look() -> None:
    """Removing takes every face along: that there is none was last seen in another round."""
    assert in_a_new_round(*RECORD_STAYS, rules=WITH_RECORD) == ("present", NOT_REMOVED, "lookup")
    assert in_a_new_round(*RECORD_STAYS, then=(EMPTY,), rules=WITH_RECORD) == (
        "unknown", "person_empty", "remove",
    )  # fmt: skip
    then = (EMPTY, *[REMOVAL_LOST, EMPTY, EMPTY] * 3)
    assert in_a_new_round(*RECORD_STAYS, then=then, rules=WITH_RECORD) == (
        "present", NOT_REMOVED, "-",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("refusal", "at_first", "after_a_look"),
    [(REMOVAL_FORBIDDEN, "lookup", "remove"), (REMOVAL_REFUSED, "-", "-")],
)
def test_a_refused_removal_is_tried_again_only_where_its_cause_can_be_mended(
    refusal: Event, at_first: str, after_a_look: str
) -> None:
    before = (*EMPTIED, refusal, EMPTY, EMPTY)
    kept = ("refused", refusal.code)
    assert in_a_new_round(*before, rules=WITH_RECORD) == (*kept, at_first)
    assert in_a_new_round(*before, then=(EMPTY,), rules=WITH_RECORD) == (*kept, after_a_look)
    then = (EMPTY, refusal, EMPTY, EMPTY)
    assert in_a_new_round(*before, then=then, rules=WITH_RECORD) == (*kept, "-")


def test_a_removal_refused_at_the_very_end_of_a_round_may_be_mended_in_the_next() -> None:
    """The refusal has the last number of its round."""
    then = (EMPTY, EMPTY)
    for refused, step in ((REMOVAL_FORBIDDEN, "remove"), (REMOVAL_REFUSED, "-")):
        verdict_ = in_a_new_round(*EMPTIED, refused, then=then, rules=WITH_RECORD)
        assert verdict_ == ("refused", refused.code, step)


def test_a_record_that_stayed_is_named_by_its_last_lookup_in_a_new_round_too() -> None:
    traces = told(*RECORD_STAYS)
    horizon = Horizon(last_seq(traces), last_seq(traces))
    standing = fold_person(traces, GONE, WITH_RECORD, horizon)
    assert (standing.code, standing.step) == (NOT_REMOVED, Step.LOOKUP)
    assert standing.decided_by == traces[-1].ending_seq


def test_a_removal_goes_only_on_what_its_own_session_saw() -> None:
    """Faces that were added since would go with the record, and nobody would ever have seen them."""
    seq = last_seq(told(*EMPTIED))
    later = Horizon(0, seq)
    waiting = line(*EMPTIED, rules=WITH_RECORD, horizon=later)
    assert (waiting.outcome, waiting.code, waiting.step) == (
        Outcome.UNKNOWN, "person_empty", Step.LOOKUP,
    )  # fmt: skip
    assert line(*EMPTIED, EMPTY, rules=WITH_RECORD, horizon=later).step is Step.REMOVE
    wanted_later = line(*EMPTIED, rules=WITH_RECORD, horizon=Horizon(seq, seq))
    assert (wanted_later.outcome, wanted_later.step) == (Outcome.UNKNOWN, Step.LOOKUP)
    refilled = line(*EMPTIED, LISTS_OTHER, faces=WAITS, rules=WITH_RECORD, horizon=later)
    assert refilled.code == REAPPEARED


# For any evidence whatsoever


changes = st.sampled_from(
    [
        DELETED, OMITTED, AMBIGUOUS, REFUSED, THROTTLED, REMOVED, REMOVAL_LOST, REMOVAL_REFUSED,
        REMOVAL_FORBIDDEN, REMOVAL_THROTTLED, REMOVAL_UNSENT, attempt(Kind.CLOSED),
    ]
)  # fmt: skip
looks = st.sampled_from(
    [LISTS, LISTS_OTHER, EMPTY, NOBODY, UNCLEAR, CLOSED_LOOKUP, replace(EMPTY, step=Step.VERIFY)]
)
waits = st.sampled_from([0, INTERVAL_US // 2, INTERVAL_US])
histories = st.lists(
    st.builds(lambda event, us: event.after(us), changes | looks, waits), max_size=9
)
standings = st.builds(Found, st.sampled_from([*Outcome][:7]), st.booleans())
any_faces = st.dictionaries(st.sampled_from([FACE, OTHER]), standings)


@given(
    events=histories,
    faces=any_faces,
    delete_person=st.booleans(),
    seq=st.integers(0, 20),
    data=st.data(),
)
def test_order_and_repetition_do_not_matter(
    *,
    events: list[Event],
    faces: dict[str, Found],
    delete_person: bool,
    seq: int,
    data: st.DataObject,
) -> None:
    rules, horizon = replace(RULES, delete_person=delete_person), Horizon(seq, seq)
    traces = told(*events)
    again = [data.draw(st.sampled_from(traces)) for _ in traces]
    shuffled = data.draw(st.permutations([*traces, *again]))
    standing = fold_person(traces, faces, rules, horizon)
    assert fold_person(shuffled, faces, rules, horizon) == standing


@settings(max_examples=300)
@given(events=histories, faces=any_faces, delete_person=st.booleans(), seq=st.integers(0, 20))
def test_what_is_claimed_was_seen(
    *,
    events: list[Event],
    faces: dict[str, Found],
    delete_person: bool,
    seq: int,
) -> None:
    """Read from behind, without the table: what was the last word about the person?"""
    rules = replace(RULES, delete_person=delete_person)
    standing = line(*events, faces=faces, rules=rules, horizon=Horizon(seq, seq))
    weighty = [x for x in events if x.kind not in {Kind.THROTTLED, Kind.NOT_SENT}]
    seen: list[Event] = []
    for event in reversed(weighty):
        if event.step not in {Step.LOOKUP, Step.VERIFY} or event.listed:
            seen.append(event)
            break
        seen.append(event)
    looks_since = [x.kind for x in seen if x.step in {Step.LOOKUP, Step.VERIFY} and not x.listed]
    deleted = any(x.kind is Kind.LISTED and x.listed for x in weighty)
    vanished = looks_since.count(Kind.NO_PERSON) >= 2
    if standing.outcome is Outcome.PERSON_EMPTY:
        assert Kind.SHOWN in looks_since or (vanished and deleted)
        assert not delete_person
    if standing.outcome is Outcome.NO_PERSON:
        assert looks_since.count(Kind.NO_PERSON) >= 2
    if standing.outcome is Outcome.PERSON_DELETED and seen[-1].step is Step.REMOVE:
        assert not any(x.listed for x in seen)
    elif standing.outcome is Outcome.PERSON_DELETED:
        removed = any(x.step is Step.REMOVE for x in weighty)
        assert vanished
        assert removed or (delete_person and (deleted or Kind.SHOWN in looks_since))
    if standing.step is Step.REMOVE:
        assert delete_person
        assert Kind.SHOWN in looks_since
        assert not any(face.waits for face in faces.values())
    if standing.outcome is Outcome.UNSENT:
        assert not any(x.step in {Step.DELETE, Step.REMOVE} for x in weighty)


@dataclass
class Library:
    """One person at the service, whose answers get lost or are put off as a mood says."""

    faces: set[str]
    record: bool = True
    removes_silently: bool = False
    """Whether a person without faces is forgotten by itself."""
    added: list[str] = field(default_factory=list)
    """What somebody adds meanwhile, one after each look."""

    def looks(self, mood: str) -> Event:
        if mood == "lost":
            return UNCLEAR
        if not self.record or (self.removes_silently and not self.faces):
            return NOBODY
        shown = lookup(Kind.SHOWN, *sorted(self.faces)).about()
        if self.added:
            self.faces.add(self.added.pop())
        return shown

    def deletes(self, face_ids: tuple[str, ...], mood: str) -> Event:
        if mood == "throttled":
            return THROTTLED.about(*face_ids)
        listed = tuple(sorted(self.faces & set(face_ids)))
        if mood != "ignored":
            self.faces -= set(face_ids)
        kind = Kind.AMBIGUOUS if mood in {"lost", "ignored"} else Kind.LISTED
        return Event(Step.DELETE, kind, face_ids, listed if kind is Kind.LISTED else ())

    def removes(self, mood: str) -> Event:
        if mood == "throttled":
            return REMOVAL_THROTTLED
        if mood != "ignored":
            self.record, self.faces = False, set()
        return REMOVAL_LOST if mood in {"lost", "ignored"} else REMOVED


def erased(
    library: Library, moods: list[str], rules: Rules
) -> tuple[Standing, dict[str, Standing]]:
    """Whatever the person and its faces need next is done, until nothing is needed any more."""
    events: list[Event] = []
    known: dict[str, None] = {}
    for mood in chain(moods, repeat("good", 100)):
        traces = told(*events)
        faces = {face_id: fold(face_id, traces, rules) for face_id in known}
        waiting = {
            face_id: Found(x.outcome, x.step is not None or x.outcome is Outcome.UNKNOWN)
            for face_id, x in faces.items()
        }
        person = fold_person(traces, waiting, rules, FIRST_ROUND)
        steps = {x.step for x in (*faces.values(), person)}
        if Step.LOOKUP in steps:
            events.append(library.looks(mood))
            known |= dict.fromkeys(events[-1].listed)
        elif Step.DELETE in steps:
            face_ids = tuple(f for f, x in faces.items() if x.step is Step.DELETE)
            events.append(library.deletes(face_ids, mood))
        elif Step.REMOVE in steps:
            events.append(library.removes(mood))
        else:
            return person, faces
    pytest.fail("it never ends")


MOODS = st.lists(st.sampled_from(["good", "lost", "ignored", "throttled"]), max_size=14)


@settings(max_examples=200)
@given(
    faces=st.sets(st.sampled_from("abcd")),
    moods=MOODS,
    delete_person=st.booleans(),
    removes_silently=st.booleans(),
    added=st.lists(st.sampled_from("wxyz"), max_size=2),
)
def test_when_the_faults_stop_the_person_is_erased_and_the_line_true(
    *,
    faces: set[str],
    moods: list[str],
    delete_person: bool,
    removes_silently: bool,
    added: list[str],
) -> None:
    library = Library(set(faces), removes_silently=removes_silently, added=list(added))
    rules = replace(RULES, delete_person=delete_person)
    person, standings = erased(library, moods, rules)
    left = {f for f, x in standings.items() if x.outcome is Outcome.PRESENT}
    for face_id, standing in standings.items():
        if standing.outcome in {Outcome.DELETED, Outcome.ABSENT, Outcome.NO_PERSON}:
            assert face_id not in library.faces
    match person.outcome:
        case Outcome.PERSON_EMPTY:
            assert library.record
            assert not library.faces
        case Outcome.PERSON_DELETED:
            assert not library.record or (removes_silently and not library.faces)
        case Outcome.NO_PERSON:
            assert removes_silently
            assert not library.faces
        case Outcome.PRESENT:
            assert left or library.record
        case outcome:
            assert outcome is Outcome.UNKNOWN
            assert moods.count("lost") >= rules.max_lookups
