"""Finding out what an account answers about a person who does not exist, by asking."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from worker.calibration import Answer, Calibration
from worker.cli.confidential import ConfidentialChain
from worker.cli.lookups import open_lookups, trouble
from worker.errors import FacepurgeError
from worker.green.credentials import credential_chain
from worker.green.endpoint import Endpoint
from worker.green.lookups import EMPTY_DATA
from worker.interruption import Terminated, handed_to
from worker.model import Evidence, Kind
from worker.report.times import iso_utc
from worker.settings import Settings

T = TypeVar("T")

LOOKUPS: Final = 2

_ANSWERS: dict[str, Answer] = {"404": "code-404", "400": "code-400", EMPTY_DATA: "empty-data"}
"""Evidence of an unknown person, by its code."""


class CheckFailed(FacepurgeError):
    """A check did not come out well; nothing was changed by it."""


def asked(settings: Settings, account: str, endpoint: Endpoint) -> Calibration:
    """``ask`` in a loop of its own. Raises ``KeyboardInterrupt`` on a signal, beside what ``ask`` raises."""
    return heeding_signals(lambda: ask(settings, account, endpoint))


def heeding_signals(work: Callable[[], Awaitable[T]]) -> T:
    """The result of ``work`` in a loop of its own.

    A signal cancels it, and raises ``Terminated``, or ``KeyboardInterrupt`` if it is SIGINT.
    """

    async def cancelled_by_signal() -> T:
        with _cancelled_by_signal():
            return await work()

    return asyncio.run(cancelled_by_signal())


@contextmanager
def _cancelled_by_signal() -> Iterator[None]:
    """An exception out of a signal handler could be taken for trouble with the connection."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        received.append(number)
        loop.call_soon_threadsafe(task.cancel)

    with handed_to(cancel):
        try:
            yield
        except asyncio.CancelledError:
            if not received:
                raise
            if received[0] is signal.SIGINT:
                raise KeyboardInterrupt from None
            raise Terminated(received[0]) from None


async def ask(settings: Settings, account: str, endpoint: Endpoint) -> Calibration:
    """What the service answers about two persons who were made up just now.

    Only reads, at the pace of a run; the caller holds the quota's lock. Raises ``CheckFailed``
    where the answers do not settle it.
    """
    credentials = ConfidentialChain(credential_chain())
    async with open_lookups(settings, endpoint, credentials) as lookups:
        seen = [
            _calibration(await lookups.ask(), account, endpoint.url_base) for _ in range(LOOKUPS)
        ]
    if len({calibration.answer for calibration in seen}) > 1:
        raise CheckFailed(
            f"{endpoint.url_base}: two persons who were made up got different answers"
            f" ({' and '.join(calibration.answer for calibration in seen)})",
            "ask again; if it stays so, leave unknown_person empty and ask Alibaba Cloud support",
        )
    return seen[-1]


def _calibration(evidence: Evidence, account: str, address: str) -> Calibration:
    """What one lookup speaks for. Raises ``CheckFailed`` where it speaks for nothing."""
    answer: Answer
    if evidence.kind is Kind.NO_PERSON:
        answer = _ANSWERS[evidence.code]
    elif evidence.kind is Kind.SHOWN and not evidence.listed:
        answer = "empty-list"
    else:
        cause, remedy = trouble(evidence)
        raise CheckFailed(f"{address}: {cause}", remedy)
    assert evidence.http_status is not None
    return Calibration(
        account, address, answer, iso_utc(evidence.ended_us), evidence.http_status, evidence.code
    )
