"""The canary ramp: few persons first, looked up, and only then the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import apsw
import apsw.ext
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.core.belted_run import AtWork, Session, outcomes, session
from tests.core.rig import draft_run, persons, rows
from tests.ledger.audit import rows as select
from tests.ledger.errands import World, begin, unsynced_ledger
from worker.canary import MOST_STAGES, StageFailed, StagePassed, parse
from worker.errors import UsageRefused
from worker.ledger import claims
from worker.ledger.database import open_ledger
from worker.model import (
    WANTED,
    Attempt,
    Evidence,
    Kind,
    Outcome,
    Request,
    Step,
    StopReason,
    Verb,
)
from worker.pipeline import Stop

PASSED = "SELECT stage_no, persons, last_call_no, passed_us IS NOT NULL FROM canary ORDER BY 1"


class Died(Exception):
    """What ends a process in the middle of its work."""


def planned(run_dir: Path, pairs: Iterable[tuple[str, str]], *, faces_per_call: int = 20) -> World:
    """A planned run, and a service that has all of its faces."""
    pairs = list(pairs)
    draft_run(run_dir, [rows(pairs)], faces_per_call=faces_per_call)
    world: dict[str, set[str]] = {}
    for person_id, face_id in pairs:
        world.setdefault(person_id, set()).add(face_id)
    return World({person_id: faces - {""} for person_id, faces in world.items()})


def stages(run_dir: Path) -> list[tuple[int, int, int, int]]:
    """(number, persons asked for so far, last call, passed) of each stage."""
    connection = open_ledger(run_dir, read_only=True)
    try:
        return select(connection, PASSED)
    finally:
        connection.close()


def liar(request: Request) -> Evidence:
    """Says that everything was deleted, and has everything."""
    kind = Kind.LISTED if request.step is Step.DELETE else Kind.SHOWN
    return Evidence(kind, 0, code="200", listed=request.face_ids)


def except_for(
    world: World, person_id: str, *steps: Step, says: Evidence
) -> Callable[[Request], Evidence]:
    """The world, which says something else of these steps of one person."""

    def answer(request: Request) -> Evidence:
        if request.person_id == person_id and request.step in steps:
            return says
        return world.answer(request)

    return answer


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("none", ()),
        ("1", (1,)),
        ("1,20", (1, 20)),
        ("100000", (100_000,)),
        (",".join(["1"] * MOST_STAGES), (1,) * MOST_STAGES),
    ],
)
def test_what_a_ramp_means(text: str, counts: tuple[int, ...]) -> None:
    assert parse(text) == counts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found '' where a number of persons"),
        ("0", "found '0'"),
        ("1,0", "found '0'"),
        ("1,", "found ''"),
        ("-1", "found '-1'"),
        ("1.5", "found '1.5'"),
        ("1, 20", "found ' 20'"),
        ("ten", "found 'ten'"),
        ("5%", "found '5%'"),
        ("٣", "found"),
        ("1000000", "found '1000000'"),
        ("99999,2", "100,001 persons in all stages are too many"),
        (",".join(["1"] * (MOST_STAGES + 1)), "21 stages are more than the 20"),
    ],
)
def test_what_is_no_ramp(text: str, said: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse(text, "--canary")
    assert refused.value.cause.startswith("--canary: ")
    assert said in refused.value.cause
    assert refused.value.remedy


def test_each_stage_is_looked_up_before_the_next_begins(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(40, 2))
    ran = session(tmp_path, world.answer, canary="1,5")
    assert ran.stop == Stop(StopReason.FINISHED)
    assert set(outcomes(tmp_path)) == {"deleted"}
    assert stages(tmp_path) == [(1, 1, 0, 1), (2, 6, 5, 1)]
    at = {(x.call_no, x.step): seconds for seconds, x in ran.sent}
    # A lookup needs its distance from the deletion, and an answer.
    assert at[0, Step.VERIFY] >= at[0, Step.DELETE] + 3
    for call_no in range(1, 6):
        assert at[call_no, Step.DELETE] > at[0, Step.VERIFY]
    for call_no in range(6, 40):
        assert at[call_no, Step.DELETE] > max(at[n, Step.VERIFY] for n in range(1, 6))
    assert {x.call_no for _, x in ran.sent if x.step is Step.VERIFY} == set(range(6))


def test_a_service_that_lies_is_found_out_by_the_first_person(tmp_path: Path) -> None:
    planned(tmp_path, persons(40))
    ran = session(tmp_path, liar, canary="1,5")
    assert ran.stop.reason is StopReason.CANARY
    assert ran.stop.detail == (
        "canary: stage 1 of 2 failed: the face at s0.csv:2 is present (reappeared); nothing beyond"
        " this stage was sent"
    )
    assert ran.persons == ["person0"]
    assert outcomes(tmp_path) == ["present"] + ["unsent"] * 39
    again = session(tmp_path, liar, Verb.RESUME, canary="1,5", ahead_seconds=60)
    assert again.stop == ran.stop
    assert again.sent == []


REFUSED = Evidence(Kind.REFUSED, 0, code="403")
NOBODY = Evidence(Kind.NO_PERSON, 0, code="404")
SILENCE = Evidence(Kind.AMBIGUOUS, 0, code="timeout")


@pytest.mark.parametrize(
    ("steps", "says", "what"),
    [
        ([Step.DELETE], REFUSED, "refused (403)"),
        ([Step.DELETE, Step.LOOKUP], SILENCE, "unknown (timeout)"),
        ([Step.VERIFY], SILENCE, "deleted (200), and no lookup could confirm it"),
    ],
)
def test_what_a_stage_must_not_bring(
    tmp_path: Path, steps: Sequence[Step], says: Evidence, what: str
) -> None:
    world = planned(tmp_path, persons(12))
    ran = session(tmp_path, except_for(world, "person3", *steps, says=says), canary="1,5")
    assert ran.stop.reason is StopReason.CANARY
    assert ran.stop.detail.startswith(
        f"canary: stage 2 of 2 failed: the face at s0.csv:5 is {what}; nothing beyond"
    )
    assert set(ran.persons) <= {f"person{number}" for number in range(6)}
    assert stages(tmp_path) == [(1, 1, 0, 1), (2, 6, 5, 0)]


@pytest.mark.parametrize("wanted", [False, True])
def test_a_person_whom_nobody_knows(tmp_path: Path, *, wanted: bool) -> None:
    world = planned(tmp_path, persons(8))
    del world.persons["person0"]
    ran = session(tmp_path, world.answer, canary="1", treat_no_person_as_absent=wanted)
    if wanted:
        assert ran.stop.reason is StopReason.FINISHED
        assert outcomes(tmp_path) == ["no_person"] + ["deleted"] * 7
    else:
        assert "the face at s0.csv:2 is no_person (404);" in ran.stop.detail
        assert ran.persons == ["person0"]


def test_a_new_round_tries_the_stage_again_and_goes_on(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(10))
    assert session(tmp_path, liar, canary="2").stop.reason is StopReason.CANARY
    ran = session(tmp_path, world.answer, Verb.RETRY, canary="2", ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert set(outcomes(tmp_path)) == {"deleted"}
    at = {(x.call_no, x.step): seconds for seconds, x in ran.sent}
    verified = max(at[0, Step.VERIFY], at[1, Step.VERIFY])
    assert min(at[n, Step.DELETE] for n in range(2, 10)) > verified


def test_a_verification_that_finds_it_gone_lets_a_resume_go_on(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(10))
    assert session(tmp_path, liar, canary="2").stop.reason is StopReason.CANARY
    for person_id in ("person0", "person1"):
        world.persons[person_id].clear()
    looked = session(tmp_path, world.answer, Verb.VERIFY, canary="2", ahead_seconds=60)
    looked = session(tmp_path, world.answer, Verb.VERIFY, canary="2", ahead_seconds=120)
    assert looked.persons == []
    ran = session(tmp_path, world.answer, Verb.RESUME, canary="2", ahead_seconds=180)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert outcomes(tmp_path) == ["absent"] * 2 + ["deleted"] * 8


def test_lifted_by_a_resume_it_bars_nothing(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(10))
    session(tmp_path, liar, canary="2")
    ran = session(tmp_path, world.answer, Verb.RESUME, ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert outcomes(tmp_path) == ["present"] * 2 + ["deleted"] * 8


def test_a_process_that_died_in_a_stage_goes_on_in_it(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(20))

    async def dies(work: AtWork) -> None:
        await asyncio.sleep(3.3)
        assert [x.call_no for _, x in work.sent[-2:]] == [2, 3]
        raise Died

    with pytest.raises(ExceptionGroup):
        session(tmp_path, world.answer, canary="1,5", meanwhile=dies)
    assert stages(tmp_path) == [(1, 1, 0, 1), (2, 6, 5, 0)]
    ran = session(tmp_path, world.answer, Verb.RESUME, canary="1,5", ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    at = {(x.call_no, x.step): seconds for seconds, x in ran.sent}
    assert (0, Step.DELETE) not in at
    verified = max(at[n, Step.VERIFY] for n in range(1, 6))
    assert min(at[n, Step.DELETE] for n in range(6, 20)) > verified


def test_a_process_that_died_between_a_stage_and_its_verdict(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(5))

    async def dies(work: AtWork) -> None:
        async def judge_stage(*_: object) -> None:
            raise Died

        work.ledger.judge_stage = judge_stage  # type: ignore[assignment, method-assign]

    with pytest.raises(ExceptionGroup):
        session(tmp_path, world.answer, canary="1", meanwhile=dies)
    assert stages(tmp_path) == [(1, 1, 0, 0)]
    ran = session(tmp_path, world.answer, Verb.RESUME, canary="1", ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert set(outcomes(tmp_path)) == {"deleted"}
    assert [x.call_no for _, x in ran.sent if x.step is Step.DELETE] == [1, 2, 3, 4]


def test_other_stages_on_resume_keep_what_has_passed(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(30))
    faulty = except_for(world, "person5", Step.DELETE, says=REFUSED)
    assert session(tmp_path, faulty, canary="2,10").stop.reason is StopReason.CANARY
    assert stages(tmp_path) == [(1, 2, 1, 1), (2, 12, 11, 0)]
    ran = session(tmp_path, world.answer, Verb.RETRY, canary="1,2,5", ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert stages(tmp_path) == [(1, 2, 1, 1), (2, 3, 5, 1), (3, 8, 10, 1)]


def test_a_hold_may_settle_the_last_of_a_stage(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(10))

    async def hold(work: AtWork) -> None:
        # The first person is on its way by then.
        await asyncio.sleep(0.01)
        await work.ledger.hold(frozenset({("person1", "")}))

    ran = session(tmp_path, world.answer, canary="2", concurrency=1, meanwhile=hold)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert outcomes(tmp_path) == ["deleted", "held"] + ["deleted"] * 8


def held_before_the_first_call(
    run_dir: Path, answer: Callable[[Request], Evidence], numbers: Iterable[int], canary: str
) -> Session:
    """Everything waits while a file says so, and then these persons are not to be sent any more."""
    pause_file = run_dir / "pause"
    pause_file.touch()

    async def hold(work: AtWork) -> None:
        await work.ledger.hold(frozenset((f"person{number}", "") for number in numbers))
        work.pipeline.unpause(*work.pipeline.pauses)

    return session(run_dir, answer, canary=canary, meanwhile=hold, pause_file=str(pause_file))


@pytest.mark.parametrize(
    ("numbers", "canary", "sent"),
    [
        ([0], "1", {1}),
        ([0, 1, 2], "1", {3}),
        ([0, 1], "1,5", {2}),
        ([1], "3", {0, 2, 3}),
        (range(11), "2", {11}),
    ],
)
def test_a_stage_reaches_on_beyond_persons_who_are_held_by_now(
    tmp_path: Path, numbers: Iterable[int], canary: str, sent: set[int]
) -> None:
    planned(tmp_path, persons(12))
    ran = held_before_the_first_call(tmp_path, liar, numbers, canary)
    assert ran.stop.reason is StopReason.CANARY
    assert set(ran.persons) <= {f"person{number}" for number in sent}


def test_stages_behind_one_that_reaches_on_have_as_many_persons(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(20))
    with capture_logs() as said:
        ran = held_before_the_first_call(tmp_path, world.answer, [0, 1, 2, 5], "1,3")
    assert ran.stop == Stop(StopReason.FINISHED)
    assert stages(tmp_path) == [(1, 1, 3, 1), (2, 4, 7, 1)]
    told = [str(x["event"]) for x in said]
    because = "could be verified, the others are on the exclusion list or in conflict by now"
    assert [x.removeprefix("canary: ") for x in told if x.startswith("canary: ")] == [
        f"stage 1 of 2 reaches on to the next persons: of 1 that it asks for 0 {because}",
        "stage 1 of 2 passed: 1 person is settled and verified; the next stage may go",
        f"stage 2 of 2 reaches on to the next persons: of 3 that it asks for 0 {because}",
        "stage 2 of 2 passed: 4 persons are settled and verified; the rest may go",
    ]
    at = {(x.person_id, x.step): seconds for seconds, x in ran.sent}
    verified = max(at[f"person{number}", Step.VERIFY] for number in (4, 6, 7))
    assert min(at[f"person{number}", Step.DELETE] for number in range(8, 20)) > verified


def test_a_stage_of_which_nobody_is_left_bars_nothing(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(4))
    ran = held_before_the_first_call(tmp_path, world.answer, range(4), "1")
    assert ran.stop == Stop(StopReason.FINISHED)
    assert ran.sent == []
    assert outcomes(tmp_path) == ["held"] * 4


def test_whoever_was_held_before_the_session_is_not_counted(tmp_path: Path) -> None:
    planned(tmp_path, persons(12))

    async def hold() -> None:
        async with unsynced_ledger(tmp_path) as ledger:
            await ledger.hold(frozenset({("person0", "")}))

    asyncio.run(hold())
    ran = session(tmp_path, liar, canary="1")
    assert ran.stop.reason is StopReason.CANARY
    assert ran.persons == ["person1"]


@pytest.mark.parametrize("verify", ["none", "all"])
@pytest.mark.parametrize("verb", [Verb.RESUME, Verb.RETRY])
def test_whoever_is_settled_already_shows_nothing_about_the_rest(
    tmp_path: Path, verb: Verb, verify: str
) -> None:
    world = planned(tmp_path, persons(30))
    lies = False

    def answer(request: Request) -> Evidence:
        if request.step is not Step.DELETE:
            return world.answer(request)
        if lies:
            return Evidence(Kind.LISTED, 0, code="200", listed=request.face_ids)
        if verb is Verb.RETRY and int(request.person_id[6:]) >= 10:
            return Evidence(Kind.LISTED, 0, code="200")
        return world.answer(request)

    async def stop(work: AtWork) -> None:
        await asyncio.sleep(0.5)
        work.pipeline.stop(Stop(StopReason.REQUEST))

    session(tmp_path, answer, meanwhile=stop if verb is Verb.RESUME else None)
    left = [n for n, outcome in enumerate(outcomes(tmp_path)) if outcome != "deleted"]
    assert 0 < len(left) < 30
    lies = True
    ran = session(tmp_path, answer, verb, canary="1", verify=verify, ahead_seconds=60)
    assert ran.stop.reason is StopReason.CANARY
    assert ran.persons == [f"person{left[0]}"]
    if verify == "none":
        assert {x.person_id for _, x in ran.sent} == set(ran.persons)


def test_an_unknown_face_of_a_dead_process_is_no_canary(tmp_path: Path) -> None:
    """It was sent before: that it is gone shows nothing about the deletions to come."""
    world = planned(tmp_path, persons(20))

    def dies(request: Request) -> Evidence:
        answer = world.answer(request)
        if request.person_id == "person7":
            raise Died
        return answer

    with pytest.raises(ExceptionGroup):
        session(tmp_path, dies, concurrency=1)

    def lies(request: Request) -> Evidence:
        return liar(request) if request.step is Step.DELETE else world.answer(request)

    ran = session(tmp_path, lies, Verb.RESUME, canary="1", ahead_seconds=60)
    assert ran.stop.reason is StopReason.CANARY
    assert ran.persons == ["person8"]
    assert outcomes(tmp_path)[8:] == ["present"] + ["unsent"] * 11


def test_a_person_of_many_calls_is_in_one_stage(tmp_path: Path) -> None:
    world = planned(tmp_path, [*persons(1, 45), *persons(6)[1:]])
    ran = session(tmp_path, world.answer, canary="1")
    assert ran.stop == Stop(StopReason.FINISHED)
    assert stages(tmp_path) == [(1, 1, 2, 1)]
    assert [x.person_id for _, x in ran.sent[:6]] == ["person0"] * 6


def test_a_whole_person_is_emptied_and_looked_up_first(tmp_path: Path) -> None:
    world = planned(tmp_path, [("w", ""), *persons(3)])
    world.persons["w"] = {"1", "2", "3"}
    ran = session(tmp_path, world.answer, canary="1")
    assert ran.stop == Stop(StopReason.FINISHED)
    first_of_another = next(n for n, (_, x) in enumerate(ran.sent) if x.person_id != "w")
    assert [str(x.step) for _, x in ran.sent[:first_of_another]][-1] == "verify"
    assert outcomes(tmp_path)[:4] == ["deleted"] * 3 + ["person_empty"]


def test_more_stages_than_persons(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(5))
    ran = session(tmp_path, world.answer, canary="2,2,2,2")
    assert ran.stop == Stop(StopReason.FINISHED)
    assert stages(tmp_path) == [(1, 2, 1, 1), (2, 4, 3, 1), (3, 6, 4, 1)]


def test_what_was_asked_to_be_verified_still_is(tmp_path: Path) -> None:
    world = planned(tmp_path, persons(8))
    ran = session(tmp_path, world.answer, canary="2", verify="all")
    assert {x.call_no for _, x in ran.sent if x.step is Step.VERIFY} == set(range(8))


@given(
    faces=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_no_claim_ever_reaches_beyond_the_open_stage(
    tmp_path_factory: pytest.TempPathFactory, faces: list[int], counts: list[int]
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    pairs = [(f"p{n}", f"{n:04}{face}") for n, count in enumerate(faces) for face in range(count)]
    world = planned(run_dir, pairs, faces_per_call=2)
    # Person of each call, in the order of the plan.
    owners = [n for n, count in enumerate(faces) for _ in range(0, count, 2)]

    async def main() -> None:
        async with unsynced_ledger(run_dir) as ledger:
            await ledger.begin_session(Verb.RUN, 1, canary=counts)
            clock = 1
            ends = iter([sum(counts[: n + 1]) for n in range(len(counts))])
            end = next(ends)
            steps = (Step.DELETE, Step.LOOKUP, Step.VERIFY)
            while (due := await ledger.due(steps, clock)) is not None:
                clock = max(clock, due)
                attempts: list[Attempt] = []
                while attempt := await begin(ledger, steps, clock):
                    attempts.append(attempt)
                    assert owners[attempt.call.call_no] < end
                for seq, call, asked in attempts:
                    said = world.answer(asked)
                    clock += 1
                    ended = Evidence(said.kind, clock, clock - 1, code="200", listed=said.listed)
                    if await ledger.record(seq, call, ended) is None:
                        seen = await ledger.judge_stage(call.call_no, WANTED, clock)
                        assert not isinstance(seen, StageFailed)
                        if isinstance(seen, StagePassed):
                            end = next(ends, len(owners) + 1)
                            assert seen.persons <= len(faces)
            assert await ledger.is_finished()
            tally = await ledger.tally()
            assert tally == {Outcome.DELETED: len(pairs)}

    asyncio.run(main())


async def test_a_whole_person_beyond_the_stage_is_not_looked_up(tmp_path: Path) -> None:
    """It was begun with the plan, and waits for nothing but the stage."""
    draft_run(tmp_path, [rows([("first", "1"), ("second", "2"), ("whole", "")])])
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, canary=[1])
        steps = (Step.LOOKUP, Step.DELETE)
        first = await begin(ledger, steps, 1)
        assert first is not None
        assert first.call.person_id == "first"
        assert await begin(ledger, steps, 1) is None


@pytest.mark.parametrize("name", ["CLAIM_IN_STAGE", "NEXT_DUE_IN_STAGE"])
def test_a_claim_within_a_stage_reads_the_stage_only(tmp_path: Path, name: str) -> None:
    draft_run(tmp_path, [rows(persons(5))])
    connection = open_ledger(tmp_path)
    info = apsw.ext.query_info(connection, getattr(claims, name), explain_query_plan=True)
    details = []

    def gather(plan: apsw.ext.QueryPlan | None) -> None:
        if plan is not None:
            details.append(plan.detail)
            for inner in plan.sub or ():
                gather(inner)

    gather(info.query_plan)
    connection.close()
    assert "SEARCH c USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in details
    assert [x for x in details if x.startswith("SCAN call")] == [
        "SCAN call USING INDEX call_claimed"
    ]
