"""What is unclear is looked up: runs whose answers get lost, lie, or leave faces out."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge
from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, Service, serving
from worker.sandbox.facts import Facts
from worker.sandbox.faults import parse_rule
from worker.sandbox.latency import FixedLatency
from worker.sandbox.world import Change

PAIRS = persons(12, 2)
INTERVAL = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.2"}
"""Short enough for a test, long enough to be told from nothing."""


class Run:
    """A program that keeps its lookups a fifth of a second apart."""

    def __init__(self, program: Program, service: Service) -> None:
        self._program = program
        self._service = service

    async def __call__(self, *arguments: str) -> Ended:
        return await self._program(*arguments, environment=INTERVAL)

    async def begin(self, *flags: str) -> Ended:
        return await self(
            "run",
            "a.csv",
            "--endpoint",
            self._service.url,
            "--yes",
            "--run-dir",
            "r",
            *FAST,
            *flags,
        )

    @property
    def operations(self) -> list[str]:
        return [entry.operation for entry in self._service.entries]

    def lookups_of(self, person_id: str) -> list[float]:
        """When the person was looked up."""
        return [
            entry.seconds
            for entry in self._service.entries
            if entry.operation == "GetPerson" and entry.person_id == person_id
        ]


async def test_answers_lost_after_the_deletion_end_absent(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    fault = parse_rule("reset applies=before nth=3 every=3")
    async with serving(PAIRS, faults=(fault,)) as service:
        run = Run(program, service)
        ended = await run.begin()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 16, "absent": 8}
        assert service.deleted == set(PAIRS)
        assert run.operations.count("DeleteFaces") == 12
        assert run.operations.count("GetPerson") == 8
        for person_id, _ in report.of("absent"):
            first, second = run.lookups_of(person_id)
            assert second - first >= 0.2


async def test_answers_lost_before_the_deletion_are_sent_again(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    # By person: a rule for every third call may meet the same person until no attempt is left.
    faults = [parse_rule(f"reset applies=never person=person-{n}") for n in (1, 4, 7, 10)]
    async with serving(PAIRS, faults=tuple(faults)) as service:
        run = Run(program, service)
        ended = await run.begin()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 24}
        again = {row["person_id"] for row in report.results if row["attempts"] == "2"}
        assert again == {"person-1", "person-4", "person-7", "person-10"}


@pytest.mark.parametrize("applies", ["before", "never"])
async def test_faces_that_a_good_answer_leaves_out(
    program: Program, tmp_path: Path, applies: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    fault = parse_rule(f"partial applies={applies} person=person-3")
    async with serving(PAIRS, faults=(fault,)) as service:
        run = Run(program, service)
        ended = await run.begin()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        gone = {"deleted": 23, "absent": 1} if applies == "before" else {"deleted": 24}
        assert report.counts == gone
        assert len(run.lookups_of("person-3")) == 1, "one lookup is enough after a good answer"


async def test_what_is_still_listed_after_all_attempts_is_present_and_can_be_retried(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    never = parse_rule("reset applies=never person=person-5 count=0")
    async with serving(PAIRS, faults=(never,)) as service:
        run = Run(program, service)
        ended = await run.begin("--max-attempts", "2")
        assert ended.code == 4, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        present = {pair for pair in PAIRS if pair[0] == "person-5"}
        assert report.of("present") == present
        assert {r["code"] for r in report.results if r["outcome"] == "present"} == {"still_listed"}
        assert {r["attempts"] for r in report.results if r["outcome"] == "present"} == {"2"}
        before = report.digests()
        assert (await run("resume", "r")).code == 4
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).digests() == before
        service.script.clear()
        sent = len(service.entries)
        assert (await run("retry", "r")).code == 3, "nobody said how many"
        assert len(service.entries) == sent
        ended = await run("retry", "r", "--confirm", "2")
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 24}
        assert {e.person_id for e in service.entries[sent:]} == {"person-5"}


async def test_a_new_round_that_was_cut_short_is_gone_on_with_only_on_somebodys_word(
    program: Program, tmp_path: Path
) -> None:
    """Its faces keep their outcome until they are sent again, and all the same they would be sent."""
    write_table(tmp_path / "a.csv", PAIRS)
    never = parse_rule("reset applies=never person=person-5 count=0")
    async with serving(PAIRS, faults=(never,)) as service:
        run = Run(program, service)
        assert (await run.begin("--max-attempts", "1")).code == 4
        service.script.clear()
        service.script.add(parse_rule("throttle person=person-5 count=0"))
        interval = INTERVAL
        async with program.started("retry", "r", "--yes", environment=interval) as running:
            await running.said("throttled")
            running.send(signal.SIGTERM)
            ended = await running.ended()
        assert ended.code == 143, ended.err
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        service.script.clear()
        sent = len(service.entries)
        ended = await run("resume", "r")
        assert ended.code == 3, ended.err
        assert "2 faces would be deleted" in ended.err
        assert (await run("retry", "r", "--yes")).code == 3, "a round goes on before another begins"
        assert len(service.entries) == sent
        ended = await run("resume", "r", "--confirm", "2")
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 24}


@pytest.mark.parametrize(
    ("fact", "outcome", "code"),
    [("code-404", "no_person", 4), ("code-400", "refused", 4), ("empty-data", "unknown", 5),
     ("empty-list", "absent", 0)],
)  # fmt: skip
async def test_a_person_whom_the_service_does_not_know(
    program: Program, tmp_path: Path, fact: str, outcome: str, code: int
) -> None:
    pairs = [*persons(3), ("nobody", "1")]
    write_table(tmp_path / "a.csv", pairs)
    facts = Facts(unknown_person=fact)  # type: ignore[arg-type]
    async with serving(persons(3), facts=facts) as service:
        run = Run(program, service)
        ended = await run.begin()
        assert ended.code == code, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.of(outcome) == {("nobody", "1")}


async def test_no_person_may_be_declared_good_enough(program: Program, tmp_path: Path) -> None:
    pairs = [*persons(3), ("nobody", "1")]
    write_table(tmp_path / "a.csv", pairs)
    async with serving(persons(3)) as service:
        ended = await Run(program, service).begin("--treat-no-person-as-absent")
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.of("no_person") == {("nobody", "1")}


async def test_a_deletion_that_comes_late_is_never_called_early(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(4)
    write_table(tmp_path / "a.csv", pairs)
    late = parse_rule("silence applies=late late_seconds=0.5 person=person-2")
    impatient = {**INTERVAL, "FACEPURGE_READ_TIMEOUT_SECONDS": "0.3"}
    async with serving(pairs, faults=(late,)) as service:
        ended = await program(
            "run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", environment=impatient
        )  # fmt: skip
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.of("deleted") | report.of("absent") == set(pairs)


async def test_a_lookup_about_another_person_stops_the_run(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    faults = ("reset applies=before person=person-1", "swapped operation=GetPerson count=0")
    async with serving(PAIRS, faults=tuple(map(parse_rule, faults))) as service:
        run = Run(program, service)
        ended = await run.begin()
        assert ended.code == 7, ended.err
        assert (await run("resume", "r", "--yes")).code == 3, "nobody has explained it"
        service.script.clear()
        ended = await run("resume", "r", "--yes", "--swap-explained")
        assert ended.code == 0, ended.err
        judge(tmp_path / "r", PAIRS, service.journal.lines)


async def test_after_a_crash_resume_settles_everything_and_then_nothing(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, latency=FixedLatency(0.3)) as service:
        run = Run(program, service)
        arguments = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        async with program.started(*arguments, environment=INTERVAL) as running:
            await service.arrivals(8)
            running.send(signal.SIGKILL)
            await running.ended()
        ended = await run("retry", "r", "--yes")
        assert ended.code == 3, ended.err
        assert "facepurge resume r" in ended.err
        ended = await run("resume", "r", "--yes", *FAST)
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.of("deleted") | report.of("absent") == set(PAIRS)
        sent, before = len(service.entries), report.digests()
        assert (await run("resume", "r", "--yes")).code == 0
        assert len(service.entries) == sent
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).digests() == before


async def test_what_is_there_again_is_said_loudly_and_can_be_deleted_again(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(4)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        run = Run(program, service)
        assert (await run.begin()).code == 0
        ended = await run("verify", "r")
        assert ended.code == 0, ended.err
        assert run.operations.count("GetPerson") == 4
        service.world.apply(Change("person-2", added=(dict(pairs)["person-2"],)))
        ended = await run("verify", "r")
        assert ended.code == 6, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        (again,) = [row for row in report.results if row["outcome"] == "present"]
        assert (again["person_id"], again["code"]) == ("person-2", "reappeared")
        assert run.operations.count("DeleteFaces") == 4, "a verification deletes nothing"
        ended = await run("retry", "r", "--confirm", "1")
        assert ended.code == 0, ended.err
        assert not service.world.face_count()


@pytest.mark.parametrize(("verify", "looked_up"), [("all", 6), ("sample:2", 2), ("none", 0)])
async def test_a_run_may_verify_as_it_goes(
    program: Program, tmp_path: Path, verify: str, looked_up: int
) -> None:
    pairs = persons(6)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        run = Run(program, service)
        ended = await run.begin("--verify", verify)
        assert ended.code == 0, ended.err
        assert run.operations.count("GetPerson") == looked_up
        judge(tmp_path / "r", pairs, service.journal.lines)


async def test_a_service_that_lies_is_found_out_by_a_verification(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(6)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs, faults=(parse_rule("lie person=person-4"),)) as service:
        ended = await Run(program, service).begin("--verify", "all")
        assert ended.code == 6, ended.err
        assert "1 face listed although said to be gone" in ended.last_line


@pytest.mark.parametrize(
    ("fact", "outcome"), [("code-400", "no_person"), ("empty-data", "no_person")]
)
async def test_what_was_calibrated_settles_what_was_open(
    program: Program, tmp_path: Path, fact: str, outcome: str
) -> None:
    pairs = [*persons(3), ("nobody", "1")]
    write_table(tmp_path / "a.csv", pairs)
    facts = Facts(unknown_person=fact)  # type: ignore[arg-type]
    async with serving(persons(3), facts=facts) as service:
        run = Run(program, service)
        ended = await run("doctor", "--calibrate", "--endpoint", service.url)
        assert ended.code == 0, ended.err
        ended = await run.begin()
        assert ended.code == 4, ended.err
        report = judge(
            tmp_path / "r",
            pairs,
            [x for x in service.journal.lines if getattr(x, "person_id", "") in dict(pairs)],
        )
        assert report.of(outcome) == {("nobody", "1")}
        assert report.summary["settings"]["unknown_person"] == fact


async def test_a_verification_that_was_broken_off_goes_on_without_a_word(
    program: Program, tmp_path: Path
) -> None:
    """Nothing is deleted by it, so there is nothing to confirm."""
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        run = Run(program, service)
        assert (await run.begin()).code == 0
        before = len(service.entries)
        async with program.started("verify", "r", "--rate", "2") as running:
            await service.arrivals(before + 1)
            running.send(signal.SIGTERM)
            ended = await running.ended()
        assert ended.code == 143, ended.err
        left = 12 - (len(service.entries) - before)
        assert 0 < left < 12
        ended = await run("retry", "r", "--yes")
        assert ended.code == 3, ended.err
        assert f"a verification was broken off, {left} lookups still to be made" in ended.err
        assert "first type: facepurge resume r (it deletes nothing)" in ended.err
        assert ended.last_line == "nothing was sent"
        ended = await run("resume", "r")
        assert ended.code == 0, ended.err
        assert f"  {left} lookups of run " in ended.err
        assert "still to be made; nothing is deleted by them" in ended.err
        assert len(service.entries) == before + 12
        assert set(run.operations[before:]) == {"GetPerson"}
