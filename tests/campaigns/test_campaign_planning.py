"""The planning sweep's short version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.planning import (
    READER,
    WHOLE,
    Kill,
    content,
    kill_and_start_again,
    plan,
    write_manifest,
)

ROWS = 130_000
"""More than is planned in memory, and more bytes than are planned in the same process."""


@pytest.mark.campaign
def test_planning_killed_begins_again_cleanly(tmp_path: Path) -> None:
    """`make planning` does this at twenty random moments."""
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, ROWS, seed=1)
    code, said = plan(manifest, tmp_path / "undisturbed")
    assert code == 4, said
    expected = content(tmp_path / "undisturbed")
    for kill in (Kill(0.4, WHOLE), Kill(0.8, WHOLE), Kill(0.6, READER)):
        killed = kill_and_start_again(manifest, expected, kill)
        assert not killed.violations
