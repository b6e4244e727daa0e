"""The account of a run: declared, named by STS, or the AccessKey ID, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, Service, serving
from worker.cli import account as module
from worker.cli.account import Account, established
from worker.errors import GateClosed, RunStopped
from worker.sandbox.keys import SANDBOX_ACCOUNT_ID, SANDBOX_KEY, AccessKey
from worker.settings import Settings

TEMPORARY = AccessKey("STS.first", "first-secret", "first-token")
RENEWED = AccessKey("STS.second", "second-secret", "second-token")
SECOND = AccessKey("LTAI-second", "second-pair")
KEYS = (SANDBOX_KEY, TEMPORARY, RENEWED, SECOND)
PAIRS = [("person1", "1"), ("person2", "2")]
NOBODY = "http://127.0.0.1:1"


def environment(key: AccessKey) -> dict[str, str]:
    return {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": key.access_key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": key.access_key_secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": key.security_token,
    }


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[AccessKey], None]:
    def give(key: AccessKey) -> None:
        for name, value in environment(key).items():
            monkeypatch.setenv(name, value)

    give(SANDBOX_KEY)
    return give


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(PAIRS, keys=KEYS) as opened:
        yield opened


async def account(**settings: Any) -> Account:
    """As a verb asks: in a thread of its own, because it brings its own loop."""
    return await asyncio.to_thread(established, Settings(endpoint="http://127.0.0.1:1", **settings))


async def test_a_declared_account_is_not_asked_about(service: Service) -> None:
    assert await account(account_id="77", sts_endpoint=service.url) == Account("77")
    assert service.identity_calls == 0


@pytest.mark.parametrize("key", [SANDBOX_KEY, TEMPORARY], ids=["permanent", "temporary"])
async def test_sts_names_the_account(
    service: Service, use: Callable[[AccessKey], None], key: AccessKey
) -> None:
    use(key)
    found = await account(sts_endpoint=service.url)
    assert found == Account(SANDBOX_ACCOUNT_ID, key.access_key_id)
    assert found.owns(SANDBOX_ACCOUNT_ID)
    assert found.owns(key.access_key_id)
    assert not found.owns("")
    assert service.identity_calls == 1
    assert service.entries == []


@pytest.mark.usefixtures("use")
async def test_an_emulators_key_is_nothing_to_the_real_sts() -> None:
    key_id = SANDBOX_KEY.access_key_id
    assert await account() == Account(key_id, key_id)


async def test_a_temporary_key_of_which_nobody_is_asked(
    use: Callable[[AccessKey], None],
) -> None:
    use(TEMPORARY)
    with pytest.raises(GateClosed, match="the credentials are temporary") as closed:
        await account()
    assert "account_id" in closed.value.remedy
    assert "sts_endpoint" in closed.value.remedy


@pytest.mark.usefixtures("use")
async def test_where_sts_does_not_answer_a_permanent_key_stands_for_itself() -> None:
    found = await account(sts_endpoint=NOBODY)
    assert (found.name, found.access_key_id) == (SANDBOX_KEY.access_key_id,) * 2
    assert "127.0.0.1:1 refuses connections" in found.note
    assert "--same-account" in found.note
    assert "account_id" in found.note


async def test_where_sts_does_not_answer_a_temporary_key_is_refused(
    use: Callable[[AccessKey], None],
) -> None:
    use(TEMPORARY)
    with pytest.raises(GateClosed, match="refuses connections") as closed:
        await account(sts_endpoint=NOBODY)
    assert closed.value.remedy.startswith("name the account: account_id")


async def test_a_silent_sts_does_not_hold_the_start_up(
    use: Callable[[AccessKey], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERMANENT_KEY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never says a word
        port = silent.getsockname()[1]
        began = time.monotonic()
        found = await account(sts_endpoint=f"http://127.0.0.1:{port}")
    assert time.monotonic() - began < 5
    assert found.name == SANDBOX_KEY.access_key_id
    assert "no answer came within 0.2 s" in found.note


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (AccessKey("LTAI-nobody", "x"), "InvalidAccessKeyId.NotFound"),
        (AccessKey(SANDBOX_KEY.access_key_id, "wrong"), "SignatureDoesNotMatch"),
        (AccessKey("STS.first", "first-secret", "stale"), "InvalidSecurityToken"),
    ],
)
async def test_a_key_that_sts_refuses_stops_before_anything_is_read(
    service: Service, use: Callable[[AccessKey], None], key: AccessKey, code: str
) -> None:
    use(key)
    with pytest.raises(RunStopped, match=code) as stopped:
        await account(sts_endpoint=service.url)
    assert stopped.value.exit_code == 7
    assert stopped.value.remedy
    for secret in (key.access_key_secret, "stale"):
        assert secret not in stopped.value.cause + stopped.value.remedy


# --- The program ----------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "faces.csv").write_text("person_id,face_id\nperson1,1\nperson2,2\n")
    return Program(tmp_path)


async def run(program: Program, service: Service, *more: str, **variables: str) -> Ended:
    return await program(
        *("run", "faces.csv", "--endpoint", service.url, "--run-dir", "r", *FAST, *more),
        environment=variables,
    )


async def test_a_run_outlives_its_temporary_keys(program: Program, service: Service) -> None:
    """Planned with one key, resumed with the next, never asked for --same-account."""
    sts = {"FACEPURGE_STS_ENDPOINT": service.url}
    ended = await run(program, service, "--yes", **sts, **environment(TEMPORARY))
    assert ended.code == 0, ended.err
    assert f"account   {SANDBOX_ACCOUNT_ID}" in ended.err + ended.out
    summary = json.loads((program.directory / "r/report/summary.json").read_text())
    assert summary["account"] == SANDBOX_ACCOUNT_ID
    assert len(service.entries) == 2
    service.keys.revoke(TEMPORARY.access_key_id)
    verified = await program("verify", "r", environment={**sts, **environment(RENEWED)})
    assert verified.code == 0, verified.err
    said = ended.out + ended.err + verified.out + verified.err
    ledger = (program.directory / "r/ledger.sqlite3").read_bytes()
    for key in (TEMPORARY, RENEWED):
        for secret in (key.access_key_secret, key.security_token):
            assert secret not in said
            assert secret.encode() not in ledger


async def test_the_plan_says_that_the_account_is_not_known(
    program: Program, service: Service
) -> None:
    ended = await run(program, service, "--yes", FACEPURGE_STS_ENDPOINT=NOBODY)
    assert ended.code == 0, ended.err
    assert "note      the run belongs to the AccessKey ID" in ended.out + ended.err
    # With the same key, once STS answers again, it is the same run.
    again = await program("verify", "r", environment={"FACEPURGE_STS_ENDPOINT": service.url})
    assert again.code == 0, again.err
    # And with another one it is not.
    other = {"FACEPURGE_STS_ENDPOINT": service.url, **environment(SECOND)}
    refused = await program("verify", "r", environment=other)
    assert refused.code == 3, refused.err
    assert f"the credentials now are {SANDBOX_ACCOUNT_ID}" in refused.err


async def test_temporary_keys_without_an_account_send_nothing(
    program: Program, service: Service
) -> None:
    ended = await run(
        program, service, "--yes", FACEPURGE_STS_ENDPOINT=NOBODY, **environment(TEMPORARY)
    )
    assert ended.code == 3, ended.err
    assert "FACEPURGE_ACCOUNT_ID" in ended.err
    assert ended.last_line == "nothing was sent"
    assert service.entries == []


async def test_a_rehearsal_and_a_dry_run_ask_nobody(program: Program, service: Service) -> None:
    sts = {"FACEPURGE_STS_ENDPOINT": service.url}
    rehearsed = await program("run", "faces.csv", "--sandbox", "--yes", environment=sts)
    assert rehearsed.code == 0, rehearsed.err
    dry = await run(program, service, "--dry-run", **sts)
    assert dry.code == 0, dry.err
    assert service.identity_calls == 0
