"""The whole life of a sandbox process: announce, serve until told to stop, close."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from worker.sandbox.options import SandboxOptions
from worker.sandbox.server import Sandbox

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(
    options: SandboxOptions, *, announce: Callable[[str], None], exit_on_stdin_eof: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, or with ``exit_on_stdin_eof`` until standard input ends.

    ``announce`` is called once, with the URL, when connections are accepted; whatever it raises ends
    the serving. A second signal ends the process at once. Memory does not grow with the number of calls, but for the nonces of the
    last half hour.

    Raises ``UsageRefused`` and ``InputRefused`` as ``Sandbox`` does, and ``JournalFailed`` when
    the request log can no longer be written.
    """
    options = msgspec.structs.replace(options, keep_lines=False)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    async with Sandbox(options) as sandbox:
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stop)
        if exit_on_stdin_eof:
            _watch_stdin(loop, stopping.set)
        announce(sandbox.url)
        async with asyncio.TaskGroup() as reasons:
            stopped = reasons.create_task(stopping.wait())
            failed = reasons.create_task(sandbox.failed.wait())
            await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            failed.cancel()
        if sandbox.failure is not None:
            raise sandbox.failure


def _watch_stdin(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """Call ``ended`` when nobody holds the other end of standard input any more.

    A thread, because an event loop cannot wait for every kind of standard input.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop is closed: the process is ending anyway
            loop.call_soon_threadsafe(ended)

    threading.Thread(target=watch, name="stdin", daemon=True).start()
