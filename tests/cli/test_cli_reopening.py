"""What a resume takes over from the run, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from worker.cli.reopening import require_explanation, settings_of
from worker.configuration import Given, load
from worker.errors import GateClosed
from worker.model import StopReason
from worker.report.interface import RunHeader
from worker.settings import Settings

REFERENCE = Path(__file__).parents[2] / "configs" / "reference.toml"


def header(**settings: object) -> RunHeader:
    stored = msgspec.structs.replace(Settings(), **settings)
    return RunHeader(
        run_id="r",
        program_version="0",
        planned_us=1,
        account="a",
        endpoint="e",
        rehearsal=False,
        settings=msgspec.to_builtins(stored),
        persons=1,
        whole_persons=0,
        faces=1,
        calls=1,
        repeats=0,
        rows=1,
        holds_sha256="",
    )


def resumed(run: RunHeader, flags: Mapping[str, Given], file: Path | None = None) -> Settings:
    return settings_of(run, load(flags, {}, str(file) if file else None))


def test_a_file_that_repeats_the_defaults_takes_no_hold_away() -> None:
    run = header(exclude_from="/holds.txt", rate_per_second=3.0)
    settings = resumed(run, {}, REFERENCE)
    assert settings.exclude_from == "/holds.txt"
    assert settings.rate_per_second == 3.0


def test_a_flag_wins_even_where_it_says_the_default() -> None:
    run = header(rate_per_second=3.0)
    assert resumed(run, {"rate_per_second": Given(19.8, "--rate")}).rate_per_second == 19.8


def test_a_file_that_says_something_else_wins_over_the_run(tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text("rate_per_second = 5.0\n")
    assert resumed(header(rate_per_second=3.0), {}, file).rate_per_second == 5.0


def test_a_swapped_answer_has_to_be_explained_first() -> None:
    reasons = [StopReason.SWAPPED, StopReason.SIGTERM]
    with pytest.raises(GateClosed, match="another person or face") as refused:
        require_explanation(reasons, swap_explained=False)
    assert "--swap-explained" in refused.value.remedy
    require_explanation(reasons, swap_explained=True)
    require_explanation([StopReason.SIGTERM], swap_explained=False)
