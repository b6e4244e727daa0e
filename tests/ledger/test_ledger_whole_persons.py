"""Persons of whom everything is to go: found, taken in, sent, looked for again, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.core.rig import draft_run, lines, rows
from tests.ledger.audit import audit
from tests.ledger.errands import (
    ALL_STEPS,
    LOOKING,
    Errands,
    World,
    begin,
    begun,
    unsynced_ledger,
)
from tests.ledger.test_ledger_query_plans import plan_of
from worker.errors import LedgerDamaged, LimitReached
from worker.fold import DEFAULT_RULES, Rules
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger.database import open_ledger
from worker.ledger.journal import CALLS_WITH_FACE, PLANNED_WITH_FACE, UNDER_ANOTHER
from worker.ledger.standings import CONTESTED
from worker.model import Entry, Evidence, Kind, Request, Step, Verb

INTERVAL_US = DEFAULT_RULES.absence_interval_us
WITH_RECORD = replace(DEFAULT_RULES, delete_person=True)
DELETE = (Step.DELETE,)

WHOLE = ("w", "")


def holding(*holds: Hold) -> Holds:
    return Holds(frozenset(holds), "x")


def outcomes(run_dir: Path) -> dict[str, str]:
    """Face to outcome of everything that belongs to ``w``; audited. ``""`` is the person."""
    connection = open_ledger(run_dir, read_only=True)
    try:
        audit(connection)
    finally:
        connection.close()
    return {x.face_id: x.outcome for x in lines(run_dir) if x.person_id == "w"}


async def erased(
    run_dir: Path,
    world: World,
    *pairs: tuple[str, str],
    holds: Holds = NO_HOLDS,
    rules: Rules = DEFAULT_RULES,
) -> list[Request]:
    """Plan ``pairs`` and do everything; what was sent."""
    draft_run(run_dir, [rows(pairs or [WHOLE])], holds=holds)
    async with unsynced_ledger(run_dir, rules=rules) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        sent = await Errands(ledger, world.answer).all()
        assert await ledger.is_finished()
    return sent


def steps(sent: Sequence[Request]) -> list[tuple[str, int]]:
    return [(str(x.step), len(x.face_ids)) for x in sent]


# From the first look to the last


async def test_a_person_is_looked_at_emptied_and_looked_at_again(tmp_path: Path) -> None:
    world = World({"w": ["3", "1", "2"]})
    sent = await erased(tmp_path, world)
    assert steps(sent) == [("lookup", 0), ("delete", 3), ("lookup", 0)]
    assert sent[1].face_ids == ("1", "2", "3")
    assert outcomes(tmp_path) == {
        "1": "deleted",
        "2": "deleted",
        "3": "deleted",
        "": "person_empty",
    }
    assert world.persons == {"w": set()}


async def test_a_person_without_faces_takes_two_looks(tmp_path: Path) -> None:
    sent = await erased(tmp_path, World({"w": []}))
    assert steps(sent) == [("lookup", 0)] * 2
    assert outcomes(tmp_path) == {"": "person_empty"}


async def test_a_person_nobody_knows(tmp_path: Path) -> None:
    sent = await erased(tmp_path, World({}))
    assert steps(sent) == [("lookup", 0)] * 2
    assert outcomes(tmp_path) == {"": "no_person"}


async def test_the_record_goes_as_well_where_that_was_asked_for(tmp_path: Path) -> None:
    world = World({"w": ["1"]})
    sent = await erased(tmp_path, world, rules=WITH_RECORD)
    assert steps(sent) == [("lookup", 0), ("delete", 1), ("lookup", 0), ("remove", 0)]
    assert [x.operation for x in sent][-1] == "DeletePerson"
    assert outcomes(tmp_path) == {"1": "deleted", "": "person_deleted"}
    assert world.persons == {}


async def test_more_than_twenty_faces_go_out_twenty_at_a_time(tmp_path: Path) -> None:
    found = [f"{n:03d}" for n in range(47)]
    sent = await erased(tmp_path, World({"w": found}))
    assert steps(sent) == [
        ("lookup", 0), ("delete", 20), ("delete", 20), ("delete", 7), ("lookup", 0),
    ]  # fmt: skip
    assert [face for x in sent if x.step is Step.DELETE for face in x.face_ids] == found


async def test_named_faces_go_first_and_are_known_once(tmp_path: Path) -> None:
    """What the input names and a lookup lists is one face with one story."""
    world = World({"w": ["1", "2", "3"]})
    sent = await erased(tmp_path, world, ("w", "2"), WHOLE, ("other", "9"), ("w", "5"))
    assert [(x.person_id, str(x.step), x.face_ids) for x in sent if x.person_id == "w"] == [
        ("w", "delete", ("2", "5")),
        ("w", "lookup", ()),
        ("w", "delete", ("1", "3")),
        ("w", "lookup", ()),
    ]
    assert outcomes(tmp_path) == {
        "1": "deleted", "2": "deleted", "3": "deleted", "5": "absent", "": "person_empty",
    }  # fmt: skip


async def test_a_look_finds_nothing_new_in_what_it_found_before(tmp_path: Path) -> None:
    """A deletion that was not applied: the face is still listed, and it is the same one."""
    world = World({"w": ["1"]})
    lost = iter([Kind.AMBIGUOUS])

    def answer(asked: Request) -> Evidence:
        kind = next(lost, None) if asked.step is Step.DELETE else None
        return world.answer(asked) if kind is None else Evidence(kind, 0)

    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        sent = await Errands(ledger, answer).all()
    assert steps(sent) == [
        ("lookup", 0), ("delete", 1), ("lookup", 0), ("delete", 1), ("lookup", 0),
    ]  # fmt: skip
    assert outcomes(tmp_path) == {"1": "deleted", "": "person_empty"}


# Rounds of finding


class Refilling(World):
    """Somebody adds a face after every deletion, ``times`` times."""

    def __init__(self, times: int) -> None:
        super().__init__({"w": ["0"]})
        self.left = times

    def apply(self, request: Request) -> frozenset[str]:
        gone = super().apply(request)
        if request.step is Step.DELETE and self.left:
            self.left -= 1
            self.persons["w"].add(f"9{self.left}")
        return gone


@pytest.mark.parametrize(
    ("times", "left", "person"), [(4, 0, "person_empty"), (5, 1, "present"), (9, 1, "present")]
)
async def test_whoever_keeps_adding_faces_is_not_followed_for_ever(
    tmp_path: Path, times: int, left: int, person: str
) -> None:
    """``max_rounds`` (5) finds are sent; what is found after that stays, and says so."""
    world = Refilling(times)
    sent = await erased(tmp_path, world)
    assert [x.step for x in sent].count(Step.DELETE) == min(times + 1, DEFAULT_RULES.max_rounds)
    found = outcomes(tmp_path)
    assert found[""] == person
    assert list(found.values()).count("present") == left + (person == "present")
    assert len(world.persons["w"]) == left


async def test_a_new_round_sends_what_was_found_too_late(tmp_path: Path) -> None:
    world = Refilling(5)
    await erased(tmp_path, world)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RETRY, 1)
        sent = await Errands(ledger, world.answer, now_us=10**9).all()
    assert steps(sent) == [("delete", 1), ("lookup", 0)]
    assert set(outcomes(tmp_path).values()) == {"deleted", "person_empty"}


# What must not be sent


async def test_found_faces_come_under_holds_and_conflicts(tmp_path: Path) -> None:
    """Of the plan: the exclusion list, a face of another person, a face in conflict before."""
    world = World({"w": ["1", "2", "3", "4"], "v": ["3"]})
    pairs = [WHOLE, ("v", "3"), ("x", "4"), ("y", "4")]
    sent = await erased(tmp_path, world, *pairs, holds=holding(("w", "2")))
    assert [x.face_ids for x in sent if x.person_id == "w" and x.step is Step.DELETE] == [("1",)]
    assert outcomes(tmp_path) == {
        "1": "deleted", "2": "held", "3": "conflict", "4": "conflict", "": "held",
    }  # fmt: skip
    assert world.persons["w"] == {"2", "3", "4"}


async def test_a_face_found_under_two_whole_persons_is_sent_for_neither_from_then_on(
    tmp_path: Path,
) -> None:
    world = World({"w": ["1", "2"], "v": ["2"]})
    draft_run(tmp_path, [rows([WHOLE, ("v", "")])])
    async with unsynced_ledger(tmp_path) as ledger:
        errands = Errands(ledger, world.answer)
        assert await errands.one(LOOKING) is not None
        assert await errands.one(LOOKING) is not None
        await errands.all()
    told = {(x.person_id, x.face_id): x.outcome for x in lines(tmp_path)}
    assert told["w", "1"] == "deleted"
    assert told["w", "2"] == told["v", "2"] == "conflict"
    assert world.persons == {"w": {"2"}, "v": {"2"}}


async def test_a_face_of_the_input_that_is_found_under_somebody_else_does_not_go(
    tmp_path: Path,
) -> None:
    """The whole person is looked up first; the named face has not left by then."""
    world = World({"w": ["7"], "v": ["7", "8"]})
    draft_run(tmp_path, [rows([WHOLE, ("v", "7"), ("v", "8")])])
    async with unsynced_ledger(tmp_path) as ledger:
        errands = Errands(ledger, world.answer)
        await errands.one(LOOKING)
        await errands.all()
        assert await ledger.is_finished()
    told = {(x.person_id, x.face_id): x.outcome for x in lines(tmp_path)}
    assert told == {
        ("w", ""): "conflict",
        ("w", "7"): "conflict",
        ("v", "7"): "conflict",
        ("v", "8"): "deleted",
    }
    assert world.persons == {"w": {"7"}, "v": {"7"}}


async def test_what_was_sent_before_it_was_found_under_somebody_else_keeps_its_outcome(
    tmp_path: Path,
) -> None:
    world = World({"w": ["7"], "v": ["7"]})
    draft_run(tmp_path, [rows([("v", "7"), WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        errands = Errands(ledger, world.answer)
        await errands.one((Step.DELETE,))
        await errands.all()
    told = {(x.person_id, x.face_id): x.outcome for x in lines(tmp_path)}
    assert told == {("v", "7"): "deleted", ("w", "7"): "conflict", ("w", ""): "conflict"}


async def test_a_face_in_flight_that_is_found_under_somebody_else_is_not_sent_again(
    tmp_path: Path,
) -> None:
    """Its attempt is throttled after the lookup of the other person: nothing of it was applied."""
    world = World({"w": ["7"], "v": ["7"]})
    draft_run(tmp_path, [rows([("v", "7"), WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        seq, call, _ = await begun(ledger)
        errands = Errands(ledger, world.answer)
        await errands.one(LOOKING)
        await ledger.record(seq, call, Evidence(Kind.THROTTLED, 2, 1, code="588"))
        sent = await errands.all()
        assert not [x for x in sent if x.step is Step.DELETE]
    told = {(x.person_id, x.face_id): x.outcome for x in lines(tmp_path)}
    assert told["v", "7"] == "conflict"


@pytest.mark.parametrize("rules", [DEFAULT_RULES, WITH_RECORD], ids=["faces", "record"])
@pytest.mark.parametrize("hold", [("w", ""), ("w", "2")])
@pytest.mark.parametrize("number", range(4))
async def test_a_hold_that_comes_at_any_time_keeps_what_is_left(
    tmp_path: Path, rules: Rules, hold: Hold, number: int
) -> None:
    """After each of the first calls; nothing that is held by then leaves any more."""
    world = World({"w": ["1", "2"]})
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path, rules=rules) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, world.answer)
        for _ in range(number):
            due_us = await ledger.due(ALL_STEPS, errands.now_us)
            assert due_us is not None or number == 3
            errands.now_us = max(errands.now_us, due_us or 0)
            await errands.one()
        await ledger.hold(frozenset({hold}))
        before = {face: set(found) for face, found in world.persons.items()}
        sent = await errands.all()
        assert await ledger.is_finished()
    told = outcomes(tmp_path)
    assert not any("2" in x.face_ids for x in sent)
    assert not any(x.step is Step.REMOVE for x in sent), "the record goes with every face"
    if hold == ("w", ""):
        assert not any(x.step is Step.DELETE for x in sent)
        assert world.persons == before
    assert "w" in world.persons
    if number < 2:
        assert "2" in world.persons["w"]
        assert told[""] == "held"


async def test_a_hold_after_the_end_changes_nothing_that_was_established(tmp_path: Path) -> None:
    world = World({"w": ["1", "2"]})

    def answer(asked: Request) -> Evidence:
        if asked.step is Step.DELETE:
            return Evidence(Kind.REFUSED, 0, code="400")
        return world.answer(asked)

    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, answer)
        await errands.all()
        assert await ledger.hold(frozenset({("w", "")})) == 0
        await ledger.begin_session(Verb.RETRY, errands.now_us)
        assert {x.step for x in await errands.all()} <= set(LOOKING)
    assert outcomes(tmp_path) == {"1": "refused", "2": "refused", "": "present"}


async def test_a_hold_reaches_a_removal_that_waits(tmp_path: Path) -> None:
    world = World({"w": ["1"]})
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path, rules=WITH_RECORD) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, world.answer)
        await errands.all((*LOOKING, *DELETE))
        assert await ledger.due((Step.REMOVE,), errands.now_us) == 0
        assert await ledger.hold(frozenset({("w", "2")})) == 1
        assert await errands.all() == []
    (line,) = [x for x in lines(tmp_path) if not x.face_id]
    assert (line.outcome, line.code) == ("held", "record_kept")
    assert "w" in world.persons


async def test_a_removal_waits_for_a_look_of_its_own_session(tmp_path: Path) -> None:
    """What was added since the last one would go with the record, and leave no trace."""
    world = World({"w": ["1"]})
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path, rules=WITH_RECORD) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, world.answer)
        await errands.all((*LOOKING, *DELETE))
        assert await ledger.due((Step.REMOVE,), errands.now_us) == 0
    world.persons["w"].add("7")
    async with unsynced_ledger(tmp_path, rules=WITH_RECORD) as ledger:
        await ledger.close_open_attempts(errands.now_us)
        await ledger.begin_session(Verb.RESUME, errands.now_us)
        sent = await Errands(ledger, world.answer, now_us=10**9).all()
    assert steps(sent) == [("lookup", 0), ("delete", 1), ("lookup", 0), ("remove", 0)]
    assert outcomes(tmp_path) == {"1": "deleted", "7": "deleted", "": "person_deleted"}


# The limit


async def test_more_than_allowed_is_found_and_nothing_of_it_is_sent(tmp_path: Path) -> None:
    world = World({"w": ["1", "2"], "v": ["3"], "n": ["9"]})
    draft_run(tmp_path, [rows([WHOLE, ("v", ""), ("n", "9")])])
    async with unsynced_ledger(tmp_path, max_delete=3) as ledger:
        errands = Errands(ledger, world.answer)
        await errands.all(LOOKING)
        for _ in range(2):  # the call waits again
            with pytest.raises(LimitReached, match="4 faces are to be deleted now") as limit:
                await errands.all(DELETE)
            assert "--max-delete allows 3" in limit.value.cause
        assert not await ledger.is_finished()
    assert [x.face_ids for x in errands.sent if x.step is Step.DELETE] in ([], [("9",)])
    assert outcomes(tmp_path) == {"1": "unsent", "2": "unsent", "": "unsent"}
    async with unsynced_ledger(tmp_path, max_delete=4) as ledger:
        await ledger.begin_session(Verb.RESUME, 1)
        await Errands(ledger, world.answer, now_us=10**9).all()
    assert outcomes(tmp_path) == {"1": "deleted", "2": "deleted", "": "person_empty"}


async def test_the_limit_keeps_nobody_from_looking_nor_what_the_input_names(
    tmp_path: Path,
) -> None:
    """Those were counted before the first call."""
    world = World({"w": ["1", "2"], "v": ["3"], "n": ["9"]})
    draft_run(tmp_path, [rows([("n", "9"), WHOLE, ("v", "")])])
    async with unsynced_ledger(tmp_path, max_delete=1) as ledger:
        errands = Errands(ledger, world.answer)
        assert [x.person_id for x in await errands.all(LOOKING)] == ["w", "v"]
        with pytest.raises(LimitReached):
            await errands.all(DELETE)
    assert [x.face_ids for x in errands.sent if x.step is Step.DELETE] == [("9",)]


async def test_exactly_as_many_as_allowed_are_sent(tmp_path: Path) -> None:
    world = World({"w": ["1", "2"], "n": ["9"]})
    draft_run(tmp_path, [rows([WHOLE, ("n", "9")])])
    async with unsynced_ledger(tmp_path, max_delete=3) as ledger:
        await Errands(ledger, world.answer).all()
    assert outcomes(tmp_path) == {"1": "deleted", "2": "deleted", "": "person_empty"}


async def test_what_is_kept_does_not_count_towards_the_limit(tmp_path: Path) -> None:
    world = World({"w": ["1", "2"]})
    draft_run(tmp_path, [rows([WHOLE])], holds=holding(("w", "2")))
    async with unsynced_ledger(tmp_path, max_delete=1) as ledger:
        await Errands(ledger, world.answer).all()
    assert outcomes(tmp_path) == {"1": "deleted", "2": "held", "": "held"}


async def test_a_hold_makes_room_under_the_limit(tmp_path: Path) -> None:
    world = World({"w": ["1", "2"]})
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path, max_delete=1) as ledger:
        errands = Errands(ledger, world.answer)
        await errands.all(LOOKING)
        with pytest.raises(LimitReached):
            await errands.one(DELETE)
        assert await ledger.hold(frozenset({("w", "2")})) == 1
        await errands.all()
    assert outcomes(tmp_path) == {"1": "deleted", "2": "held", "": "held"}


# Lookups that bring nothing


async def test_a_person_nobody_could_be_asked_about_is_left_to_a_resume(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, lambda _: Evidence(Kind.AMBIGUOUS, 0))
        assert len(await errands.all()) == DEFAULT_RULES.max_lookups
        assert not await ledger.is_finished()
        assert await ledger.tally() == {"unknown": 1}
    world = World({"w": ["1"]})
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 1)
        await Errands(ledger, world.answer, now_us=10**9).all()
    assert outcomes(tmp_path) == {"1": "deleted", "": "person_empty"}


# Seals


def damage(run_dir: Path, sql: str) -> None:
    connection = open_ledger(run_dir)
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE face SET face_id = '8' WHERE face_id = '1'",
        "DELETE FROM face WHERE face_id = '1'",
        "UPDATE face SET face_no = 99 WHERE face_id = '1'",
        "UPDATE call SET person_id = 'v' WHERE person_id = 'w'",
    ],
)
async def test_what_was_found_is_sealed_like_what_was_planned(tmp_path: Path, sql: str) -> None:
    world = World({"w": ["1", "2"]})
    draft_run(tmp_path, [rows([WHOLE])])
    async with unsynced_ledger(tmp_path) as ledger:
        await Errands(ledger, world.answer).all(LOOKING)
    damage(tmp_path, sql)
    async with unsynced_ledger(tmp_path) as ledger:
        with pytest.raises(LedgerDamaged, match="call 0 of the ledger is not what was planned"):
            await begin(ledger, ALL_STEPS, 10**9)


async def test_nothing_is_found_by_a_verification(tmp_path: Path) -> None:
    """What appears later was not asked for; it makes the person present, and is not sent."""
    world = World({"w": ["1"]})
    await erased(tmp_path, world)
    world.persons["w"].add("7")
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.VERIFY, 1)
        sent = await Errands(ledger, world.answer, now_us=10**9).all()
        assert await ledger.is_finished()
    assert steps(sent) == [("verify", 0)]
    told: list[Any] = [(x.face_id, x.outcome, x.code) for x in lines(tmp_path)]
    assert told == [("1", "deleted", "200"), ("", "present", "reappeared")]


async def test_a_new_round_finds_what_appeared_since(tmp_path: Path) -> None:
    world = World({"w": ["1"]})
    await erased(tmp_path, world)
    world.persons["w"] |= {"1", "7"}
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.VERIFY, 1)
        await Errands(ledger, world.answer, now_us=10**9).all()
        assert {x: y for x, y in outcomes(tmp_path).items() if y == "present"}.keys() == {"1", ""}
        await ledger.begin_session(Verb.RETRY, 2)
        sent = await Errands(ledger, world.answer, now_us=2 * 10**9).all()
    assert [x.face_ids for x in sent if x.step is Step.DELETE] in ([("1", "7")], [("1",), ("7",)])
    assert outcomes(tmp_path) == {"1": "deleted", "7": "deleted", "": "person_empty"}


async def test_found_faces_are_found_quickly_among_many(tmp_path: Path) -> None:
    """Every one is looked for under all other persons: by an index, not by reading everything."""
    draft_run(tmp_path, [rows([WHOLE])])
    connection: apsw.Connection = open_ledger(tmp_path)
    for sql in (UNDER_ANOTHER, CALLS_WITH_FACE, PLANNED_WITH_FACE, CONTESTED):
        plan = plan_of(connection, sql)
        scans = [step for step in plan if step.startswith("SCAN")]
        assert scans in ([], ["SCAN CONSTANT ROW"]), sql
        assert not any("AUTOMATIC" in step for step in plan), sql
    connection.close()


def test_an_entry_of_a_whole_person_is_one_only_where_it_says_so() -> None:
    """The rig's: an empty face means everything, which no source ever reads into it."""
    (entry,) = rows([WHOLE])
    assert entry == Entry(0, 2, "", "w", "", "", "", "", whole=True)
