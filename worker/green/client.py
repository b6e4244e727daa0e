"""The service client: a call becomes one signed attempt, and the attempt becomes evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import msgspec
from msgspec.structs import replace

from worker.clock import Clock
from worker.errors import RunStopped
from worker.green.codes import clock_is_skewed, credential_may_be_stale
from worker.green.endpoint import Endpoint
from worker.green.interface import (
    Credential,
    CredentialChain,
    Departures,
    NotSent,
    Reply,
    Signer,
    Transport,
    Unanswered,
    Unsigned,
)
from worker.green.nonces import Nonces
from worker.green.operations import OPERATIONS, body_of, operation_of
from worker.green.redaction import redacted
from worker.green.renewal import Renewal
from worker.green.signing import signer_for
from worker.green.skew import ServerClock
from worker.green.verdicts import judge
from worker.model import Call, Evidence, Kind, Request
from worker.settings import ClientInfo, Settings

_TLS_REMEDY = (
    "check --endpoint, this machine's clock, and whether something on the way intercepts TLS; a "
    "private CA belongs into ca_file; verification cannot be switched off"
)

_ACCEPTED = frozenset({Kind.LISTED, Kind.SHOWN, Kind.NO_PERSON, Kind.REMOVED, Kind.REFUSED})
"""What the service itself says to somebody whose signature and date it has accepted."""


class GreenClient:
    """Sends one attempt at a time for each caller; any number of callers share it.

    ``departures`` gives those of an operation by its action name, because each has a quota of its
    own; a slot is awaited once for each attempt. ``randomness`` gives the nonces:
    ``random.SystemRandom``, except in a simulation. ``unknown_person`` is what this account's
    answer about an unknown person looks like (see ``worker.green.lookups``).
    """

    def __init__(
        self,
        *,
        transport: Transport,
        endpoint: Endpoint,
        signer: Signer,
        credentials: CredentialChain,
        clock: Clock,
        randomness: Random,
        departures: Callable[[str], Departures],
        client_info: ClientInfo,
        retry_after_cap_seconds: float,
        unknown_person: str,
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._signer = signer
        self._credentials = credentials
        self._clock = clock
        self._nonces = Nonces(randomness)
        self._departures = departures
        self._retry_after_cap_seconds = retry_after_cap_seconds
        self._unknown_person = unknown_person
        # Every SDK spells it ClientInfo; how the service treats an empty one is not documented.
        info = msgspec.json.encode(client_info).decode()
        self._query = () if info == "{}" else (("ClientInfo", info),)
        self._server_clock = ServerClock(clock)
        self._renewal = Renewal(credentials)

    @classmethod
    def configured(
        cls,
        settings: Settings,
        *,
        transport: Transport,
        endpoint: Endpoint,
        credentials: CredentialChain,
        clock: Clock,
        randomness: Random,
        departures: Callable[[str], Departures],
        unknown_person: str | None = None,
    ) -> GreenClient:
        """As ``settings`` say; ``unknown_person``, if given, wins over what they say of it."""
        return cls(
            transport=transport,
            endpoint=endpoint,
            signer=signer_for(settings.signature),
            credentials=credentials,
            clock=clock,
            randomness=randomness,
            departures=departures,
            client_info=settings.client_info,
            retry_after_cap_seconds=settings.retry_after_cap_seconds,
            unknown_person=settings.unknown_person if unknown_person is None else unknown_person,
        )

    def prepare(self, call: Call) -> Request:
        """A new attempt of ``call``: its body, serialised once, and a nonce never used before.

        From one thread at a time. Raises ``ValueError`` for a deletion that names no face: nothing planned looks
        like that.
        """
        operation = operation_of(call.step)
        return Request(
            operation=operation.action,
            step=call.step,
            call_no=call.call_no,
            person_id=call.person_id,
            face_ids=call.face_ids,
            body=body_of(operation, call.person_id, call.face_ids),
            nonce=self._nonces.draw(),
        )

    async def send(self, request: Request) -> Evidence:
        """Send ``request`` once and say what that proved.

        Trouble with network, service or credentials is evidence, never an exception. A
        cancellation is raised again, and the caller has to record the attempt as ``AMBIGUOUS``:
        it may have left.
        """
        try:
            # Before the slot: a refresh that takes seconds must not bunch departures.
            credential = await self._credentials.get()
            return await self._attempt(request, credential)
        except RunStopped as stopped:
            return self._stopped(stopped)

    async def _attempt(self, request: Request, credential: Credential) -> Evidence:
        operation = OPERATIONS[request.operation]
        unsigned = Unsigned(
            operation, self._endpoint.host, self._query, request.body, request.nonce
        )
        departures = self._departures(operation.action)
        setting = self._server_clock.setting

        async def depart() -> Mapping[str, str]:
            nonlocal setting
            await departures.slot()
            setting = self._server_clock.setting
            return self._signer.sign(unsigned, credential, self._server_clock.now_us())

        outcome = await self._transport.exchange(
            operation.path, self._query, request.body, depart, departures.departed
        )
        match outcome:
            case NotSent(code="tls_failed", message=message, ended_us=ended_us):
                return Evidence(
                    Kind.FATAL, ended_us, code="tls_failed", message=message, remedy=_TLS_REMEDY
                )
            case NotSent(code=code, message=message, ended_us=ended_us):
                return Evidence(Kind.NOT_SENT, ended_us, code=code, message=redacted(message))
            case Unanswered():
                return Evidence(
                    Kind.AMBIGUOUS,
                    outcome.ended_us,
                    outcome.sent_us,
                    outcome.http_status,
                    outcome.code,
                    redacted(outcome.message),
                )
            case Reply():
                evidence = judge(
                    request,
                    outcome,
                    retry_after_cap_seconds=self._retry_after_cap_seconds,
                    unknown_person=self._unknown_person,
                )
                return await self._corrected(evidence, outcome, credential, setting)

    async def _corrected(
        self, evidence: Evidence, reply: Reply, credential: Credential, setting: int
    ) -> Evidence:
        """``AGAIN`` for a refusal whose cause could be removed."""
        if evidence.kind in _ACCEPTED:
            self._renewal.accepted(credential)
            self._server_clock.accepted(setting)
        if evidence.kind is not Kind.FATAL:
            return evidence
        if clock_is_skewed(evidence.code):
            cured = self._server_clock.refused(setting, reply)
        elif credential_may_be_stale(evidence.code):
            try:
                cured = await self._renewal.refused(credential)
            except RunStopped as stopped:
                return replace(evidence, remedy=f"{stopped.cause}; {stopped.remedy}")
        else:
            return evidence
        return replace(evidence, kind=Kind.AGAIN, remedy="") if cured else evidence

    def _stopped(self, stopped: RunStopped) -> Evidence:
        return Evidence(
            Kind.FATAL,
            self._clock.now_us(),
            code="no_credential",
            message=stopped.cause,
            remedy=stopped.remedy,
        )
