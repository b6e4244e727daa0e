"""The belts of a plan: what it says of them, and whether a run may begin under them now.

Looked at before anybody types a number: a run, and above all a plan, is begun only once.
"""

from __future__ import annotations

import os

from worker import canary, halting
from worker.clock import SystemClock
from worker.errors import GateClosed
from worker.settings import Settings
from worker.timetable import ALWAYS, NONE, Timetable, parse_spans, parse_zone


def belt_lines(settings: Settings) -> list[str]:
    """The belts that are put on, as lines of the plan; what is off is not named."""
    lines = []
    if stages := canary.parse(settings.canary):
        lines.append(f"  canary    {', then '.join(map(str, stages))}, then the rest")
    if settings.halt != halting.NEVER:
        lines.append(f"  halt      {settings.halt}")
    if settings.reserve_per_second:
        lines.append(f"  reserve   {settings.reserve_per_second:g} calls/s are left to others")
    if settings.max_duration != NONE:
        lines.append(f"  lasts     at most {settings.max_duration} in this session")
    if settings.window != ALWAYS:
        zone = settings.time_zone or "this machine's time"
        lines.append(
            f"  window    {settings.window} {zone}, {_closed_until(settings) or 'open now'}"
        )
    if settings.stop_file:
        lines.append(f"  stops     as soon as {settings.stop_file} exists")
    if settings.pause_file:
        now = ", and it does now" if os.path.lexists(settings.pause_file) else ""
        lines.append(f"  pauses    while {settings.pause_file} exists{now}")
    return lines


def require_ready(settings: Settings) -> None:
    """Refuse to begin a run that would end at once. Raises ``GateClosed``."""
    if settings.stop_file and os.path.lexists(settings.stop_file):
        raise GateClosed(
            f"{settings.stop_file}: the stop file exists, and no call would be made",
            "remove it once the run may begin, then start again",
        )
    if settings.outside_window == "stop" and (closed := _closed_until(settings)):
        raise GateClosed(
            f"the window {settings.window} is {closed}, and no call would be made",
            "start again then, or wait for it with --outside-window wait",
        )


def _closed_until(settings: Settings) -> str:
    """``closed now, opens 22:00 CET``; ``""`` while the window is open, or where there is none."""
    if settings.window == ALWAYS:
        return ""
    timetable = Timetable(parse_spans(settings.window), parse_zone(settings.time_zone))
    now_seconds = SystemClock().now_us() / 1e6
    if timetable.is_open(now_seconds):
        return ""
    opens = timetable.changes_at(now_seconds)
    return "closed now" + (f", opens {timetable.shown(opens)}" if opens is not None else "")
