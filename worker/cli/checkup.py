"""Every check of ``doctor``, one after the other: each runs unless an earlier one makes it senseless.

Reads only. What leaves this machine: a name, a connection, one GetCallerIdentity to STS, and one
lookup of a person who was made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from worker.cli import account as accounts
from worker.cli.confidential import ConfidentialChain
from worker.cli.editions import examine_versions
from worker.cli.finding import Finding, Grade, failed
from worker.cli.lookups import is_answered, open_lookups, trouble, unsigned_reply
from worker.cli.plan_directory import require_own
from worker.cli.reach import address_of, examine_connection, examine_name
from worker.cli.storage import examine_disk
from worker.clock import SystemClock
from worker.configuration import Configuration, Given
from worker.errors import FacepurgeError, GateClosed
from worker.green.credentials import credential_chain
from worker.green.endpoint import Endpoint, resolve_endpoint
from worker.green.hints import server_time_us
from worker.green.identity import Caller
from worker.green.interface import Credential, CredentialChain, Reply
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.locks import quota_lock
from worker.model import Evidence, Kind
from worker.report.interface import RunHeader
from worker.report.times import iso_utc
from worker.settings import DOCUMENTED_RATE_PER_SECOND, Settings

REFUSED_SECONDS: Final = 900
"""Documented: a date further than this from the service's is refused."""

NOTICED_SECONDS: Final = 60
"""A machine whose clock is set by NTP is well below."""

EXPIRES_SOON_SECONDS: Final = 900
"""The official chain renews what it can renew that long before."""


@dataclass(slots=True)
class _Known:
    """What earlier checks have established, for later ones."""

    settings: Settings
    endpoint: Endpoint | None = None
    chain: CredentialChain | None = None
    credential: Credential | None = None
    account: str = ""
    reachable: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked of ``doctor``."""

    configuration: Configuration | FacepurgeError
    flags: Mapping[str, Given]
    """What was typed, by setting: all there is to go by where the configuration is refused."""
    rows: int | None
    """Of the planned run; None where nobody says."""
    plan: Path | None
    """A plan's or a run's directory, whose rows count."""


def of_its_run(configuration: Configuration, directory: Path) -> Configuration:
    """``configuration`` with the service of the run in ``directory``, where it names none itself.

    As it is where no run of one's own can be read there, and for a rehearsal, which has no service.
    """
    settings = configuration.settings
    run = _run_in(directory)
    if settings.region or settings.endpoint or run is None or run.rehearsal:
        return configuration
    stored = {
        key: run.settings[key]
        for key in ("region", "network", "endpoint", "allow_endpoint", "sts_endpoint", "account_id")
        if run.settings.get(key) and configuration.origins[key] == "default"
    }
    return Configuration(msgspec.structs.replace(settings, **stored), configuration.origins)


def _run_in(directory: Path) -> RunHeader | None:
    """What the ledger there says of its run; None where that cannot be read, or not be trusted."""
    try:
        require_own(directory, "run")
        books = LedgerBooks(open_ledger(directory, read_only=True))
        try:
            return books.header()
        finally:
            books.close()
    except FacepurgeError:
        return None  # the check of the disk says why


async def examined(order: Order) -> list[Finding]:
    """All findings, in the order of the checks. Raises nothing that a check could find."""
    known = _Known(_settings(order))
    found = [_configuration(order, known)]
    found += await _credentials(known)
    found.append(_belonging(order, known, await _account(known)))
    found += await _way(known)
    found += await _service(known)
    found.append(_disk(order, known))
    found.append(examine_versions())
    return found


def _settings(order: Order) -> Settings:
    """The settings in force; where they are refused, the defaults and the address that was typed."""
    if isinstance(order.configuration, Configuration):
        return order.configuration.settings
    typed = {
        key: order.flags[key].value
        for key in ("region", "endpoint", "allow_endpoint")
        if key in order.flags
    }
    return msgspec.structs.replace(Settings(), **typed)


def _configuration(order: Order, known: _Known) -> Finding:
    """Whether the settings can be acted upon, and where they come from."""
    check = "configuration"
    try:
        known.endpoint = resolve_endpoint(
            known.settings.region,
            known.settings.network,
            known.settings.endpoint,
            allow=known.settings.allow_endpoint,
        )
    except FacepurgeError as error:
        if isinstance(order.configuration, Configuration):
            return failed(check, error)
    if isinstance(order.configuration, FacepurgeError):
        finding = failed(check, order.configuration)
        return Finding(
            check, Grade.FAIL, f"{finding.sentence}; the other checks go without it", finding.remedy
        )
    assert known.endpoint is not None
    origins = order.configuration.origins.values()
    files = dict.fromkeys(
        re.sub(r":[0-9]+$", "", origin.rpartition(": ")[0]) for origin in origins if ": " in origin
    )
    said = (
        f"{', '.join(files) or 'no file'}; {order.configuration.changes};"
        f" the service is {known.endpoint.url_base}"
    )
    if known.endpoint.note:
        remedy = "make sure that this region has your face library"
        return Finding(check, Grade.WARN, f"{said}. {known.endpoint.note}", remedy)
    return Finding(check, Grade.OK, said)


async def _credentials(known: _Known) -> list[Finding]:
    """Which provider of the chain has a key, and for how long."""
    check = "credentials"
    try:
        known.chain = ConfidentialChain(credential_chain())
        credential = known.credential = await known.chain.get()
    except FacepurgeError as error:
        return [failed(check, error)]
    temporary = bool(credential.security_token)
    kind = "temporary" if temporary else "permanent"
    said = f"{credential.provider or 'the chain'} has AccessKey {credential.access_key_id}, {kind}"
    if not temporary:
        return [Finding(check, Grade.OK, said)]
    if credential.expires_us is None:
        said += "; nobody says until when"
        if credential.provider == "environment":
            remedy = (
                "nobody renews a token in the environment: use a role (OIDC, ECS) for a long run"
            )
            return [Finding(check, Grade.WARN, said, remedy)]
        return [Finding(check, Grade.OK, f"{said}, and it is renewed in time")]
    said += f" until {iso_utc(credential.expires_us)}"
    left_seconds = (credential.expires_us - SystemClock().now_us()) / 1e6
    if left_seconds < EXPIRES_SOON_SECONDS:
        remedy = "look why the provider does not renew it: it should have been by now"
        return [Finding(check, Grade.WARN, said, remedy)]
    return [Finding(check, Grade.OK, f"{said}, and renewed before")]


async def _account(known: _Known) -> Finding:
    """Which account a run would belong to."""
    check, declared, credential = "account", known.settings.account_id, known.credential
    if known.endpoint is None:
        known.account = declared
        return _skipped(check, "it is not known which service, and so which STS, to ask")
    if credential is None or known.chain is None:
        known.account = declared
        return _skipped(check, "there are no credentials")
    known.account = declared or credential.access_key_id
    temporary = credential.access_key_id.startswith(accounts.TEMPORARY_KEY_PREFIX)
    try:
        sts = accounts.sts_of(known.settings)
        if sts is None:
            return _untold(
                declared, temporary=temporary, why="STS is not asked about this endpoint"
            )
        seconds = accounts.TEMPORARY_KEY_SECONDS
        found = await accounts.told(known.settings, sts, known.chain, credential, seconds)
    except FacepurgeError as error:
        return failed(check, error)
    if isinstance(found, Caller):
        said = f"{found.account_id}{f' ({found.identity})' if found.identity else ''}, as STS says"
        if declared not in ("", found.account_id):
            return Finding(
                check,
                Grade.FAIL,
                f"{said}; but account_id says {declared}",
                "correct account_id, or use a key of that account: this run is another account's",
            )
        known.account = found.account_id
        return Finding(check, Grade.OK, f"{said}{'; account_id agrees' if declared else ''}")
    if found.credential_refused:
        return Finding(check, Grade.FAIL, f"{sts.url_base}: {found.sentence}", found.remedy)
    return _untold(declared, temporary=temporary, why=f"{sts.url_base}: {found.sentence}")


def _belonging(order: Order, known: _Known, account: Finding) -> Finding:
    """``account``, unless the run that was named is another's."""
    run = None if order.plan is None else _run_in(order.plan)
    if run is None or run.rehearsal or known.credential is None or account.grade is Grade.FAIL:
        return account
    asked = accounts.Account(known.account, known.credential.access_key_id)
    if account.grade is Grade.SKIPPED or asked.owns(run.account):
        return account
    said = f"{account.sentence}; but {order.plan} belongs to {run.account}"
    if asked.is_another(run.account):
        return Finding(account.check, Grade.FAIL, said, "use a key of that account")
    remedy = "use a key of that account; if this is one, a resume wants --same-account"
    return Finding(account.check, Grade.WARN, said, remedy)


def _untold(declared: str, *, temporary: bool, why: str) -> Finding:
    """Nobody could be asked which account the key is of."""
    why = why.rstrip(".")
    if declared:
        said = f"{declared}, as account_id says; not compared ({why})"
        return Finding("account", Grade.OK, said)
    if temporary:
        return Finding(
            "account",
            Grade.FAIL,
            f"a temporary key does not tell its account ({why}), and a run belongs to one",
            "set account_id (or FACEPURGE_ACCOUNT_ID), or sts_endpoint",
        )
    return Finding(
        "account",
        Grade.WARN,
        f"a run would belong to the AccessKey ID ({why})",
        "set account_id, so that a run can be resumed with another key",
    )


async def _way(known: _Known) -> list[Finding]:
    """The name and the connection."""
    if known.endpoint is None:
        why = "no address of a service is known"
        return [_skipped("dns", why), _skipped("connection", why)]
    address = address_of(known.endpoint)
    name, numbers = await examine_name(address, known.settings)
    if not numbers:
        return [name, _skipped("connection", "there is no address to connect to")]
    connection = await examine_connection(address, numbers, known.settings)
    known.reachable = connection.grade is not Grade.FAIL
    return [name, connection]


async def _service(known: _Known) -> list[Finding]:
    """One lookup, and what it tells: the server's time, permission, and throttling."""
    endpoint = known.endpoint
    if not known.reachable or endpoint is None:
        why = "the service cannot be reached"
        return [_skipped("clock", why), _skipped("permission", why), _quota(known.settings, None)]
    evidence: Evidence | None = None
    replies: list[Reply] = []
    if known.chain is None or known.credential is None:
        permission = _skipped("permission", "there are no credentials")
    else:
        try:
            # Lookups count against the account's quota, whoever makes them.
            with quota_lock(known.account, endpoint.url_base, _run_dir(known.settings)):
                evidence, replies = await _looked_up(known.settings, endpoint, known.chain)
            permission = _permission(evidence)
        except GateClosed as closed:
            held = closed.__cause__ is None
            permission = (
                _skipped("permission", closed.cause) if held else failed("permission", closed)
            )
    if not replies and evidence is None:
        reply = await unsigned_reply(known.settings, endpoint)
        replies = [reply] if reply is not None else []
    return [_clock(replies), permission, _quota(known.settings, evidence)]


async def _looked_up(
    settings: Settings, endpoint: Endpoint, chain: CredentialChain
) -> tuple[Evidence, list[Reply]]:
    async with open_lookups(settings, endpoint, chain) as lookups:
        return await lookups.ask(), list(lookups.replies)


def _clock(replies: list[Reply]) -> Finding:
    """How far this machine's clock is from the service's, by the first answer."""
    check = "clock"
    server_us = server_time_us(replies[0].headers) if replies else None
    if server_us is None:
        return _skipped(check, "no answer with the service's time came")
    reply = replies[0]
    sent_us = reply.ended_us if reply.sent_us is None else reply.sent_us
    # The header has whole seconds, cut off; the answer took some time on its way.
    off_seconds = (sent_us + reply.ended_us) / 2e6 - (server_us / 1e6 + 0.5)
    doubt_seconds = 1.0 + (reply.ended_us - sent_us) / 2e6
    if abs(off_seconds) <= max(doubt_seconds, 2.0):
        return Finding(check, Grade.OK, f"within {max(doubt_seconds, 2.0):.0f} s of the service's")
    minutes, seconds = divmod(round(abs(off_seconds)), 60)
    where = "behind" if off_seconds < 0 else "ahead of"
    said = f"this machine is {minutes} min {seconds} s {where} the service"
    remedy = "set this machine's clock, and let NTP keep it (timedatectl set-ntp true)"
    if abs(off_seconds) > REFUSED_SECONDS:
        said += (
            ", which refuses dates more than 15 min off; a run would sign with the service's time,"
            " but its records would have this machine's"
        )
        return Finding(check, Grade.FAIL, said, remedy)
    if abs(off_seconds) > NOTICED_SECONDS:
        return Finding(check, Grade.WARN, said, remedy)
    return Finding(check, Grade.OK, said)


def _permission(evidence: Evidence) -> Finding:
    """Whether a lookup is allowed; deletions cannot be tried without deleting."""
    check = "permission"
    if is_answered(evidence):
        return Finding(
            check,
            Grade.OK,
            f"GetPerson of a made-up person was answered (HTTP {evidence.http_status}, code"
            f" {evidence.code}); DeleteFaces cannot be tried without deleting",
        )
    cause, remedy = trouble(evidence)
    grade = Grade.WARN if evidence.kind in (Kind.THROTTLED, Kind.REFUSED) else Grade.FAIL
    return Finding(check, grade, cause, remedy)


def _quota(settings: Settings, evidence: Evidence | None) -> Finding:
    """What is known of the account's quota, which is little."""
    said = (
        f"{DOCUMENTED_RATE_PER_SECOND:g} calls/s are documented for each operation of an account;"
        f" rate_per_second is {settings.rate_per_second:g}"
    )
    if evidence is not None and evidence.kind is Kind.THROTTLED:
        return Finding(
            "quota",
            Grade.WARN,
            f"{said}; a single lookup was throttled, so something else uses this account now",
            "lower --rate so that both fit below the quota, or run when the other has ended",
        )
    if settings.rate_per_second > DOCUMENTED_RATE_PER_SECOND:
        remedy = "make sure that Alibaba Cloud has raised it for this account: nothing tells"
        return Finding("quota", Grade.WARN, said, remedy)
    seen = "no throttle seen" if evidence is not None else "not tried"
    return Finding("quota", Grade.OK, f"{said}; {seen}")


def _disk(order: Order, known: _Known) -> Finding:
    """Room and speed where the run would live, for its rows."""
    directory, rows = _run_dir(known.settings), order.rows
    if order.plan is not None:
        directory = order.plan
        try:
            books = LedgerBooks(open_ledger(order.plan, read_only=True))
            try:
                rows = books.header().rows
            finally:
                books.close()
        except FacepurgeError as error:
            return failed("disk", error)
    return examine_disk(directory, rows)


def _run_dir(settings: Settings) -> Path:
    return Path(settings.run_dir or "runs")


def _skipped(check: str, why: str) -> Finding:
    return Finding(check, Grade.SKIPPED, f"not checked: {why}")
