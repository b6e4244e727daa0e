"""The emulator in this process: a real loopback socket in front of a small world."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from types import TracebackType
from typing import Self

from aiohttp import web

from worker.clock import Clock, SystemClock
from worker.errors import UsageRefused
from worker.sandbox.arrival import arrival
from worker.sandbox.faults import Script, Silence
from worker.sandbox.journal import Entry, Journal, JournalFailed, Start
from worker.sandbox.keys import Keyring
from worker.sandbox.latency import LatencySampler
from worker.sandbox.options import LOOPBACK, SandboxOptions
from worker.sandbox.service import Service, Verdict
from worker.sandbox.state import load_world
from worker.sandbox.wire import Connection, Listener, Sent, abort, send

SHUTDOWN_SECONDS = 0.5
"""How long answers on their way may still take when the sandbox is closed."""


class Sandbox:
    """The service on 127.0.0.1; an async context manager that serves between enter and exit.

    ``world``, ``keys`` and ``script`` may be read and changed at any time by the process it runs
    in. ``monotonic`` (seconds) stamps arrivals and drives the quota, ``clock`` is the wall time of
    signatures and ``Date``.

    Making one raises ``InputRefused`` for a state that cannot be used. Entering raises
    ``InputRefused`` for such a request log, and ``UsageRefused`` for another host than 127.0.0.1,
    a port that is taken or a log in use.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.options = options or SandboxOptions()
        self.world, self._world_sha256 = load_world(self.options.state)
        self.keys = Keyring(self.options.keys)
        self.script = Script(self.options.faults, self.options.seed)
        self.journal = Journal(self.options.log, keep_lines=self.options.keep_lines)
        self.failed = asyncio.Event()
        """Set when the request log cannot be written: nothing is answered from then on."""
        self.failure: JournalFailed | None = None
        self._monotonic = monotonic
        self._clock = clock or SystemClock()
        self._ssl_context = ssl_context
        self._latency = LatencySampler(self.options.latency, self.options.seed)
        self._closing = asyncio.Event()
        self._port = self.options.port
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"{'https' if self._ssl_context else 'http'}://{LOOPBACK}:{self._port}"

    @property
    def entries(self) -> list[Entry]:
        """The arrivals of this life, oldest first (with ``options.keep_lines``)."""
        return self.journal.entries

    @property
    def identity_calls(self) -> int:
        """How often STS was asked in this life."""
        return self._service.identity.calls

    async def __aenter__(self) -> Self:
        if self.options.host != LOOPBACK:
            raise UsageRefused(
                f"the sandbox was asked to listen on {self.options.host}",
                f"it accepts known keys, so it listens on {LOOPBACK} only",
            )
        self._service = Service(
            self.options,
            world=self.world,
            keys=self.keys,
            script=self.script,
            journal=self.journal,
            monotonic=self._monotonic,
        )
        listener = Listener(self._serve, self._monotonic)
        self._runner = web.ServerRunner(listener, shutdown_timeout=SHUTDOWN_SECONDS)
        try:
            self.journal.open(self._world_sha256, self._service.replay)
            self.journal.write(Start(self._now_us(), self._world_sha256))
            await self._runner.setup()
            await self.listen()
        except BaseException:
            await self._runner.cleanup()
            self.journal.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()
        self.journal.close()

    async def listen(self) -> None:
        """Accept connections (again), on the same port as before ``refuse``."""
        site = web.TCPSite(
            self._runner, LOOPBACK, self._port, ssl_context=self._ssl_context, backlog=1024
        )
        try:
            await site.start()
        except OSError as error:
            raise UsageRefused(
                f"port {self._port} on {LOOPBACK} cannot be used ({error.strerror})",
                "name another port, or 0 for any free one",
            ) from error
        self._port = self._runner.addresses[-1][1]
        self._site = site

    async def refuse(self) -> None:
        """Refuse new connections, as a host that is down does, until ``listen``."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    def _now_us(self) -> int:
        return self._clock.now_us() + round(self.options.clock_offset_seconds * 1e6)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            body = b""  # no call is a mebibyte long: it is logged, and refused as any broken body
        headers = (
            (name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
            for name, value in request.raw_headers
        )
        received = arrival(
            request.method, request.raw_path, headers, body, connection.take_arrival_seconds()
        )
        try:
            if self.failure is not None:
                raise self.failure
            verdict = self._service.answer(received, self._now_us())
            if isinstance(verdict.fault, Silence):
                await self._stay_silent(connection, verdict, verdict.fault)
                return Sent()
        except JournalFailed as failure:
            self.failure = failure
            self.failed.set()
            abort(request)
            return Sent()
        await self._pause(self._latency.draw_seconds())
        date = formatdate(self._now_us() // 1_000_000, usegmt=True)
        return await send(request, verdict.answer, verdict.fault, date)

    async def _stay_silent(self, connection: Connection, verdict: Verdict, fault: Silence) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        gone = asyncio.ensure_future(connection.gone.wait())
        await asyncio.wait((closing, gone), return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        gone.cancel()
        if fault.applies == "late" and not self._closing.is_set():
            await self._pause(fault.late_seconds)
            self._service.apply_late(verdict)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the sandbox."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass
