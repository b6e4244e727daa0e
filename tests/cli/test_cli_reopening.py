"""What a resume takes over from the run, and what it refuses."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.core.rig import draft_run, persons, rows
from worker import cli, telemetry
from worker.cli import reopening, stderr
from worker.cli.account import Account
from worker.cli.reopening import (
    reopened,
    require_explanation,
    require_same_target,
    settings_of,
)
from worker.configuration import Given, load
from worker.errors import GateClosed, UsageRefused
from worker.ledger.database import FILE_NAME
from worker.model import StopReason
from worker.report.interface import RunHeader
from worker.settings import Settings

NOBODY = "http://127.0.0.1:9"
REFERENCE = Path(__file__).parents[2] / "configs" / "reference.toml"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stderr._state, "as_json", False)
    monkeypatch.setattr(telemetry, "configure", lambda *_: None)


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


def test_how_logs_look_is_said_anew_for_each_terminal() -> None:
    run = header(log_format="json")
    assert resumed(run, {}).log_format == "console"
    assert resumed(run, {"log_format": Given("json", "--log-format")}).log_format == "json"


@pytest.mark.parametrize("network", ["public", "vpc"])
def test_another_region_is_not_the_address_of_the_run(network: str) -> None:
    """It used to be overheard: the address that the run was planned with won over it."""
    run = replace(header(endpoint=NOBODY, network=network), endpoint=NOBODY)
    settings = resumed(run, {"region": Given("cn-shanghai", "--region")})
    with pytest.raises(GateClosed) as refused:
        require_same_target(run, settings, same_account=False)
    assert "cn-shanghai.aliyuncs.com" in refused.value.cause


def test_another_address_is_not_the_region_of_the_run() -> None:
    run = header(region="cn-beijing")
    flag = {"endpoint": Given("https://green-vpc.cn-shanghai.aliyuncs.com", "--endpoint")}
    with pytest.raises(GateClosed, match=r"green-vpc\.cn-shanghai"):
        require_same_target(run, resumed(run, flag), same_account=False)


@pytest.mark.parametrize(
    ("recorded", "taken"),
    [
        ("1000000000000001", False),  # two accounts, and both are known
        ("LTAI-planned", True),  # a key, whose account nobody told
    ],
)
def test_the_word_of_a_person_does_not_make_one_account_of_two(
    *, recorded: str, taken: bool
) -> None:
    run = replace(header(endpoint=NOBODY), endpoint=NOBODY, account=recorded)
    settings = msgspec.structs.replace(resumed(run, {}), account_id="2000000000000002")
    with pytest.raises(GateClosed, match=f"{recorded}, .* now are 2000000000000002") as refused:
        require_same_target(run, settings, same_account=False)
    assert ("--same-account" in refused.value.remedy) is taken
    if taken:
        require_same_target(run, settings, same_account=True)
        return
    with pytest.raises(GateClosed, match="now are 2000000000000002") as refused:
        require_same_target(run, settings, same_account=True)
    assert "--same-account" not in refused.value.remedy


def test_a_number_is_not_a_key_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned with a number; today STS is silent, and the key stands for its account."""
    run = replace(header(endpoint=NOBODY), endpoint=NOBODY, account="1000000000000001")
    monkeypatch.setattr(reopening, "established", lambda _: Account("LTAI-now", "LTAI-now"))
    settings = resumed(run, {})
    with pytest.raises(GateClosed, match="now are LTAI-now") as refused:
        require_same_target(run, settings, same_account=False)
    assert "--same-account" in refused.value.remedy
    require_same_target(run, settings, same_account=True)


def test_the_same_region_beside_the_address_changes_nothing() -> None:
    run = header(endpoint=NOBODY, region="cn-shanghai")
    settings = resumed(run, {"region": Given("cn-shanghai", "--region")})
    assert settings.endpoint == NOBODY


@pytest.mark.parametrize("key", ["region", "endpoint"])
def test_a_rehearsal_has_no_other_server(key: str) -> None:
    run = replace(header(), rehearsal=True)
    with pytest.raises(UsageRefused, match=f"--{key}: the run is a rehearsal"):
        resumed(run, {key: Given("cn-shanghai", f"--{key}")})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    draft_run(tmp_path / "r", [rows(persons(2, 2))])
    return tmp_path / "r"


VERBS = ["resume", "retry", "verify", "report"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given_away", ["r", f"r/{FILE_NAME}"])
@pytest.mark.parametrize("verb", VERBS)
def test_the_run_of_another_user_is_left_alone(run_dir: Path, verb: str, given_away: str) -> None:
    os.chown(run_dir.parent / given_away, 65534, 65534)
    refused = refused_by(verb, run_dir)
    assert f"{given_away}: it belongs to another user (UID 65534, and this is 0)" in refused
    assert "as the user who made the run" in refused


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_others_may_write_is_nobodys(run_dir: Path, verb: str) -> None:
    (run_dir / FILE_NAME).chmod(0o666)
    refused = refused_by(verb, run_dir)
    assert f"{FILE_NAME}: it may be written by others, so nobody knows whose run this is" in refused
    assert "chmod go-w" in refused


def test_the_run_of_another_user_may_be_read(run_dir: Path) -> None:
    run_dir.chmod(0o777)
    with reopened(run_dir, to_read=True) as run:
        assert run.left.faces == 4


def refused_by(verb: str, run_dir: Path) -> str:
    """What the verb says, which changes nothing."""
    before = sorted(run_dir.iterdir())
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit) as ended:
        cli.main((verb, str(run_dir)))
    assert ended.value.code == 3, said.getvalue()
    assert said.getvalue().splitlines()[-1] == "nothing was sent"
    assert sorted(run_dir.iterdir()) == before
    return said.getvalue()


def test_a_swapped_answer_has_to_be_explained_first() -> None:
    reasons = [StopReason.SWAPPED, StopReason.SIGTERM]
    with pytest.raises(GateClosed, match="another person or face") as refused:
        require_explanation(reasons, swap_explained=False)
    assert "--swap-explained" in refused.value.remedy
    require_explanation(reasons, swap_explained=True)
    require_explanation([StopReason.SIGTERM], swap_explained=False)
