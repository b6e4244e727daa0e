"""Sessions of a run under belts: the real ledger, pipeline and pacing, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.core.rig import Silence
from tests.core.virtual_time import LoopClock, run_virtually
from tests.ledger.audit import audit
from tests.ledger.errands import request
from worker import canary
from worker.cli.belts import Belts, pacer_of, watches_of
from worker.cli.purge import lanes_of, rules_of
from worker.departure import NotDeparted
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Call, Evidence, Kind, Request, Verb
from worker.pacing import Pacers
from worker.pipeline import Pipeline, Stop
from worker.settings import Settings

Answer = Callable[[Request], Evidence]


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class AtWork:
    """What a test may take hold of while a session lasts."""

    pipeline: Pipeline
    ledger: Ledger
    clock: LoopClock
    sent: list[tuple[float, Request]]


@dataclass
class Session:
    """What came of one session."""

    stop: Stop
    sent: list[tuple[float, Request]]
    """With the seconds since the session began."""
    seconds: float

    @property
    def persons(self) -> list[str]:
        """Who was sent a deletion for, in order."""
        return [x.person_id for _, x in self.sent if x.step == "delete"]


class _Service:
    """A client whose network is a sleep, in front of whatever answers."""

    def __init__(
        self, pacers: Pacers, answer: Answer, clock: LoopClock, latency_seconds: float, tag: str
    ) -> None:
        self._latency_seconds = latency_seconds
        self._pacers = pacers
        self._answer = answer
        self._clock = clock
        self._nonces = (f"{tag}{number}" for number in itertools.count())
        self._began = now()
        self.sent: list[tuple[float, Request]] = []

    def prepare(self, call: Call) -> Request:
        return request(call, next(self._nonces))

    async def send(self, request: Request) -> Evidence:
        try:
            await self._pacers.of(request.operation).slot()
        except NotDeparted as refused:
            return Evidence(Kind.NOT_SENT, self._clock.now_us(), code=refused.reason)
        sent_us = self._clock.now_us()
        self.sent.append((now() - self._began, request))
        await asyncio.sleep(self._latency_seconds)
        evidence = self._answer(request)
        return replace(
            evidence,
            sent_us=sent_us,
            ended_us=self._clock.now_us(),
            code=evidence.code or str(evidence.kind),
        )


_tags = itertools.count()


def session(
    run_dir: Path,
    answer: Answer,
    verb: Verb = Verb.RUN,
    *,
    ahead_seconds: float = 0.0,
    latency_seconds: float = 0.05,
    meanwhile: Callable[[AtWork], Awaitable[None]] | None = None,
    **settings: Any,
) -> Session:
    """Work on the planned run in ``run_dir`` as ``facepurge`` would, under these settings.

    ``ahead_seconds`` is how far the wall clock is ahead of 1970-01-01 00:16:40 UTC at the start.
    """
    told = Settings(**settings)

    async def main() -> Session:
        connection = open_ledger(run_dir)
        connection.execute("PRAGMA synchronous = OFF")
        rules = rules_of(told)
        ledger = Ledger(connection, InlineWriter, rules=rules)
        clock = LoopClock()
        clock.set_forward(ahead_seconds)
        pacers = Pacers(
            told.rate_per_second, outage_limit_seconds=900, shared=False, make=pacer_of(told)
        )
        watches = watches_of(told, verb, ledger, clock)
        service = _Service(pacers, answer, clock, latency_seconds, f"{next(_tags)}.")
        pipeline = Pipeline(
            ledger,
            service,
            lanes_of(pacers, verb),
            clock,
            Silence(),
            holds=None,
            concurrency=told.concurrency,
            grace_seconds=told.grace_seconds,
            watches=watches,
        )
        await ledger.close_open_attempts(clock.now_us())
        await ledger.begin_session(
            verb, clock.now_us(), verify=told.verify, canary=canary.parse(told.canary)
        )
        began = now()
        belts = Belts(told, pipeline, clock)
        await belts.begin(watches)
        async with asyncio.TaskGroup() as group:
            beside: list[asyncio.Task[Any]] = [group.create_task(x) for x in belts.kept()]
            if meanwhile is not None:
                at_work = AtWork(pipeline, ledger, clock, service.sent)
                beside.append(group.create_task(_awaited(meanwhile(at_work))))
            stop = await pipeline.run()
            for task in beside:
                task.cancel()
        seconds = now() - began
        await ledger.close_open_attempts(clock.now_us())
        await ledger.end_session(clock.now_us(), stop.reason, stop.detail, {})
        audit(connection, rules)
        await ledger.close()
        return Session(stop, service.sent, seconds)

    return run_virtually(main())


async def _awaited(what: Awaitable[None]) -> None:
    await what


def outcomes(run_dir: Path) -> Sequence[str]:
    """Of each line, in order."""
    from tests.core.rig import lines

    return [line.outcome for line in lines(run_dir)]
