from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from worker.errors import InputRefused, UsageRefused
from worker.sandbox.faults import parse_rule
from worker.sandbox.journal import Entry, Journal, JournalFailed, Late, Start, read_log
from worker.sandbox.options import SandboxOptions
from worker.sandbox.server import Sandbox
from worker.sandbox.state import Generated

if TYPE_CHECKING:
    from tests.sandbox.conftest import Stage

Begin = Callable[..., Awaitable["Stage"]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def assert_shape(log: Path) -> None:
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    raw = json.loads(log.read_text().splitlines()[1])
    assert raw["event"] == "arrival"
    assert {"sequence", "seconds", "at_us", "deleted", "status", "code", "fault"} <= set(raw)


def tear_last_line(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])


def spoil_path(log: Path, kind: str) -> Path:
    if kind == "directory":
        log.mkdir()
    elif kind == "link":
        log.symlink_to(log.with_name("elsewhere"))
    else:
        return log / "no" / "such" / "directory"
    return log


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"persons": {"p": ["1", "2", "3"], "q": ["4"]}}))
    return path


async def test_a_line_is_in_the_log_before_the_answer(stage: Begin, state: Path, log: Path) -> None:
    on = await stage(state=state, log=log)
    before = time.monotonic()
    got = await on.client.delete("p", "1", "9", nonce="n-1")
    start, entry = read_log(log)
    assert isinstance(start, Start)
    assert isinstance(entry, Entry)
    assert entry == on.sandbox.entries[0]
    assert (entry.operation, entry.person_id, entry.face_ids) == ("DeleteFaces", "p", ("1", "9"))
    assert (entry.deleted, entry.status, entry.code, entry.fault) == (("1",), 200, "200", "")
    assert (entry.nonce, entry.access_key_id) == ("n-1", "LTAI-facepurge-sandbox")
    assert entry.request_id == got.json["requestId"]
    assert before - 0.001 <= entry.seconds <= time.monotonic()
    assert_shape(log)


async def test_an_arrival_is_stamped_when_its_first_bytes_come(stage: Begin) -> None:
    on = await stage({"p": ["1"]})
    url, body, headers = on.client.request("DeleteFaces", {"personId": "p", "faceIds": ["1"]})

    async def slowly() -> Any:
        yield body[:5]
        await asyncio.sleep(0.2)
        yield body[5:]

    headers["Content-Length"] = str(len(body))
    before = time.monotonic()
    async with on.client.session.post(url, data=slowly(), headers=headers) as response:
        assert response.status == 200
    assert on.sandbox.entries[0].seconds - before < 0.15


async def test_the_world_is_the_same_after_a_restart(stage: Begin, state: Path, log: Path) -> None:
    first = await stage(state=state, log=log, faults=(parse_rule("html nth=3"),))
    client = first.client
    await client.delete("p", "1", nonce="used")
    await client.call("AddPerson", {"personId": "new", "groupIds": ["g"], "name": "N"})
    await client.call("AddFaces", {"personId": "new", "urls": ["http://a", "http://b"]})
    await client.call("DeletePerson", {"personId": "q"})
    await client.delete("p", "3")
    was, profile = first.sandbox.world.as_dict(), first.sandbox.world.profile("new")
    await first.sandbox.__aexit__(None, None, None)

    second = await stage(state=state, log=log, faults=(parse_rule("html nth=3"),))
    assert second.sandbox.world.as_dict() == was
    assert second.sandbox.world.profile("new") == profile
    assert second.sandbox.entries == []
    assert (await second.client.delete("p", "2", nonce="used")).gateway_code == "SignatureNonceUsed"
    assert (await second.client.delete("p", "2")).status == 502  # the third that was let through
    added = await second.client.call("AddFaces", {"personId": "new", "urls": ["http://c"]})
    assert added.json["data"]["faceImageItems"][0]["faceId"] == 23088737259260931
    sequences = [line.sequence for line in read_log(log) if isinstance(line, Entry)]
    assert sequences == list(range(1, 9))
    await second.sandbox.__aexit__(None, None, None)


async def test_what_was_applied_late_is_brought_back(stage: Begin, state: Path, log: Path) -> None:
    on = await stage(state=state, log=log, faults=(parse_rule("silence"),))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await on.client.delete("p", "1")
    async with asyncio.timeout(5):
        while on.sandbox.world.face_count() == 4:  # noqa: ASYNC110 (a world announces nothing)
            await asyncio.sleep(0.01)
    await on.sandbox.__aexit__(None, None, None)
    assert any(isinstance(line, Late) for line in read_log(log))
    again = await stage(state=state, log=log)
    assert again.sandbox.world.faces("p") == ("2", "3")


async def test_a_torn_last_line_is_cut_off(stage: Begin, state: Path, log: Path) -> None:
    on = await stage(state=state, log=log)
    await on.client.delete("p", "1")
    await on.client.delete("p", "2")
    await on.sandbox.__aexit__(None, None, None)
    tear_last_line(log)
    again = await stage(state=state, log=log)
    assert again.sandbox.world.faces("p") == ("2", "3")
    await again.client.delete("p", "3")
    assert [type(line).__name__ for line in read_log(log)] == ["Start", "Entry", "Start", "Entry"]


@pytest.mark.parametrize("damage", [b"{}\n", b"not json\n", b'{"event":"arrival"}\n', b"\x00\n"])
async def test_a_damaged_log_is_refused(log: Path, damage: bytes) -> None:
    async with Sandbox(SandboxOptions(log=log)):
        pass
    with log.open("ab") as file:
        file.write(damage)
    with pytest.raises(InputRefused, match=r"requests\.jsonl:2"):
        await Sandbox(SandboxOptions(log=log)).__aenter__()


async def test_a_log_of_another_state_is_refused(log: Path) -> None:
    async with Sandbox(SandboxOptions(log=log, state=Generated(3))):
        pass
    with pytest.raises(InputRefused, match="another state"):
        await Sandbox(SandboxOptions(log=log, state=Generated(4))).__aenter__()


async def test_two_sandboxes_do_not_write_one_log(log: Path) -> None:
    async with Sandbox(SandboxOptions(log=log)):
        with pytest.raises(UsageRefused, match="another sandbox"):
            await Sandbox(SandboxOptions(log=log)).__aenter__()
    async with Sandbox(SandboxOptions(log=log)):
        pass


@pytest.mark.parametrize("kind", ["directory", "link", "missing"])
async def test_a_log_that_cannot_be_opened_is_refused(log: Path, kind: str) -> None:
    path = spoil_path(log, kind)
    with pytest.raises(InputRefused, match="cannot be opened"):
        await Sandbox(SandboxOptions(log=path)).__aenter__()


async def test_without_a_log_nothing_is_answered(stage: Begin, state: Path, log: Path) -> None:
    on = await stage(state=state, log=log)
    await on.client.delete("p", "1")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, on.sandbox.journal._descriptor)
    os.close(full)
    for _ in range(2):
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await on.client.delete("p", "2")
    assert on.sandbox.failed.is_set()
    assert isinstance(on.sandbox.failure, JournalFailed)
    assert on.sandbox.world.faces("p") == ("2", "3")


def test_lines_are_kept_only_when_asked_for() -> None:
    line = Start(1, "digest")
    for keep, kept in ((True, [line]), (False, [])):
        journal = Journal(None, keep_lines=keep)
        journal.write(line)
        assert journal.lines == kept


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "example.com"])  # noqa: S104 (to be refused)
async def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(UsageRefused, match="asked to listen"):
        await Sandbox(SandboxOptions(host=host)).__aenter__()


async def test_a_taken_port_is_refused(stage: Begin, log: Path) -> None:
    on = await stage({})
    port = int(on.sandbox.url.rpartition(":")[2])
    with pytest.raises(UsageRefused, match=f"port {port}"):
        await Sandbox(SandboxOptions(port=port, log=log)).__aenter__()
    async with Sandbox(SandboxOptions(log=log)):  # and the log was given back
        pass
