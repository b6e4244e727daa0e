"""What ``retry`` asks a person for, without a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import worker.cli
from tests.core.belted_run import session
from tests.core.rig import draft_run, rows
from tests.ledger.errands import World
from worker import telemetry
from worker.cli import consent, stderr, stdout
from worker.errors import GateClosed
from worker.green.codes import RETRYABLE_CODES
from worker.model import Evidence, Kind, Request, Step, StopReason

Asked = tuple[int, str]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What a person was asked to confirm, which nobody does."""
    monkeypatch.setattr(stdout._state, "lost", "")
    monkeypatch.setattr(stderr._state, "as_json", False)
    monkeypatch.setattr(telemetry, "configure", lambda *_: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    was_asked: list[Asked] = []

    def obtain(count: int, noun: str, **_: Any) -> None:
        was_asked.append((count, noun))
        raise GateClosed("it was not confirmed", "confirm it")

    monkeypatch.setattr(consent, "obtain", obtain)
    return was_asked


def test_a_canary_that_failed_is_confirmed_by_distinct_persons(
    tmp_path: Path, asked: list[Asked]
) -> None:
    """The first call of a person was refused, and the canary keeps back the others of the same."""
    run_dir = tmp_path / "r"
    pairs = [("p", f"{number:02}") for number in range(40)] + [("w", "")]
    before = os.umask(0o077)
    try:
        draft_run(run_dir, [rows(pairs)], facts={"rehearsal": True})
        world = World({"p": [face for _, face in pairs[:-1]], "w": ["9"]})

        def answer(request: Request) -> Evidence:
            if request.step is Step.DELETE and request.call_no == 0:
                return Evidence(Kind.REFUSED, 0, code=min(RETRYABLE_CODES))
            return world.answer(request)

        ended = session(run_dir, answer, canary="1", concurrency=1)
        assert ended.stop.reason is StopReason.CANARY
        with pytest.raises(SystemExit) as exit_:
            worker.cli.main(("retry", str(run_dir)))
    finally:
        os.umask(before)
    assert exit_.value.code == 3
    assert asked == [(2, "person")]
