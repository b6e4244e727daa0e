"""Finding out what an account answers about a person who does not exist, by asking."""

from __future__ import annotations

import asyncio
import random
import signal
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker.calibration import Answer, Calibration
from worker.cli.confidential import ConfidentialChain
from worker.cli.consent import Terminated
from worker.clock import SystemClock
from worker.errors import FacepurgeError
from worker.green.client import GreenClient
from worker.green.credentials import credential_chain
from worker.green.endpoint import Endpoint
from worker.green.lookups import EMPTY_DATA, EVERY_FORM
from worker.green.operations import GET_PERSON
from worker.green.signing import signer_for
from worker.green.transport import open_transport
from worker.model import Call, Evidence, Kind, Step
from worker.pacing import Pacer, Pacers
from worker.report.times import iso_utc
from worker.settings import Settings

LOOKUPS: Final = 2
ATTEMPTS: Final = 3
"""Of each lookup: a clock that was corrected and a key that was renewed are worth another one."""

_PERSON_CHARACTERS = string.ascii_letters + string.digits + "_-"
"""Documented for person IDs on "add-person", as are 32 of them at most."""

_ANSWERS: dict[str, Answer] = {"404": "code-404", "400": "code-400", EMPTY_DATA: "empty-data"}
"""Evidence of an unknown person, by its code."""

_EXPLAIN_FIRST = "let no run use this address before that is explained"


class CheckFailed(FacepurgeError):
    """A check did not come out well; nothing was changed by it."""


def made_up_person(randomness: random.Random) -> str:
    """A person ID that was never given to anybody: 132 random bits behind our name."""
    return "facepurge-" + "".join(randomness.choices(_PERSON_CHARACTERS, k=22))


def asked(settings: Settings, account: str, endpoint: Endpoint) -> Calibration:
    """``ask`` in a loop of its own. Raises ``Terminated`` on SIGTERM, beside what ``ask`` raises."""

    async def until_sigterm() -> Calibration:
        with _cancelled_by_sigterm():
            return await ask(settings, account, endpoint)

    return asyncio.run(until_sigterm())


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """An exception out of a signal handler could be taken for trouble with the connection."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received = asyncio.Event()

    def on_sigterm() -> None:
        received.set()
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, on_sigterm)
    try:
        yield
    except asyncio.CancelledError:
        if received.is_set():
            raise Terminated("terminated (SIGTERM)") from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def ask(settings: Settings, account: str, endpoint: Endpoint) -> Calibration:
    """What the service answers about two persons who were made up just now.

    Only reads, at the pace of a run; the caller holds the quota's lock. Raises ``CheckFailed``
    where the answers do not settle it.
    """
    clock, randomness = SystemClock(), random.SystemRandom()
    pacers = Pacers(
        settings.rate_per_second,
        outage_limit_seconds=settings.outage_limit_minutes * 60,
        shared=settings.shared_quota,
    )
    async with open_transport(endpoint.url_base, settings, clock) as transport:
        client = GreenClient(
            transport=transport,
            endpoint=endpoint,
            signer=signer_for(settings.signature),
            credentials=ConfidentialChain(credential_chain()),
            clock=clock,
            randomness=randomness,
            departures=pacers.of,
            client_info=settings.client_info,
            retry_after_cap_seconds=settings.retry_after_cap_seconds,
            unknown_person=EVERY_FORM,
        )
        pacer = pacers.of(GET_PERSON.action)
        seen: list[Calibration] = []
        for _ in range(LOOKUPS):
            evidence = await _look_up(client, pacer, made_up_person(randomness))
            seen.append(_calibration(evidence, account, endpoint.url_base))
    if len({calibration.answer for calibration in seen}) > 1:
        raise CheckFailed(
            f"{endpoint.url_base}: two persons who were made up got different answers"
            f" ({' and '.join(calibration.answer for calibration in seen)})",
            "ask again; if it stays so, leave unknown_person empty and ask Alibaba Cloud support",
        )
    return seen[-1]


async def _look_up(client: GreenClient, pacer: Pacer, person_id: str) -> Evidence:
    call = Call(0, person_id, (), (), Step.LOOKUP, whole=True)
    attempt = 0
    while True:
        attempt += 1
        try:
            await pacer.clearance()
            evidence = await client.send(client.prepare(call))
        finally:
            pacer.withdraw()
        if evidence.kind is not Kind.AGAIN or attempt == ATTEMPTS:
            return evidence


def _calibration(evidence: Evidence, account: str, address: str) -> Calibration:
    """What one lookup speaks for. Raises ``CheckFailed`` where it speaks for nothing."""
    answer: Answer
    if evidence.kind is Kind.NO_PERSON:
        answer = _ANSWERS[evidence.code]
    elif evidence.kind is Kind.SHOWN and not evidence.listed:
        answer = "empty-list"
    else:
        cause, remedy = _trouble(evidence)
        raise CheckFailed(f"{address}: {cause}{_details(evidence)}", remedy)
    assert evidence.http_status is not None
    return Calibration(
        account, address, answer, iso_utc(evidence.ended_us), evidence.http_status, evidence.code
    )


def _trouble(evidence: Evidence) -> tuple[str, str]:
    match evidence.kind:
        case Kind.SHOWN:
            return (
                "the service has faces of a person who was made up",
                f"{_EXPLAIN_FIRST}: what answers there does not look at the question",
            )
        case Kind.SWAPPED:
            return (
                "the answer is about another person than the question",
                f"{_EXPLAIN_FIRST}: look for a proxy or cache on the way, and ask Alibaba Cloud",
            )
        case Kind.REFUSED:
            return (
                "the lookup was refused, and not in a way that tells of an unknown person",
                "leave unknown_person empty, and ask Alibaba Cloud support with the request ID",
            )
        case Kind.THROTTLED:
            return (
                "the lookup was refused because of the account's quota",
                "wait until whatever else uses this account has ended, then ask again",
            )
        case Kind.NOT_SENT:
            return (
                "the service could not be reached",
                "check --region, --endpoint and the network; proxy variables are not used",
            )
        case Kind.FATAL | Kind.AGAIN:
            return "the lookup was refused", evidence.remedy or "ask again"
        case _:
            return (
                "no answer came that could be believed",
                "ask again; if it stays so, look for what answers in the service's place",
            )


def _details(evidence: Evidence) -> str:
    """`` (code; HTTP status; request ID): words``, as far as they are known."""
    known = [f"code {evidence.code}"]
    if evidence.http_status is not None:
        known.append(f"HTTP {evidence.http_status}")
    if evidence.request_id:
        known.append(f"request ID {evidence.request_id}")
    words = f": {evidence.message.rstrip('.')}" if evidence.message else ""
    return f" ({', '.join(known)}){words}"
