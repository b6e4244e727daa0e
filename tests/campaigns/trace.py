"""What a launched program did, written down as it did it, so that its death loses nothing."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from tests.campaigns.fate import Point

_write = os.write  # the program's own is struck


class Mark(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    """A moment in the life of the program."""

    what: Literal["begun", "recorded", "request", "signal"]
    """A loop began an attempt; its end is durable; the first bytes of a request are written; a
    signal's handler runs."""
    seconds: float


class Passed(msgspec.Struct, frozen=True, tag_field="event", tag="passed"):
    """The program came to this point."""

    point: Point
    struck: bool = False


_Line = Mark | Passed
_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)
_encode = msgspec.json.Encoder().encode


class Recorder:
    """Appends each line with one write, so that SIGKILL cuts none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def mark(self, what: Literal["begun", "recorded", "request", "signal"]) -> None:
        self._write(Mark(what, time.monotonic()))

    def passed(self, point: Point, *, struck: bool) -> None:
        self._write(Passed(point, struck))

    def _write(self, line: _Line) -> None:
        _write(self._descriptor, _encode(line) + b"\n")


@dataclass(slots=True)
class Trace:
    """The whole record of one process."""

    points: list[Point] = field(default_factory=list)
    struck: Point | None = None
    """The first point that was struck."""
    requests_seconds: list[float] = field(default_factory=list)
    signals_seconds: list[float] = field(default_factory=list)
    in_flight: int = 0
    """Attempts begun whose end was not durable when the record stops."""

    @property
    def counted(self) -> int:
        """How many points the fate's counter has seen."""
        return max((point.number for point in self.points), default=0)

    @property
    def kinds(self) -> Counter[str]:
        """Points per deed and place."""
        return Counter(str(point) for point in self.points if point.number)


def read_trace(path: Path) -> Trace:
    """The record at ``path``; empty where the process ended before it began one."""
    trace = Trace()
    if not path.exists():
        return trace
    for text in path.read_bytes().splitlines():
        match _decoder.decode(text):
            case Passed(point=point, struck=struck):
                trace.points.append(point)
                if struck and trace.struck is None:
                    trace.struck = point
            case Mark(what="begun"):
                trace.in_flight += 1
            case Mark(what="recorded"):
                trace.in_flight -= 1
            case Mark(what="request", seconds=seconds):
                trace.requests_seconds.append(seconds)
            case Mark(what="signal", seconds=seconds):
                trace.signals_seconds.append(seconds)
    return trace
