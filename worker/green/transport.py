"""One POST over HTTP/1.1 with aiohttp, and exact knowledge of whether it left.

The slot is awaited with the connection in hand: ``DepartingRequest.send`` is the last point before
bytes are written, so the wait neither compresses arrivals nor ages the signature. aiohttp repeats
idempotent methods on a dropped connection; a POST it never repeats, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from worker import __version__
from worker.clock import Clock
from worker.departure import NotDeparted
from worker.errors import UsageRefused
from worker.green.interface import NotSent, Reply, Unanswered
from worker.green.resolving import DaemonResolver
from worker.settings import Settings

BODY_CAP_BYTES = 1024 * 1024
"""A good answer to 20 faces takes under 1 KB."""

HEADER_LINE_CAP_BYTES = 8190
DNS_CACHE_SECONDS = 60
IDLE_CONNECTION_SECONDS = 8.0
"""Below the 15 s after which load balancers commonly close an idle connection: a request that
crosses such a close on the way ends ambiguous."""

LANES = 3
"""Operations that may be under way beside one another, each up to the concurrency."""

SPARE_CONNECTIONS = 16
"""Connections above that, so that no loop ever waits for a free one."""

_USER_AGENT = f"facepurge/{__version__}"

_CLOSED_BEFORE_SEND = "closed_before_send"

_STAYED = {
    _CLOSED_BEFORE_SEND: "The server closed the connection before the request was sent.",
    "stopped": "The run was ending before the request was sent.",
    "held": "All requests were told to wait before this one was sent.",
    "outage": "The service had been out of reach for too long before the request was sent.",
}
"""Why a request did not depart: the reasons of ``NotDeparted`` in words."""

Depart = Callable[[], Awaitable[Mapping[str, str]]]
Departed = Callable[[], None]


class _Way:
    """One request's way out: what its ``send`` has to do, and what it did."""

    def __init__(
        self, depart: Depart, departed: Departed, clock: Clock, start_timing: Callable[[], None]
    ) -> None:
        self._depart = depart
        self.departed = departed
        self._clock = clock
        self._start_timing = start_timing
        self.sent_us: int | None = None
        self.http_status: int | None = None

    async def headers(self, connection: aiohttp.connector.Connection) -> Mapping[str, str]:
        """Wait for the departure; the bytes have left when this returns."""
        self._check(connection)
        headers = await self._depart()
        self._check(connection)
        # Only now: neither the wait for the slot nor the connecting counts as service time.
        self._start_timing()
        self.sent_us = self._clock.now_us()
        return headers

    @staticmethod
    def _check(connection: aiohttp.connector.Connection) -> None:
        # should_close: bytes that came before the question would be taken for its answer.
        protocol = connection.protocol
        if connection.closed or protocol is None or protocol.should_close:
            raise NotDeparted(_CLOSED_BEFORE_SEND)


class _Body(aiohttp.BytesPayload):
    """The body of a request, which brings the way out that its request takes."""

    def __init__(self, content: bytes, way: _Way) -> None:
        super().__init__(content)
        self.way = way


class DepartingRequest(aiohttp.ClientRequest):
    """Departs with exactly the headers that its way gives it."""

    POST_METHODS = set[str]()  # noqa: RUF012 (of the class, as in the parent)
    """Those that get a Content-Type of aiohttp's: unsigned, and wrong. What has a body states its own."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """None is added that would only be thrown away."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        body = self.body
        assert isinstance(body, _Body)
        way = body.way
        length = self.headers["Content-Length"]
        self.headers = CIMultiDict(await way.headers(conn))
        self.headers["Accept-Encoding"] = "identity"
        self.headers["User-Agent"] = _USER_AGENT
        self.headers["Content-Length"] = length
        response = await super().send(conn)
        # Up to Python 3.11 a task of its own writes the body, and the headers with it.
        if self._writer is None:
            way.departed()
        else:
            self._writer.add_done_callback(lambda _: way.departed())
        return response


class _Connector(aiohttp.TCPConnector):
    """With one deadline for everything that a new connection takes.

    ``ClientTimeout.connect`` is the same with a timer for every request, of which nearly all find a
    connection that is open.
    """

    def __init__(self, timeout_seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._timeout_seconds = timeout_seconds

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> ResponseHandler:
        async with asyncio.timeout(self._timeout_seconds):
            return await super()._create_connection(req, traces, timeout)


class HttpTransport:
    """``Transport`` over one aiohttp session; see ``open_transport``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url_base: str,
        clock: Clock,
        *,
        total_timeout_seconds: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._url_base = url_base
        self._clock = clock
        self._total_timeout_seconds = total_timeout_seconds

    async def exchange(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes,
        depart: Depart,
        departed: Departed,
    ) -> Reply | NotSent | Unanswered:
        deadline = asyncio.timeout(None)

        def start_timing() -> None:
            deadline.reschedule(self._loop.time() + self._total_timeout_seconds)

        way = _Way(depart, departed, self._clock, start_timing)
        try:
            async with deadline:
                return await self._post(_url(self._url_base, path, tuple(query)), body, way)
        except NotDeparted as stayed:
            return NotSent(stayed.reason, _STAYED[stayed.reason], self._clock.now_us())
        except Exception as trouble:
            # After the departure whatever the parser trips over must be recorded, too.
            if way.sent_us is None and not isinstance(trouble, aiohttp.ClientError | OSError):
                raise
            return self._outcome(trouble, way, expired=deadline.expired())

    async def _post(self, url: URL, body: bytes, way: _Way) -> Reply | Unanswered:
        async with self._session.post(
            url, data=_Body(body, way), allow_redirects=False
        ) as response:
            way.http_status = response.status
            content = await _capped(response)
            ended_us = self._clock.now_us()
            if content is None:
                response.close()
                message = f"The answer is longer than {BODY_CAP_BYTES} bytes."
                return Unanswered("too_large", message, way.sent_us, ended_us, response.status)
            headers: dict[str, str] = {}
            for name, value in response.headers.items():
                key = name.lower()
                headers[key] = f"{headers[key]}, {value}" if key in headers else value
            return Reply(response.status, headers, content, way.sent_us, ended_us)

    def _outcome(self, trouble: Exception, way: _Way, *, expired: bool) -> NotSent | Unanswered:
        now_us = self._clock.now_us()
        if way.sent_us is None:
            return NotSent(*_before(trouble), now_us)
        return Unanswered(*_after(trouble, expired=expired), way.sent_us, now_us, way.http_status)


@lru_cache(maxsize=64)
def _url(url_base: str, path: str, query: tuple[tuple[str, str], ...]) -> URL:
    # encoded=True: yarl would spell the percent-encoding its own way.
    suffix = f"?{urlencode(query, quote_via=quote, safe='~')}" if query else ""
    return URL(f"{url_base}{quote(path, safe='/~')}{suffix}", encoded=True)


async def _capped(response: aiohttp.ClientResponse) -> bytes | None:
    """The raw body, or None when it is longer than the cap."""
    chunks: list[bytes] = []
    size = 0
    while not response.content.at_eof():
        chunk = await response.content.readany()
        size += len(chunk)
        if size > BODY_CAP_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _before(trouble: Exception) -> tuple[str, str]:
    """Code and sentence for trouble on the way to a connection; aiohttp's own texts name no ID."""
    if isinstance(trouble, TimeoutError):
        return "connect_timeout", "The connection was not established in time."
    if isinstance(trouble, aiohttp.ClientConnectorDNSError):
        return "dns_failed", f"The name {trouble.host} could not be resolved."
    if isinstance(trouble, aiohttp.ClientConnectorCertificateError):
        return "tls_failed", f"{trouble.host}: {_reason(trouble.certificate_error)}"
    if isinstance(trouble, aiohttp.ClientConnectorSSLError):
        return "tls_failed", f"{trouble.host}: {_reason(trouble.os_error)}"
    if isinstance(trouble, aiohttp.ClientConnectorError):
        if trouble.os_error.errno == errno.ECONNREFUSED:
            return "connection_refused", f"{trouble.host}:{trouble.port} refuses connections."
        return "connection_failed", f"{trouble.host}:{trouble.port}: {_reason(trouble.os_error)}"
    return "connection_failed", type(trouble).__name__


def _after(trouble: Exception, *, expired: bool) -> tuple[str, str]:
    """Code and sentence for trouble after departure: applied or not, nobody knows."""
    if expired:
        return "total_timeout", "The answer was not complete in time."
    if isinstance(trouble, TimeoutError):
        return "read_timeout", "The server fell silent."
    if isinstance(trouble, aiohttp.ClientPayloadError):
        return "cut_body", "The body ended before its announced end."
    if isinstance(trouble, aiohttp.ServerDisconnectedError):
        return "connection_closed", "The server closed the connection without an answer."
    if isinstance(trouble, aiohttp.ClientOSError):
        return "connection_reset", "The connection broke before the answer was complete."
    return "bad_http", f"The answer is not HTTP that can be read ({type(trouble).__name__})."


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError):
        return getattr(error, "reason", None) or error.strerror or type(error).__name__
    return type(error).__name__


def tls_context(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer with verification; ``ca_file`` (PEM) adds to the system's trust.

    Not ``ssl.create_default_context``: that one writes session keys to ``SSLKEYLOGFILE``. Raises
    ``UsageRefused`` for a ``ca_file`` that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ValueError) as error:
            raise UsageRefused(
                f"ca_file: {ca_file} cannot be used ({_reason(error)})",
                "name a readable PEM file with CA certificates, or remove the key ca_file",
            ) from None
    return context


@asynccontextmanager
async def open_transport(
    url_base: str, settings: Settings, clock: Clock
) -> AsyncIterator[HttpTransport]:
    """A transport to ``url_base`` with its session; closing it closes all connections.

    Deadlines: ``connect_timeout_seconds`` for name, connection and TLS together,
    ``read_timeout_seconds`` between two arrivals of bytes, ``total_timeout_seconds`` from departure
    to the end of the body. Proxy variables, ``.netrc`` and cookies are ignored.
    """
    connector = _Connector(
        settings.connect_timeout_seconds,
        ssl=tls_context(settings.ca_file),
        limit=LANES * settings.concurrency + SPARE_CONNECTIONS,
        resolver=DaemonResolver(),
        ttl_dns_cache=DNS_CACHE_SECONDS,
        keepalive_timeout=IDLE_CONNECTION_SECONDS,
    )
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=settings.connect_timeout_seconds,
        sock_read=settings.read_timeout_seconds,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        request_class=DepartingRequest,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_line_size=HEADER_LINE_CAP_BYTES,
        max_field_size=HEADER_LINE_CAP_BYTES,
    ) as session:
        yield HttpTransport(
            session, url_base, clock, total_timeout_seconds=settings.total_timeout_seconds
        )
