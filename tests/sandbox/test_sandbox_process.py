"""``facepurge sandbox`` as a process: its first line, its ends, its parent."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from worker.sandbox.child import LOG_NAME, SandboxFailed, sandbox_process
from worker.sandbox.journal import Entry, read_log
from worker.sandbox.keys import AccessKey
from worker.sandbox.state import write_state

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client

Connect = Callable[[str], "Client"]
PROGRAM = (sys.executable, "-m", "worker")
LIBRARY = {"p": ["1", "2", "3"]}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    write_state(path, LIBRARY.items())
    return path


@contextmanager
def started(
    *options: str, environment: Mapping[str, str] | None = None, limit_bytes: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*PROGRAM, "sandbox", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    )
    if limit_bytes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error, once it has ended by itself."""
    out, err = await asyncio.to_thread(process.communicate, timeout=20)
    assert out == ""
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_announces_its_url_and_stops_cleanly(
    number: signal.Signals, state: Path, connect: Connect
) -> None:
    with started("--state", str(state)) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        got = await connect(url).delete("p", "1")
        assert got.json["data"]["faceIds"] == ["1"]
        process.send_signal(number)
        assert await ended(process) == (0, "")


async def test_it_stops_at_once_with_an_answer_still_to_come(
    tmp_path: Path, connect: Connect
) -> None:
    log = tmp_path / "log.jsonl"
    options = ("--generate", "1:2", "--latency", "fixed:60", "--log", str(log))
    with started(*options) as (process, url):
        call = asyncio.create_task(connect(url).delete("person1", "1"))
        while not any(  # noqa: ASYNC110 (a file announces nothing)
            isinstance(line, Entry) for line in read_log(log)
        ):
            await asyncio.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (0, "")
        assert time.monotonic() - began < 5
        await asyncio.gather(call, return_exceptions=True)


async def test_it_stops_cleanly_before_it_serves(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    os.mkfifo(state)
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "sandbox", "--state", str(state), stdout=PIPE, stderr=PIPE
    )
    # Opened for writing, it has been opened for reading: that is the program at its beginning.
    with await asyncio.to_thread(state.open, "w"):
        process.terminate()
    # Closed again: a signal just before a read does not interrupt it, and is heard when it returns.
    async with asyncio.timeout(20):
        assert await process.communicate() == (b"", b"")
    assert process.returncode == 0


def test_it_does_not_serve_where_nobody_learns_its_url() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "sandbox"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert "facepurge: stdout: the URL of the sandbox cannot be written there" in done.stderr
    assert "no sandbox is serving now" in done.stderr.splitlines()


async def test_it_ends_with_its_standard_input_only_when_told_to() -> None:
    with started("--exit-on-stdin-eof") as (process, _):
        assert await ended(process) == (0, "")  # communicate closes it
    with started() as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)


async def test_it_takes_the_key_pair_of_its_own_environment(connect: Connect) -> None:
    pair = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "own", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"}
    with started("--generate", "1", environment=pair) as (_, url):
        client = connect(url)
        assert (await client.delete("person1", "1")).gateway_code == "InvalidAccessKeyId.NotFound"
        own = AccessKey("own", "secret")
        assert (await client.delete("person1", "1", key=own)).json["code"] == 200


async def test_a_killed_sandbox_comes_back_with_the_same_world(
    state: Path, tmp_path: Path, connect: Connect
) -> None:
    log = tmp_path / "log.jsonl"
    options = ("--state", str(state), "--log", str(log), "--quota", "off")
    answered = 0

    async def keep_deleting(client: Client) -> None:
        nonlocal answered
        while True:
            await client.delete("p", "1")
            answered += 1

    with started(*options) as (process, url):
        callers = [asyncio.create_task(keep_deleting(connect(url))) for _ in range(4)]
        while answered < 50:  # noqa: ASYNC110 (the callers announce nothing)
            await asyncio.sleep(0.005)
        process.kill()
        broken = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(error, aiohttp.ClientError | OSError) for error in broken)
    logged = [line for line in read_log(log) if isinstance(line, Entry)]
    assert answered <= len(logged) <= answered + 4
    assert [entry.deleted for entry in logged] == [("1",)] + [()] * (len(logged) - 1)
    with started(*options) as (_, url):
        got = await connect(url).call("GetPerson", {"personId": "p"})
        assert got.json["data"]["faceIds"] == ["2", "3"]


async def test_it_stops_with_a_sentence_when_its_log_cannot_grow(
    state: Path, tmp_path: Path, connect: Connect
) -> None:
    log = tmp_path / "log.jsonl"
    with started("--state", str(state), "--log", str(log), limit_bytes=2000) as (process, url):
        client = connect(url)
        calls = [client.delete("p", "1") for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(answer, aiohttp.ClientError) for answer in answers)
        code, err = await ended(process)
    assert code == 1
    assert "request log cannot be written" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--state", "missing.json"], "missing.json: the state cannot be read"),
        (["--state", "x", "--generate", "3"], "--state and --generate contradict each other"),
        (["--state", "x", "--log", "x"], "the request log would be written into the state"),
        (["--quota", "off", "--throttle", "http-429"], "without a quota no call is counted"),
        (["--quota-burst", "5"], "--quota-burst 5: only a bucket saves up calls"),
        (["--fault", "nothing"], "--fault"),
        (["--fact", "nothing=1"], "--fact"),
        (["--latency", "soon"], "--latency"),
        (["--clock-offset", "nan"], "--clock-offset"),
        (["--faults", "missing.json"], "fault rules cannot be read"),
    ],
)
async def test_options_that_cannot_be_meant_are_refused(options: list[str], said: str) -> None:
    with started(*options) as (process, line):
        assert line == ""
        code, err = await ended(process)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("what", ["facts", "faults"])
def test_it_explains_what_can_be_set(what: str) -> None:
    done = subprocess.run(
        [*PROGRAM, "sandbox", "--list", what], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    words = {"facts": "unknown_person = code-404 | code-400", "faults": "reset at=start|half"}
    assert words[what] in done.stdout


async def test_a_child_serves_its_parent_and_is_gone_afterwards(
    state: Path, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "never handed on")
    async with sandbox_process(tmp_path, state, options=["--quota-rate", "5"]) as served:
        url = served.url
        got = await connect(url).delete("p", "1")  # signed with the sandbox pair
        assert got.json["data"]["faceIds"] == ["1"]
    with pytest.raises(aiohttp.ClientConnectorError):
        await connect(url).delete("p", "2")
    async with sandbox_process(tmp_path, state) as served:
        got = await connect(served.url).call("GetPerson", {"personId": "p"})
        assert got.json["data"]["faceIds"] == ["2", "3"]
    assert len([line for line in read_log(tmp_path / LOG_NAME) if isinstance(line, Entry)]) == 2


async def test_a_child_that_ends_by_itself_is_known_with_its_last_words(
    tmp_path: Path, state: Path, connect: Connect
) -> None:
    async with sandbox_process(tmp_path, state) as served:
        (child,) = [int(word) for word in _children(os.getpid())]
        waiting = asyncio.create_task(served.ended())
        impatient = asyncio.create_task(served.ended())
        await connect(served.url).delete("p", "1")
        assert not waiting.done()
        impatient.cancel()
        os.kill(child, signal.SIGKILL)
        assert await waiting == "it was killed by signal 9"
    async with sandbox_process(tmp_path, state) as served:
        (child,) = [int(word) for word in _children(os.getpid())]
        resource.prlimit(child, resource.RLIMIT_FSIZE, (10, 10))
        with suppress(aiohttp.ClientError):
            await connect(served.url).delete("p", "2")
        said = await served.ended()
    assert said.startswith("it ended with exit code 1 and said: facepurge: ")
    assert "the request log cannot be written" in said
    assert "\n" not in said


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_a_child_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match=r"missing\.json: the state cannot be read") as failed:
        async with sandbox_process(tmp_path, tmp_path / "missing.json"):
            pass
    assert "facepurge:" not in failed.value.cause, "its own words, and not how it ended"
    assert "\n" not in failed.value.cause
    assert failed.value.remedy


async def test_a_child_that_never_announces_itself_is_given_up(tmp_path: Path, state: Path) -> None:
    mute = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(SandboxFailed, match=r"within 0\.3 s"):
        async with sandbox_process(tmp_path, state, program=mute, start_seconds=0.3):
            pass


async def test_a_child_outlives_ctrl_c_but_not_its_parent(
    tmp_path: Path, state: Path, session: aiohttp.ClientSession
) -> None:
    parent = textwrap.dedent(
        f"""
        import asyncio, signal
        from pathlib import Path
        from worker.sandbox.child import sandbox_process

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
            async with sandbox_process(Path({str(tmp_path)!r}), Path({str(state)!r})) as served:
                print(served.url, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        parent,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does to the foreground group
    async with session.post(url, data=json.dumps({})) as response:
        assert response.status == 400
    process.kill()
    await process.wait()
    async with asyncio.timeout(10):
        while True:
            try:
                async with session.post(url, data=b"{}"):
                    await asyncio.sleep(0.02)
            except aiohttp.ClientConnectorError:
                break
            except aiohttp.ClientError:
                continue
