"""The sandbox's side of one connection, and how an answer is sent over it, also wrongly."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from worker.sandbox.answers import Answer
from worker.sandbox.faults import Cut, Drip, Fault, Flood, Reset

GIBIBYTE = 1024**3
MEBIBYTE = 1024**2


class Connection(web.RequestHandler):
    """A connection that knows when a request began to arrive, and when its client has gone."""

    __slots__ = ("_first_bytes_seconds", "_monotonic", "gone")

    def __init__(
        self, manager: web.Server, monotonic: Callable[[], float], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # aiohttp's own spelling of "no access log"
            keepalive_timeout=75.0,
        )
        self._monotonic = monotonic
        self._first_bytes_seconds: float | None = None
        self.gone = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        if data and self._first_bytes_seconds is None:
            self._first_bytes_seconds = self._monotonic()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    def take_arrival_seconds(self) -> float:
        """When the first bytes of the request just read completely came in."""
        seconds, self._first_bytes_seconds = self._first_bytes_seconds, None
        return self._monotonic() if seconds is None else seconds


class Listener(web.Server):
    """Makes a ``Connection`` of each accepted socket."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(handler)
        self._monotonic = monotonic

    def __call__(self) -> Connection:
        return Connection(self, self._monotonic, asyncio.get_running_loop())


class Sent(web.StreamResponse):
    """Tells aiohttp that everything to be sent was sent, and that the connection is over."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        del request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        del data


async def send(
    request: web.BaseRequest, answer: Answer, fault: Fault | None, date: str
) -> web.StreamResponse:
    """Send ``answer`` as ``fault`` wants it sent; for no fault, leave it to aiohttp."""
    headers = [("Content-Type", answer.content_type), ("Date", date), *answer.headers]
    match fault:
        case Reset(at=at):
            if at == "half":
                body = answer.body[: len(answer.body) // 2]
                _write(request, _head(answer, headers, len(answer.body)) + body)
            abort(request)
            return Sent()
        case Drip(interval_seconds=interval_seconds):
            data = _head(answer, headers, len(answer.body)) + answer.body
            await _drip(request, data, interval_seconds)
            return Sent()
        case Cut(form=form):
            _write(request, _cut(answer, headers, form))
            return Sent()
        case Flood(form="headers", size_bytes=size_bytes):
            headers += _header_flood(size_bytes or MEBIBYTE)
            _write(request, _head(answer, headers, len(answer.body)) + answer.body)
            return Sent()
        case Flood(form=form, size_bytes=size_bytes):
            return await _flood(request, answer, headers, form, size_bytes or GIBIBYTE)
        case _:
            return web.Response(status=answer.status, body=answer.body, headers=headers)


def abort(request: web.BaseRequest) -> None:
    """Close with RST: what is not yet delivered is thrown away."""
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        return
    connected: socket.socket = transport.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _write(request: web.BaseRequest, data: bytes) -> None:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.write(data)


def _head(answer: Answer, headers: list[tuple[str, str]], length: int | None) -> bytes:
    framing = (
        ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
    )
    lines = [f"HTTP/1.1 {answer.status} Sandbox"]
    lines += [f"{name}: {value}" for name, value in [*headers, framing, ("Connection", "close")]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _cut(answer: Answer, headers: list[tuple[str, str]], form: str) -> bytes:
    half = answer.body[: len(answer.body) // 2]
    match form:
        case "json":
            return _head(answer, headers, len(half)) + half
        case "chunked":
            return _head(answer, headers, None) + b"%x\r\n%b\r\n" % (len(half), half)
        case _:
            return _head(answer, headers, len(answer.body) + 100) + answer.body


def _header_flood(size_bytes: int) -> list[tuple[str, str]]:
    # Each line alone is short enough for any parser; it is the sum that floods.
    return [(f"x-flood-{number}", "f" * 1000) for number in range(-(-size_bytes // 1000))]


async def _drip(request: web.BaseRequest, data: bytes, interval_seconds: float) -> None:
    connection = request.protocol
    assert isinstance(connection, Connection)
    for position in range(len(data)):
        if connection.gone.is_set():
            return
        _write(request, data[position : position + 1])
        await asyncio.sleep(interval_seconds)


async def _flood(
    request: web.BaseRequest,
    answer: Answer,
    headers: list[tuple[str, str]],
    form: str,
    size_bytes: int,
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.force_close()
    if form == "gzip":
        response.headers["Content-Encoding"] = "gzip"
        chunks = _bomb(size_bytes, answer.body)
    else:
        response.content_length = size_bytes + len(answer.body)
        chunks = _blanks(size_bytes, answer.body)
    await response.prepare(request)
    async for chunk in _yielding(chunks):
        await response.write(chunk)
    return response


async def _yielding(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def _blanks(size_bytes: int, body: bytes) -> Iterator[bytes]:
    """JSON may begin with any number of blanks: a client without a cap gets a good answer."""
    blanks = b" " * 65536
    for start in range(0, size_bytes, len(blanks)):
        yield blanks[: size_bytes - start]
    yield body


def _bomb(size_bytes: int, body: bytes) -> Iterator[bytes]:
    """The same, as gzip: about a thousandth of the size.

    Compressing blanks from a fully flushed state always gives the same bytes, so one block is
    compressed and repeated; only the checksum is computed over all of it.
    """
    blanks = b" " * MEBIBYTE
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = compressor.compress(blanks) + compressor.flush(zlib.Z_FULL_FLUSH)
    blocks = max(1, size_bytes // MEBIBYTE)
    checksum = 0
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    for _ in range(blocks):
        checksum = zlib.crc32(blanks, checksum)
        yield block
    checksum = zlib.crc32(body, checksum)
    size = (blocks * MEBIBYTE + len(body)) % 2**32
    tail = compressor.compress(body) + compressor.flush(zlib.Z_FINISH)
    yield tail + struct.pack("<II", checksum, size)
