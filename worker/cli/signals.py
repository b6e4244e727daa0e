"""SIGINT and SIGTERM while calls are made: the first drains, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Self

from worker.model import StopReason
from worker.pipeline import Pipeline, Stop
from worker.telemetry import get_log

_SIGNALS = {signal.SIGINT: StopReason.SIGINT, signal.SIGTERM: StopReason.SIGTERM}


class Signals:
    """The first signal stops new calls, the second ends the process at once."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._pipeline: Pipeline | None = None
        self._stop: Stop | None = None

    def govern(self, pipeline: Pipeline) -> None:
        """From here on signals stop ``pipeline``; one that has come already does so now."""
        self._pipeline = pipeline
        if self._stop is not None:
            pipeline.stop(self._stop)

    def _receive(self, number: signal.Signals, reason: StopReason) -> None:
        if self._stop is not None:
            try:
                os.write(
                    2,
                    "\nended at once by a second signal; what was in flight is not established; to"
                    f" go on type: facepurge resume {self._run_dir}\n".encode(),
                )
            finally:
                os._exit(128 + number)
        self._stop = Stop(reason)
        get_log().warning(f"{number.name}: no new call is made; those in flight are recorded")
        if self._pipeline is not None:
            self._pipeline.stop(self._stop)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number, reason in _SIGNALS.items():
            loop.add_signal_handler(number, self._receive, number, reason)
        return self

    def __exit__(self, *_error: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
