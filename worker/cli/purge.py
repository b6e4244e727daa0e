"""The composition root: opens everything a run needs, lets the pipeline work, closes it again."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from worker.cli.gauge import AttemptLog, Gauge
from worker.cli.progress import show
from worker.cli.run_directory import SANDBOX
from worker.cli.signals import Signals
from worker.clock import Clock, SystemClock
from worker.errors import GateClosed, LedgerFailed
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
from worker.model import StopReason
from worker.pacing import Pacers
from worker.pipeline import Pipeline, Stop
from worker.report.interface import RunHeader
from worker.sandbox.child import sandbox_process
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings
from worker.telemetry import register_secret

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
        signals = stack.enter_context(Signals(run_dir))
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
        log = AttemptLog()
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
        gauge = Gauge(header.faces, pipeline, pacer, log)
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
    pipeline: Pipeline, gauge: Gauge, ledger: Ledger, settings: Settings, *, quiet: bool
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
