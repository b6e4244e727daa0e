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
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from worker import telemetry
from worker.cli.progress import Progress, duration_text, eta_text, rendered, show
from worker.telemetry import configure, get_log

NOW = datetime(2026, 1, 1, 21, 30, tzinfo=UTC)
BUSY = Progress(
    faces_done=1_234_567,
    faces_total=2_000_000,
    outcomes={"deleted": 1_230_000, "refused": 4_567, "present": 0, "unsent": 765_433},
    calls_sent=312_412,
    calls_in_flight=12,
    rate_per_second=19.8,
    mean_rate_per_second=19.74,
    eta_seconds=5_400.4,
    waiting="throttled",
    errors={"refused 400": 12, "ambiguous read_timeout": 4},
)
BAR = "━" * 24 + "─" * 16
WAITING = "waiting: throttled (the service asks for a slower pace)"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    telemetry._sink.write_line = telemetry._nowhere


def test_a_wide_terminal() -> None:
    assert rendered(BUSY, 120, NOW) == [
        f"{BAR}  61.7 %  1,234,567/2,000,000 faces  19.8 calls/s (mean 19.7)",
        "ETA 23:00 (in 1 h 30 min)",
        "deleted 1,230,000 · refused 4,567 · unsent 765,433",
        f"312,412 calls sent · 12 in flight · {WAITING}",
        "trouble: refused 400 ×12 · ambiguous read_timeout ×4",
    ]


def test_eighty_columns() -> None:
    assert rendered(BUSY, 80, NOW) == [
        f"{BAR}  61.7 %  1,234,567/2,000,000 faces",
        "19.8 calls/s (mean 19.7)  ETA 23:00 (in 1 h 30 min)",
        "deleted 1,230,000 · refused 4,567 · unsent 765,433",
        "312,412 calls sent · 12 in flight",
        WAITING,
        "trouble: refused 400 ×12 · ambiguous read_timeout ×4",
    ]


def test_forty_columns() -> None:
    assert rendered(BUSY, 40, NOW) == [
        BAR,
        "61.7 %  1,234,567/2,000,000 faces",
        "19.8 calls/s (mean 19.7)",
        "ETA 23:00 (in 1 h 30 min)",
        "deleted 1,230,000 · refused 4,567",
        "unsent 765,433",
        "312,412 calls sent · 12 in flight",
        "waiting: throttled",
        "trouble: refused 400 ×12",
        "ambiguous read_timeout ×4",
    ]


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 120, 300])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    errors = {f"ambiguous {number} {'x' * number}": number for number in range(50)}
    lines = rendered(replace(BUSY, errors=errors), columns, NOW)
    assert max(map(len, lines)) <= max(columns, 20)


def test_a_terminal_without_unicode() -> None:
    assert all(text.isascii() for text in rendered(BUSY, 80, NOW, ascii_only=True))


def test_a_hundred_percent_means_all_of_them() -> None:
    nearly = replace(BUSY, faces_done=1_999_999)
    assert "99.9 %" in rendered(nearly, 120, NOW)[0]
    done = replace(BUSY, faces_done=2_000_000, waiting="", errors={})
    assert rendered(done, 80, NOW)[1] == "19.8 calls/s (mean 19.7)  all settled"
    assert "100.0 %" in rendered(replace(done, faces_done=0, faces_total=0), 80, NOW)[0]


@pytest.mark.parametrize("word", ["quota", "throttled", "backoff", "paused", "hold", "answers"])
def test_every_reason_to_wait_is_named(word: str) -> None:
    assert f"waiting: {word} (" in "\n".join(rendered(replace(BUSY, waiting=word), 120, NOW))


def test_many_kinds_of_trouble_are_cut_to_the_worst() -> None:
    errors = {"a": 1, "b": 9, "c": 3, "d": 4, "e": 5, "f": 6}
    assert rendered(replace(BUSY, errors=errors), 120, NOW)[-1] == (
        "trouble: b ×9 · f ×6 · e ×5 · d ×4 · 2 more kinds"
    )


def test_the_end_as_a_time_of_day_and_a_duration() -> None:
    assert eta_text(BUSY, NOW) == "ETA 23:00 (in 1 h 30 min)"
    assert (
        eta_text(replace(BUSY, eta_seconds=3 * 3600), NOW) == "ETA 2026-01-02 00:30 (in 3 h 00 min)"
    )
    assert eta_text(replace(BUSY, eta_seconds=None), NOW) == "ETA not known yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (90_000, "1 d 01 h")],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text


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
    """A pseudo-terminal of a given width and what was written to it."""

    def __init__(self, columns: int) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.set_blocking(self._leader, False)
        self.stream = os.fdopen(follower, "w", encoding="utf-8")

    def output(self) -> str:
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while True:
                pieces.append(os.read(self._leader, 65536))
        self.stream.close()
        os.close(self._leader)
        return b"".join(pieces).decode()


@pytest.mark.parametrize("columns", [40, 80, 120])
async def test_the_display_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal(columns)
    configure("console", 0, terminal.stream)
    gauge = Gauge(3, lambda: get_log().warning("a line of the log"))
    await shown(
        gauge,
        asyncio.create_task(show(gauge, stream=terminal.stream, interval_seconds=0.001)),
    )
    output = terminal.output()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert "\x1b[32m━" in output
    assert "a line of the log" in plain
    # The last state is what stays on the terminal, below the log line, with the cursor shown.
    assert plain.rindex(f"{1_000_000 + gauge.reads:,}/2,000,000 faces") > plain.index(
        "a line of the log"
    )
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert max(
        len(text) for text in plain.replace("\r", "\n").split("\n") if "log" not in text
    ) <= (columns)


async def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(80)
    gauge = Gauge(2)
    await shown(
        gauge, asyncio.create_task(show(gauge, stream=terminal.stream, interval_seconds=0.001))
    )
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.output().replace("\x1b[0m", ""))


async def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
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
    assert events[0]["waiting"] == "throttled"
    assert events[0]["deleted"] == 1_230_000
    assert events[0]["trouble"] == {"refused 400": 12, "ambiguous read_timeout": 4}
    assert events[0]["eta"].endswith("+00:00")
    assert "present" not in events[0]


async def test_a_json_log_on_a_terminal_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
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


async def test_a_terminal_that_goes_away_does_not_end_the_display(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        gauge = Gauge(5)
        showing = asyncio.create_task(show(gauge, stream=stream, interval_seconds=0.001))
        await asyncio.sleep(0)
        os.close(leader)
        await shown(gauge, showing)
    assert gauge.reads >= 5
