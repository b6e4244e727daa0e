"""A fixed sequence of ledger writes that touches everything a run writes, told step by step."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import apsw

from tests.core.rig import draft_run, rows
from tests.ledger.disk import disk
from tests.ledger.errands import request
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Call, Evidence, Kind, Step, StopReason, Verb

LONG_AFTER_US = 10**12
"""When everything is due that waits for its time."""

Tell = Callable[[str], None]

PAIRS = [(f"p{person}", f"{person}0{face}") for person in range(6) for face in range(2)]


def plan(run_dir: Path) -> None:
    """Six persons with two faces each, the last two calls of one person."""
    draft_run(run_dir, [rows([*PAIRS, ("p5", "502"), ("p5", "503")])], faces_per_call=2)


async def script(run_dir: Path, tell: Tell) -> None:
    """``tell`` hears of a step only when the ledger has said that it is durable."""
    ledger = Ledger(open_ledger(run_dir), InlineWriter)
    try:
        await _steps(ledger, tell)
    finally:
        # SQLite ignores an error of the last checkpoint; apsw passes on what a disk written in
        # Python raised.
        with suppress(apsw.FullError):
            await ledger.close()


async def _steps(ledger: Ledger, tell: Tell) -> None:
    nonces = itertools.count()

    async def opened(step: Step = Step.DELETE, now_us: int = 0) -> tuple[Call, int]:
        nonce = f"n{next(nonces)}"
        attempt = await ledger.begin([step], now_us, lambda call: request(call, nonce))
        assert attempt is not None
        tell(f"opened {attempt.seq} {nonce}")
        return attempt.call, attempt.seq

    async def ended(call: Call, seq: int, kind: Kind) -> None:
        listed = call.face_ids if kind is Kind.LISTED else call.face_ids[:1]
        evidence = Evidence(kind, 20, sent_us=15, code=str(kind), listed=listed)
        await ledger.record(seq, call, evidence)
        tell(f"ended {seq} {kind}")

    await ledger.begin_session(Verb.RUN, 1)
    first, second = await opened(), await opened()
    await ended(*first, Kind.LISTED)
    await ended(*second, Kind.THROTTLED)
    await ledger.hold(frozenset({("p4", "")}))
    tell("held p4")
    again, third = await opened(), await opened()
    await ended(*third, Kind.REFUSED)
    await ended(*again, Kind.AMBIGUOUS)
    await ended(*await opened(Step.LOOKUP, LONG_AFTER_US), Kind.SHOWN)
    await opened()
    await opened()
    await ledger.end_session(30, StopReason.SIGTERM, "", {"quota": 1.0})
    tell("session ended")


def die_at(point: int, run_dir: Path) -> NoReturn:
    """Work until the numbered write and end there, with nothing closed; 0 when it was not reached."""
    told = os.open(run_dir / "told", os.O_CREAT | os.O_WRONLY, 0o600)

    def tell(line: str) -> None:
        os.write(told, f"{line}\n".encode())

    def happens(number: int) -> None:
        if number == point:
            os._exit(9)

    with disk(happens):
        asyncio.run(script(run_dir, tell))
        os._exit(0)


def die_at_every_write(template: Path, target: Path) -> None:
    """Copy ``template`` once for each write and die there: one child per point, until one lives."""
    for point in itertools.count(1):
        run_dir = target / str(point)
        shutil.copytree(template, run_dir)
        child = os.fork()
        if child == 0:
            die_at(point, run_dir)
        if os.waitpid(child, 0)[1] == 0:
            return


if __name__ == "__main__":
    die_at_every_write(Path(sys.argv[1]), Path(sys.argv[2]))
