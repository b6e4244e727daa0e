from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from worker.clock import SystemClock
from worker.departure import NotDeparted
from worker.errors import RunStopped, UsageRefused
from worker.green.interface import NotSent, Reply, Unanswered
from worker.green.transport import BODY_CAP_BYTES, HttpTransport, open_transport, tls_context
from worker.settings import Settings

BODY = b'{"personId":"person1","faceIds":["1244453323565","1345345466455"]}'
PATH = "/green/sface/face/delete"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Outcome = Reply | NotSent | Unanswered


@asynccontextmanager
async def transport_to(url_base: str, **given: Any) -> AsyncIterator[HttpTransport]:
    timeouts = {
        "connect_timeout_seconds": 5.0,
        "read_timeout_seconds": 5.0,
        "total_timeout_seconds": 5.0,
    }
    settings = Settings(concurrency=4, **{**timeouts, **given})
    async with open_transport(url_base, settings, SystemClock()) as transport:
        yield transport


async def at_once() -> Mapping[str, str]:
    return {"Host": "green.example", "Content-Type": "application/json"}


def unnoticed() -> None:
    return


async def post(
    transport: HttpTransport,
    depart: Callable[[], Awaitable[Mapping[str, str]]] = at_once,
    departed: Callable[[], None] = unnoticed,
) -> Outcome:
    return await transport.exchange(PATH, (), BODY, depart, departed)


async def one(url_base: str, **given: Any) -> Outcome:
    async with transport_to(url_base, **given) as transport:
        return await post(transport)


def not_sent(outcome: Outcome) -> NotSent:
    assert isinstance(outcome, NotSent)
    return outcome


def unanswered(outcome: Outcome) -> Unanswered:
    assert isinstance(outcome, Unanswered)
    assert outcome.sent_us is not None
    assert outcome.sent_us <= outcome.ended_us
    return outcome


# --- Nothing left ---------------------------------------------------------------------------------


async def test_refused_connection(unused_tcp_port: int) -> None:
    outcome = not_sent(await one(f"http://127.0.0.1:{unused_tcp_port}"))
    assert outcome.code == "connection_refused"
    assert f"127.0.0.1:{unused_tcp_port}" in outcome.message


async def test_unknown_name() -> None:
    outcome = not_sent(await one("https://green.no-such-region.invalid"))
    assert (outcome.code, "green.no-such-region.invalid" in outcome.message) == ("dns_failed", True)


async def test_connection_that_is_never_established(serve: Any) -> None:
    # A listener that never shakes hands: TCP is up, TLS is not.
    silent = await serve(GOOD)
    outcome = await one(f"https://127.0.0.1:{silent.port}", connect_timeout_seconds=0.2)
    assert not_sent(outcome).code == "connect_timeout"


def named(*addresses: tuple[str, int]) -> list[tuple[object, ...]]:
    """What the system's resolver says of a name with these addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]


async def test_all_addresses_of_a_name_share_one_deadline(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is for who gets no connection to the first, and not for who waits too long."""
    silent = [await serve(GOOD) for _ in range(3)]
    addresses = named(*(("127.0.0.1", server.port) for server in silent))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    outcome = await one("https://green.example", connect_timeout_seconds=0.3)
    assert not_sent(outcome).code == "connect_timeout"
    assert sum(server.connections for server in silent) == 1


async def test_a_name_server_that_is_slow_is_asked_once(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it goes without; what it says in the end serves those who come later."""
    server = await serve(GOOD)
    asked: list[object] = []
    answers = threading.Event()

    def slow(*question: object, **_: object) -> list[tuple[object, ...]]:
        asked.append(question)
        answers.wait(60)
        return named(("127.0.0.1", server.port))

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        async with transport_to("http://green.example", connect_timeout_seconds=0.1) as transport:
            assert not_sent(await post(transport)).code == "connect_timeout"
            answers.set()
            outcome = await post(transport)
            while not isinstance(outcome, Reply):
                assert not_sent(outcome).code == "connect_timeout"
                outcome = await post(transport)
    finally:
        answers.set()
    assert len(asked) == 1


async def test_the_departure_is_told_once_for_each_request(serve: Any) -> None:
    server = await serve(GOOD)
    order: list[str] = []

    async def depart() -> Mapping[str, str]:
        order.append("slot")
        return await at_once()

    async with transport_to(server.url) as transport:
        for _ in range(2):
            await post(transport, depart, lambda: order.append("departed"))
    assert order == ["slot", "departed"] * 2


@pytest.mark.parametrize(
    ("reason", "said"),
    [("stopped", "was ending"), ("held", "told to wait"), ("outage", "out of reach for too long")],
)
async def test_departure_refused_at_the_slot(serve: Any, reason: str, said: str) -> None:
    server = await serve(GOOD)

    async def refused() -> Mapping[str, str]:
        raise NotDeparted(reason)

    async with transport_to(server.url) as transport:
        outcome = not_sent(await post(transport, refused))
    assert outcome.code == reason
    assert said in outcome.message
    assert server.requests == []


async def test_an_error_of_the_departure_itself_is_raised(serve: Any) -> None:
    server = await serve(GOOD)

    async def broken() -> Mapping[str, str]:
        raise RunStopped("x")

    async with transport_to(server.url) as transport:
        with pytest.raises(RunStopped):
            await post(transport, broken)
    assert server.requests == []


async def test_connection_closed_while_waiting_for_the_slot(serve: Any) -> None:
    server = await serve(GOOD)

    async def departs_too_late() -> Mapping[str, str]:
        for writer in server.writers:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)  # the loop has to see the end of the stream
        return await at_once()

    async with transport_to(server.url) as transport:
        assert isinstance(await post(transport), Reply)
        outcome = not_sent(await post(transport, departs_too_late))
        assert outcome.code == "closed_before_send"
        assert outcome.message == "The server closed the connection before the request was sent."
        assert isinstance(await post(transport), Reply)
    assert (len(server.requests), server.connections) == (2, 2)


async def test_an_answer_that_came_before_the_question_is_not_its_answer(serve: Any) -> None:
    server = await serve(GOOD, greeting=GOOD)

    async def waits_for_the_greeting() -> Mapping[str, str]:
        await server.connected.wait()
        await asyncio.sleep(0.05)
        return await at_once()

    async with transport_to(server.url) as transport:
        outcome = await post(transport, waits_for_the_greeting)
    assert not_sent(outcome).code == "closed_before_send"
    assert server.requests == []


async def test_a_connection_that_speaks_unasked_costs_no_slot(serve: Any) -> None:
    server = await serve(GOOD)

    async def never() -> Mapping[str, str]:
        pytest.fail("a slot was taken for a connection that could not be used")

    async with transport_to(server.url) as transport:
        assert isinstance(await post(transport), Reply)
        server.writers[0].write(GOOD)
        await asyncio.sleep(0.05)
        assert not_sent(await post(transport, never)).code == "closed_before_send"


async def test_a_transport_closed_while_connecting(serve: Any) -> None:
    silent = await serve(GOOD)
    async with transport_to(f"https://127.0.0.1:{silent.port}") as transport:
        task = asyncio.ensure_future(post(transport))
        await silent.connected.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_tls_with_an_added_authority(
    serve: Any, authority: trustme.CA, ca_file: str, tmp_path: Path, monkeypatch: Any
) -> None:
    keys = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    server = await serve(GOOD, tls=server_context(authority.issue_cert("localhost")))
    outcome = await one(f"https://localhost:{server.port}", ca_file=ca_file)
    assert isinstance(outcome, Reply)
    assert not keys.exists()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong name", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("unknown CA", "unable to get local issuer"),
    ],
)
async def test_tls_that_proves_nothing(
    serve: Any, authority: trustme.CA, ca_file: str, fault: str, reason: str
) -> None:
    name = "other.example" if fault == "wrong name" else "localhost"
    past = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_cert(name, not_after=past if fault == "expired" else None)
    server = await serve(GOOD, tls=server_context(certificate))
    outcome = not_sent(
        await one(
            f"https://localhost:{server.port}", ca_file="" if fault == "unknown CA" else ca_file
        )
    )
    assert outcome.code == "tls_failed"
    assert reason in outcome.message
    assert outcome.message.startswith("localhost: ")
    assert server.requests == []


async def test_plain_http_behind_https_is_a_tls_failure(serve: Any) -> None:
    server = await serve(GOOD, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert not_sent(await one(f"https://127.0.0.1:{server.port}")).code == "tls_failed"


async def test_a_handshake_cut_short_is_no_tls_failure(serve: Any) -> None:
    async def hang_up(reader: Any, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not_sent(await one(f"https://127.0.0.1:{port}")).code == "connection_failed"


def test_tls_settings_that_nobody_can_weaken(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    context = tls_context("")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.keylog_filename is None


def test_unusable_ca_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path in (tmp_path / "none.pem", tmp_path / "ca.pem", "a\0b"):
        with pytest.raises(UsageRefused, match="ca_file"):
            tls_context(str(path))


# --- It left, and no complete answer came ---------------------------------------------------------


@pytest.mark.parametrize(
    ("parting", "codes"),
    [
        ("reset", {"connection_reset"}),
        ("close", {"connection_closed"}),
    ],
)
async def test_no_answer(serve: Any, parting: str, codes: set[str]) -> None:
    async def leave(visit: Any) -> None:
        getattr(visit, parting)()

    server = await serve(leave)
    assert unanswered(await one(server.url)).code in codes
    assert len(server.requests) == 1


@pytest.mark.parametrize("parting", ["reset", "close"])
@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n" + b"x" * 50 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n" + b"x" * 10,
    ],
    ids=["length", "chunks", "chunk"],
)
async def test_half_a_body(serve: Any, half: bytes, parting: str) -> None:
    async def leave_in_the_middle(visit: Any) -> None:
        await visit.say(half)
        await asyncio.sleep(0.05)
        getattr(visit, parting)()

    outcome = unanswered(await one((await serve(leave_in_the_middle)).url))
    assert outcome.code in {"cut_body", "connection_reset"}
    assert outcome.http_status == 200


async def test_silence_ends_at_the_read_deadline(serve: Any) -> None:
    async def nothing(visit: Any) -> None:
        await asyncio.Event().wait()

    outcome = await one((await serve(nothing)).url, read_timeout_seconds=0.2)
    assert unanswered(outcome).code == "read_timeout"


async def test_one_byte_at_a_time_ends_at_the_total_deadline(serve: Any) -> None:
    async def drip(visit: Any) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await visit.say(b"x")
            await asyncio.sleep(0.02)

    outcome = unanswered(await one((await serve(drip)).url, total_timeout_seconds=0.3))
    assert (outcome.code, outcome.http_status) == ("total_timeout", 200)


async def test_the_total_deadline_starts_after_the_slot(serve: Any) -> None:
    server = await serve(GOOD)

    async def waits_longer_than_the_deadline() -> Mapping[str, str]:
        await asyncio.sleep(0.4)
        return await at_once()

    async with transport_to(server.url, total_timeout_seconds=0.3) as transport:
        assert isinstance(await post(transport, waits_longer_than_the_deadline), Reply)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
    ids=["announced", "until the end"],
)
async def test_endless_body_is_cut_at_the_cap_with_flat_memory(serve: Any, head: bytes) -> None:
    piece = bytes(64 * 1024)

    async def flood(visit: Any) -> None:
        await visit.say(head)
        for _ in range(16_000):
            await visit.say(piece)

    server = await serve(flood)
    tracemalloc.start()
    try:
        outcome = unanswered(await one(server.url))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (outcome.code, outcome.http_status) == ("too_large", 200)
    assert peak < 8 * BODY_CAP_BYTES


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: a\r\n" * 100_000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"a" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ],
    ids=["long", "many", "status", "nonsense", "length", "lengths"],
)
async def test_what_is_not_http(serve: Any, answer: bytes) -> None:
    assert unanswered(await one((await serve(answer)).url)).code == "bad_http"


async def test_a_second_request_on_a_dropped_connection_is_not_sent_again(serve: Any) -> None:
    async def answer_once(visit: Any) -> None:
        if visit.number == 1:
            await visit.say(GOOD)
        else:
            visit.close()

    server = await serve(answer_once)
    async with transport_to(server.url) as transport:
        assert isinstance(await post(transport), Reply)
        assert unanswered(await post(transport)).code == "connection_closed"
    assert (len(server.requests), server.connections) == (2, 1)


async def test_cancellation_is_raised_again_and_closes_the_connection(serve: Any) -> None:
    arrived = asyncio.Event()

    async def nothing(visit: Any) -> None:
        arrived.set()
        await asyncio.Event().wait()

    server = await serve(nothing)
    async with transport_to(server.url) as transport:
        task = asyncio.ensure_future(post(transport))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# --- Complete answers -----------------------------------------------------------------------------


async def test_a_redirect_is_an_answer_and_not_followed(serve: Any) -> None:
    elsewhere = await serve(GOOD)
    server = await serve(
        b"HTTP/1.1 307 Temporary Redirect\r\n"
        + f"Location: {elsewhere.url}/\r\n".encode()
        + b"Content-Length: 0\r\n\r\n"
    )
    outcome = await one(server.url)
    assert isinstance(outcome, Reply)
    assert outcome.status == 307
    assert elsewhere.connections == 0


async def test_a_compressed_body_stays_compressed(serve: Any) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server = await serve(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
        + f"Content-Length: {len(bomb)}\r\n\r\n".encode()
        + bomb
    )
    outcome = await one(server.url)
    assert isinstance(outcome, Reply)
    assert outcome.body == bomb
    assert outcome.headers["content-encoding"] == "gzip"


async def test_repeated_headers_are_joined(serve: Any) -> None:
    server = await serve(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n")
    outcome = await one(server.url)
    assert isinstance(outcome, Reply)
    assert outcome.headers["a"] == "1, 2"


async def test_the_environment_adds_nothing(serve: Any, monkeypatch: Any, tmp_path: Path) -> None:
    proxy, server = await serve(GOOD), await serve(GOOD)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert isinstance(await one(server.url), Reply)
    assert proxy.connections == 0
    assert b"authorization" not in server.requests[0][0].lower()


async def test_exactly_these_headers_leave_and_no_cookie_comes_back(serve: Any) -> None:
    server = await serve(GOOD.replace(b"\r\n", b"\r\nSet-Cookie: a=b\r\n", 1))
    # A name, because cookies of bare addresses are never kept.
    async with transport_to(f"http://localhost:{server.port}") as transport:
        await post(transport)
        await transport.exchange(PATH, (("k", "a b~*,:/+"), ("l", "")), BODY, at_once, unnoticed)
    for head, body in server.requests:
        names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:-2]]
        assert names == [
            b"Host",
            b"Content-Type",
            b"Accept-Encoding",
            b"User-Agent",
            b"Content-Length",
        ]
        assert body == BODY
    assert server.requests[1][0].startswith(
        b"POST /green/sface/face/delete?k=a%20b~%2A%2C%3A%2F%2B&l= HTTP/1.1\r\nHost: green.example\r\n"
    )
    assert server.connections == 1
