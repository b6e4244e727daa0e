"""The belts in the plan, and a run that is not begun under them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from worker.cli import readiness
from worker.cli.readiness import belt_lines, require_ready
from worker.clock import SystemClock
from worker.errors import GateClosed
from worker.settings import Settings

NOON_US = 1_764_072_000 * 1_000_000  # 2025-11-25T12:00:00Z
NIGHT = Settings(window="22:00-06:00", time_zone="Europe/Berlin")


class Noon(SystemClock):
    def now_us(self) -> int:
        return NOON_US


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SystemClock", Noon)


def test_without_belts_the_plan_has_nothing_to_say() -> None:
    assert belt_lines(Settings()) == []
    require_ready(Settings())


def test_the_plan_names_every_belt(tmp_path: Path) -> None:
    pause_file = tmp_path / "pause"
    settings = Settings(
        canary="1,20",
        halt="soon,fail=5%",
        reserve_per_second=5.0,
        max_duration="6h",
        window="22:00-06:00",
        time_zone="Europe/Berlin",
        stop_file="/stop",
        pause_file=str(pause_file),
    )
    lines = [
        "  canary    1, then 20, then the rest",
        "  halt      soon,fail=5%",
        "  reserve   5 calls/s are left to others",
        "  lasts     at most 6h in this session",
        "  window    22:00-06:00 Europe/Berlin, closed now, opens 22:00 CET",
        "  stops     as soon as /stop exists",
        f"  pauses    while {pause_file} exists",
    ]
    assert belt_lines(settings) == lines
    pause_file.touch()
    assert belt_lines(settings)[-1] == f"{lines[-1]}, and it does now"
    day = Settings(window="09:00-17:00", time_zone="UTC")
    assert belt_lines(day) == ["  window    09:00-17:00 UTC, open now"]


def test_outside_of_the_window_a_run_is_not_begun() -> None:
    with pytest.raises(GateClosed, match="is closed now, opens 22:00 CET, and no call") as refused:
        require_ready(NIGHT)
    assert "--outside-window wait" in refused.value.remedy
    require_ready(msgspec.structs.replace(NIGHT, outside_window="wait"))
    require_ready(Settings(window="09:00-17:00", time_zone="UTC"))


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_with_a_stop_file_a_run_is_not_begun(tmp_path: Path, kind: str) -> None:
    stop_file = tmp_path / "stop"
    settings = Settings(stop_file=str(stop_file))
    require_ready(settings)
    if kind == "file":
        stop_file.touch()
    else:
        stop_file.symlink_to("nowhere")
    with pytest.raises(GateClosed, match="the stop file exists") as refused:
        require_ready(settings)
    assert str(stop_file) in refused.value.cause
    assert "remove it" in refused.value.remedy
