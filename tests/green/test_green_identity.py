"""Asking STS whose key it is: the request byte for byte, and every way of not being told."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from worker.clock import SystemClock
from worker.green.endpoint import Endpoint
from worker.green.identity import Caller, Unidentified, identify
from worker.green.interface import Credential
from worker.sandbox.keys import SANDBOX_ACCOUNT_ID, SANDBOX_KEY, AccessKey
from worker.sandbox.options import SandboxOptions
from worker.sandbox.server import Sandbox
from worker.settings import Settings

GOOD = b'{"IdentityType":"Account","AccountId":"1234567890123456","RequestId":"R"}'
KEY = Credential(SANDBOX_KEY.access_key_id, SANDBOX_KEY.access_key_secret)
TEMPORARY = AccessKey("STS.key", "sts-secret", "sts-token/with+signs==")
SETTINGS = Settings(connect_timeout_seconds=5.0, read_timeout_seconds=5.0)


async def ask(url: str, key: Credential = KEY, *, seconds: float = 10.0) -> Caller | Unidentified:
    host = url.partition("//")[2]
    return await identify(SETTINGS, Endpoint(url, host, loopback=True), key, SystemClock(), seconds)


def http(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(**options)) as serving:
        yield serving


@pytest.mark.parametrize("key", [KEY, Credential("STS.x", "hush", "a/b+c==")], ids=["pair", "sts"])
async def test_the_request_is_signed_as_the_official_client_signs_it(
    serve: Callable[..., Any], key: Credential
) -> None:
    from alibabacloud_tea_openapi.utils import Utils
    from darabonba.request import DaraRequest

    server = await serve(http(GOOD))
    assert await ask(server.url, key) == Caller("1234567890123456", "Account")
    ((head, body),) = server.requests
    first, *lines = head.decode().rstrip("\r\n").split("\r\n")
    assert (first, body) == ("POST / HTTP/1.1", b"")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert headers["x-acs-action"] == "GetCallerIdentity"
    assert headers["x-acs-version"] == "2015-04-01"
    assert headers["content-length"] == "0"
    assert "content-type" not in headers
    assert headers.get("x-acs-security-token", "") == key.security_token
    signed = re.search(r"SignedHeaders=(\S+?),", headers["authorization"])
    assert signed is not None
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", {}
    request.headers = {name: headers[name] for name in signed[1].split(";")}
    assert headers["authorization"] == Utils.get_authorization(
        request,
        "ACS3-HMAC-SHA256",
        headers["x-acs-content-sha256"],
        key.access_key_id,
        key.access_key_secret,
    )


@pytest.mark.parametrize(
    ("key", "identity"), [(SANDBOX_KEY, "RAMUser"), (TEMPORARY, "AssumedRoleUser")]
)
async def test_the_account_is_told(key: AccessKey, identity: str) -> None:
    credential = Credential(key.access_key_id, key.access_key_secret, key.security_token)
    async with sandbox(keys=(SANDBOX_KEY, TEMPORARY)) as serving:
        assert await ask(serving.url, credential) == Caller(SANDBOX_ACCOUNT_ID, identity)
        assert serving.identity_calls == 1
        assert serving.entries == []


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (Credential("stranger", "secret"), "InvalidAccessKeyId.NotFound (HTTP 404)"),
        (Credential(KEY.access_key_id, "wrong"), "SignatureDoesNotMatch (HTTP 400)"),
        (Credential("STS.key", "sts-secret", "other"), "InvalidSecurityToken.Mismatch"),
        (Credential("STS.key", "sts-secret", ""), "MissingSecurityToken"),
        (Credential("STS.key", "wrong", TEMPORARY.security_token), "SignatureDoesNotMatch"),
    ],
)
async def test_a_refused_key_is_told_apart_and_nothing_secret_is_quoted(
    key: Credential, code: str
) -> None:
    async with sandbox(keys=(SANDBOX_KEY, TEMPORARY)) as serving:
        found = await ask(serving.url, key)
    assert isinstance(found, Unidentified)
    assert found.sentence.startswith(code)
    assert found.credential_refused
    assert found.remedy
    for secret in (key.access_key_secret, TEMPORARY.security_token):
        assert secret not in found.sentence


@pytest.mark.parametrize("offset_seconds", [-1200.0, 1200.0])
async def test_a_wrong_clock_is_put_right_once(offset_seconds: float) -> None:
    async with sandbox(clock_offset_seconds=offset_seconds) as serving:
        assert await ask(serving.url) == Caller(SANDBOX_ACCOUNT_ID, "RAMUser")
        assert serving.identity_calls == 2


async def test_a_clock_that_cannot_be_put_right_is_no_loop(serve: Callable[..., Any]) -> None:
    refusal = b'{"Code":"InvalidTimeStamp.Expired","Message":"late","RequestId":"R"}'
    date = "Date: Tue, 17 Jan 2017 10:16:36 GMT\r\n"
    server = await serve(http(refusal, "400 Bad Request", date))
    found = await ask(server.url)
    assert isinstance(found, Unidentified)
    assert found.sentence == "InvalidTimeStamp.Expired (HTTP 400): late"
    assert "clock" in found.remedy
    assert not found.credential_refused
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (http(b"<html>"), "the answer (HTTP 200) is not one that STS gives"),
        (http(b"null"), "the answer (HTTP 200) is not one that STS gives"),
        (http(b"[" * 5000), "the answer (HTTP 200) is not one that STS gives"),
        (http(b'{"AccountId":12}'), "the answer (HTTP 200) is not one that STS gives"),
        (http(b'{"AccountId":"../x"}'), "the answer (HTTP 200) is not one that STS gives"),
        (http(GOOD, "502 Bad Gateway"), "the answer (HTTP 502) is not one that STS gives"),
        (
            http(GOOD, "307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n"),
            "the answer (HTTP 307) is not one that STS gives",
        ),
        (http(b'{"Code":"InternalError","Message":"m"}', "500 No"), "InternalError (HTTP 500): m"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "The body ended before its"),
    ],
)
async def test_what_is_no_answer_names_no_account(
    serve: Callable[..., Any], answer: bytes, sentence: str
) -> None:
    async def once(visit: Any) -> None:
        await visit.say(answer)
        visit.close()

    server = await serve(once)
    found = await ask(server.url)
    assert isinstance(found, Unidentified)
    assert found.sentence.startswith(sentence)
    assert not found.credential_refused
    assert len(server.requests) == 1


async def test_a_silent_server_is_given_up_in_time(serve: Callable[..., Any]) -> None:
    async def silent(_visit: Any) -> None:
        await asyncio.Event().wait()

    server = await serve(silent)
    began = time.monotonic()
    found = await ask(server.url, seconds=0.2)
    assert time.monotonic() - began < 3
    assert found == Unidentified("no answer came within 0.2 s")


def test_a_name_server_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the question, nor the loop at its end."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60) and [])
    began = time.monotonic()
    try:
        found = asyncio.run(ask("http://localhost:1", seconds=0.2))
    finally:
        took = time.monotonic() - began
        release.set()
    assert found == Unidentified("no answer came within 0.2 s")
    assert took < 10


async def test_a_port_that_refuses(unused_tcp_port: int) -> None:
    found = await ask(f"http://127.0.0.1:{unused_tcp_port}")
    assert isinstance(found, Unidentified)
    assert found.sentence == f"127.0.0.1:{unused_tcp_port} refuses connections"
