"""Real runs through every kind of trouble that the sandbox can make break no invariant."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.invariants.rehearsal import SETTINGS, Rehearsal, opened, plan, sandbox, violations, work
from worker.holds import Holds
from worker.model import Verb
from worker.sandbox.faults import FAULTS, parse_rule
from worker.sandbox.world import Change

SPOILS = (
    "reset at=start",
    "reset at=start applies=never",
    "reset at=half",
    "silence",
    "silence applies=before",
    "silence late_seconds=0.4",
    "drip interval_seconds=0.3",
    "cut form=length",
    "cut form=json",
    "cut form=chunked applies=never",
    "body form=html",
    "body form=null applies=never",
    "body form=no-data",
    "body form=data-null",
    "body form=empty",
    "html status=502",
    "html status=404 applies=never",
    "service-code code=500",
    "service-code code=500 place=inner filled=true",
    "service-code code=581 applies=never",
    "service-code code=403 applies=never",
    "service-code code=404 applies=never",
    "service-code code=588 applies=never status=588",
    "gateway-code code=ServiceUnavailable applies=before",
    "throttle",
    "throttle form=http-429",
    "partial",
    "partial applies=before",
    "count-mismatch",
    "flood form=body size_bytes=2000000",
    "flood form=headers size_bytes=200000",
    "redirect",
)
"""Faults that no run stops for; each strikes one person's deletion, and another one's lookup."""

STOPS = ("swapped", "swapped form=face", "gateway-code code=Forbidden.RAM", "lie")
"""The others, which end a run, or lie."""


def test_every_kind_of_fault_is_here() -> None:
    names = {text.partition(" ")[0] for text in (*SPOILS, *STOPS)}
    assert names == {fault.__struct_config__.tag for fault in FAULTS}


def is_settled(run_dir: Path) -> bool:
    with opened(run_dir) as connection:
        left = "SELECT 1 FROM face WHERE outcome IN ('unknown', 'unsent') LIMIT 1"
        return connection.execute(left).fetchone() is None


async def test_every_kind_of_fault_once_on_deletions_and_once_on_lookups(tmp_path: Path) -> None:
    holdings: dict[str, list[str]] = {}
    faults, wanted = [], []
    for number, fault in enumerate(SPOILS):
        hit, missed, whole = f"d{number}", f"l{number}", f"w{number}"
        for offset, person in enumerate((hit, missed, whole)):
            holdings[person] = [f"{number}{offset}{face}" for face in range(3)]
        wanted += [(person, face) for person in (hit, missed) for face in holdings[person]]
        wanted.append((whole, ""))
        # Each failure holds everybody for a while; a face that an answer omits is looked up as well.
        faults += [
            f"{fault} person={hit} operation=DeleteFaces",
            f"partial applies=never person={missed} operation=DeleteFaces",
            f"{fault} person={missed} operation=GetPerson",
        ]
        if number % 4 == 0:
            faults.append(f"{fault} person={whole} operation=GetPerson nth=2")
    plan(tmp_path / "r", wanted)
    async with sandbox(holdings, faults=tuple(map(parse_rule, faults))) as service:
        for verb in (Verb.RUN, Verb.RESUME, Verb.VERIFY):
            await work(tmp_path / "r", service.url, verb)
            lines = tuple(service.journal.lines)
            run = Rehearsal(tmp_path / "r", holdings, lines)
            assert violations(run.run_dir, server=run.server) == []
    assert is_settled(tmp_path / "r")
    assert violations(tmp_path / "r", finished=True) == []


@pytest.mark.parametrize("seed", range(2))
async def test_trouble_by_chance_and_then_none(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    holdings = {f"p{n}": [f"{n}{face}" for face in range(1 + n % 4)] for n in range(36)}
    named = [(person, face) for person in list(holdings)[:28] for face in holdings[person]]
    whole = [(person, "") for person in list(holdings)[24:]]  # some of them are named as well
    unheard = [(f"nobody{n}", f"9{n}") for n in range(3)]
    plan(tmp_path / "r", [*named, *whole, *unheard])
    quick = [fault for fault in SPOILS if not fault.startswith(("silence", "drip"))]
    faults = [f"{fault} operation=* probability=0.04 count=0" for fault in chance.sample(quick, 8)]
    async with sandbox(holdings, faults=tuple(map(parse_rule, faults)), seed=seed) as service:
        for verb in (Verb.RUN, Verb.RESUME):
            await work(tmp_path / "r", service.url, verb)
            run = Rehearsal(tmp_path / "r", holdings, tuple(service.journal.lines))
            assert violations(run.run_dir, server=run.server) == []
        service.script.clear()
        for verb in (Verb.RESUME, Verb.RETRY, Verb.VERIFY):
            await work(tmp_path / "r", service.url, verb)
            run = Rehearsal(tmp_path / "r", holdings, tuple(service.journal.lines))
            assert violations(run.run_dir, server=run.server) == []
    assert is_settled(tmp_path / "r")


async def test_persons_whose_records_go_as_well(tmp_path: Path) -> None:
    holdings = {f"p{n}": [f"{n}{face}" for face in range(n % 3)] for n in range(9)}
    wanted = [(person, "") for person in [*holdings, "nobody"]]
    settings = msgspec.structs.replace(SETTINGS, delete_person=True)
    faults = (
        "reset operation=DeletePerson person=p1",
        "reset operation=DeletePerson person=p2 applies=never",
        "service-code code=500 operation=DeletePerson person=p3 applies=never count=0",
        "service-code code=403 operation=DeletePerson person=p4 applies=never",
        "throttle operation=DeletePerson person=p5",
        "reset operation=DeleteFaces person=p7",
    )
    holds = Holds(frozenset({("p8", "99")}), "0" * 64)
    plan(tmp_path / "r", wanted, settings=settings, holds=holds)
    async with sandbox(holdings, faults=tuple(map(parse_rule, faults))) as service:
        for verb in (Verb.RUN, Verb.RETRY, Verb.VERIFY):
            await work(tmp_path / "r", service.url, verb, settings)
            run = Rehearsal(tmp_path / "r", holdings, tuple(service.journal.lines))
            assert violations(run.run_dir, server=run.server, finished=True) == []
    with opened(tmp_path / "r") as connection:
        outcomes = {x for (x,) in connection.execute("SELECT DISTINCT outcome FROM face")}
    assert outcomes >= {"person_deleted", "present", "no_person", "deleted", "held"}


async def test_faces_that_come_back(tmp_path: Path) -> None:
    holdings = {"named": ["1", "2"], "whole": ["3", "4"]}
    plan(tmp_path / "r", [("named", "1"), ("named", "2"), ("whole", "")])
    async with sandbox(holdings) as service:
        await work(tmp_path / "r", service.url, Verb.RUN)
        service.world.apply(Change("named", added=("2",)))
        service.world.apply(Change("whole", added=("4", "5")))
        for verb in (Verb.VERIFY, Verb.RETRY, Verb.RESUME):
            await work(tmp_path / "r", service.url, verb)
            run = Rehearsal(tmp_path / "r", holdings, tuple(service.journal.lines), complete=False)
            assert violations(run.run_dir, server=run.server) == []


@pytest.mark.parametrize("fault", STOPS)
async def test_what_stops_a_run_or_lies_to_it(tmp_path: Path, fault: str) -> None:
    holdings = {f"p{n}": [f"{n}1", f"{n}2"] for n in range(12)}
    wanted = [(person, face) for person, faces in holdings.items() for face in faces]
    plan(tmp_path / "r", wanted)
    async with sandbox(holdings, faults=(parse_rule(f"{fault} nth=3"),)) as service:
        for verb in (Verb.RUN, Verb.RESUME, Verb.VERIFY):
            await work(tmp_path / "r", service.url, verb)
            run = Rehearsal(tmp_path / "r", holdings, tuple(service.journal.lines))
            assert violations(run.run_dir, server=run.server) == []
    assert is_settled(tmp_path / "r")


async def test_a_face_that_is_named_and_whose_person_is_to_go_as_well(tmp_path: Path) -> None:
    fault = parse_rule("reset applies=never operation=DeleteFaces count=2")
    plan(tmp_path / "r", [("both", "1"), ("both", "")])
    async with sandbox({"both": ["1", "2"]}, faults=(fault,)) as service:
        await work(tmp_path / "r", service.url, Verb.RUN)
        run = Rehearsal(tmp_path / "r", {"both": ["1", "2"]}, tuple(service.journal.lines))
        assert service.world.faces("both") == ("1",)
    assert violations(run.run_dir, server=run.server) == []
