"""What a run shows while it works: a display on a terminal, otherwise a log line now and then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker.telemetry import ForgivingStream, get_log, lines_through

_BAR_COLUMNS = 40
_NARROWEST = 20
_ROOM_FOR_MEANINGS = 64
_ERRORS_SHOWN = 4
_FIRST_LINE_AFTER_SECONDS = 2.0

_WAITING = {
    "quota": "quota (the allowed rate)",
    "throttled": "throttled (the service asks for a slower pace)",
    "backoff": "backoff (the service does not answer)",
    "paused": "paused (on request)",
    "hold": "hold (the exclusion list or the ledger)",
    "answers": "answers (to calls in flight)",
    "lookups": "lookups (of what is unclear, an interval after the last answer)",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; names no IDs."""

    faces_done: int
    """Distinct faces whose outcome is settled."""
    faces_total: int
    outcomes: Mapping[str, int]
    """Distinct faces per ``worker.model.Outcome``."""
    calls_sent: int
    calls_in_flight: int
    rate_per_second: float
    """Calls per second just now."""
    mean_rate_per_second: float
    eta_seconds: float | None
    """Seconds until everything is settled; None where nobody can know."""
    waiting: str
    """``quota``, ``throttled``, ``backoff``, ``paused``, ``hold``, ``answers``, or ``""``."""
    errors: Mapping[str, int]
    """How often each kind of trouble occurred, e.g. ``refused 400``."""


async def show(
    gauge: Callable[[], Progress],
    *,
    stream: TextIO | None,
    interval_seconds: float = 0.5,
    line_interval_seconds: float = 30.0,
    lines_only: bool = False,
) -> None:
    """Show ``gauge()`` on ``stream`` until cancelled, and once more at the end.

    On a terminal a display is drawn every ``interval_seconds``. Elsewhere, on a terminal that
    cannot move its cursor, and with ``lines_only`` (for JSON logs), an event ``progress`` is logged
    early and then every ``line_interval_seconds``. Trouble with the stream is never raised.
    """
    forgiving = ForgivingStream(stream)
    if (
        lines_only
        or not forgiving.isatty()
        or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    ):
        await _log_lines(gauge, line_interval_seconds)
        return
    with _Display(forgiving) as display:
        try:
            while True:
                display.draw(gauge())
                await asyncio.sleep(interval_seconds)
        finally:
            display.draw(gauge())


def rendered(
    progress: Progress, columns: int, now: datetime, *, ascii_only: bool = False
) -> list[str]:
    """The display as lines of at most ``columns`` characters; ``now`` is in the reader's zone."""
    columns = max(_NARROWEST, columns)
    dot, bar_signs = (" | ", "#-") if ascii_only else (" · ", "━─")
    share = progress.faces_done / progress.faces_total if progress.faces_total else 1.0
    bar_columns = min(_BAR_COLUMNS, columns)
    filled = int(share * bar_columns)
    bar = bar_signs[0] * filled + bar_signs[1] * (bar_columns - filled)
    # Cut, so that 100 % means all of them.
    percent = int(share * 1000) / 10
    head = [
        bar,
        f"{percent:.1f} %",
        f"{progress.faces_done:,}/{progress.faces_total:,} faces",
        f"{progress.rate_per_second:.1f} calls/s (mean {progress.mean_rate_per_second:.1f})",
        eta_text(progress, now),
    ]
    outcomes = [f"{outcome} {count:,}" for outcome, count in progress.outcomes.items() if count]
    calls = [f"{progress.calls_sent:,} calls sent", f"{progress.calls_in_flight:,} in flight"]
    if progress.waiting:
        meaning = _WAITING.get(progress.waiting) if columns >= _ROOM_FOR_MEANINGS else None
        calls.append(f"waiting: {meaning or progress.waiting}")
    times = "x" if ascii_only else "×"
    worst = sorted(progress.errors.items(), key=lambda error: (-error[1], error[0]))
    errors = [f"{name} {times}{count:,}" for name, count in worst[:_ERRORS_SHOWN]]
    if len(worst) > _ERRORS_SHOWN:
        errors.append(f"{len(worst) - _ERRORS_SHOWN} more kinds")
    return [
        *_packed(head, "  ", columns),
        *_packed(outcomes, dot, columns),
        *_packed(calls, dot, columns),
        *_packed(errors and ["trouble: " + errors[0], *errors[1:]], dot, columns),
    ]


def eta_text(progress: Progress, now: datetime) -> str:
    """When everything will be done, as a time of day and as a duration."""
    if progress.faces_done >= progress.faces_total:
        return "all settled"
    if progress.eta_seconds is None:
        return "ETA not known yet"
    left = timedelta(seconds=round(progress.eta_seconds))
    end = now + left
    moment = end.strftime("%H:%M" if end.date() == now.date() else "%Y-%m-%d %H:%M")
    return f"ETA {moment} (in {duration_text(left)})"


def duration_text(duration: timedelta) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 04 h``."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _packed(pieces: Iterable[str], separator: str, columns: int) -> list[str]:
    """Pieces side by side where they fit; one that fits nowhere is cut."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(separator) + len(piece) <= columns:
            lines[-1] += separator + piece
        else:
            lines.append(piece if len(piece) <= columns else piece[: columns - 3] + "...")
    return lines


class _Display:
    """The lines of ``rendered`` at the bottom of a terminal, with log lines scrolling above."""

    def __init__(self, stream: ForgivingStream) -> None:
        self._stream = stream
        # rich asks for a TextIO and uses what ForgivingStream has.
        self._console = Console(file=stream, force_terminal=True, highlight=False)  # type: ignore[arg-type]
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        self._resources.enter_context(self._live)
        # A process that is killed cannot give the cursor back.
        self._console.show_cursor(True)
        self._resources.enter_context(lines_through(self._above))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def draw(self, progress: Progress) -> None:
        columns, rows = self._size()
        self._console.size = columns, rows
        lines = rendered(
            progress,
            columns,
            datetime.now().astimezone(),
            ascii_only=not self._stream.encoding.lower().startswith("utf"),
        )
        text = Text("\n".join(lines), no_wrap=True)
        text.highlight_regex("━+|#+", "green")
        text.highlight_regex("trouble:|waiting:", "yellow")
        self._live.update(text, refresh=True)

    def _above(self, line: str) -> None:
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return 80, 25
        # A terminal over a serial line or a bare pseudo-terminal says 0 by 0.
        return columns or 80, rows or 25


async def _log_lines(gauge: Callable[[], Progress], interval_seconds: float) -> None:
    log = get_log()
    try:
        await asyncio.sleep(min(_FIRST_LINE_AFTER_SECONDS, interval_seconds))
        while True:
            log.info("progress", **_facts(gauge()))
            await asyncio.sleep(interval_seconds)
    finally:
        log.info("progress", **_facts(gauge()))


def _facts(progress: Progress) -> dict[str, object]:
    facts: dict[str, object] = {
        "faces_done": progress.faces_done,
        "faces_total": progress.faces_total,
        "rate_per_second": round(progress.rate_per_second, 1),
        "mean_rate_per_second": round(progress.mean_rate_per_second, 1),
        "calls_sent": progress.calls_sent,
        "calls_in_flight": progress.calls_in_flight,
        "waiting": progress.waiting,
    }
    if progress.eta_seconds is not None and progress.faces_done < progress.faces_total:
        left = timedelta(seconds=round(progress.eta_seconds))
        facts["eta"] = (datetime.now(UTC) + left).isoformat(timespec="seconds")
        facts["eta_in"] = duration_text(left)
    facts.update({outcome: count for outcome, count in progress.outcomes.items() if count})
    if progress.errors:
        facts["trouble"] = dict(progress.errors)
    return facts
