from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.invariants.rehearsal import Rehearsal, plan, sandbox, work
from worker.holds import Holds
from worker.model import Verb
from worker.sandbox.faults import parse_rule

HOLDINGS = {
    "good": ["1", "2"],
    "lost": ["3", "4"],
    "half": ["5", "6"],
    "stays": ["7"],
    "barred": ["8"],
    "again": ["9"],
    "whole": ["10", "11"],
    "shared": ["12", "1"],
    "held": ["13"],
    "slow": ["16"],
}

WANTED = [
    ("good", "1"),
    ("good", "2"),
    ("lost", "3"),
    ("lost", "4"),
    ("half", "5"),
    ("half", "6"),
    ("stays", "7"),
    ("barred", "8"),
    ("again", "9"),
    ("nobody", "14"),
    ("slow", "16"),
    ("good", "1"),
    ("held", "13"),
    ("one", "15"),
    ("two", "15"),
    ("bad", "x!"),
    ("whole", ""),
    ("shared", ""),
]

FAULTS = (
    "reset applies=before person=lost operation=DeleteFaces",
    "partial applies=before person=half operation=DeleteFaces",
    "reset applies=never person=stays operation=DeleteFaces count=0",
    "service-code code=403 applies=never person=barred operation=DeleteFaces count=0",
    "reset applies=never person=again operation=DeleteFaces",
    "throttle person=slow operation=DeleteFaces",
)


async def _rehearse(run_dir: Path) -> Rehearsal:
    holds = Holds(frozenset({("held", "13")}), "0" * 64)
    plan(run_dir, WANTED, holds=holds)
    faults = tuple(map(parse_rule, FAULTS))
    async with sandbox(HOLDINGS, faults=faults) as service:
        await work(run_dir, service.url, Verb.RUN)
        await work(run_dir, service.url, Verb.RETRY)
        return Rehearsal(run_dir, HOLDINGS, tuple(service.journal.lines))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """A run in which every outcome occurs, and a second round of it."""
    return asyncio.run(_rehearse(tmp_path_factory.mktemp("invariants") / "r"))


@pytest.fixture
def copied(original: Rehearsal, tmp_path: Path) -> Callable[[], Rehearsal]:
    """Copies of that run, each to be spoiled in one place."""

    def copy() -> Rehearsal:
        run_dir = tmp_path / "r"
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(original.run_dir, run_dir)
        return replace(original, run_dir=run_dir)

    return copy
