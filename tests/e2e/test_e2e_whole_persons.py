"""Whole persons: found, deleted, looked for again, and the record removed at the end."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, Service, serving
from worker.sandbox.faults import parse_rule
from worker.sandbox.latency import FixedLatency
from worker.sandbox.world import Change

LIBRARY = [("anna", "11"), ("anna", "12"), ("bert", "21"), ("carl", "31"), ("carl", "32")]
INTERVAL = {"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.2"}


def write_jobs(path: Path, *jobs: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs), encoding="utf-8")


def whole(person: str) -> dict[str, object]:
    return {"personId": person, "faces": "all"}


def results(run_dir: Path) -> list[tuple[str, str, str]]:
    """Person, face and outcome of each line of the report."""
    with (run_dir / "report" / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(row["person_id"], row["face_id"], row["outcome"]) for row in rows]


def summary(run_dir: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((run_dir / "report" / "summary.json").read_bytes())
    assert document["books_balance"] is True
    return document


async def erase(program: Program, service: Service, *flags: str) -> Ended:
    return await program(
        "run",
        "jobs.jsonl",
        "--endpoint",
        service.url,
        "--run-dir",
        "r",
        "--max-persons",
        "10",
        "--yes",
        *FAST,
        *flags,
        environment=INTERVAL,
    )


def sent(service: Service, operation: str) -> list[tuple[str, Sequence[str]]]:
    return [(x.person_id, x.face_ids) for x in service.entries if x.operation == operation]


async def test_everything_of_a_person_goes_and_nothing_of_others(
    program: Program, tmp_path: Path
) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"), whole("bert"))
    async with serving(LIBRARY) as service:
        ended = await erase(program, service)
        assert ended.code == 0, ended.err
        assert service.world.as_dict() == {"anna": [], "bert": [], "carl": ["31", "32"]}
    assert results(tmp_path / "r") == [
        ("anna", "11", "deleted"),
        ("anna", "12", "deleted"),
        ("anna", "", "person_empty"),
        ("bert", "21", "deleted"),
        ("bert", "", "person_empty"),
    ]
    summary(tmp_path / "r")


async def test_the_record_goes_after_its_faces(program: Program, tmp_path: Path) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"), whole("bert"))
    lost = parse_rule("reset applies=before operation=DeletePerson person=bert")
    async with serving(LIBRARY, faults=(lost,)) as service:
        ended = await erase(program, service, "--delete-person")
        assert ended.code == 0, ended.err
        assert "anna" not in service.world
        assert "bert" not in service.world
        order = [x.operation for x in service.entries if x.person_id == "anna"]
        assert order == ["GetPerson", "DeleteFaces", "GetPerson", "DeletePerson"]
    outcomes = {(person, face): outcome for person, face, outcome in results(tmp_path / "r")}
    assert outcomes["anna", ""] == outcomes["bert", ""] == "person_deleted"


async def test_what_must_not_be_sent_is_not_found_a_way_around(
    program: Program, tmp_path: Path
) -> None:
    """A held face and one that the input names under somebody else stay, and so does the record."""
    write_jobs(
        tmp_path / "jobs.jsonl",
        whole("anna"),
        whole("bert"),
        {"personId": "dora", "faceIds": ["21"]},
    )
    (tmp_path / "holds").write_text("anna,12\n")
    async with serving([*LIBRARY, ("dora", "41")]) as service:
        ended = await erase(program, service, "--exclude-from", "holds", "--delete-person")
        assert ended.code == 4, ended.err
        assert service.world.faces("anna") == ("12",)
        assert service.world.faces("bert") == ("21",)
        assert not sent(service, "DeletePerson")
    assert results(tmp_path / "r")[:5] == [
        ("anna", "11", "deleted"),
        ("anna", "12", "held"),
        ("anna", "", "held"),
        ("bert", "21", "conflict"),
        ("bert", "", "conflict"),
    ]


async def test_faces_that_are_added_meanwhile_are_found_and_not_for_ever(
    program: Program, tmp_path: Path
) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"))
    environment = {**INTERVAL, "FACEPURGE_MAX_ROUNDS": "2"}
    async with serving(LIBRARY, latency=FixedLatency(0.05)) as service:
        arguments = ("run", "jobs.jsonl", "--endpoint", service.url, "--run-dir", "r", "--yes")
        async with program.started(
            *arguments, "--max-persons", "1", *FAST, environment=environment
        ) as running:
            for number in (1, 2):
                while len(sent(service, "DeleteFaces")) < number:
                    await service.arrivals(len(service.entries) + 1)
                service.world.apply(Change("anna", added=(f"9{number}",)))
            ended = await running.ended()
        assert ended.code == 4, ended.err
        assert len(sent(service, "DeleteFaces")) == 2
        assert service.world.faces("anna") == ("92",)
    lines = results(tmp_path / "r")
    assert lines[-1] == ("anna", "", "present")
    assert {face for _, face, outcome in lines if outcome == "present"} == {"", "92"}


async def test_more_than_the_limit_is_not_deleted(program: Program, tmp_path: Path) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"), whole("carl"))
    async with serving(LIBRARY) as service:
        ended = await erase(program, service, "--max-delete", "3", "--concurrency", "1")
        assert ended.code == 8, ended.err
        assert service.world.face_count() >= 3
        assert "--max-delete allows 3" in ended.err
        before = len(service.entries)
        ended = await program("resume", "r", "--yes", environment=INTERVAL)
        assert ended.code == 8, "the limit is still the limit"
        assert all(x.operation != "DeleteFaces" for x in service.entries[before:])
        ended = await program(
            "resume", "r", "--yes", "--max-delete", "4", *FAST, environment=INTERVAL
        )
        assert ended.code == 0, ended.err
        assert service.world.as_dict() == {"anna": [], "bert": ["21"], "carl": []}


async def test_a_crash_in_the_middle_of_an_erasure(program: Program, tmp_path: Path) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"), whole("bert"), whole("carl"))
    async with serving(LIBRARY, latency=FixedLatency(0.3)) as service:
        arguments = ("run", "jobs.jsonl", "--endpoint", service.url, "--run-dir", "r", "--yes")
        async with program.started(*arguments, "--max-persons", "3") as running:
            await service.arrivals(4)
            running.send(signal.SIGKILL)
            await running.ended()
        ended = await program("resume", "r", "--confirm", "3", *FAST, environment=INTERVAL)
        assert ended.code == 0, ended.err
        assert not service.world.face_count()
    assert {outcome for _, face, outcome in results(tmp_path / "r") if not face} == {"person_empty"}
    summary(tmp_path / "r")


async def test_a_person_who_is_named_and_whole_and_asked_for_twice(
    program: Program, tmp_path: Path
) -> None:
    write_jobs(
        tmp_path / "jobs.jsonl",
        whole("anna"),
        {"personId": "anna", "faceIds": ["11"]},
        whole("anna"),
    )
    async with serving(LIBRARY) as service:
        ended = await erase(program, service)
        assert ended.code == 0, ended.err
        assert sent(service, "DeleteFaces") == [("anna", ("11",)), ("anna", ("12",))]
    assert results(tmp_path / "r") == [
        ("anna", "12", "deleted"),
        ("anna", "", "person_empty"),
        ("anna", "11", "deleted"),
        ("anna", "12", "deleted"),
        ("anna", "", "person_empty"),
    ]


async def test_somebody_comes_back_after_the_erasure(program: Program, tmp_path: Path) -> None:
    write_jobs(tmp_path / "jobs.jsonl", whole("anna"))
    async with serving(LIBRARY) as service:
        assert (await erase(program, service)).code == 0
        service.world.apply(Change("anna", added=("99",)))
        ended = await program("verify", "r", environment=INTERVAL)
        assert ended.code == 6, ended.err
        assert service.world.faces("anna") == ("99",)
        ended = await program("retry", "r", "--confirm", "1", environment=INTERVAL)
        assert ended.code == 0, ended.err
        assert service.world.faces("anna") == ()
    assert ("anna", "99", "deleted") in results(tmp_path / "r")
