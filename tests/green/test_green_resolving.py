from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from worker.green.resolving import DaemonResolver, _addresses


async def test_a_name_has_addresses() -> None:
    found = await DaemonResolver().resolve("localhost", 443, socket.AF_INET)
    assert found[0] == {
        "hostname": "localhost",
        "host": "127.0.0.1",
        "port": 443,
        "family": socket.AF_INET,
        "proto": found[0]["proto"],
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 64 + ".example", "xn--\udcff.example"])
async def test_a_name_without_an_address(name: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await DaemonResolver().resolve(name)


def test_a_link_local_address_keeps_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    info = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 443, 0, 7))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [info])
    (found,) = _addresses("router", 443, socket.AF_INET6)  # type: ignore[misc]
    assert found["host"] == "fe80::1%7"


def test_a_resolver_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, asked = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        asked.set()
        release.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def impatient() -> None:
        async with asyncio.timeout(0.05):
            await DaemonResolver().resolve("green.cn-shanghai.aliyuncs.com")

    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            asyncio.run(impatient())
        assert asked.is_set()
        assert time.monotonic() - began < 10
        (thread,) = [one for one in threading.enumerate() if one.name == "resolver"]
        assert thread.daemon
    finally:
        release.set()
    thread.join()
