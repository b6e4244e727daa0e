"""The chain reads its environment when it is imported, so each case is a process of its own."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from worker.errors import RunStopped, UsageRefused
from worker.green.credentials import (
    FixedCredential,
    OfficialChain,
    _places,
    credential_chain,
)
from worker.green.interface import Credential

ROOT = Path(__file__).parents[2]
PAIR = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "envId", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "envSecret"}


def child(program: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` with nothing of this process's environment but the search path."""
    script = (
        "import asyncio, json, sys, time\n"
        "from worker.errors import FacepurgeError\n"
        "from worker.green.credentials import credential_chain\n"
        "async def main():\n"
        + "".join(f"    {line}\n" for line in program.strip().splitlines())
        + "asyncio.run(main())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


GET = """
try:
    found = await credential_chain().get()
    print(json.dumps([found.access_key_id, found.access_key_secret, found.security_token, found.provider]))
except FacepurgeError as error:
    print(json.dumps([error.cause, error.remedy]))
"""


def found_by(home: Path, program: str = GET, **environment: str) -> list[str]:
    done = child(program, home, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    answer: list[str] = json.loads(done.stdout)
    return answer


class Dispenser(http.server.BaseHTTPRequestHandler):
    """A credentials URI that takes its time and counts its callers."""

    calls = 0
    delay_seconds = 0.0
    answer: Any = None

    def do_GET(self) -> None:
        type(self).calls += 1
        time.sleep(self.delay_seconds)
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def dispenser(answer: Any, delay_seconds: float = 0.0) -> Iterator[tuple[str, type[Dispenser]]]:
    handler = type(
        "Handler", (Dispenser,), {"answer": answer, "delay_seconds": delay_seconds, "calls": 0}
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/credentials", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def session_token(expiration: str = "2037-01-02T15:04:05Z") -> dict[str, str]:
    return {
        "Code": "Success",
        "AccessKeyId": "uriId",
        "AccessKeySecret": "uriSecret",
        "SecurityToken": "uriToken",
        "Expiration": expiration,
    }


# --- The environment ------------------------------------------------------------------------------


async def test_environment_pair() -> None:
    chain = credential_chain({**PAIR, "ALIBABA_CLOUD_SECURITY_TOKEN": "envToken"})
    expected = Credential("envId", "envSecret", "envToken", "environment")
    assert (await chain.get(), await chain.renew()) == (expected, expected)


@pytest.mark.parametrize("half", PAIR)
def test_half_a_pair_is_refused(half: str) -> None:
    with pytest.raises(UsageRefused, match="other half") as caught:
        credential_chain({half: "x"})
    assert half not in caught.value.cause


@pytest.mark.parametrize("blemish", ["\n", " ", "\r", "\x00", "é"])
@pytest.mark.parametrize("name", [*PAIR, "ALIBABA_CLOUD_SECURITY_TOKEN"])
def test_what_no_header_can_carry_is_refused(name: str, blemish: str) -> None:
    environment = {**PAIR, "ALIBABA_CLOUD_SECURITY_TOKEN": "t"}
    environment[name] += blemish
    with pytest.raises(UsageRefused) as caught:
        credential_chain(environment)
    assert "envSecret" not in caught.value.cause


def test_without_a_pair_the_official_chain_is_asked() -> None:
    assert isinstance(credential_chain({}), OfficialChain)


def test_the_environment_is_read_without_the_heavy_library(tmp_path: Path) -> None:
    program = """
found = await credential_chain().get()
heavy = [name for name in sys.modules if name.startswith(("alibabacloud", "Tea", "apscheduler"))]
print(json.dumps([found.access_key_id, *heavy]))
"""
    assert found_by(tmp_path, program, **PAIR) == ["envId"]


def test_secrets_are_not_in_a_repr() -> None:
    credential = Credential("id", "hush", "silence", "p")
    assert "hush" not in f"{credential} {credential!r} {FixedCredential(credential)!r}"
    assert "silence" not in repr(credential)
    assert credential == Credential("id", "hush", "silence", "elsewhere")


# --- The official chain ---------------------------------------------------------------------------


def write_profile(home: Path, key_id: str) -> None:
    folder = home / ".aliyun"
    folder.mkdir(exist_ok=True)
    profile = {"name": "p", "mode": "AK", "access_key_id": key_id, "access_key_secret": "cliSecret"}
    (folder / "config.json").write_text(json.dumps({"current": "p", "profiles": [profile]}))


def write_ini(home: Path, text: str) -> None:
    folder = home / ".alibabacloud"
    folder.mkdir(exist_ok=True)
    (folder / "credentials.ini").write_text(text)


def test_command_line_profile(tmp_path: Path) -> None:
    write_profile(tmp_path, "cliId")
    assert found_by(tmp_path) == ["cliId", "cliSecret", "", "default/cli_profile/static_ak"]


def test_credentials_file(tmp_path: Path) -> None:
    write_ini(
        tmp_path,
        "[default]\ntype = access_key\naccess_key_id = iniId\naccess_key_secret = iniSecret\n",
    )
    assert found_by(tmp_path)[:3] == ["iniId", "iniSecret", ""]


def test_credentials_uri(tmp_path: Path) -> None:
    with dispenser(session_token()) as (url, _):
        found = found_by(tmp_path, ALIBABA_CLOUD_CREDENTIALS_URI=url)
    assert found == ["uriId", "uriSecret", "uriToken", "default/credential_uri"]


def test_a_rotated_file_is_read_again_by_renew_only(tmp_path: Path) -> None:
    write_profile(tmp_path, "first")
    program = f"""
chain = credential_chain()
keys = [(await chain.get()).access_key_id]
path = {str(tmp_path / ".aliyun" / "config.json")!r}
text = open(path).read().replace("first", "second")
open(path, "w").write(text)
keys.append((await chain.get()).access_key_id)
keys.append((await chain.renew()).access_key_id)
keys.append((await chain.get()).access_key_id)
print(json.dumps(keys))
"""
    assert found_by(tmp_path, program) == ["first", "first", "second", "second"]


def test_nothing_found_says_where_it_looked(tmp_path: Path) -> None:
    cause, remedy = found_by(tmp_path)
    for place in ("EnvironmentVariable", "CLIProfile", ".aliyun/config.json", "credentials.ini"):
        assert place in cause
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in remedy


EXPIRY = """
found = await credential_chain().get()
print(json.dumps([found.access_key_id, found.expires_us]))
"""


def test_the_end_of_a_temporary_key_is_told(tmp_path: Path) -> None:
    with dispenser(session_token()) as (url, counted):
        found = found_by(tmp_path, EXPIRY, ALIBABA_CLOUD_CREDENTIALS_URI=url)
        assert found == ["uriId", 2114521445_000000]
        assert counted.calls == 1


def test_a_key_whose_end_nobody_tells(tmp_path: Path) -> None:
    write_ini(tmp_path, "[default]\ntype=access_key\naccess_key_id=iniId\naccess_key_secret=x\n")
    assert found_by(tmp_path, EXPIRY) == ["iniId", None]


def test_errors_quote_nothing_that_was_found(tmp_path: Path) -> None:
    write_ini(tmp_path, "access_key_secret = hush\n")
    write_profile(tmp_path, "")
    answer = {"Code": "Partial", "AccessKeyId": "hush", "AccessKeySecret": "hush"}
    with dispenser(answer) as (url, _):
        cause, _ = found_by(tmp_path, ALIBABA_CLOUD_CREDENTIALS_URI=url)
    assert "URL: error retrieving credentials" in cause
    assert "Profile: File contains no section headers" in cause
    assert "hush" not in cause


def test_a_pair_that_no_header_can_carry_is_not_used(tmp_path: Path) -> None:
    with dispenser({**session_token(), "SecurityToken": "two\nlines"}) as (url, _):
        cause, _ = found_by(tmp_path, ALIBABA_CLOUD_CREDENTIALS_URI=url)
    assert "line end" in cause
    assert "two" not in cause


def test_the_library_writes_nothing_even_when_debugging(tmp_path: Path) -> None:
    with dispenser(session_token()) as (url, _):
        found_by(tmp_path, ALIBABA_CLOUD_CREDENTIALS_URI=url, DEBUG="sdk")


def test_many_callers_meet_one_slow_refresh_and_the_loop_goes_on(tmp_path: Path) -> None:
    program = """
pauses = [0.0]
async def tick():
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        pauses.append(time.monotonic() - before)
ticking = asyncio.create_task(tick())
chain = credential_chain()
found = await asyncio.gather(*(chain.get() for _ in range(50)))
ticking.cancel()
print(json.dumps([max(pauses), len(found), found[0].access_key_id]))
"""
    # Expired in five minutes is stale for the library: it would refresh at every single call.
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
    with dispenser(session_token(soon), delay_seconds=1.0) as (url, counted):
        done = child(program, tmp_path, ALIBABA_CLOUD_CREDENTIALS_URI=url)
        assert (done.returncode, done.stderr) == (0, "")
        longest_seconds, count, key_id = json.loads(done.stdout)
        assert counted.calls == 1
    assert (count, key_id) == (50, "uriId")
    # The library's asynchronous API stops the loop for five seconds per caller here.
    assert longest_seconds < 0.9


def test_a_look_up_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    program = """
import worker.green.credentials as credentials
credentials.LOOKUP_DEADLINE_SECONDS = 1.5
started = time.monotonic()
try:
    await credential_chain().get()
except FacepurgeError as error:
    print(json.dumps([error.cause]))
"""
    with dispenser(session_token(), delay_seconds=6.0) as (url, _):
        started = time.monotonic()
        (cause,) = found_by(tmp_path, program, ALIBABA_CLOUD_CREDENTIALS_URI=url)
        assert time.monotonic() - started < 5
    assert "nothing was found within" in cause


async def test_a_failing_refresh_goes_on_with_what_is_known(monkeypatch: Any) -> None:
    looked = 0

    def look_up() -> Credential:
        nonlocal looked
        looked += 1
        if looked > 1:
            raise RunStopped("gone")
        return Credential("id", "secret")

    monkeypatch.setattr("worker.green.credentials._official_look_up", lambda: look_up)
    monkeypatch.setattr("worker.green.credentials.FRESH_SECONDS", 0.0)
    chain = OfficialChain()
    assert await chain.get() == await chain.get()
    assert looked == 2
    with pytest.raises(RunStopped, match="gone"):
        await chain.renew()


async def test_a_caller_that_gives_up_leaves_the_look_up_to_the_next(monkeypatch: Any) -> None:
    go_on, looked = threading.Event(), []

    def look_up() -> Credential:
        looked.append(go_on.wait(5))
        return Credential("id", "secret")

    monkeypatch.setattr("worker.green.credentials._official_look_up", lambda: look_up)
    chain = OfficialChain()
    impatient = asyncio.ensure_future(chain.get())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    patient = asyncio.ensure_future(chain.get())
    await asyncio.sleep(0)
    go_on.set()
    assert (await patient).access_key_id == "id"
    assert looked == [True]


def test_places() -> None:
    assert _places("[] nothing that is known") == ""
    text = (
        "['EcsRamRoleCredentialsProvider: key LTAI5tAbCdEfGhIjKlMnOpQr', 'XCredentialsProvider: ']"
    )
    assert _places(text) == "; looked at EcsRamRole: key <redacted>; X: failed"
