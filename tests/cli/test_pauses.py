"""What a person is told to do about a paused run: what lifts each reason, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.test_belts import NIGHT, Steered, ToldClock, files
from worker.cli.belts import Hours
from worker.cli.helm import ORDERED
from worker.cli.pauses import way_on
from worker.settings import Settings


async def by_window() -> Steered:
    steered, clock = Steered(), ToldClock("2026-01-10T12:00+00:00")
    night = Settings(**NIGHT, outside_window="wait")
    Hours(night, steered, clock).look()  # type: ignore[arg-type]
    return steered


def way(steered: Steered) -> str:
    return way_on(", ".join(steered.pauses), "'my runs/r'")


async def test_an_order_is_lifted_by_an_order() -> None:
    steered = Steered()
    steered.pause(ORDERED)
    assert way(steered) == "to go on type: facepurge unpause 'my runs/r'"


async def test_a_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "not, in order" / "pause it"
    path.parent.mkdir()
    path.touch()
    steered = Steered()
    files(steered, pause_file=str(path)).look()
    assert way(steered) == f"to go on remove '{path}'"
    steered.pause(ORDERED)
    assert way(steered) == f"to go on remove '{path}' and type: facepurge unpause 'my runs/r'"


async def test_a_file_that_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    steered = Steered()
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", refused)
        files(steered, stop_file=str(tmp_path / "stop")).look()
    assert way(steered) == f"to go on let the run look at {tmp_path / 'stop'}"


async def test_a_window_opens_by_itself() -> None:
    steered = await by_window()
    assert way(steered) == "it goes on by itself at 22:00 CET"
    steered.pause(ORDERED)
    assert way(steered) == (
        "its window opens at 22:00 CET; to go on type: facepurge unpause 'my runs/r'"
    )
    assert way_on("window", "r") == "it goes on by itself once its window opens"
