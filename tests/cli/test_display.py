from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from tests.cli.displayed import BUSY
from worker import telemetry
from worker.cli.display import Display, show
from worker.cli.progress import Progress
from worker.telemetry import ForgivingStream, configure, get_log

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield
    structlog.reset_defaults()
    telemetry._sink.write_line = telemetry._nowhere


class Gauge:
    """Counts how often it is read and says so when it has been read often enough."""

    def __init__(self, reads: int, then: Callable[[], None] = lambda: None) -> None:
        self.reads = 0
        self.enough = asyncio.Event()
        self._wanted = reads
        self._then = then

    def __call__(self) -> Progress:
        self.reads += 1
        if self.reads == self._wanted:
            self._then()
            self.enough.set()
        return replace(BUSY, faces_done=1_000_000 + self.reads)


async def shown(gauge: Gauge, showing: asyncio.Task[None]) -> None:
    async with asyncio.timeout(20):
        await gauge.enough.wait()
    showing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await showing


class Terminal:
    """A pseudo-terminal of a given size and what was written to it."""

    def __init__(self, columns: int, rows: int = 30, encoding: str = "utf-8") -> None:
        self._leader, follower = pty.openpty()
        os.set_blocking(self._leader, False)
        self.stream = os.fdopen(follower, "w", encoding=encoding)
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, size)

    def written(self) -> str:
        """What has come since this was last asked."""
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while True:
                pieces.append(os.read(self._leader, 65536))
        return b"".join(pieces).decode()

    def output(self) -> str:
        written = self.written()
        self.stream.close()
        os.close(self._leader)
        return written


def plain(output: str) -> list[str]:
    return ESCAPE.sub("", output).replace("\r", "\n").split("\n")


def showing(gauge: Gauge, terminal: Terminal) -> asyncio.Task[None]:
    return asyncio.create_task(show(gauge, stream=terminal.stream, interval_seconds=0.001))


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
async def test_the_display_on_a_terminal(columns: int) -> None:
    terminal = Terminal(columns)
    configure("console", 0, terminal.stream)
    gauge = Gauge(3, lambda: get_log().warning("a line of the log"))
    await shown(gauge, showing(gauge, terminal))
    output = terminal.output()
    text = "\n".join(plain(output))
    assert "\x1b[32m━" in output
    # The last state is what stays on the terminal, below the log line, with the cursor shown.
    assert text.rindex(f"{1_000_000 + gauge.reads:,}") > text.index("a line of the log")
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert max(len(line) for line in plain(output) if "log" not in line) <= columns


async def test_no_color() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        terminal = Terminal(80)
        gauge = Gauge(2)
        await shown(gauge, showing(gauge, terminal))
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.output().replace("\x1b[0m", ""))


async def test_a_terminal_without_unicode_gets_ascii() -> None:
    terminal = Terminal(80, encoding="ascii")
    gauge = Gauge(2)
    await shown(gauge, showing(gauge, terminal))
    output = terminal.output()
    assert output.isascii()
    assert "#" * 36 in output


async def test_a_terminal_of_two_rows_gets_one_line() -> None:
    terminal = Terminal(80, rows=2)
    gauge = Gauge(2)
    await shown(gauge, showing(gauge, terminal))
    lines = [line for line in plain(terminal.output()) if line.strip()]
    assert all(line.startswith("50.0 % · throttled") for line in lines)


async def test_nothing_is_written_while_nothing_changes() -> None:
    terminal = Terminal(80)
    reads = 0
    enough = asyncio.Event()

    def gauge() -> Progress:
        nonlocal reads
        reads += 1
        if reads == 50:
            enough.set()
        return BUSY

    task = asyncio.create_task(show(gauge, stream=terminal.stream, interval_seconds=0.001))
    async with asyncio.timeout(20):
        await enough.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    # The time of the end moves on with the minutes, and nothing else does; and the end draws anew.
    assert terminal.output().count("1,234,567 of") <= 3


def test_a_narrower_terminal_is_cleared_of_lines_that_it_has_wrapped() -> None:
    terminal = Terminal(120)
    with Display(ForgivingStream(terminal.stream)) as display:
        display.draw(BUSY)
        wide = [line for line in plain(terminal.written()) if line]
        terminal.resize(40, 30)
        display.draw(BUSY)
        narrow = terminal.written()
        terminal.resize(120, 30)
        display.draw(BUSY)
        widened = terminal.written()
    terminal.output()
    up, erased = "\x1b[1A", "\x1b[2K"
    # The wrapped display takes so many lines, and the cursor stands on the last of them.
    wrapped = sum(-(-len(line) // 40) for line in wide)
    assert len(wide) < wrapped
    before_the_first_line = narrow.partition("━")[0]
    assert before_the_first_line.count(erased) == wrapped
    assert before_the_first_line.count(up) == wrapped - 1
    drawn = [line for line in plain(narrow) if line]
    assert max(map(len, drawn)) <= 40
    assert widened.partition("━")[0].count(erased) == len(drawn)


@pytest.mark.parametrize("kind", ["dumb", "unknown", ""])
async def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TERM", kind)
    terminal = Terminal(80)
    configure("json", 0, terminal.stream)
    gauge = Gauge(2)
    await shown(
        gauge, asyncio.create_task(show(gauge, stream=terminal.stream, line_interval_seconds=0.001))
    )
    output = terminal.output()
    assert "\x1b" not in output
    assert '"event": "progress"' in output


async def test_lines_where_nobody_watches() -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    gauge = Gauge(3)
    await shown(gauge, asyncio.create_task(show(gauge, stream=stream, line_interval_seconds=0.001)))
    events = [json.loads(text) for text in stream.getvalue().splitlines()]
    # One for each reading, the last of them at the end.
    assert [event["faces_done"] for event in events] == [
        1_000_000 + read for read in range(1, gauge.reads + 1)
    ]
    assert {event["event"] for event in events} == {"progress"}
    assert events[0]["waiting"] == "throttled"
    assert events[0]["eta"].endswith("+00:00")


async def test_a_json_log_on_a_terminal_stays_json() -> None:
    terminal = Terminal(80)
    configure("json", 0, terminal.stream)
    gauge = Gauge(1)
    await shown(
        gauge,
        asyncio.create_task(
            show(gauge, stream=terminal.stream, line_interval_seconds=0.001, lines_only=True)
        ),
    )
    assert terminal.output().startswith("{")


async def test_a_terminal_that_goes_away_does_not_end_the_display(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        gauge = Gauge(5)
        task = asyncio.create_task(show(gauge, stream=stream, interval_seconds=0.001))
        await asyncio.sleep(0)
        os.close(leader)
        await shown(gauge, task)
    assert gauge.reads >= 5
