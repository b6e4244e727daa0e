"""A server made of a bare socket: what reaches it really left, what it answers really came."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

Script = Callable[["Visit"], Awaitable[None]]

DOCUMENT = (
    b'{"msg":"OK","code":200,"requestId":"R-1","data":{"code":200,"personId":"person1",'
    b'"faceIds":["1244453323565","1345345466455"],"deleteCount":2}}'
)


def http(
    body: bytes = DOCUMENT, status: str = "200 OK", extra: str = "", *, length: int | None = None
) -> bytes:
    announced = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {announced}\r\n\r\n".encode() + body


@dataclass
class Visit:
    """One request on one connection, and the way to answer it."""

    head: bytes
    body: bytes
    number: int
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    """Counts connections and keeps every request byte for byte."""

    script: Script
    greeting: bytes = b""
    connections: int = 0
    port: int = 0
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        writer.write(self.greeting)
        self.connected.set()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                self.requests.append((head, body))
                await self.script(Visit(head, body, len(self.requests), writer))
        writer.close()


Serve = Callable[..., Awaitable[RawServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            script: Script | bytes,
            *,
            greeting: bytes = b"",
            tls: ssl.SSLContext | None = None,
        ) -> RawServer:
            async def say(visit: Visit) -> None:
                assert isinstance(script, bytes)
                await visit.say(script)

            raw = RawServer(say if isinstance(script, bytes) else script, greeting)
            server = await asyncio.start_server(raw.visit, "127.0.0.1", 0, ssl=tls)
            raw.port = server.sockets[0].getsockname()[1]

            async def stop() -> None:
                server.close()
                for writer in raw.writers:
                    writer.transport.abort()
                await server.wait_closed()
                await asyncio.sleep(0)

            stack.push_async_callback(stop)
            return raw

        yield start
