"""Looking up once more what is settled: everything, a sample, or because somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.rig import draft_run, lines, rows
from tests.ledger.audit import audit
from tests.ledger.errands import ALL_STEPS, LOOKING, Errands, World, unsynced_ledger
from worker.fold import DEFAULT_RULES
from worker.holds import Holds
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.model import Evidence, Kind, Request, Step, Verb
from worker.report.interface import Verification

INTERVAL_US = DEFAULT_RULES.absence_interval_us
DELETE = (Step.DELETE,)
PAIRS = [(f"p{n}", f"{n}") for n in range(6)]


def library() -> World:
    return World({person_id: [face_id] for person_id, face_id in PAIRS})


def outcomes(run_dir: Path) -> list[tuple[str, str]]:
    connection = open_ledger(run_dir, read_only=True)
    try:
        audit(connection)
    finally:
        connection.close()
    return [(x.outcome, x.code) for x in lines(run_dir)]


def answered(run_dir: Path) -> Verification:
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    try:
        return books.verification()
    finally:
        books.close()


def verified(sent: Sequence[Request]) -> list[str]:
    return [x.person_id for x in sent if x.step is Step.VERIFY]


async def test_everything_is_looked_up_once_more_after_it_was_deleted(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        errands = Errands(ledger, library().answer)
        await errands.all(DELETE)
        first_us = await ledger.due((Step.VERIFY,), errands.now_us)
        assert first_us == 1_000_000 + 1000 + INTERVAL_US, "an interval after it was deleted"
        assert not await ledger.is_finished()
        sent = await errands.all()
        assert await ledger.is_finished()
    assert verified(sent) == [person_id for person_id, _ in PAIRS]
    assert [x.face_ids for x in sent] == [(face_id,) for _, face_id in PAIRS]
    assert outcomes(tmp_path) == [("deleted", "200")] * 6
    assert answered(tmp_path) == Verification(asked=6, answered=6)


async def test_none_is_none(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="none")
        assert not verified(await Errands(ledger, library().answer).all())
    assert answered(tmp_path) == Verification(0, 0)


async def test_what_was_not_asked_about_is_not_looked_up(tmp_path: Path) -> None:
    """Held, refused and unknown: a lookup would say nothing about what the run did."""
    holds = Holds(frozenset({("p0", "")}), "x")
    draft_run(tmp_path, [rows(PAIRS)], holds=holds)

    def answer(asked: Request) -> Evidence:
        if asked.person_id == "p1":
            return Evidence(Kind.REFUSED, 0, code="400")
        if asked.person_id == "p2":
            return Evidence(Kind.AMBIGUOUS, 0)
        return library().answer(asked)

    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        sent = await Errands(ledger, answer).all()
    assert Counter(verified(sent)) == {"p3": 1, "p4": 1, "p5": 1}
    assert outcomes(tmp_path)[:3] == [("held", ""), ("refused", "400"), ("unknown", "ambiguous")]


async def test_what_is_there_again_is_present_and_not_sent(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS[:1])])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        errands = Errands(ledger, world.answer)
        await errands.all(DELETE)
        world.persons["p0"].add("0")
        sent = await errands.all()
    assert [x.step for x in sent] == [Step.VERIFY]
    assert outcomes(tmp_path) == [("present", "reappeared")]


async def test_an_unclear_answer_is_asked_for_again_until_it_is_given_up(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS[:1])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        errands = Errands(ledger, library().answer)
        await errands.all(DELETE)
        errands.answer = lambda _: Evidence(Kind.AMBIGUOUS, 0)
        sent = await errands.all()
        assert len(verified(sent)) == DEFAULT_RULES.max_lookups
        assert not await ledger.is_finished(), "nobody knows whether it is really gone"
        await ledger.begin_session(Verb.RESUME, errands.now_us)
        errands.answer = World({"p0": []}).answer
        assert len(verified(await errands.all())) == 1
        assert await ledger.is_finished()
    assert outcomes(tmp_path) == [("deleted", "200")]
    assert answered(tmp_path) == Verification(asked=1, answered=1)


async def test_what_was_given_up_is_not_verified_in_the_same_session(tmp_path: Path) -> None:
    """The same question under another name would use up as many lookups again."""
    draft_run(tmp_path, [rows(PAIRS[:1])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        sent = await Errands(ledger, lambda _: Evidence(Kind.AMBIGUOUS, 0)).all()
        assert [x.step for x in sent] == [Step.DELETE, *[Step.LOOKUP] * DEFAULT_RULES.max_lookups]


async def test_a_throttled_verification_is_no_answer_and_no_attempt(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS[:1])])
    world, kinds = library(), iter([Kind.THROTTLED] * 9)

    def answer(asked: Request) -> Evidence:
        kind = next(kinds, None) if asked.step is Step.VERIFY else None
        return world.answer(asked) if kind is None else Evidence(kind, 0)

    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        assert len(verified(await Errands(ledger, answer).all())) == 10
    assert answered(tmp_path) == Verification(1, 1)


async def test_only_what_was_seen_after_the_last_change_counts(tmp_path: Path) -> None:
    """A deletion of a new round has to be looked at anew."""
    draft_run(tmp_path, [rows(PAIRS[:1])])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        errands = Errands(ledger, world.answer)
        await errands.all(DELETE)
        world.persons["p0"].add("0")
        assert len(verified(await errands.all())) == 1
        await ledger.begin_session(Verb.RETRY, errands.now_us, verify="all")
        sent = await errands.all()
        assert [x.step for x in sent] == [Step.DELETE, Step.VERIFY]
    assert outcomes(tmp_path) == [("deleted", "200")]


# A sample


async def sampled(run_dir: Path, size: int, *, then: Sequence[int] = ()) -> list[set[str]]:
    """Persons verified in a run that asks for ``sample:size``, and in retries after it."""
    draft_run(run_dir, [rows(PAIRS)])
    world = library()
    persons = []
    for number, wanted in enumerate((size, *then)):
        async with unsynced_ledger(run_dir) as ledger:
            verb = Verb.RETRY if number else Verb.RUN
            await ledger.begin_session(verb, 1, verify=f"sample:{wanted}")
            errands = Errands(ledger, world.answer, now_us=(number + 1) * 10**9)
            persons.append(set(verified(await errands.all())))
    return persons


@pytest.mark.parametrize(("size", "count"), [(1, 1), (3, 3), (6, 6), (99, 6)])
async def test_a_sample_is_of_so_many_persons(tmp_path: Path, size: int, count: int) -> None:
    (persons,) = await sampled(tmp_path, size)
    assert len(persons) == count
    assert answered(tmp_path) == Verification(count, count)


async def test_a_sample_is_the_same_in_every_plan_of_the_run_and_not_the_first_rows(
    tmp_path: Path,
) -> None:
    one, other = await sampled(tmp_path / "one", 3), await sampled(tmp_path / "other", 3)
    assert one == other


async def test_a_later_session_keeps_the_sample_and_adds_to_it_only_what_is_missing(
    tmp_path: Path,
) -> None:
    first, second, third = await sampled(tmp_path, 2, then=(2, 5))
    assert len(first) == 2
    assert second == set()
    assert len(third) == 3
    assert not first & third


async def test_what_is_found_does_not_change_the_sample(tmp_path: Path) -> None:
    """A whole person's seal is renewed by what is found; who is sampled stays."""
    draft_run(tmp_path, [rows([(person_id, "") for person_id, _ in PAIRS])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="sample:2")
        errands = Errands(ledger, library().answer)
        await errands.all((Step.LOOKUP, Step.DELETE))
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 2, verify="sample:2")
        sent = await Errands(ledger, library().answer, now_us=10**9).all()
    assert len(set(verified(sent))) == 2
    assert answered(tmp_path) == Verification(2, 2)


async def test_all_calls_of_a_person_in_the_sample_are_verified(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", f"{n}") for n in range(5)])], faces_per_call=2)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="sample:1")
        sent = await Errands(ledger, World({"p": "01234"}).answer).all()
    assert sorted(x.face_ids for x in sent if x.step is Step.VERIFY) == [
        ("0", "1"), ("2", "3"), ("4",),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 4, 6])
async def test_a_person_of_many_calls_is_one_person_of_a_sample(tmp_path: Path, size: int) -> None:
    pairs = [("big", f"b{number}") for number in range(40)]
    draft_run(tmp_path, [rows([*pairs, *PAIRS])], faces_per_call=2)
    world = library()
    world.persons["big"] = {face_id for _, face_id in pairs}
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify=f"sample:{size}")
        sent = await Errands(ledger, world.answer).all()
    asked = Counter(verified(sent))
    assert len(asked) == size
    assert asked.pop("big", 20) == 20
    assert set(asked.values()) <= {1}


@pytest.mark.parametrize(("first", "then"), [("all", "all"), ("all", "none"), ("all", "sample:1")])
async def test_who_was_not_begun_when_everybody_was_asked_for_is_verified_later(
    tmp_path: Path, first: str, then: str
) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify=first)
        errands = Errands(ledger, world.answer)
        await errands.one(DELETE)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 2, verify=then)
        sent = await Errands(ledger, world.answer, now_us=10**9).all()
        assert await ledger.is_finished()
    assert sorted(verified(sent)) == sorted(person_id for person_id, _ in PAIRS)
    assert answered(tmp_path) == Verification(asked=6, answered=6)


# Whole persons


async def test_a_whole_person_is_asked_about_as_such(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p0", ""), ("p1", "1")])])
    rules = replace(DEFAULT_RULES, delete_person=True)
    async with unsynced_ledger(tmp_path, rules=rules) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        sent = await Errands(ledger, library().answer).all()
    assert [(x.person_id, x.face_ids) for x in sent if x.step is Step.VERIFY] == [
        ("p1", ("1",)), ("p0", ()),
    ]  # fmt: skip
    assert outcomes(tmp_path) == [("deleted", "200"), ("person_deleted", "200"), ("deleted", "200")]


# Because somebody asks


async def test_the_verb_looks_at_everything_and_deletes_nothing(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        await Errands(ledger, world.answer).all()
    for number in range(2, 4):
        async with unsynced_ledger(tmp_path) as ledger:
            await ledger.begin_session(Verb.VERIFY, number)
            sent = await Errands(ledger, world.answer, now_us=number * 10**9).all()
            assert await ledger.is_finished()
        assert Counter(verified(sent)) == {person_id: 1 for person_id, _ in PAIRS}
        assert len(sent) == 6
        assert answered(tmp_path) == Verification(6, 6)
    assert outcomes(tmp_path) == [("deleted", "200")] * 6


async def test_the_verb_settles_what_is_unknown_and_leaves_what_is_to_be_sent(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows(PAIRS[:2])])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, lambda _: Evidence(Kind.AMBIGUOUS, 0))
        await errands.all()
        assert await ledger.tally() == {"unknown": 2}
        world.persons["p1"] = set()
        await ledger.begin_session(Verb.VERIFY, 2)
        errands.answer = world.answer
        sent = await errands.all(LOOKING)
        assert {x.step for x in sent} == {Step.LOOKUP}
        assert await ledger.due(ALL_STEPS, errands.now_us) == 0
        assert not await ledger.is_finished()
    assert outcomes(tmp_path) == [("unknown", "still_listed"), ("absent", "200")]


async def test_what_a_verification_finds_gone_at_last_is_looked_for_twice(tmp_path: Path) -> None:
    """``present`` after all attempts; then nobody lists it any more."""
    draft_run(tmp_path, [rows(PAIRS[:1])])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, world.answer)
        errands.answer = lambda x: (
            Evidence(Kind.AMBIGUOUS, 0) if x.step is Step.DELETE else world.answer(x)
        )
        await errands.all()
        assert await ledger.tally() == {"present": 1}
        world.persons["p0"].clear()
        await ledger.begin_session(Verb.VERIFY, 2)
        assert [x.step for x in await errands.all()] == [Step.VERIFY, Step.LOOKUP]
    assert outcomes(tmp_path) == [("absent", "200")]


async def test_a_resume_takes_up_what_was_asked_for_and_never_answered(tmp_path: Path) -> None:
    """Together with what else is left: a verification that was given up, and one never begun."""
    draft_run(tmp_path, [rows(PAIRS[:3])])
    world = library()
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, world.answer)
        await errands.one(DELETE)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 2, verify="all")
        errands = Errands(ledger, world.answer, now_us=10**9)
        await errands.one(DELETE)
        errands.answer = lambda _: Evidence(Kind.AMBIGUOUS, 0)
        assert {x.person_id for x in await errands.all((Step.VERIFY,))} == {"p0", "p1"}
    assert answered(tmp_path) == Verification(asked=2, answered=0)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 3)
        sent = await Errands(ledger, world.answer, now_us=2 * 10**9).all()
    assert sorted(verified(sent)) == ["p0", "p1", "p2"]
    assert answered(tmp_path) == Verification(asked=3, answered=3)
