"""What waits in a ledger: for its time, for its person, for a lookup, for another session."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.core.rig import draft_run, persons, rows
from tests.ledger.audit import audit
from tests.ledger.audit import rows as select
from tests.ledger.errands import (
    ALL_STEPS,
    LOOKING,
    Answer,
    Errands,
    World,
    begin,
    begun,
    unsynced_ledger,
)
from worker.fold import DEFAULT_RULES, Rules
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Attempt, Call, Evidence, Kind, Request, Step, Verb, Waiting

INTERVAL_US = DEFAULT_RULES.absence_interval_us
DELETE = (Step.DELETE,)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """Three persons with two faces each, and one with three: two calls."""
    pairs = [*persons(3, 2), *(("big", f"9{n}") for n in range(3))]
    draft_run(tmp_path, [rows(pairs)], faces_per_call=2)
    async with unsynced_ledger(tmp_path) as one:
        yield one


def faces(run_dir: Path) -> list[tuple[str, str, int]]:
    """(face, outcome, attempts), audited."""
    connection = open_ledger(run_dir, read_only=True)
    try:
        audit(connection)
        return select(connection, "SELECT face_id, outcome, attempts FROM face ORDER BY face_no")
    finally:
        connection.close()


async def ended(
    ledger: Ledger, attempt: Attempt, kind: Kind, *listed: str, at_us: int
) -> Waiting | None:
    """``attempt`` ends so."""
    evidence = Evidence(kind, at_us, at_us, code="c", listed=listed)
    return await ledger.record(attempt.seq, attempt.call, evidence)


async def unclear(ledger: Ledger, *at_us: int) -> None:
    """One deletion after another ends so that a lookup is needed."""
    for us in at_us:
        call = await begun(ledger)
        assert await ended(ledger, call, Kind.AMBIGUOUS, at_us=us) == Waiting(
            Step.LOOKUP, us + INTERVAL_US
        )


def nothing(_: Request) -> Evidence:
    """No believable answer."""
    return Evidence(Kind.AMBIGUOUS, 0)


# For its time


async def test_nothing_is_claimed_before_its_time(ledger: Ledger) -> None:
    await unclear(ledger, 1000)
    due_us = 1000 + INTERVAL_US
    assert await begin(ledger, LOOKING, due_us - 1) is None
    assert await ledger.due(LOOKING, due_us - 1) == due_us
    assert await ledger.due(LOOKING, 1000) == due_us
    assert (await begun(ledger, LOOKING, due_us)).call.call_no == 0
    assert await ledger.due(LOOKING, due_us) is None


async def test_what_is_due_first_is_claimed_first(ledger: Ledger) -> None:
    await unclear(ledger, 3000, 1000, 2000)
    assert await ledger.due(LOOKING, 3000) == 1000 + INTERVAL_US
    later_us = 9000 + INTERVAL_US
    assert [(await begun(ledger, LOOKING, later_us)).call.call_no for _ in range(3)] == [
        1,
        2,
        0,
    ]


async def test_due_is_the_first_of_all_steps(ledger: Ledger) -> None:
    await unclear(ledger, 1000)
    assert await ledger.due((Step.LOOKUP, Step.DELETE), 1000) == 0
    assert await ledger.due((Step.LOOKUP, Step.REMOVE), 1000) == 1000 + INTERVAL_US
    assert await ledger.due((Step.REMOVE, Step.VERIFY), 1000) is None


async def test_the_first_step_that_has_something_due_wins(ledger: Ledger) -> None:
    await unclear(ledger, 1000)
    steps, due_us = (Step.LOOKUP, Step.DELETE), 1000 + INTERVAL_US
    assert (await begun(ledger, steps, due_us - 1)).call.step is Step.DELETE
    assert (await begun(ledger, steps, due_us)).call.step is Step.LOOKUP
    assert (await begun(ledger, steps, due_us)).call.step is Step.DELETE
    assert await begin(ledger, (Step.LOOKUP, Step.VERIFY, Step.REMOVE), due_us) is None


async def test_the_time_outlives_the_process(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    async with unsynced_ledger(tmp_path) as first:
        await unclear(first, 1000)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.close_open_attempts(2000)
        await ledger.begin_session(Verb.RESUME, 2000)
        assert await begin(ledger, LOOKING, 1000 + INTERVAL_US - 1) is None
        assert await ledger.due(LOOKING, 2000) == 1000 + INTERVAL_US
        assert await begin(ledger, LOOKING, 1000 + INTERVAL_US) is not None


async def test_a_clock_that_was_set_back_keeps_nothing_waiting(ledger: Ledger) -> None:
    """Nothing is ever put further ahead than an interval: what is, was written by another clock."""
    await unclear(ledger, 10**9)
    assert await begin(ledger, LOOKING, 10**9) is None
    assert await ledger.due(LOOKING, 10**9) == 10**9 + INTERVAL_US
    back_us = 10**9 - 1
    assert await ledger.due(LOOKING, back_us) == back_us
    assert (await begun(ledger, LOOKING, back_us)).call.call_no == 0


async def test_after_the_clock_was_set_back_lookups_are_apart_all_the_same(
    ledger: Ledger,
) -> None:
    await unclear(ledger, 10**9)
    first = await begun(ledger, LOOKING, 5000)
    due_us = 5000 + INTERVAL_US
    assert await ended(ledger, first, Kind.SHOWN, at_us=5000) == Waiting(Step.LOOKUP, due_us)
    assert await begin(ledger, LOOKING, due_us - 1) is None
    second = await begun(ledger, LOOKING, due_us)
    assert await ended(ledger, second, Kind.SHOWN, at_us=due_us) is None
    assert (await ledger.tally())["absent"] == 2


# For its person


async def test_a_lookup_in_flight_keeps_the_other_calls_of_its_person(ledger: Ledger) -> None:
    for number in range(3):
        await ended(ledger, await begun(ledger), Kind.REFUSED, at_us=number)
    await unclear(ledger, 1000)
    lookup = await begun(ledger, LOOKING, 1000 + INTERVAL_US)
    assert lookup.call.person_id == "big"
    assert await begin(ledger, ALL_STEPS, 10 * INTERVAL_US) is None
    assert await ledger.due(ALL_STEPS, 10 * INTERVAL_US) is None
    await ended(ledger, lookup, Kind.AMBIGUOUS, at_us=2000 + INTERVAL_US)
    assert (await begun(ledger, ALL_STEPS, 2000 + INTERVAL_US)).call.face_ids == ("92",)


# For a lookup


async def test_a_lookup_asks_about_what_is_unclear_and_nothing_else(ledger: Ledger) -> None:
    call = await begun(ledger)
    one, other = call.call.face_ids
    assert await ended(ledger, call, Kind.LISTED, one, at_us=1000) == Waiting(
        Step.LOOKUP, 1000 + INTERVAL_US
    )
    lookup = await begun(ledger, LOOKING, 1000 + INTERVAL_US)
    assert lookup.call == Call(0, "person0", (other,), ("s0.csv:3",), Step.LOOKUP)


async def test_nothing_is_sent_while_a_face_of_the_call_is_to_be_looked_for(
    ledger: Ledger, tmp_path: Path
) -> None:
    """One face is listed, the other not: the second lookup of that one comes first."""
    await unclear(ledger, 1000)
    first = await begun(ledger, LOOKING, 1000 + INTERVAL_US)
    one, other = first.call.face_ids
    due_us = 1000 + 2 * INTERVAL_US
    shown = await ended(ledger, first, Kind.SHOWN, one, at_us=1000 + INTERVAL_US)
    assert shown == Waiting(Step.LOOKUP, due_us)
    second = await begun(ledger, LOOKING, due_us)
    assert second.call.face_ids == (other,)
    assert await ended(ledger, second, Kind.SHOWN, at_us=due_us) == Waiting(Step.DELETE, 0)
    again = await begun(ledger, DELETE, due_us)
    assert (again.call.call_no, again.call.face_ids) == (0, (one,))
    await ended(ledger, again, Kind.LISTED, one, at_us=due_us + 1)
    assert faces(tmp_path)[:2] == [(one, "deleted", 2), (other, "absent", 1)]


@pytest.mark.parametrize("when", ["waiting", "in flight"])
@pytest.mark.parametrize(
    ("listed", "outcome"), [(("0000000000",), "held"), ((), "absent")], ids=["there", "gone"]
)
async def test_a_hold_keeps_nobody_from_looking(
    ledger: Ledger, tmp_path: Path, when: str, listed: tuple[str, ...], outcome: str
) -> None:
    """What may have been deleted before is established; what is still there is not sent again."""
    hold = frozenset({("person0", "0000000000")})
    await unclear(ledger, 1000)
    if when == "waiting":
        assert await ledger.hold(hold) == 0
    now_us = 1000 + INTERVAL_US
    lookup = await begun(ledger, LOOKING, now_us)
    assert len(lookup.call.face_ids) == 2
    if when == "in flight":
        assert await ledger.hold(hold) == 0
    await ended(ledger, lookup, Kind.SHOWN, *listed, at_us=now_us)
    await Errands(ledger, lambda _: Evidence(Kind.SHOWN, 0), now_us=now_us).all(LOOKING)
    assert faces(tmp_path)[:2] == [("0000000000", outcome, 1), ("0000000001", "absent", 1)]


# After a crash


@pytest.mark.parametrize("step", [Step.DELETE, Step.LOOKUP])
async def test_what_was_left_open_is_looked_for_first(tmp_path: Path, step: Step) -> None:
    """A lookup that was left open changed nothing; it is made again."""
    draft_run(tmp_path, [rows(persons(1))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)  # never closed: the process is gone
    now_us = 1000 + INTERVAL_US
    if step is Step.LOOKUP:
        await unclear(dead, 1000)
    await begun(dead, (step,), now_us)
    async with unsynced_ledger(tmp_path) as ledger:
        assert await ledger.close_open_attempts(now_us + 5) == 1
        assert await ledger.close_open_attempts(now_us + 6) == 0
        due_us = now_us + 5 + INTERVAL_US
        assert await ledger.due(ALL_STEPS, due_us - 1) == due_us
        assert (await begun(ledger, ALL_STEPS, due_us)).call.step is Step.LOOKUP
        assert await ledger.tally() == {"unknown": 1}


# For another session


async def test_a_run_is_finished_when_nothing_waits_and_nothing_is_unknown(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(2))])
    async with unsynced_ledger(tmp_path) as ledger:
        assert not await ledger.is_finished()
        first, second = await begun(ledger), await begun(ledger)
        await ended(ledger, first, Kind.LISTED, *first.call.face_ids, at_us=1)
        assert not await ledger.is_finished(), "one is in flight"
        await ended(ledger, second, Kind.AMBIGUOUS, at_us=2)
        assert not await ledger.is_finished(), "one waits for a lookup"
        errands = Errands(ledger, nothing)
        await errands.all()
        assert await ledger.due(ALL_STEPS, errands.now_us) is None
        assert not await ledger.is_finished(), "one is unknown"
        await ledger.begin_session(Verb.RESUME, errands.now_us)
        errands.answer = World({"person1": []}).answer
        await errands.all()
        assert await ledger.is_finished()
        assert await ledger.tally() == {"deleted": 1, "absent": 1}


async def test_every_session_gives_lookups_another_chance(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    for number in range(3):
        async with unsynced_ledger(tmp_path) as ledger:
            await ledger.close_open_attempts(1)
            await ledger.begin_session(Verb.RESUME if number else Verb.RUN, 1)
            sent = await Errands(ledger, nothing, now_us=(number + 1) * 10**9).all()
            steps = [x.step for x in sent]
            assert steps.count(Step.LOOKUP) == DEFAULT_RULES.max_lookups
            assert steps.count(Step.DELETE) == (not number)
            assert await ledger.tally() == {"unknown": 1}
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RESUME, 1)
        world = World({"person0": ["0000000000"]})
        sent = await Errands(ledger, world.answer, now_us=10**10).all()
        assert [x.step for x in sent] == [Step.LOOKUP, Step.DELETE]
    assert faces(tmp_path) == [("0000000000", "deleted", 2)]


async def test_sessions_that_are_stopped_make_no_more_attempts(tmp_path: Path) -> None:
    """A run that is stopped after every attempt has as many of them as one that is not."""
    draft_run(tmp_path, [rows(persons(1))])
    world = World({"person0": ["0000000000"]})
    attempts = 0
    for number in range(6):
        async with unsynced_ledger(tmp_path) as ledger:
            await ledger.begin_session(Verb.RESUME if number else Verb.RUN, 1)
            errands = Errands(ledger, world.answer, now_us=(number + 1) * 10**9)
            await errands.all(LOOKING)
            errands.answer = nothing
            attempts += await errands.one(DELETE) is not None
    assert attempts == DEFAULT_RULES.max_attempts
    assert faces(tmp_path) == [("0000000000", "present", 3)]


async def test_a_hold_on_what_was_given_up_counts_when_it_is_taken_up_again(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    async with unsynced_ledger(tmp_path) as ledger:
        errands = Errands(ledger, nothing)
        await errands.all()
        assert await ledger.tally() == {"unknown": 1}
        assert await ledger.hold(frozenset({("person0", "")})) == 0
        await ledger.begin_session(Verb.RESUME, errands.now_us)
        errands.answer = World({"person0": ["0000000000"]}).answer
        assert [x.step for x in await errands.all()] == [Step.LOOKUP]
    assert faces(tmp_path) == [("0000000000", "held", 1)]


# A new round


PAIRS = [("gone", "1"), ("there", "2"), ("nobody", "3"), ("no", "4"), ("forbidden", "5")]
REFUSALS = {"no": "400", "forbidden": "403"}
RULES = Rules(retryable_codes=frozenset({"403"}))


def stubborn(world: World) -> Answer:
    """Refuses two persons, and never deletes what is ``there``."""

    def answer(asked: Request) -> Evidence:
        if asked.step is Step.DELETE and asked.person_id in REFUSALS:
            return Evidence(Kind.REFUSED, 0, code=REFUSALS[asked.person_id])
        if asked.step is Step.DELETE and asked.person_id == "there":
            return Evidence(Kind.AMBIGUOUS, 0)
        return world.answer(asked)

    return answer


def library() -> World:
    return World({"gone": ["1"], "there": ["2"], "no": ["4"], "forbidden": ["5"]})


def deletions(sent: Sequence[Request]) -> Counter[str]:
    return Counter(x.person_id for x in sent if x.step is Step.DELETE)


FIRST_ROUND = {"deleted": 1, "present": 1, "no_person": 1, "refused": 2}


async def test_a_round_takes_up_what_it_may_and_nothing_else(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    world = library()
    async with unsynced_ledger(tmp_path, rules=RULES) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, stubborn(world))
        await errands.all()
        assert await ledger.tally() == FIRST_ROUND
        for verb in (Verb.RESUME, Verb.VERIFY):
            await ledger.begin_session(verb, errands.now_us)
            assert await ledger.due((Step.DELETE, Step.LOOKUP), errands.now_us) is None
    async with unsynced_ledger(tmp_path, rules=RULES) as ledger:
        await ledger.begin_session(Verb.RETRY, errands.now_us)
        assert await ledger.tally() == FIRST_ROUND, "nothing is forgotten before it is tried"
        assert not await ledger.is_finished()
        errands = Errands(ledger, stubborn(world), now_us=10**9)
        assert deletions(await errands.all(DELETE + LOOKING)) == {
            "there": 3, "nobody": 1, "forbidden": 1,
        }  # fmt: skip
        assert await ledger.tally() == FIRST_ROUND
        await ledger.begin_session(Verb.RETRY, errands.now_us)
        errands.answer = world.answer
        assert deletions(await errands.all(DELETE + LOOKING)) == {
            "there": 1, "nobody": 1, "forbidden": 1,
        }  # fmt: skip
    assert faces(tmp_path) == [
        ("1", "deleted", 1),
        ("2", "deleted", 7),
        ("3", "no_person", 3),
        ("4", "refused", 1),
        ("5", "deleted", 3),
    ]


async def test_a_round_that_was_stopped_is_resumed_as_the_same_round(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(PAIRS[1:2])])
    errands_us = itertools.count(10**9, 10**9)

    async def session(verb: Verb, *, at_most: int) -> int:
        async with unsynced_ledger(tmp_path) as ledger:
            await ledger.close_open_attempts(1)
            await ledger.begin_session(verb, 1)
            errands = Errands(ledger, stubborn(library()), now_us=next(errands_us))
            for _ in range(at_most):
                await errands.all(LOOKING)
                await errands.one(DELETE)
            await errands.all(LOOKING)
            return deletions(errands.sent)["there"]

    assert await session(Verb.RUN, at_most=9) == 3
    assert await session(Verb.RETRY, at_most=1) == 1
    assert await session(Verb.RESUME, at_most=1) == 1
    assert await session(Verb.RESUME, at_most=9) == 1
    assert faces(tmp_path) == [("2", "present", 6)]
    assert await session(Verb.RETRY, at_most=9) == 3


async def test_a_hold_that_came_between_the_rounds_keeps_everything_as_it_is(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    async with unsynced_ledger(tmp_path, rules=RULES) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, stubborn(library()))
        await errands.all()
        everybody = frozenset((person_id, "") for person_id, _ in PAIRS)
        assert await ledger.hold(everybody) == 0
        await ledger.begin_session(Verb.RETRY, errands.now_us)
        assert await errands.all() == []
        assert await ledger.is_finished()
        assert await ledger.tally() == FIRST_ROUND


async def test_a_hold_that_comes_in_a_round_keeps_what_was_established_before(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows(PAIRS)])
    async with unsynced_ledger(tmp_path, rules=RULES) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        errands = Errands(ledger, stubborn(library()))
        await errands.all()
        await ledger.begin_session(Verb.RETRY, errands.now_us)
        assert await ledger.due(DELETE, errands.now_us) == 0
        await ledger.hold(frozenset((person_id, "") for person_id, _ in PAIRS))
        assert await errands.all() == []
        assert await ledger.tally() == FIRST_ROUND
