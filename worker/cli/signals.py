"""Signals while calls are made: the first drains, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

from worker.cli import stderr
from worker.cli.preview import counted
from worker.model import StopReason
from worker.pipeline import Pipeline, Stop
from worker.telemetry import get_log

_REASONS = {
    signal.SIGINT: StopReason.SIGINT,
    signal.SIGTERM: StopReason.SIGTERM,
    signal.SIGHUP: StopReason.SIGHUP,
}


class Signals:
    """The first signal stops new calls, the second ends the process at once.

    Belongs to the event loop in which it is made; ``take`` is for ``worker.interruption.handed_to``.
    """

    def __init__(self, run_dir: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._run_dir = run_dir
        self._pipeline: Pipeline | None = None
        self._deleted: Callable[[], int | None] = lambda: None
        self._stop: Stop | None = None
        self._is_told = False

    def govern(self, pipeline: Pipeline, deleted: Callable[[], int | None]) -> None:
        """From here on signals stop ``pipeline``; one that has come already does so now.

        ``deleted`` says how many faces are, if that is known, to a process that ends at once.
        """
        self._pipeline = pipeline
        self._deleted = deleted
        if self._stop is not None:
            pipeline.stop(self._stop)

    def take(self, number: signal.Signals) -> None:
        """Between two instructions of whatever is at work: the first is left to the event loop.

        The loop hears of it at once, or when its next timer fires, half a second later at most.
        """
        if self._is_told:
            try:
                self._say_last()
            finally:
                os._exit(128 + number)
        self._is_told = True
        self._loop.call_soon_threadsafe(self._receive, number)

    def _receive(self, number: signal.Signals) -> None:
        self._stop = Stop(_REASONS[number])
        get_log().warning(f"{number.name}: no new call is made; those in flight are recorded")
        if self._pipeline is not None:
            self._pipeline.stop(self._stop)

    def _say_last(self) -> None:
        deleted = self._deleted()
        known = (
            "what was done is in the ledger"
            if deleted is None
            else f"{counted(deleted, 'face')} deleted so far"
        )
        stderr.write(
            f"{known}; ended at once by a second signal, so what was in flight is not established;"
            f" to go on type: facepurge resume {shlex.quote(str(self._run_dir))}",
            level="error",
            below_display=True,
        )
