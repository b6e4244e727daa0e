"""The composition root: opens everything a run needs, lets the pipeline work, closes it again."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from worker import canary
from worker.calibration import calibrated
from worker.cli.belts import Belts, pacer_of, watches_of
from worker.cli.collection import collecting_what_calls_leave
from worker.cli.confidential import ConfidentialChain
from worker.cli.display import show
from worker.cli.gauge import AttemptLog, Gauge
from worker.cli.helm import Helm
from worker.cli.run_directory import SANDBOX
from worker.cli.signals import Signals
from worker.clock import Clock, SystemClock
from worker.errors import LedgerFailed
from worker.fold import Rules
from worker.green.client import GreenClient
from worker.green.codes import RETRYABLE_CODES, not_found_codes
from worker.green.credentials import FixedCredential, credential_chain
from worker.green.endpoint import Endpoint, resolve_endpoint
from worker.green.interface import Credential, CredentialChain
from worker.green.operations import DELETE_FACES, DELETE_PERSON, GET_PERSON
from worker.green.transport import open_transport
from worker.holds import Grammar, HoldWatch
from worker.interruption import handed_to
from worker.ledger import soundness
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import ThreadWriter
from worker.model import Step, StopReason, Verb
from worker.pacing import Pacer, Pacers
from worker.pipeline import Lane, Pipeline, Stop
from worker.report.interface import RunHeader
from worker.sandbox.child import SandboxProcess, sandbox_process
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings

SANDBOX_NAME = "sandbox"
"""What a rehearsal's account and endpoint are called, whatever port it happens to have."""


def endpoint_of(settings: Settings) -> Endpoint:
    """The checked address of the service; raises ``UsageRefused`` or ``GateClosed``."""
    return resolve_endpoint(
        settings.region, settings.network, settings.endpoint, allow=settings.allow_endpoint
    )


def as_calibrated(settings: Settings, account: str, address: str) -> Settings:
    """The settings with what this account is recorded to answer about unknown persons.

    What the configuration says wins over the record.
    """
    answer = settings.unknown_person or calibrated(account, address)
    return msgspec.structs.replace(settings, unknown_person=answer)


@asynccontextmanager
async def _service(
    header: RunHeader, settings: Settings, run_dir: Path
) -> AsyncIterator[tuple[Endpoint, CredentialChain, SandboxProcess | None]]:
    """Where the calls go and who signs them; a rehearsal has its own server and never real keys."""
    if not header.rehearsal:
        yield endpoint_of(settings), ConfidentialChain(credential_chain()), None
        return
    directory = run_dir / SANDBOX
    async with sandbox_process(directory, directory / "state.json") as server:
        key = Credential(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET, provider=SANDBOX_NAME)
        endpoint = resolve_endpoint("", "public", server.url, allow=False)
        yield endpoint, FixedCredential(key), server


async def _outlive(server: SandboxProcess, pipeline: Pipeline) -> None:
    """Stop a rehearsal whose server has ended by itself: no patience brings it back."""
    how = await server.ended()
    pipeline.stop(
        Stop(
            StopReason.OUTAGE,
            f"the sandbox of this rehearsal is gone: {how}",
            "resume the rehearsal: the sandbox is started again, in the same world",
        )
    )


async def _examine(run_dir: Path, pipeline: Pipeline) -> None:
    """Stop where a ledger that was too big to be read through before turns out to be damaged."""
    damaged = await soundness.damage(run_dir)
    if damaged is not None:
        pipeline.stop(Stop(StopReason.DAMAGED, damaged.cause, damaged.remedy))


LANES = {
    Verb.RUN: (DELETE_FACES, GET_PERSON, DELETE_PERSON),
    Verb.RESUME: (DELETE_FACES, GET_PERSON, DELETE_PERSON),
    Verb.RETRY: (DELETE_FACES, GET_PERSON, DELETE_PERSON),
    Verb.VERIFY: (GET_PERSON,),
}
"""The operations a verb may use; the service documents a quota of its own for each of them."""

STEPS = {
    DELETE_FACES: (Step.DELETE,),
    GET_PERSON: (Step.LOOKUP, Step.VERIFY),
    DELETE_PERSON: (Step.REMOVE,),
}


def rules_of(settings: Settings) -> Rules:
    """What of the settings decides about evidence."""
    return Rules(
        absence_interval_us=round(settings.absence_interval_seconds * 1e6),
        max_attempts=settings.max_attempts,
        max_lookups=settings.max_lookups,
        max_rounds=settings.max_rounds,
        delete_person=settings.delete_person,
        not_found_codes=not_found_codes(settings.unknown_person),
        retryable_codes=RETRYABLE_CODES,
    )


def lanes_of(pacers: Pacers, verb: Verb) -> list[Lane]:
    """One lane for each bucket of the quota; in a shared one, lookups go before deletions."""
    steps: dict[Pacer, list[Step]] = {}
    for operation in LANES[verb]:
        steps.setdefault(pacers.of(operation.action), []).extend(STEPS[operation])
    order = [Step.LOOKUP, Step.DELETE, Step.REMOVE, Step.VERIFY]
    return [Lane(pacer, sorted(taken, key=order.index)) for pacer, taken in steps.items()]


async def carry_out(run_dir: Path, settings: Settings, verb: Verb, *, quiet: bool) -> Stop:
    """Do what the ledger of ``run_dir`` still has to do, or what ``verb`` asks for anew.

    Returns why it ended. The caller holds the lock of the run and, where anything is left to be sent,
    that of the quota, and has the operator's word. Raises ``GateClosed`` before the first call when
    the ledger or the exclusion list forbids it.
    """
    clock: Clock = SystemClock()
    books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
    try:
        header, sessions, known_holds = books.header(), books.sessions(), books.holds()
    finally:
        books.close()
    async with AsyncExitStack() as stack:
        signals = Signals(run_dir)
        stack.enter_context(handed_to(signals.take))
        ledger = Ledger(
            open_ledger(run_dir, checked=True),
            ThreadWriter,
            rules=rules_of(settings),
            max_delete=settings.max_delete,
        )
        stack.push_async_callback(ledger.close)
        await ledger.close_open_attempts(clock.now_us())
        if verb in (Verb.RUN, Verb.RESUME) and await ledger.is_finished():
            if not sessions or sessions[-1].stop_reason is not StopReason.FINISHED:
                # Whatever ended the last session, nothing is left that it kept from being done.
                await ledger.begin_session(verb, clock.now_us())
                await ledger.end_session(clock.now_us(), StopReason.FINISHED, "", {})
            return Stop(StopReason.FINISHED)
        holds = None
        if settings.exclude_from:
            grammar = Grammar(settings.person_id_pattern, settings.face_id_pattern)
            holds = HoldWatch(Path(settings.exclude_from), known_holds, ledger, grammar)
            await holds.check()
        endpoint, credentials, server = await stack.enter_async_context(
            _service(header, settings, run_dir)
        )
        transport = await stack.enter_async_context(
            open_transport(endpoint.url_base, settings, clock)
        )
        pacers = Pacers(
            settings.rate_per_second,
            outage_limit_seconds=settings.outage_limit_minutes * 60,
            shared=settings.shared_quota,
            make=pacer_of(settings),
        )
        lanes = lanes_of(pacers, verb)
        client = GreenClient.configured(
            settings,
            transport=transport,
            endpoint=endpoint,
            credentials=credentials,
            clock=clock,
            randomness=random.SystemRandom(),
            departures=pacers.of,
        )
        rules = rules_of(settings)
        log = AttemptLog()
        watches = watches_of(settings, verb, ledger, clock)
        pipeline = Pipeline(
            ledger,
            client,
            lanes,
            clock,
            log,
            holds=holds,
            concurrency=settings.concurrency,
            grace_seconds=settings.grace_seconds,
            harmless_codes=rules.not_found_codes if settings.treat_no_person_as_absent else (),
            watches=watches,
        )
        gauge = Gauge(header.faces, pipeline, lanes, log)
        signals.govern(pipeline, lambda: gauge.deleted)
        await ledger.begin_session(
            verb, clock.now_us(), verify=settings.verify, canary=canary.parse(settings.canary)
        )
        belts = Belts(settings, pipeline, clock)
        await belts.begin(watches)
        stack.enter_context(collecting_what_calls_leave())
        helm = Helm(ledger, pipeline, gauge, clock, settings=settings, run_dir=str(run_dir))
        beside = [helm.follow(), *belts.kept(), *([_outlive(server, pipeline)] if server else [])]
        if soundness.is_big(run_dir):
            beside.append(_examine(run_dir, pipeline))
        stop = await _work(pipeline, gauge, ledger, settings, beside=beside, quiet=quiet)
        if stop.reason is not StopReason.LEDGER:
            # What was cancelled between two writes ends here, not only on resume.
            await ledger.close_open_attempts(clock.now_us())
            await ledger.end_session(
                clock.now_us(), stop.reason, _sentence(stop), _waits_seconds(lanes, pipeline)
            )
        return stop


def _waits_seconds(lanes: Sequence[Lane], pipeline: Pipeline) -> dict[str, float]:
    waits = {"lookups": pipeline.idle_seconds}
    for lane in lanes:
        for reason, seconds in lane.pacer.waits_seconds.items():
            waits[reason] = waits.get(reason, 0.0) + seconds
    # A pause is one and the same for all lanes.
    waits["paused"] = max(lane.pacer.waits_seconds["paused"] for lane in lanes)
    return waits


async def close_left_behind(run_dir: Path) -> None:
    """Close the attempts a dead process left open, so that the report calls them unknown."""
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    try:
        # Those of the session that died, or of the plan, before the first.
        rules = books.rules() or rules_of(msgspec.convert(books.header().settings, Settings))
    finally:
        books.close()
    ledger = Ledger(open_ledger(run_dir), ThreadWriter, rules=rules)
    try:
        await ledger.close_open_attempts(SystemClock().now_us())
    finally:
        await ledger.close()


async def _work(
    pipeline: Pipeline,
    gauge: Gauge,
    ledger: Ledger,
    settings: Settings,
    *,
    beside: Iterable[Coroutine[Any, Any, None]],
    quiet: bool,
) -> Stop:
    async with asyncio.TaskGroup() as group:
        watchers = [
            group.create_task(gauge.follow(ledger)),
            *map(group.create_task, beside),
        ]
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
