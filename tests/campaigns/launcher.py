"""``facepurge`` in a process that dies, or whose disk fails, at a numbered write.

``python -m tests.campaigns.launcher FATE.json TRACE.jsonl -- ARGUMENTS`` runs the program with
everything it writes counted: SQLite's files, the report, renames, TCP sockets. The counter is one
for all threads, and each point is in the trace before it is passed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tests.campaigns.fate import Deed, Fate, Place
from tests.campaigns.points import Points
from tests.campaigns.storage import strike_storage
from tests.campaigns.trace import Recorder
from worker import interruption
from worker.cli import main as facepurge
from worker.green.client import GreenClient
from worker.ledger.journal import Ledger


def launch(fate: Fate, trace: Path, arguments: list[str]) -> NoReturn:
    """Run the program under ``fate`` in this process; raises ``SystemExit`` as it does."""
    points = Points(fate, Recorder(trace))
    storage = strike_storage(points)
    _strike_files(points)
    _strike_sockets(points)
    _watch_attempts(points.recorder)
    _watch_signals(points.recorder)
    interruption.begin()
    try:
        facepurge(arguments)
    finally:
        points.settle()
        del storage


def _replace(owner: Any, **attributes: object) -> None:
    """Put what is struck or watched in the place of what it calls."""
    for name, new in attributes.items():
        setattr(owner, name, new)


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _directory(descriptor: int | None) -> Path:
    """What a name is relative to."""
    return Path.cwd() if descriptor is None else Path(_path(descriptor))


def _os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _strike_files(points: Points) -> None:
    """``os.write``, ``os.fsync`` and ``os.rename`` on what lies in a run directory."""
    write, fsync, rename = os.write, os.fsync, os.rename

    def struck_write(descriptor: int, data: Any, /) -> int:
        path = _path(descriptor)
        if Path(path).parent.name != "report":
            return write(descriptor, data)
        if points.page_cache is not None:
            points.page_cache.appended(path)
        return points.passing(Deed.WRITE, Place.REPORT, lambda: write(descriptor, data), _os_error)

    def struck_fsync(descriptor: int, /) -> None:
        path = _path(descriptor)
        place = Place.DIRECTORY if Path(path).is_dir() else _place(path)

        def sync() -> None:
            fsync(descriptor)
            if points.page_cache is not None:
                points.page_cache.synced(path)

        points.passing(Deed.SYNC, place, sync, _os_error)

    def struck_rename(src: Any, dst: Any, **directories: Any) -> None:
        old = str(_directory(directories.get("src_dir_fd")) / src)
        new = str(_directory(directories.get("dst_dir_fd")) / dst)

        def move() -> None:
            if points.page_cache is not None:
                points.page_cache.renaming(old, new)
            rename(src, dst, **directories)

        points.passing(Deed.RENAME, _place(new), move, _os_error)

    _replace(os, write=struck_write, fsync=struck_fsync, rename=struck_rename)


def _place(path: str) -> Place:
    return Place.REPORT if Path(path).parent.name == "report" else Place.PLAN


def _strike_sockets(points: Points) -> None:
    """``socket.send``, or ``sendmsg`` from Python 3.12 on, through which asyncio writes."""
    send, sendmsg = socket.socket.send, socket.socket.sendmsg

    def struck(self: socket.socket, first: Any, act: Callable[[], int]) -> int:
        if self.family not in {socket.AF_INET, socket.AF_INET6}:
            return act()  # the pair that wakes the event loop up
        if bytes(first[:5]) == b"POST ":
            points.recorder.mark("request")
        return points.passing(
            Deed.SEND, Place.NETWORK, act, lambda _code: _os_error(errno.ECONNRESET)
        )

    def struck_send(self: socket.socket, data: Any, /, *flags: int) -> int:
        return struck(self, data, lambda: send(self, data, *flags))

    def struck_sendmsg(self: socket.socket, buffers: Any, /, *others: Any) -> int:
        data = list(buffers)
        return struck(self, data[0], lambda: sendmsg(self, data, *others))

    _replace(socket.socket, send=struck_send, sendmsg=struck_sendmsg)


def _watch_attempts(recorder: Recorder) -> None:
    """An attempt is in flight from its making until its end is durable."""
    prepare, record = GreenClient.prepare, Ledger.record

    def watched_prepare(self: GreenClient, *arguments: Any) -> Any:
        recorder.mark("begun")
        return prepare(self, *arguments)

    async def watched_record(self: Ledger, *arguments: Any, **options: Any) -> Any:
        result = await record(self, *arguments, **options)
        recorder.mark("recorded")
        return result

    _replace(GreenClient, prepare=watched_prepare)
    _replace(Ledger, record=watched_record)


def _watch_signals(recorder: Recorder) -> None:
    """Note when a handler runs, whoever has set it."""
    loop = asyncio.SelectorEventLoop
    add_signal_handler, set_handler = loop.add_signal_handler, signal.signal

    def watched(handler: Callable[..., object]) -> Callable[..., object]:
        def handle(*arguments: object) -> object:
            recorder.mark("signal")
            return handler(*arguments)

        return handle

    def watched_add(self: Any, sig: int, callback: Callable[..., object], *arguments: Any) -> None:
        add_signal_handler(self, sig, watched(callback), *arguments)

    def watched_set(number: int, handler: Any) -> Any:
        # The event loop's own handler does nothing; what it calls back is watched above.
        own = getattr(handler, "__module__", "") == "asyncio.unix_events"
        return set_handler(number, watched(handler) if callable(handler) and not own else handler)

    _replace(loop, add_signal_handler=watched_add)
    _replace(signal, signal=watched_set)


def main() -> NoReturn:
    fate, trace, separator, *arguments = sys.argv[1:]
    assert separator == "--"
    launch(msgspec.json.decode(Path(fate).read_bytes(), type=Fate), Path(trace), arguments)


if __name__ == "__main__":
    main()
