"""What an operator with patience does with one run until everything about it is final."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec

from tests.simulation.fate import PEACE, Fate, draw_fate
from tests.simulation.orders import Order
from tests.simulation.planned import write_holds
from tests.simulation.process import Process, Surroundings
from tests.simulation.simulated_loop import now_seconds
from tests.simulation.violations import Violations
from worker.green.codes import RETRYABLE_CODES
from worker.holds import Hold
from worker.ledger.books import LedgerBooks
from worker.model import StopReason, Verb
from worker.pipeline import Stop
from worker.report.interface import Line
from worker.settings import Settings

MOST_EVENTFUL_LIVES = 25
"""After these the program is left in peace, so that it gets somewhere."""

LIVES_IN_PEACE = 8
PEACE_SECONDS = 3600.0
"""Within both, once nothing goes wrong any more, everything has to be final (L1)."""

OPEN_ATTEMPTS = """
SELECT COUNT(*) FROM attempt a WHERE NOT EXISTS (SELECT 1 FROM ending e WHERE e.attempt_seq = a.seq)
"""


class Patience:
    """Starts the program again and again, as the last line of each life tells."""

    def __init__(
        self,
        order: Order,
        settings: Settings,
        at: Surroundings,
        reader: apsw.Connection,
        *,
        known_unknown_person: str,
        violations: Violations,
        random: Random,
    ) -> None:
        """``known_unknown_person`` is what a calibration would find out."""
        self._order = order
        self._settings = settings
        self._at = at
        self._reader = reader
        self._known_unknown_person = known_unknown_person
        self._violations = violations
        self._random = random
        self._holds: list[Hold] = sorted(order.holds)
        self._heal_clock = False
        self.clock_was_off = False
        self.lives = 0
        self.stops: list[StopReason] = []
        """Why each life ended; ``KILLED`` where it died."""

    async def carry(self) -> None:
        """From the first ``run`` until everything is final, and then what the order wants more."""
        order, loop = self._order, asyncio.get_running_loop()
        for after_seconds, hold in order.more_holds:
            loop.call_later(after_seconds, self._hold, hold)
        if order.list_vanishes_after_seconds is not None:
            loop.call_later(order.list_vanishes_after_seconds, self._lose_list)
        await asyncio.sleep(order.starts_after_seconds)
        await self._finish(Verb.RUN)
        for verb in order.afterwards:
            if verb is Verb.RETRY and not self._is_retried():
                continue
            self._at.seen[f"then-{verb}"] += 1
            await self._finish(verb)
        await self._resume_in_vain()

    # One life after another

    async def _finish(self, verb: Verb) -> None:
        peaceful_lives, peaceful_since = 0, 0.0
        while True:
            calm = self._at.network.is_calm
            fate = self._fate(calm=calm)
            if calm:
                peaceful_since = peaceful_since or now_seconds()
                peaceful_lives += 1
            stop = await self._live(verb, fate)
            if not self._is_left() and stop is not None and stop.reason is StopReason.FINISHED:
                return
            if peaceful_lives > LIVES_IN_PEACE or (
                peaceful_lives > 1 and now_seconds() > peaceful_since + PEACE_SECONDS
            ):
                left = self._reader.execute(
                    "SELECT outcome, code, COUNT(*) FROM face GROUP BY 1, 2"
                ).fetchall()
                self._violations.report("L1", f"run {self._order.name} does not end: {left}")
                return
            self._amend(stop)
            verb = Verb.RESUME
            await asyncio.sleep(self._random.uniform(0.3, 6.0))

    def _fate(self, *, calm: bool) -> Fate:
        if calm or self.lives >= MOST_EVENTFUL_LIVES:
            return PEACE
        fate = draw_fate(self._random, self._order.eventful)
        if self._heal_clock:
            fate = replace(fate, clock_ahead_seconds=0.0)
        return fate

    async def _live(self, verb: Verb, fate: Fate) -> Stop | None:
        self.lives += 1
        nonces = Random(f"{self._order.name}-{self.lives}-{self._random.random()}")
        self.clock_was_off |= bool(fate.clock_ahead_seconds or fate.clock_jumps)
        process = Process(self._at, self._settings, verb, fate, nonces)
        stop = await process.live()
        self.stops.append(StopReason.KILLED if stop is None else stop.reason)
        self._at.claims.examine()
        self._check_open(stop)
        return stop

    def _check_open(self, stop: Stop | None) -> None:
        """D3: there are at most as many attempts without an end as loops, and none after an end."""
        rows: list[Any] = self._reader.execute(OPEN_ATTEMPTS).fetchall()
        left_open = rows[0][0]
        if stop is None or stop.reason is StopReason.LEDGER:
            allowed = 3 * self._settings.concurrency
        else:
            allowed = 0
        if left_open > allowed:
            self._violations.report(
                "D3", f"run {self._order.name}: {left_open} attempts are open after {stop}"
            )

    def _amend(self, stop: Stop | None) -> None:
        """What the last line says to do before it goes on."""
        match stop.reason if stop is not None else StopReason.KILLED:
            case StopReason.FATAL:
                self._heal_clock = True
            case StopReason.HOLDS:
                self._write_list()
            case StopReason.LIMIT:
                self._settings = msgspec.structs.replace(self._settings, max_delete=0)
            case StopReason.FINISHED | StopReason.OUTAGE:
                # Lookups that say nothing: find out what this account answers about strangers.
                self._settings = msgspec.structs.replace(
                    self._settings, unknown_person=self._known_unknown_person
                )

    async def _resume_in_vain(self) -> None:
        """D7: a run that is finished sends nothing, and stays what it is."""
        if self._is_left() or self._random.random() > 0.2:
            return
        sent, before = len(self._at.departures.sent), self._lines()
        await self._live(Verb.RESUME, PEACE)
        if len(self._at.departures.sent) > sent:
            self._violations.report("D7", f"run {self._order.name} was finished, and sent more")
        if self._lines() != before:
            self._violations.report("D7", f"run {self._order.name} was finished, and changed")

    def _lines(self) -> list[Line]:
        return list(LedgerBooks(self._reader).lines())

    def _is_left(self) -> bool:
        return LedgerBooks(self._reader).left().calls > 0

    def _is_retried(self) -> bool:
        return LedgerBooks(self._reader).retried(RETRYABLE_CODES).calls > 0

    # The exclusion list

    @property
    def _list(self) -> Path:
        return Path(self._settings.exclude_from)

    def _hold(self, hold: Hold) -> None:
        self._at.seen["hold-added"] += 1
        self._at.log.note(self._order.name, f"hold added for {hold[0]} {hold[1]}")
        self._holds.append(hold)
        self._at.warrant.hold(hold)
        if self._list.exists():
            self._write_list()

    def _lose_list(self) -> None:
        self._at.seen["hold-list-vanishes"] += 1
        self._at.log.note(self._order.name, "the exclusion list vanishes")
        self._list.unlink(missing_ok=True)

    def _write_list(self) -> None:
        write_holds(self._list, self._holds)
