"""Names, connections and certificates, as ``doctor`` looks at them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from worker.cli.finding import Finding, Grade
from worker.cli.reach import address_of, examine_connection, examine_name
from worker.green.endpoint import resolve_endpoint
from worker.settings import Settings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Somebody's inspection")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@asynccontextmanager
async def listening(certificate: trustme.LeafCert | None) -> AsyncIterator[int]:
    """A port that accepts connections, over TLS with ``certificate``, and says nothing."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connection(port: int, ca_file: str = "", host: str = "localhost") -> Finding:
    endpoint = resolve_endpoint("", "public", f"https://{host}:{port}", allow=True)
    settings = Settings(ca_file=ca_file, connect_timeout_seconds=5.0)
    return await examine_connection(address_of(endpoint), ["127.0.0.1"], settings)


async def test_a_certificate_and_who_vouches_for_it(authority: trustme.CA, ca_file: str) -> None:
    async with listening(authority.issue_cert("localhost")) as port:
        found = await connection(port, ca_file)
    assert found.grade is Grade.OK, found
    assert f"localhost:{port} shows a certificate of" in found.sentence
    assert "Somebody's inspection, valid until " in found.sentence
    assert "TLSv1.3" in found.sentence


async def test_a_certificate_that_ends_soon(authority: trustme.CA, ca_file: str) -> None:
    soon = datetime.now(UTC) + timedelta(days=3, hours=1)
    async with listening(authority.issue_cert("localhost", not_after=soon)) as port:
        found = await connection(port, ca_file)
    assert found.grade is Grade.WARN
    assert "(3 days; TLSv1.3" in found.sentence
    assert found.remedy.startswith("plan no run beyond that day")


@pytest.mark.parametrize(
    ("wrong", "said", "remedy"),
    [
        ("name", "Hostname mismatch", "the host that answers has another name"),
        ("end", "certificate has expired", "check this machine's clock first"),
        ("authority", "Somebody's inspection", "put its CA certificate into ca_file"),
    ],
)
async def test_a_certificate_that_is_refused(
    authority: trustme.CA, ca_file: str, wrong: str, said: str, remedy: str
) -> None:
    certificate = authority.issue_cert(
        "other.example" if wrong == "name" else "localhost",
        not_after=datetime.now(UTC) - timedelta(days=1) if wrong == "end" else None,
    )
    async with listening(certificate) as port:
        found = await connection(port, "" if wrong == "authority" else ca_file)
    assert found.grade is Grade.FAIL
    assert said in found.sentence
    assert remedy in found.remedy
    assert found.remedy.endswith("; verification cannot be switched off")


async def test_what_does_not_speak_tls() -> None:
    async def chatter(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 10)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    async with server:
        found = await connection(server.sockets[0].getsockname()[1])
    assert found.grade is Grade.FAIL
    assert "does not speak TLS 1.2 or newer" in found.sentence


async def test_a_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    found = await connection(1, str(tmp_path / "missing.pem"))
    assert found.grade is Grade.FAIL
    assert found.sentence.startswith("ca_file: ")


async def test_nobody_listens_and_a_proxy_is_named(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pa55@proxy.example:3128")
    found = await connection(unused_tcp_port)
    assert found.grade is Grade.FAIL
    assert found.remedy.endswith("HTTPS_PROXY is set, and proxies are not used")
    assert "pa55" not in found.sentence + found.remedy


async def test_the_second_address_is_tried(unused_tcp_port: int) -> None:
    endpoint = resolve_endpoint("", "public", f"http://localhost:{unused_tcp_port}", allow=False)

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", unused_tcp_port)
    async with server:
        numbers = ["127.0.0.2", "127.0.0.1"]
        found = await examine_connection(address_of(endpoint), numbers, Settings())
    assert found.grade is Grade.OK
    assert "without TLS: a loopback address" in found.sentence


async def test_names() -> None:
    local = resolve_endpoint("", "public", "http://localhost:8080", allow=False)
    found, numbers = await examine_name(address_of(local), Settings())
    assert found.grade is Grade.OK
    assert "127.0.0.1" in numbers
    number = resolve_endpoint("", "public", "http://[::1]:8080", allow=False)
    assert address_of(number).port == 8080
    found, numbers = await examine_name(address_of(number), Settings())
    assert (found.grade, numbers) == (Grade.OK, ["::1"])
    region = resolve_endpoint("cn-shanghai", "public", "", allow=False)
    assert address_of(region).port == 443
    nowhere = resolve_endpoint("", "public", "https://green.invalid", allow=True)
    found, numbers = await examine_name(address_of(nowhere), Settings())
    assert (found.grade, numbers) == (Grade.FAIL, [])


async def test_a_name_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.cli import reach

    class Silent:
        async def resolve(self, *_: object) -> list[object]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr(reach, "DaemonResolver", Silent)
    region = resolve_endpoint("cn-shanghai", "public", "", allow=False)
    settings = Settings(connect_timeout_seconds=0.05)
    found, _ = await examine_name(address_of(region), settings)
    assert found.grade is Grade.FAIL
    assert "no name server answered within 0.05 s" in found.sentence
