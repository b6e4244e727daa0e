"""A sandbox in a process of its own, as ``run --sandbox`` uses it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from worker.errors import FacepurgeError

LOG_NAME = "sandbox.jsonl"
START_SECONDS = 120.0
"""A long request log takes a while to replay: about a minute for ten million calls."""

STOP_SECONDS = 5.0

_KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
)
"""What an interpreter needs to start; above all no credentials, so that it uses its own pair."""


class SandboxFailed(FacepurgeError):
    """The sandbox process did not start."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """A sandbox that serves, at ``url``, until its process ends."""

    url: str
    _process: asyncio.subprocess.Process
    _complaints: asyncio.Task[str]

    async def ended(self) -> str:
        """Wait for the end of the process; says how it came, as a clause: ``it ...``."""
        code = await self._process.wait()
        # Shielded: whoever waits here may be cancelled, and the words are still to be read.
        said = await asyncio.shield(self._complaints)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        # The cause is its first line, as with every error; the lines below say what to do.
        return f"it {how}" + (f" and said: {said.splitlines()[0]}" if said else "")


@asynccontextmanager
async def sandbox_process(
    directory: Path,
    state: Path,
    *,
    options: Sequence[str] = (),
    program: Sequence[str] = (sys.executable, "-m", "worker"),
    start_seconds: float = START_SECONDS,
) -> AsyncIterator[SandboxProcess]:
    """Start ``facepurge sandbox``, yield it once it serves, and end it on the way out.

    The request log is ``directory/sandbox.jsonl``; started again with the same directory and
    state, the sandbox holds the same world as when it ended. ``options`` are further flags of the
    verb. The process has a session of its own, so that Ctrl-C in the terminal leaves it serving
    while the worker drains, and it ends by itself when this process dies in any way.

    Raises ``SandboxFailed``.
    """
    arguments = [*program, "sandbox", "--port", "0", "--state", str(state)]
    arguments += ["--log", str(directory / LOG_NAME), "--exit-on-stdin-eof", *options]
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # Somebody has to read what it says, or a full pipe would stop it in the middle of a run.
    complaints = asyncio.create_task(_last_words(process.stderr))
    try:
        url = await _url(process.stdout, complaints, start_seconds)
        yield SandboxProcess(url, process, complaints)
    finally:
        await asyncio.shield(_end(process))
        await complaints


async def _url(
    stdout: asyncio.StreamReader, complaints: asyncio.Task[str], start_seconds: float
) -> str:
    try:
        async with asyncio.timeout(start_seconds):
            line = (await stdout.readline()).decode("utf-8", "replace").strip()
            if line.startswith("http://127.0.0.1:"):
                return line
            said = await complaints
    except TimeoutError:
        raise SandboxFailed(
            f"the sandbox did not start within {start_seconds:g} s",
            "try again, or start `facepurge sandbox` by hand to see why",
        ) from None
    cause, remedy = _cause_and_remedy(said)
    raise SandboxFailed(f"the sandbox did not start: {cause}", remedy)


def _cause_and_remedy(said: str) -> tuple[str, str]:
    """Out of what our own program says when it ends: its sentence, its remedy, its last line."""
    cause, remedy = "it said nothing", "start `facepurge sandbox` by hand to see more"
    for line in said.splitlines():
        if line.startswith("facepurge: "):
            cause = line.removeprefix("facepurge: ")
        elif line.startswith("  remedy: "):
            remedy = line.removeprefix("  remedy: ")
    return cause, remedy


async def _last_words(stderr: asyncio.StreamReader) -> str:
    """What the process said last, at most 2000 bytes, known when it has ended."""
    words = b""
    while chunk := await stderr.read(65536):
        words = (words + chunk)[-2000:]
    return words.decode("utf-8", "replace").strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()
