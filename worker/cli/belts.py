"""What stops or pauses a run by itself: bad results, the canary, the hour, a file."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from worker import canary, halting
from worker.canary import StageFailed, StagePassed, StageReachesOn
from worker.clock import Clock
from worker.configuration import Configuration
from worker.errors import UsageRefused
from worker.halting import Halting, HaltRule
from worker.ledger.journal import Ledger
from worker.model import WANTED, Call, Outcome, StopReason, Verb
from worker.pacing import Pacer
from worker.pipeline import Pipeline, Stop, Watch
from worker.reserve import ReservingPacer
from worker.settings import Settings
from worker.telemetry import get_log
from worker.timetable import ALWAYS, Timetable, parse_duration, parse_spans, parse_zone

FILES_EVERY_SECONDS: Final = 0.5
CLOCK_EVERY_SECONDS: Final = 30.0
"""A machine that slept, or whose clock was set, is not noticed by a timer."""
DAY_SECONDS: Final = 86_400


def pacer_of(settings: Settings) -> Callable[..., Pacer]:
    """What makes the pacers of a run."""
    if not settings.reserve_per_second:
        return Pacer
    return partial(ReservingPacer, reserve_per_second=settings.reserve_per_second)


def require_window(given: Configuration) -> None:
    """Refuse flags about a window where a new run has none.

    What a file says for all runs may have nothing to be about in this one. Raises ``UsageRefused``.
    """
    for key in ("time_zone", "outside_window"):
        flag = given.origins[key]
        if flag.startswith("--") and given.settings.window == ALWAYS:
            raise UsageRefused(
                f"{flag}: it says something about a time window, and there is none",
                f"name the window, like --window 22:00-06:00, or leave out {flag}",
            )


class HaltWatch:
    """Stops a run that goes badly; implements ``worker.pipeline.Watch``."""

    def __init__(self, rule: HaltRule, ledger: Ledger, wanted: frozenset[Outcome]) -> None:
        self._rule = rule
        self._ledger = ledger
        self._halting = Halting(rule, wanted)

    async def look(self, call: Call | None) -> Stop | bool:
        settled = [*await self._ledger.take_set_aside()]
        if call is not None:
            settled.append(call.call_no)
        for call_no in settled:
            sentence = self._halting.settled(await self._ledger.settled_outcomes(call_no))
            if sentence:
                return Stop(
                    StopReason.HALT,
                    sentence,
                    "read the codes in report/failures.csv and mend the cause",
                    at_once=self._rule.at_once,
                )
        return False


class CanaryWatch:
    """Lets the ramp go on, stage by stage, or stops at it; implements ``worker.pipeline.Watch``."""

    def __init__(self, ledger: Ledger, wanted: frozenset[Outcome], clock: Clock) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._clock = clock
        self._over = False

    async def look(self, call: Call | None) -> Stop | bool:
        if self._over:
            return False
        call_no = None if call is None else call.call_no
        seen = await self._ledger.judge_stage(call_no, self._wanted, self._clock.now_us())
        match seen:
            case StageFailed():
                return Stop(StopReason.CANARY, f"{seen}; nothing beyond this stage was sent")
            case StageReachesOn():
                get_log().warning(str(seen))
                return True
            case StagePassed():
                self._over = seen.stage_no == seen.stages
                get_log().info(str(seen))
                return True
            case None:
                return False


def watches_of(settings: Settings, verb: Verb, ledger: Ledger, clock: Clock) -> Sequence[Watch]:
    """What looks at the results of a session that deletes."""
    if verb is Verb.VERIFY:
        return ()
    tolerated = {Outcome.NO_PERSON} if settings.treat_no_person_as_absent else set()
    wanted = WANTED | tolerated
    watches: list[Watch] = []
    if rule := halting.parse(settings.halt):
        watches.append(HaltWatch(rule, ledger, wanted))
    if canary.parse(settings.canary):
        watches.append(CanaryWatch(ledger, wanted, clock))
    return watches


class Hours:
    """Keeps a session to its window and its duration."""

    def __init__(self, settings: Settings, pipeline: Pipeline, clock: Clock) -> None:
        """The duration counts from here on, pauses included."""
        self._settings = settings
        self._pipeline = pipeline
        self._clock = clock
        self._timetable = Timetable(
            parse_spans(settings.window),
            parse_zone(settings.time_zone) if settings.window != ALWAYS else None,
        )
        self._lasts_seconds = parse_duration(settings.max_duration)
        self._began = asyncio.get_running_loop().time()
        self._paused_as = ""
        self._asked_at = float("inf")
        self._change: int | None = None

    def look(self) -> None:
        """Stop, pause or let go on, as the time is."""
        passed = asyncio.get_running_loop().time() - self._began
        if self._lasts_seconds and passed >= self._lasts_seconds:
            said = f"this session has lasted --max-duration {self._settings.max_duration}"
            self._pipeline.stop(Stop(StopReason.REQUEST, said))
        now_seconds = self._clock.now_us() / 1e6
        if self._timetable.is_open(now_seconds):
            if self._paused_as:
                _let_go_on(
                    self._pipeline, self._paused_as, f"the window {self._settings.window} is open"
                )
                self._paused_as = ""
            return
        changes_at = self._changes_at(now_seconds)
        until = f" until {self._timetable.shown(changes_at)}" if changes_at else ""
        said = f"the window {self._settings.window} is closed{until}"
        if self._settings.outside_window == "stop":
            self._pipeline.stop(
                Stop(
                    StopReason.REQUEST,
                    said,
                    "resume then, or wait for it with --outside-window wait",
                )
            )
        elif not self._paused_as:
            get_log().info(f"{said}: no call is made before")
            self._paused_as = f"window{until}"
            self._pipeline.pause(self._paused_as)

    async def keep(self) -> None:
        """Look again whenever something may have changed, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds_left())
            self.look()

    def _seconds_left(self) -> float:
        """Until the next look; a little late rather than early."""
        times = [CLOCK_EVERY_SECONDS]
        if self._lasts_seconds:
            passed = asyncio.get_running_loop().time() - self._began
            times.append(self._lasts_seconds - passed)
        now_seconds = self._clock.now_us() / 1e6
        changes_at = self._changes_at(now_seconds)
        if changes_at is not None:
            times.append(changes_at - now_seconds)
        return max(0.0, min(times)) + 0.001

    def _changes_at(self, now_seconds: float) -> int | None:
        """As the timetable says, which may take a while: it is asked once for each change."""
        asked_at, change = self._asked_at, self._change
        until = asked_at + DAY_SECONDS if change is None else change
        if not asked_at <= now_seconds < until:
            self._asked_at = now_seconds
            self._change = self._timetable.changes_at(now_seconds)
        return self._change


class OrderFiles:
    """Stops while one file exists, and pauses while another does."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._stop_file = settings.stop_file
        self._pause_file = settings.pause_file
        self._pipeline = pipeline
        self._paused_as = ""

    def look(self) -> None:
        """Look once, here and now; before the first call nobody has to wait for anything else."""
        self._heed(*self._seen())

    async def keep(self) -> None:
        """Look twice a second until cancelled, on a thread: a file system may take its time."""
        loop = asyncio.get_running_loop()
        over = threading.Event()

        def poll() -> None:
            while not over.wait(FILES_EVERY_SECONDS):
                seen = self._seen()
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._heed, *seen)

        # A daemon: one that hangs in the file system must not keep the process from its end.
        threading.Thread(target=poll, name="order-files", daemon=True).start()
        try:
            await loop.create_future()
        finally:
            over.set()

    def _seen(self) -> tuple[bool, str]:
        """Whether to stop, and why to pause."""
        stop, trouble = _exists(self._stop_file)
        pause, other_trouble = _exists(self._pause_file)
        trouble = trouble or other_trouble
        if trouble:
            return stop, f"file: {trouble}"
        return stop, f"file: {self._pause_file} exists" if pause else ""

    def _heed(self, stop: bool, why: str) -> None:  # noqa: FBT001 (called by a thread)
        if stop:
            self._pipeline.stop(
                Stop(
                    StopReason.REQUEST,
                    f"the stop file {self._stop_file} exists",
                    "remove it before the run goes on",
                )
            )
        if why == self._paused_as:
            return
        if why:
            get_log().warning(f"paused by a {why}")
            self._pipeline.pause(why)
            if self._paused_as:
                self._pipeline.unpause(self._paused_as)
        else:
            _let_go_on(self._pipeline, self._paused_as, "no file keeps the run paused any more")
        self._paused_as = why


def _let_go_on(pipeline: Pipeline, why: str, said: str) -> None:
    """Take back one reason to pause, and say what that comes to: there may be others."""
    pipeline.unpause(why)
    still = ", ".join(pipeline.pauses)
    get_log().info(f"{said}: {f'still paused by: {still}' if still else 'calls go on'}")


def _exists(path: str) -> tuple[bool, str]:
    """Whether there is such a file, and why that cannot be said; a link to nothing counts."""
    try:
        os.lstat(path) if path else None
    except (FileNotFoundError, NotADirectoryError):
        return False, ""
    except OSError as error:
        return False, f"{Path(path)} cannot be looked at ({error.strerror})"
    return bool(path), ""


class Belts:
    """The clock and the files, begun before the first call and kept while the run works."""

    def __init__(self, settings: Settings, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline = pipeline
        self._hours = Hours(settings, pipeline, clock)
        self._files = OrderFiles(settings, pipeline)
        self._has_files = bool(settings.stop_file or settings.pause_file)

    async def begin(self, watches: Sequence[Watch]) -> None:
        """Before the first call: what forbids it already."""
        self._hours.look()
        self._files.look()
        for watch in watches:
            seen = await watch.look(None)
            if isinstance(seen, Stop):
                self._pipeline.stop(seen)

    def kept(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What has to run beside the pipeline, each until it is cancelled."""
        return [self._hours.keep(), *([self._files.keep()] if self._has_files else [])]
