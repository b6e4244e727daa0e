"""Whose key it is: one signed GetCallerIdentity to STS, the service that knows.

The official STS client signs it with V3, which is why ``signature`` does not matter here. Source:
"GetCallerIdentity" of Security Token Service, version 2015-04-01.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from worker.clock import Clock
from worker.green.codes import clock_is_skewed, credential_may_be_stale, gateway_meaning
from worker.green.endpoint import Endpoint
from worker.green.interface import (
    Credential,
    Reply,
    Transport,
    Unsigned,
)
from worker.green.operations import GET_CALLER_IDENTITY
from worker.green.redaction import redacted
from worker.green.signing import V3Signer
from worker.green.skew import ServerClock
from worker.green.transport import open_transport
from worker.settings import Settings

_ACCOUNT: Final = re.compile(r"[0-9]{1,64}", re.ASCII)
_LOOK_AT_THE_WAY: Final = (
    "check the region, sts_endpoint and this machine's network; proxy variables are not used"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signs with a key."""

    account_id: str
    identity: str = ""
    """``Account``, ``RAMUser`` or ``AssumedRoleUser``; ``""`` where it is not said."""


@dataclass(frozen=True, slots=True)
class Unidentified:
    """Why nobody knows who signs with a key."""

    sentence: str
    """Of this program or, after codes, of STS: without secrets."""
    remedy: str = field(default=_LOOK_AT_THE_WAY)
    credential_refused: bool = False
    """STS says that there is no such key, that it does not sign like this, or that it has expired."""


async def identify(
    settings: Settings, sts: Endpoint, credential: Credential, clock: Clock, seconds: float
) -> Caller | Unidentified:
    """Who ``credential`` belongs to, found out within ``seconds``.

    One call; a second one with the server's time where this machine's clock is wrong. Raises ``UsageRefused`` for a ``ca_file`` that cannot be used.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            open_transport(sts.url_base, settings, clock) as transport,
        ):
            return await _ask(transport, sts, credential, ServerClock(clock))
    except TimeoutError:
        return Unidentified(f"no answer came within {seconds:g} s")


async def _ask(
    transport: Transport, sts: Endpoint, credential: Credential, server_clock: ServerClock
) -> Caller | Unidentified:
    operation, signer = GET_CALLER_IDENTITY, V3Signer()
    while True:
        unsigned = Unsigned(
            operation, sts.host, (), b"", f"{random.SystemRandom().getrandbits(128):032x}"
        )
        setting = server_clock.setting

        async def depart(unsigned: Unsigned = unsigned) -> Mapping[str, str]:
            return signer.sign(unsigned, credential, server_clock.now_us())

        outcome = await transport.exchange(operation.path, (), b"", depart, lambda: None)
        if not isinstance(outcome, Reply):
            return Unidentified(redacted(outcome.message).rstrip(".") or "the connection failed")
        found = _understood(outcome)
        if isinstance(found, _Refused):
            if clock_is_skewed(found.code) and server_clock.refused(setting, outcome):
                continue
            return found.unidentified
        return found


@dataclass(frozen=True, slots=True)
class _Refused:
    code: str
    unidentified: Unidentified


def _understood(reply: Reply) -> Caller | Unidentified | _Refused:
    document = _document(reply.body)
    code, account = document.get("Code"), document.get("AccountId")
    if isinstance(code, str) and code:
        message = redacted(str(document.get("Message", ""))).rstrip(".")
        remedy = gateway_meaning(code).remedy or _LOOK_AT_THE_WAY
        said = f"{redacted(code)} (HTTP {reply.status}): {message}"
        return _Refused(
            code, Unidentified(said, remedy, credential_refused=credential_may_be_stale(code))
        )
    if reply.status == 200 and isinstance(account, str) and _ACCOUNT.fullmatch(account):
        identity = document.get("IdentityType")
        return Caller(account, redacted(identity) if isinstance(identity, str) else "")
    return Unidentified(f"the answer (HTTP {reply.status}) is not one that STS gives")


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
