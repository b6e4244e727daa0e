"""A hundred simulated runs, and proof that a simulation can fail: defects put in on purpose."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.simulation import campaign
from tests.simulation.campaign import FEWEST_KINDS, Figures
from tests.simulation.departures import most_in_any_second
from tests.simulation.network import SimulatedTransport
from tests.simulation.scenario import draw_scenario
from tests.simulation.simulation import Simulated, scratch_directory, simulate
from tests.simulation.troubles import KINDS, OUTAGES, STOPPING_KINDS
from worker import fold
from worker.green import verdicts
from worker.green.answers import ServiceAnswer
from worker.green.findings import Finding
from worker.green.interface import NotSent, Reply, Unanswered
from worker.holds import HoldWatch
from worker.ledger import journal
from worker.ledger.journal import Ledger
from worker.ledger.postings import Postings
from worker.model import Evidence, Kind, Request, Step
from worker.pacing import Pacer

SHORT_RUNS = 100
MOST_SEEDS = 80
"""In which a defect has to be found."""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = scratch_directory()
    yield path
    shutil.rmtree(path)


def first_failure(directory: Path) -> Simulated:
    """Of the first simulations, the first in which something was violated."""
    for seed in range(1, MOST_SEEDS + 1):
        simulated = simulate(seed, directory)
        if simulated.violations:
            return simulated
    pytest.fail(f"{MOST_SEEDS} simulations did not find it")


def rules_broken(directory: Path) -> set[str]:
    return {violation.rule for violation in first_failure(directory).violations}


def test_nothing_is_violated_whatever_goes_wrong(directory: Path) -> None:
    figures = Figures()
    for seed in range(1, SHORT_RUNS + 1):
        simulated = simulate(seed, directory)
        assert simulated.violations == [], f"make simulate SEED={seed} RUNS=1 VERBOSE=1"
        figures.add(simulated)
    assert figures.good
    assert len(figures.seen) >= FEWEST_KINDS
    assert {"deleted", "absent", "held", "no_person", "person_empty"} <= set(figures.outcomes)
    assert {"finished", "killed", "ledger"} <= set(figures.stops)


def test_one_seed_is_one_course_of_events_in_every_process() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.campaign", "--seed", "7", "--runs", "6"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    digests = [re.search(r"^event log ([0-9a-f]{16});", text, re.MULTILINE) for text in told]
    assert digests[0] is not None
    assert digests[1] is not None
    assert digests[0][1] == digests[1][1]


def test_the_event_log_can_be_told_and_is_not_changed_by_that(directory: Path) -> None:
    told: list[str] = []
    aloud = simulate(3, directory, told.append)
    silent = simulate(3, directory)
    assert aloud.events == len(told) > 0
    assert aloud.digest == silent.digest
    assert simulate(4, directory).digest != silent.digest


def test_scenarios_are_drawn_from_their_seed_alone() -> None:
    assert draw_scenario(Random("5 scenario")) == draw_scenario(Random("5 scenario"))
    assert draw_scenario(Random("5 scenario")) != draw_scenario(Random("6 scenario"))


def test_every_kind_of_trouble_is_met_by_some_scenario() -> None:
    met: set[str] = set()
    for seed in range(300):
        weather = draw_scenario(Random(f"{seed} scenario")).weather
        met |= {*weather.kinds, *weather.stopping_kinds, *(x.kind for x in weather.spells)}
    assert met == {*KINDS, *STOPPING_KINDS, *OUTAGES}


def test_a_second_is_half_open() -> None:
    assert most_in_any_second([0.0, 0.5, 1.0, 1.2]) == 3
    assert most_in_any_second([]) == 0


# Defects put in on purpose


def test_it_finds_a_fold_that_believes_one_lookup(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setattr(fold, "_PROOF_LOOKUPS", 1)
    assert "T2" in rules_broken(directory)


def test_it_finds_a_verdict_that_believes_a_status(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    def believing(request: Request, _answer: ServiceAnswer) -> Finding:
        return Finding(Kind.LISTED, "200", listed=request.face_ids)

    monkeypatch.setitem(verdicts._SUCCESSES, "DeleteFaces", believing)
    assert rules_broken(directory) & {"T", "T1", "false"}


def test_it_finds_a_transport_that_sends_again(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    exchange = SimulatedTransport.exchange

    async def insisting(self: SimulatedTransport, *what: Any) -> Reply | NotSent | Unanswered:
        path, query, body, depart, departed = what
        signed: list[Mapping[str, str]] = []

        async def once() -> Mapping[str, str]:
            if not signed:
                signed.append(await depart())
            return signed[0]

        outcome = await exchange(self, path, query, body, once, departed)
        if isinstance(outcome, Unanswered):
            return await exchange(self, path, query, body, once, departed)
        return outcome

    monkeypatch.setattr(SimulatedTransport, "exchange", insisting)
    assert "R2" in rules_broken(directory)


def test_it_finds_a_fold_that_sends_again_without_looking(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    after_attempt = fold._after_attempt

    def hasty(*given: Any) -> Any:
        verdict = after_attempt(*given)
        if verdict.step is Step.LOOKUP:
            return fold._Verdict(verdict.outcome, verdict.code, verdict.decided_by, Step.DELETE)
        return verdict

    monkeypatch.setattr(fold, "_after_attempt", hasty)
    assert rules_broken(directory) & {"T2a", "R4"}


def test_it_finds_an_attempt_that_is_written_down_too_late(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    """The record only gets to the disk with the end of the attempt."""
    write, record = Postings.open, Ledger.record
    held_back: dict[int, tuple[Any, ...]] = {}

    def careless(_: Postings, attempt: tuple[Any, ...]) -> None:
        held_back[attempt[0]] = attempt

    async def late(self: Ledger, attempt_seq: int, *more: Any) -> Any:
        write(self._postings, held_back.pop(attempt_seq))
        return await record(self, attempt_seq, *more)

    monkeypatch.setattr(Postings, "open", careless)
    monkeypatch.setattr(Ledger, "record", late)
    assert "D1" in rules_broken(directory)


def test_it_finds_a_resume_that_forgets_what_was_in_flight(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    """What a crash left open is closed as if it had never been sent."""
    append_ending = Ledger._append_ending

    def forgetful(self: Ledger, attempt_seq: int, ended: Any) -> None:
        if ended.kind is Kind.CLOSED:
            ended = Evidence(Kind.NOT_SENT, ended.ended_us, code="forgotten")
        append_ending(self, attempt_seq, ended)

    monkeypatch.setattr(Ledger, "_append_ending", forgetful)
    assert rules_broken(directory) & {"R3", "T2a", "T"}


def test_it_finds_a_stop_that_is_not_heard(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setattr(Pacer, "stop", lambda _self: None)
    assert "L2" in rules_broken(directory)


def test_it_finds_an_exclusion_list_that_nobody_reads_again(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    async def blind(_self: HoldWatch) -> None:
        pass

    monkeypatch.setattr(HoldWatch, "check", blind)
    assert "S2" in rules_broken(directory)


def test_it_finds_a_pacer_without_spacing(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    async def at_once(self: Pacer) -> None:
        caller = asyncio.current_task()
        assert caller is not None
        self._note_approach(caller)
        self._check_departure(caller)
        self._note_departure()
        self.withdraw()
        self.starved(64)

    monkeypatch.setattr(Pacer, "slot", at_once)
    assert "R1" in rules_broken(directory)


def test_it_finds_a_run_that_does_not_end(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Nobody asks again what was answered by silence."""
    monkeypatch.setattr(journal, "WITH_UNKNOWN", "SELECT call_no FROM call WHERE 0")
    assert "L1" in rules_broken(directory)


def test_a_campaign_that_found_something_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fold, "_PROOF_LOOKUPS", 1)
    failed = first_failure(directory)
    assert campaign.main(["--seed", str(failed.seed), "--runs", "1"]) == 1
    told = capsys.readouterr().out
    assert f"make simulate SEED={failed.seed} RUNS=1 VERBOSE=1" in told
    assert "by rule: " in told
