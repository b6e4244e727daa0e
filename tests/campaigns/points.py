"""The one counter over everything a program writes, and the blow at the point it was told."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from tests.campaigns.fate import Deed, Fate, Place, Point
from tests.campaigns.page_cache import PageCache
from tests.campaigns.trace import Recorder

T = TypeVar("T")


class Points:
    """Every deed passes here, one after the other, whatever thread it comes from."""

    def __init__(self, fate: Fate, recorder: Recorder) -> None:
        self.fate = fate
        self.recorder = recorder
        self.page_cache = None if fate.loss == "nothing" else PageCache(fate)
        self._number = 0
        # Held while a deed is done, so that a death at one leaves none half done beside it; the
        # same thread comes again where SQLite does one deed within another.
        self._one_by_one = threading.RLock()

    def passing(
        self, deed: Deed, place: Place, act: Callable[[], T], error: Callable[[int], Exception]
    ) -> T:
        """Do ``act``, unless this is the point to die or to fail at.

        ``error`` makes the exception for an errno.
        """
        with self._one_by_one:
            point, struck = self._count(deed, place)
            self.recorder.passed(point, struck=struck)
            if struck:
                match self.fate.stroke:
                    case "die before":
                        self._die()
                    case "die after":
                        act()
                        self._die()
                    case "ENOSPC" | "EIO" as name:
                        raise error(getattr(errno, name))
            return act()

    def _count(self, deed: Deed, place: Place) -> tuple[Point, bool]:
        fate = self.fate
        if not fate.counts(deed, place):
            return Point(0, deed, place, time.monotonic()), False
        self._number += 1
        struck = self._number == fate.point or (
            fate.lasting and 0 < fate.point < self._number and fate.stroke in {"ENOSPC", "EIO"}
        )
        return Point(self._number, deed, place, time.monotonic()), struck

    def _die(self) -> NoReturn:
        if self.page_cache is not None:
            self.page_cache.forget()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a process survived SIGKILL")

    def settle(self) -> None:
        """The program has come to its own end."""
        if self.page_cache is not None:
            self.page_cache.settle()
