"""The composition root: opens everything a run needs, lets the pipeline work, closes it again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from worker.cli.progress import Progress, show
from worker.cli.run_directory import SANDBOX
from worker.clock import Clock, SystemClock
from worker.errors import GateClosed, LedgerFailed
from worker.fold import may_have_left
from worker.green.client import GreenClient
from worker.green.credentials import FixedCredential, credential_chain
from worker.green.endpoint import Endpoint, resolve_endpoint
from worker.green.interface import Credential, CredentialChain
from worker.green.operations import DELETE_FACES
from worker.green.signing import signer_for
from worker.green.transport import open_transport
from worker.holds import Grammar, HoldWatch
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import ThreadWriter
from worker.locks import quota_lock
from worker.model import Call, Evidence, Kind, Outcome, StopReason
from worker.pacing import Pacer, Pacers
from worker.pipeline import Pipeline, Stop
from worker.report.interface import RunHeader
from worker.sandbox.child import sandbox_process
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings
from worker.telemetry import get_log, register_secret

TALLY_INTERVAL_SECONDS = 0.5

_SIGNALS = {signal.SIGINT: StopReason.SIGINT, signal.SIGTERM: StopReason.SIGTERM}

TEMPORARY_KEY_PREFIX = "STS."
"""How the AccessKey IDs begin that STS gives out."""

SANDBOX_NAME = "sandbox"
"""What a rehearsal's account and endpoint are called, whatever port it happens to have."""


def account_of(settings: Settings) -> str:
    """The declared account, otherwise the AccessKey ID.

    Raises ``RunStopped`` or ``UsageRefused`` when there are no credentials, and ``GateClosed`` for
    temporary ones without a declared account.
    """
    if settings.account_id:
        return settings.account_id
    key_id = asyncio.run(credential_chain().get()).access_key_id
    if key_id.startswith(TEMPORARY_KEY_PREFIX):
        raise GateClosed(
            "the credentials are temporary, so their AccessKey ID does not say which account they"
            " are of, and a run and its quota belong to an account",
            "name the account: account_id in the configuration, or FACEPURGE_ACCOUNT_ID",
        )
    return key_id


def endpoint_of(settings: Settings) -> Endpoint:
    """The checked address of the service; raises ``UsageRefused`` or ``GateClosed``."""
    return resolve_endpoint(
        settings.region, settings.network, settings.endpoint, allow=settings.allow_endpoint
    )


class _AttemptLog:
    """Tells what happened, by the places of the input, never by IDs."""

    def __init__(self) -> None:
        self._log = get_log()
        self.errors: Counter[str] = Counter()
        self.calls_sent = 0

    def attempt_ended(self, call: Call, evidence: Evidence) -> None:
        self.calls_sent += may_have_left(evidence)
        facts = {
            "place": call.places[0],
            "faces": len(call.face_ids),
            "code": evidence.code,
            "request_id": evidence.request_id,
        }
        if evidence.kind is Kind.LISTED and len(evidence.listed) == len(call.face_ids):
            self._log.debug("deleted", **facts)
            return
        if evidence.kind is Kind.NOT_SENT and evidence.code in {"held", "stopped"}:
            self._log.debug("not sent", **facts)
            return
        name = f"{evidence.kind} {evidence.code}".strip()
        self.errors[name] += 1
        # The first of a kind is worth a line; the rest are counted, and in the report.
        tell = self._log.warning if self.errors[name] == 1 else self._log.debug
        tell(str(evidence.kind), message=evidence.message, **facts)


class _ConfidentialChain:
    """Tells the logs what must never appear in them, before anybody can sign with it."""

    def __init__(self, chain: CredentialChain) -> None:
        self._chain = chain

    async def get(self) -> Credential:
        return self._register(await self._chain.get())

    async def renew(self) -> Credential:
        return self._register(await self._chain.renew())

    @staticmethod
    def _register(credential: Credential) -> Credential:
        for secret in (credential.access_key_secret, credential.security_token):
            if secret:
                register_secret(secret)
        return credential


@asynccontextmanager
async def _service(
    header: RunHeader, settings: Settings, run_dir: Path
) -> AsyncIterator[tuple[Endpoint, CredentialChain]]:
    """Where the calls go and who signs them; a rehearsal has its own server and never real keys."""
    if not header.rehearsal:
        yield endpoint_of(settings), _ConfidentialChain(credential_chain())
        return
    directory = run_dir / SANDBOX
    async with sandbox_process(directory, directory / "state.json") as url:
        key = Credential(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET, provider=SANDBOX_NAME)
        yield resolve_endpoint("", "public", url, allow=False), FixedCredential(key)


class _Signals:
    """The first signal stops new calls, the second ends the process at once."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._pipeline: Pipeline | None = None
        self._stop: Stop | None = None

    def govern(self, pipeline: Pipeline) -> None:
        """From here on signals stop ``pipeline``; one that has come already does so now."""
        self._pipeline = pipeline
        if self._stop is not None:
            pipeline.stop(self._stop)

    def _receive(self, number: signal.Signals, reason: StopReason) -> None:
        if self._stop is not None:
            try:
                os.write(
                    2,
                    "\nended at once by a second signal; what was in flight is not established; to"
                    f" go on type: facepurge resume {self._run_dir}\n".encode(),
                )
            finally:
                os._exit(128 + number)
        self._stop = Stop(reason)
        get_log().warning(f"{number.name}: no new call is made; those in flight are recorded")
        if self._pipeline is not None:
            self._pipeline.stop(self._stop)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number, reason in _SIGNALS.items():
            loop.add_signal_handler(number, self._receive, number, reason)
        return self

    def __exit__(self, *_error: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)


class _Gauge:
    """What the progress display asks for; the figures come from the ledger."""

    def __init__(
        self, faces_total: int, pipeline: Pipeline, pacer: Pacer, log: _AttemptLog
    ) -> None:
        self._faces_total = faces_total
        self._pipeline = pipeline
        self._pacer = pacer
        self._log = log
        self._began = asyncio.get_running_loop().time()
        self._tally: Mapping[str, int] = {}
        self._done_at_start: int | None = None

    async def follow(self, ledger: Ledger) -> None:
        """Keep the tally fresh until cancelled."""
        with suppress(LedgerFailed):  # the pipeline reports it
            while True:
                await self.look(ledger)
                await asyncio.sleep(TALLY_INTERVAL_SECONDS)

    async def look(self, ledger: Ledger) -> None:
        """Read the tally once."""
        self._tally = await ledger.tally()

    def __call__(self) -> Progress:
        now = asyncio.get_running_loop().time()
        total = sum(self._tally.values()) or self._faces_total
        unsent = self._tally.get(Outcome.UNSENT, 0) if self._tally else total
        done = total - unsent
        if self._done_at_start is None and self._tally:
            self._done_at_start = done
        seconds = now - self._began
        pace = (done - (self._done_at_start or 0)) / seconds if seconds > 0 else 0.0
        waiting = self._pacer.waiting_for
        if not waiting and self._pipeline.in_flight:
            waiting = "answers"
        return Progress(
            faces_done=done,
            faces_total=total,
            outcomes=self._tally,
            calls_sent=self._log.calls_sent,
            calls_in_flight=max(0, self._pipeline.in_flight - self._pacer.line),
            rate_per_second=self._pacer.rate_now_per_second,
            mean_rate_per_second=self._log.calls_sent / seconds if seconds > 0 else 0.0,
            eta_seconds=unsent / pace if pace > 0 else None,
            waiting=waiting,
            errors=dict(self._log.errors),
        )


async def carry_out(run_dir: Path, settings: Settings, *, quiet: bool) -> Stop:
    """Send what the ledger of ``run_dir`` still has to send; returns why it ended.

    The caller holds the run's lock and has the operator's word. Raises ``GateClosed`` before the
    first call when the ledger, the exclusion list or the quota's lock forbids it.
    """
    clock: Clock = SystemClock()
    books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
    try:
        header, sessions, known_holds = books.header(), books.sessions(), books.holds()
    finally:
        books.close()
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(_Signals(run_dir))
        ledger = Ledger(open_ledger(run_dir, checked=True), ThreadWriter)
        stack.push_async_callback(ledger.close)
        await ledger.close_open_attempts(clock.now_us())
        if not await ledger.waiting_calls():
            if not sessions or sessions[-1].stop_reason is not StopReason.FINISHED:
                # Whatever ended the last session, nothing is left that it kept from being sent.
                await ledger.begin_session(clock.now_us())
                await ledger.end_session(clock.now_us(), StopReason.FINISHED, "", {})
            return Stop(StopReason.FINISHED)
        holds = None
        if settings.exclude_from:
            grammar = Grammar(settings.person_id_pattern, settings.face_id_pattern)
            holds = HoldWatch(Path(settings.exclude_from), known_holds, ledger, grammar)
            await holds.check()
        endpoint, credentials = await stack.enter_async_context(_service(header, settings, run_dir))
        stack.enter_context(quota_lock(header.account, endpoint.url_base, run_dir))
        transport = await stack.enter_async_context(
            open_transport(endpoint.url_base, settings, clock)
        )
        pacers = Pacers(
            settings.rate_per_second,
            outage_limit_seconds=settings.outage_limit_minutes * 60,
            shared=settings.shared_quota,
        )
        pacer = pacers.of(DELETE_FACES.action)
        client = GreenClient(
            transport=transport,
            endpoint=endpoint,
            signer=signer_for(settings.signature),
            credentials=credentials,
            clock=clock,
            randomness=random.SystemRandom(),
            slot=pacer.slot,
            departed=pacer.departed,
            client_info=settings.client_info,
            retry_after_cap_seconds=settings.retry_after_cap_seconds,
        )
        log = _AttemptLog()
        pipeline = Pipeline(
            ledger,
            client,
            pacer,
            clock,
            log,
            holds=holds,
            concurrency=settings.concurrency,
            grace_seconds=settings.grace_seconds,
        )
        gauge = _Gauge(header.faces, pipeline, pacer, log)
        signals.govern(pipeline)
        await ledger.begin_session(clock.now_us())
        stop = await _work(pipeline, gauge, ledger, settings, quiet=quiet)
        if stop.reason is not StopReason.LEDGER:
            # What was cancelled between two writes ends here, not only on resume.
            await ledger.close_open_attempts(clock.now_us())
            await ledger.end_session(
                clock.now_us(), stop.reason, _sentence(stop), pacer.waits_seconds
            )
        return stop


async def close_left_behind(run_dir: Path) -> None:
    """Close the attempts a dead process left open, so that the report calls them unknown."""
    ledger = Ledger(open_ledger(run_dir), ThreadWriter)
    try:
        await ledger.close_open_attempts(SystemClock().now_us())
    finally:
        await ledger.close()


async def _work(
    pipeline: Pipeline, gauge: _Gauge, ledger: Ledger, settings: Settings, *, quiet: bool
) -> Stop:
    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(gauge.follow(ledger))]
        if not quiet:
            lines_only = settings.log_format == "json"
            display = show(gauge, stream=sys.stderr, lines_only=lines_only)
            watchers.append(group.create_task(display))
        try:
            stop = await pipeline.run()
            with suppress(LedgerFailed):
                await gauge.look(ledger)  # the last thing shown is how it ended
        finally:
            for watcher in watchers:
                watcher.cancel()
    return stop


def _sentence(stop: Stop) -> str:
    return f"{stop.detail.rstrip('.')}; {stop.remedy}" if stop.remedy else stop.detail
