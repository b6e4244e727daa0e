"""The short version of ``make simulate``, and proof that it can fail."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import worker.fold
import worker.ledger.journal
from tests.simulation.campaign import campaign
from tests.simulation.simulation import scratch_directory, simulate
from worker.fold import Trace

SEEDS = 60


@pytest.fixture
def scratch() -> Iterator[Path]:
    directory = scratch_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.mark.campaign
def test_nothing_that_happens_makes_a_report_lie() -> None:
    figures = campaign(1, SEEDS, verbose=False)
    assert [(run.seed, run.violations) for run in figures.failed] == []
    assert len(figures.seen) >= 10
    assert figures.outcomes["absent"]
    assert figures.outcomes["deleted"]


def test_the_same_seed_tells_the_same_story(scratch: Path) -> None:
    assert simulate(7, scratch).digest == simulate(7, scratch).digest
    assert simulate(7, scratch).digest != simulate(8, scratch).digest


def _found_out(scratch: Path, seeds: range) -> bool:
    return any(simulate(seed, scratch).violations for seed in seeds)


def test_a_fold_that_believes_one_lookup_is_found_out(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.fold, "_PROOF_LOOKUPS", 1)
    assert _found_out(scratch, range(1, 40))


def test_lookups_that_are_not_kept_apart_are_found_out(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_them(lookups: Sequence[Trace], interval_us: int) -> list[Trace]:
        del interval_us
        return list(lookups)

    def at_once(*_: object) -> int:
        return 0

    monkeypatch.setattr(worker.fold, "spaced", all_of_them)
    monkeypatch.setattr(worker.fold, "due_us", at_once)
    assert _found_out(scratch, range(1, 40))


def test_an_exclusion_list_that_nobody_reads_is_found_out(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.ledger.journal.Ledger, "_held", lambda *_: set())
    assert _found_out(scratch, range(1, 80))
