"""A TCP proxy before a service, for what a service cannot do to its own connections.

It reads whole HTTP messages from both sides and passes the bytes on as they are, except for the
requests it is told to spoil: the first one to delete faces of a given person.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ResetRequest:
    """RST to the client once this share of the request has been passed on; no more follows."""

    share: float


@dataclass(frozen=True, slots=True)
class StallRequest:
    """Hold the request back after this share of it, until the client has gone."""

    share: float
    delivered: bool = False
    """Whether the rest still reaches the server then."""
    late_seconds: float = 0.0
    """How long after the client has gone."""


@dataclass(frozen=True, slots=True)
class StallAnswer:
    """Hold the answer back after this share of it, until the client has gone."""

    share: float


@dataclass(frozen=True, slots=True)
class ResetAnswer:
    """RST to the client after this share of the answer."""

    share: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Deliver the same bytes a second time over a connection of their own; that answer is lost."""

    twin: Literal["before", "after"]
    """The original."""


@dataclass(frozen=True, slots=True)
class Drip:
    """The answer, byte by byte."""

    interval_seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Nothing more is sent in one direction, while the other stays open."""

    towards: Literal["server", "client"]
    """``server``: after the request; ``client``: instead of the answer."""


Spoiler = ResetRequest | StallRequest | StallAnswer | ResetAnswer | Replay | Drip | HalfClose

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Proxy:
    """What stands between the program and the service at ``upstream_port``."""

    upstream_port: int
    spoilers: Mapping[str, Spoiler] = field(default_factory=dict)
    """By person."""
    closed_at_once: frozenset[int] = frozenset()
    """Numbers, from 1, of connections that are accepted and closed before a byte."""
    port: int = 0
    connections: int = 0
    spoiled: set[str] = field(default_factory=set)
    """Persons whose request was spoiled."""
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        self.connections += 1
        try:
            if self.connections not in self.closed_at_once:
                server = await asyncio.open_connection(HOST, self.upstream_port)
                try:
                    await self._exchange((reader, writer), server)
                finally:
                    await _close(server[1])
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side may go at any time
        finally:
            await _close(writer)

    async def _exchange(self, client: _Streams, server: _Streams) -> None:
        """Requests and their answers, one after the other."""
        while request := await _message(client[0]):
            match self._spoiler(request):
                case None:
                    await _pass(request, server)
                    client[1].write(await _message(server[0]))
                case ResetRequest(share):
                    await _pass(_part(request, share), server)
                    _reset(client[1])
                    return
                case StallRequest(share, delivered, late_seconds):
                    await _pass(_part(request, share), server)
                    await _gone(client[0])
                    if delivered:
                        await asyncio.sleep(late_seconds)
                        await _pass(request[len(_part(request, share)) :], server)
                        await _message(server[0])
                    return
                case StallAnswer(share):
                    await _pass(request, server)
                    client[1].write(_part(await _message(server[0]), share))
                    await _gone(client[0])
                    return
                case ResetAnswer(share):
                    await _pass(request, server)
                    client[1].write(_part(await _message(server[0]), share))
                    await client[1].drain()
                    _reset(client[1])
                    return
                case Replay(twin):
                    if twin == "before":
                        await self._replay(request)
                    await _pass(request, server)
                    answer = await _message(server[0])
                    if twin == "after":
                        await self._replay(request)
                    client[1].write(answer)
                case Drip(interval_seconds):
                    await _pass(request, server)
                    for byte in await _message(server[0]):
                        client[1].write(bytes((byte,)))
                        await asyncio.sleep(interval_seconds)
                case HalfClose("server"):
                    await _pass(request, server)
                    server[1].write_eof()
                    client[1].write(await _message(server[0]))
                    return
                case HalfClose("client"):
                    client[1].write_eof()
                    await _pass(request, server)
                    await _message(server[0])
                    await _gone(client[0])
                    return

    def _spoiler(self, request: bytes) -> Spoiler | None:
        head, _, body = request.partition(b"\r\n\r\n")
        if b"/face/delete" not in head.partition(b"\r\n")[0]:
            return None
        person: str = json.loads(body)["personId"]
        if person in self.spoiled or person not in self.spoilers:
            return None
        self.spoiled.add(person)
        return self.spoilers[person]

    async def _replay(self, request: bytes) -> None:
        twin = await asyncio.open_connection(HOST, self.upstream_port)
        try:
            await _pass(request, twin)
            await _message(twin[0])
        finally:
            await _close(twin[1])


@asynccontextmanager
async def proxy(
    upstream_url: str,
    spoilers: Mapping[str, Spoiler] | None = None,
    closed_at_once: frozenset[int] = frozenset(),
) -> AsyncIterator[Proxy]:
    """A proxy on a loopback port before the service at ``upstream_url``."""
    one = Proxy(int(upstream_url.rpartition(":")[2]), spoilers or {}, closed_at_once)
    server = await asyncio.start_server(one.serve, HOST)
    async with server:
        one.port = server.sockets[0].getsockname()[1]
        try:
            yield one
        finally:
            for task in one.serving:
                task.cancel()
            await asyncio.gather(*one.serving, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The next whole message, or ``b""`` at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise
        return b""
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def _pass(data: bytes, server: _Streams) -> None:
    server[1].write(data)
    await server[1].drain()


def _part(data: bytes, share: float) -> bytes:
    return data[: round(len(data) * share)]


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed its connection."""
    with suppress(OSError):
        while await reader.read(65536):
            pass


def _reset(writer: asyncio.StreamWriter) -> None:
    connected: socket.socket = writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
