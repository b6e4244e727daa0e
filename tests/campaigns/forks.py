"""A process that starts launched programs by forking: what they import is imported once.

``python -m tests.campaigns.forks`` reads a ``Launch`` a line from standard input and answers each
with the exit status of its child, which is a process of its own like any other.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from tests.campaigns.fate import Fate
from tests.campaigns.launcher import launch

DEADLINE_SECONDS = 60
"""A program that has not ended by then hangs, and SIGALRM ends it."""

ROOT = Path(__file__).parents[2]


class Launch(msgspec.Struct, frozen=True):
    """One program to be started."""

    directory: str
    environment: dict[str, str]
    arguments: list[str]
    fate: Fate
    trace: str
    out: str
    err: str


class Forks:
    """The other end of such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def launch(self, one: Launch) -> int:
        """Start it and wait for its end; the exit code, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(one) + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that forks has died")
        return int(answer)


@asynccontextmanager
async def forking() -> AsyncIterator[Forks]:
    """Start the process that forks, and end it on the way out."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.campaigns.forks"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Forks(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _become(one: Launch) -> NoReturn:
    """Be the program; only the child comes here."""
    code = 70
    try:
        signal.alarm(DEADLINE_SECONDS)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for descriptor, opened in (
            (0, os.open(os.devnull, os.O_RDONLY)),
            (1, os.open(one.out, flags, 0o600)),
            (2, os.open(one.err, flags, 0o600)),
        ):
            os.dup2(opened, descriptor)
            os.close(opened)
        os.chdir(one.directory)
        os.environ.clear()
        os.environ.update(one.environment)
        launch(one.fate, Path(one.trace), one.arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (the child must never go on as its parent)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    import worker.cli.concluding
    import worker.cli.plan
    import worker.cli.planning
    import worker.cli.purge
    import worker.cli.report
    import worker.cli.resume
    import worker.cli.run  # noqa: F401 (what every program would import again)

    gc.freeze()
    decoder = msgspec.json.Decoder(Launch)
    for line in sys.stdin.buffer:
        assert threading.active_count() == 1
        child = os.fork()
        if child == 0:
            _become(decoder.decode(line))
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
