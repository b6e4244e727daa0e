"""The rule that stops a run that goes badly, cell by cell."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import UsageRefused
from worker.halting import FAILURES, LEAST_CALLS, Condition, Halting, HaltRule, parse
from worker.model import WANTED, Outcome

DELETED, PRESENT, REFUSED = Outcome.DELETED, Outcome.PRESENT, Outcome.REFUSED
NO_PERSON, UNKNOWN = Outcome.NO_PERSON, Outcome.UNKNOWN


def rule(text: str) -> HaltRule:
    parsed = parse(text)
    assert parsed is not None
    return parsed


def when_met(text: str, *calls: dict[Outcome, int], wanted: frozenset[Outcome] = WANTED) -> int:
    """The number of the call that meets the rule; 0 when none does."""
    halting = Halting(rule(text), wanted)
    for number, outcomes in enumerate(calls, 1):
        if halting.settled(outcomes):
            return number
    return 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("soon,fail=20", HaltRule(at_once=False, conditions=(Condition("fail", 20),))),
        ("now,fail=1", HaltRule(at_once=True, conditions=(Condition("fail", 1),))),
        ("soon,fail=20%", HaltRule(at_once=False, conditions=(Condition("fail", 0, 20.0),))),
        ("soon,refused=0.5%", HaltRule(at_once=False, conditions=(Condition("refused", 0, 0.5),))),
        (
            "now,fail=100%,present=1,unknown=7",
            HaltRule(
                at_once=True,
                conditions=(
                    Condition("fail", 0, 100.0),
                    Condition("present", 1),
                    Condition("unknown", 7),
                ),
            ),
        ),
    ],
)
def test_what_a_rule_means(text: str, expected: HaltRule) -> None:
    assert parse(text) == expected
    assert str(expected) == text


def test_never_is_no_rule() -> None:
    assert parse("never") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it begins with ''"),
        ("fail=20", "it begins with 'fail=20'"),
        ("later,fail=20", "it begins with 'later'"),
        ("never,fail=20", "it begins with 'never'"),
        ("soon", "soon is not followed by a condition"),
        ("soon,", "'' is nothing that can be counted"),
        ("soon,fails=20", "did you mean fail?"),
        ("soon,refuse=20", "did you mean refused?"),
        ("soon,deleted=20", "'deleted' is nothing that can be counted"),
        ("soon,fail", "fail is followed by ''"),
        ("soon,fail=", "fail is followed by '='"),
        ("soon,fail=0", "fail is followed by '=0'"),
        ("soon,fail=-1", "fail is followed by '=-1'"),
        ("soon,fail=+1", "fail is followed by '=+1'"),
        ("soon,fail=1.5", "fail is followed by '=1.5'"),
        ("soon,fail=1e3", "fail is followed by '=1e3'"),
        ("soon,fail=٣", "fail is followed by"),
        ("soon,fail=0%", "fail is followed by '=0%'"),
        ("soon,fail=0.000%", "fail is followed by '=0.000%'"),
        ("soon,fail=101%", "fail is followed by '=101%'"),
        ("soon,fail=nan%", "fail is followed by '=nan%'"),
        ("soon,fail=inf%", "fail is followed by '=inf%'"),
        ("soon,fail=1,fail=2", "fail has two limits"),
        ("soon, fail=1", "' fail' is nothing that can be counted"),
    ],
)
def test_what_is_no_rule(text: str, said: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse(text, "--halt")
    assert said in f"{refused.value.cause}; {refused.value.remedy}"
    assert refused.value.cause.startswith("--halt: ")
    assert refused.value.remedy


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_a_sentence(text: str) -> None:
    parsed = None
    with suppress(UsageRefused):
        parsed = parse(text)
    assert parsed is None or parse(str(parsed)) == parsed


@pytest.mark.parametrize("outcome", Outcome)
def test_which_outcomes_fail(outcome: Outcome) -> None:
    assert when_met("soon,fail=1", {outcome: 1}) == (outcome in FAILURES)


@pytest.mark.parametrize("outcome", FAILURES)
def test_an_outcome_is_counted_by_its_name(outcome: Outcome) -> None:
    others = {x: 100 for x in FAILURES if x is not outcome}
    assert when_met(f"soon,{outcome}=2", others, {outcome: 1}, others, {outcome: 1}) == 4


def test_a_number_is_met_when_it_is_reached() -> None:
    assert when_met("soon,fail=3", {REFUSED: 2}, {DELETED: 20}, {PRESENT: 1}) == 3
    assert when_met("soon,fail=3", {REFUSED: 20}) == 1
    assert when_met("soon,fail=3", {REFUSED: 2}, {DELETED: 20}) == 0


@pytest.mark.parametrize(("bad", "met"), [(0, False), (1, False), (2, True), (3, True), (10, True)])
def test_a_percentage_is_of_the_settled_faces(bad: int, *, met: bool) -> None:
    calls = [{REFUSED: 1}] * bad + [{DELETED: 1}] * (10 - bad)
    assert bool(when_met("soon,fail=20%", *calls)) is met


def test_a_percentage_waits_for_the_tenth_call() -> None:
    assert when_met("soon,fail=20%", *[{REFUSED: 20}] * 12) == LEAST_CALLS == 10
    # A number does not: the operator has named it.
    assert when_met("soon,fail=20%,refused=21", *[{REFUSED: 20}] * 12) == 2


def test_a_percentage_of_nothing_is_not_met() -> None:
    assert when_met("soon,fail=0.001%", *[{Outcome.HELD: 1}] * 30) == 0
    assert when_met("soon,fail=0.001%", *[{DELETED: 1}] * 30) == 0


def test_what_was_never_sent_is_not_settled() -> None:
    held: dict[Outcome, int] = {Outcome.HELD: 50, Outcome.CONFLICT: 50, Outcome.UNSENT: 50}
    # One in ten of what was sent, and one in a hundred and sixty of all.
    calls = [{**held, DELETED: 1}, {REFUSED: 1}, *[{DELETED: 1}] * 8]
    assert when_met("soon,fail=10%", *calls) == 10


@pytest.mark.parametrize("nothing", [{}, {Outcome.HELD: 20}])
def test_a_call_of_which_nothing_counts_is_none_of_the_ten(nothing: dict[Outcome, int]) -> None:
    assert when_met("soon,fail=10%", *[nothing] * 30, {REFUSED: 1}, *[{DELETED: 1}] * 8) == 0
    assert when_met("soon,fail=10%", *[nothing] * 30, *[{REFUSED: 1}] * 10) == 40


def test_an_unknown_person_may_be_what_was_wanted() -> None:
    wanted = WANTED | {NO_PERSON}
    assert when_met("soon,fail=1", {NO_PERSON: 5}, wanted=wanted) == 0
    assert when_met("soon,no_person=5", {NO_PERSON: 5}, wanted=wanted) == 1
    assert when_met("soon,fail=1", {UNKNOWN: 1}, wanted=wanted) == 1


def test_the_sentence_has_the_rule_and_the_figures() -> None:
    halting = Halting(rule("soon,fail=25%"))
    said = [halting.settled({DELETED: 10, REFUSED: 3, PRESENT: 1}) for _ in range(10)]
    assert said[:9] == [""] * 9
    assert said[9] == (
        "--halt soon,fail=25%: of 140 faces settled in this session 40 (28.6 %) are not as wanted"
        " (10 present, 30 refused)"
    )
