"""The real program, started as a process the way a shell or a scheduler starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET

DEADLINE_SECONDS = 60.0
"""Far beyond anything a test waits for: a program that hangs is killed and told apart."""

PROGRAM = (sys.executable, "-m", "worker")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


class Running:
    """A process whose words are gathered while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._out = bytearray()
        self._err = bytearray()
        self._news = asyncio.Event()
        self._readers = [
            asyncio.create_task(self._gather(process.stdout, self._out)),
            asyncio.create_task(self._gather(process.stderr, self._err)),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def err(self) -> str:
        return self._err.decode()

    async def _gather(self, stream: asyncio.StreamReader | None, into: bytearray) -> None:
        if stream is None:
            return
        while chunk := await stream.read(65536):
            into += chunk
            self._news.set()

    async def said(self, words: str) -> None:
        """Wait until these words were said on stderr."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while words not in self.err:
                self._news.clear()
                await self._news.wait()

    async def tell(self, data: bytes) -> None:
        """Write to its standard input and close it."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.close()

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns the monotonic time just after."""
        self._process.send_signal(number)
        return time.monotonic()

    async def ended(self) -> Ended:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(*self._readers)
            code = await self._process.wait()
        return Ended(code, self._out.decode(), self.err)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)


class Program:
    """Starts ``facepurge`` in a directory and a home of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory / "home"),
            "XDG_STATE_HOME": str(directory / "home" / "state"),
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": SANDBOX_ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SANDBOX_ACCESS_KEY_SECRET,
        }

    async def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        umask: int = -1,
    ) -> Ended:
        """Start it, give it its input, and wait for its end."""
        async with self.started(*arguments, environment=environment, umask=umask) as running:
            await running.tell(stdin)
            return await running.ended()

    @asynccontextmanager
    async def started(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        umask: int = -1,
        stdin: int = asyncio.subprocess.PIPE,
        stdout: int = asyncio.subprocess.PIPE,
        stderr: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[Running]:
        """Start it; it is killed on the way out if it still lives."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *map(str, arguments),
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            umask=umask,
        )
        running = Running(process)
        try:
            yield running
        finally:
            await running.kill()
