"""What a run shows while it works: a display on a terminal, otherwise a log line now and then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from worker.cli.layout import LABELS, rendered
from worker.cli.progress import Progress, facts
from worker.telemetry import ForgivingStream, get_log, lines_through

_FIRST_LINE_AFTER_SECONDS: Final = 2.0
_HELD_UP = r"throttled|backoff|paused|hold"


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
        or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")
    ):
        await _log_lines(gauge, line_interval_seconds)
        return
    with Display(forgiving) as display:
        try:
            while True:
                display.draw(gauge())
                await asyncio.sleep(interval_seconds)
        finally:
            display.draw(gauge())


class Display:
    """The lines of ``rendered`` at the bottom of a terminal, with log lines scrolling above."""

    def __init__(self, stream: ForgivingStream) -> None:
        self._stream = stream
        self._ascii_only = not stream.encoding.lower().startswith("utf")
        self._plain = bool(os.environ.get("NO_COLOR"))
        # rich asks for a TextIO and uses what ForgivingStream has.
        self._console = Console(file=stream, force_terminal=True, highlight=False)  # type: ignore[arg-type]
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._resources = ExitStack()
        self._drawn: list[str] = []
        self._columns = 0

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
        lines = rendered(
            progress,
            columns,
            datetime.now().astimezone(),
            rows=rows - 1,
            ascii_only=self._ascii_only,
        )
        if lines == self._drawn and columns == self._columns:
            return
        self._console.size = columns, rows
        if columns < self._columns:
            self._erase_wrapped(columns)
        self._drawn, self._columns = lines, columns
        self._live.update(self._coloured(lines), refresh=True)

    def _coloured(self, lines: list[str]) -> Text:
        text = Text("\n".join(lines), no_wrap=True, overflow="crop")
        if not self._plain:
            text.highlight_regex("━+|#+", "green")
            text.highlight_regex(f"(?m)^(?:{'|'.join(LABELS)})(?= )", "dim")
            text.highlight_regex(
                f"(?m)(?:^|(?<=waiting: )|(?<=waiting   ))(?:{_HELD_UP}).*", "yellow"
            )
            text.highlight_regex("(?<= )[×x][0-9,]+", "red")
        return text

    def _erase_wrapped(self, columns: int) -> None:
        """What was drawn for a wider terminal takes more lines now, of which Live does not know."""
        rows = sum(max(1, -(-len(line) // columns)) for line in self._drawn)
        one_up = (
            (ControlType.CARRIAGE_RETURN,),
            (ControlType.ERASE_IN_LINE, 2),
            (ControlType.CURSOR_UP, 1),
        )
        self._console.control(Control(*one_up * (rows - len(self._drawn))))

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
            log.info("progress", **facts(gauge()))
            await asyncio.sleep(interval_seconds)
    finally:
        log.info("progress", **facts(gauge()))
