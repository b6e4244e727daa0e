"""Harmless questions: lookups of persons whose IDs were made up just now, and what came back."""

from __future__ import annotations

import random
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from worker.clock import SystemClock
from worker.green.client import GreenClient
from worker.green.endpoint import Endpoint
from worker.green.interface import CredentialChain, NotSent, Reply, Transport, Unanswered
from worker.green.lookups import EVERY_FORM
from worker.green.operations import GET_PERSON
from worker.green.transport import open_transport
from worker.model import Call, Evidence, Kind, Step
from worker.pacing import Pacer, Pacers
from worker.settings import Settings

ATTEMPTS: Final = 3
"""Of each lookup: a clock that was corrected and a key that was renewed are worth another one."""

_PERSON_CHARACTERS = string.ascii_letters + string.digits + "_-"
"""Documented for person IDs on "add-person", as are 32 of them at most."""

_EXPLAIN_FIRST = "let no run use this address before that is explained"


@dataclass(slots=True)
class _Overheard:
    """A transport that keeps the answers: evidence does not tell the server's time."""

    transport: Transport
    replies: list[Reply] = field(default_factory=list)

    async def exchange(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes,
        depart: Callable[[], Awaitable[Mapping[str, str]]],
        departed: Callable[[], None],
    ) -> Reply | NotSent | Unanswered:
        outcome = await self.transport.exchange(path, query, body, depart, departed)
        if isinstance(outcome, Reply):
            self.replies.append(outcome)
        return outcome


class Lookups:
    """Asks the service about made-up persons, at the pace of a run; see ``open_lookups``."""

    def __init__(self, client: GreenClient, pacer: Pacer, replies: Sequence[Reply]) -> None:
        self._client = client
        self._pacer = pacer
        self._randomness = random.SystemRandom()
        self.replies = replies
        """Every complete HTTP answer so far, refusals included."""

    async def ask(self) -> Evidence:
        """What the service answers about somebody who was made up just now."""
        person_id = made_up_person(self._randomness)
        call = Call(0, person_id, (), (), Step.LOOKUP, whole=True)
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._pacer.clearance()
                evidence = await self._client.send(self._client.prepare(call))
            finally:
                self._pacer.withdraw()
            if evidence.kind is not Kind.AGAIN or attempt == ATTEMPTS:
                return evidence


@asynccontextmanager
async def open_lookups(
    settings: Settings, endpoint: Endpoint, credentials: CredentialChain
) -> AsyncIterator[Lookups]:
    """A client that does nothing but look up; the caller holds the quota's lock."""
    clock = SystemClock()
    pacers = Pacers(
        settings.rate_per_second,
        outage_limit_seconds=settings.outage_limit_minutes * 60,
        shared=settings.shared_quota,
    )
    async with open_transport(endpoint.url_base, settings, clock) as transport:
        overheard = _Overheard(transport)
        client = GreenClient.configured(
            settings,
            transport=overheard,
            endpoint=endpoint,
            credentials=credentials,
            clock=clock,
            randomness=random.SystemRandom(),
            departures=pacers.of,
            unknown_person=EVERY_FORM,
        )
        yield Lookups(client, pacers.of(GET_PERSON.action), overheard.replies)


async def unsigned_reply(settings: Settings, endpoint: Endpoint) -> Reply | None:
    """The answer to a request that nobody signed: a refusal, but with the server's time.

    None where no complete HTTP answer came.
    """

    async def depart() -> Mapping[str, str]:
        return {"Host": endpoint.host}

    async with open_transport(endpoint.url_base, settings, SystemClock()) as transport:
        outcome = await transport.exchange("/", (), b"", depart, lambda: None)
    return outcome if isinstance(outcome, Reply) else None


def made_up_person(randomness: random.Random) -> str:
    """A person ID that was never given to anybody: 132 random bits behind our name."""
    return "facepurge-" + "".join(randomness.choices(_PERSON_CHARACTERS, k=22))


def is_answered(evidence: Evidence) -> bool:
    """Whether the service itself has looked, and found nobody or nothing."""
    return evidence.kind is Kind.NO_PERSON or (evidence.kind is Kind.SHOWN and not evidence.listed)


def trouble(evidence: Evidence) -> tuple[str, str]:
    """Cause and remedy of a lookup that is not ``is_answered``."""
    match evidence.kind:
        case Kind.SHOWN:
            cause, remedy = (
                "the service has faces of a person who was made up",
                f"{_EXPLAIN_FIRST}: what answers there does not look at the question",
            )
        case Kind.SWAPPED:
            cause, remedy = (
                "the answer is about another person than the question",
                f"{_EXPLAIN_FIRST}: look for a proxy or cache on the way, and ask Alibaba Cloud",
            )
        case Kind.REFUSED:
            cause, remedy = (
                "the lookup was refused, and not in a way that tells of an unknown person",
                "leave unknown_person empty, and ask Alibaba Cloud support with the request ID",
            )
        case Kind.THROTTLED:
            cause, remedy = (
                "the lookup was refused because of the account's quota",
                "wait until whatever else uses this account has ended, then ask again",
            )
        case Kind.NOT_SENT:
            cause, remedy = (
                "the service could not be reached",
                "check --region, --endpoint and the network; proxy variables are not used",
            )
        case Kind.FATAL | Kind.AGAIN:
            cause, remedy = "the lookup was refused", evidence.remedy or "ask again"
        case _:
            cause, remedy = (
                "no answer came that could be believed",
                "ask again; if it stays so, look for what answers in the service's place",
            )
    return f"{cause}{_details(evidence)}", remedy


def _details(evidence: Evidence) -> str:
    """`` (code; HTTP status; request ID): words``, as far as they are known."""
    known = [f"code {evidence.code}"]
    if evidence.http_status is not None:
        known.append(f"HTTP {evidence.http_status}")
    if evidence.request_id:
        known.append(f"request ID {evidence.request_id}")
    words = f": {evidence.message.rstrip('.')}" if evidence.message else ""
    return f" ({', '.join(known)}){words}"
