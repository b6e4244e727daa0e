"""Which account a run belongs to: the declared one, otherwise the one STS names, otherwise the key's.

A run, its quota's lock and its calibration belong to an account, and keys change under it. STS is
asked once, before a long manifest is read, and never for a rehearsal.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from worker.cli.confidential import ConfidentialChain
from worker.clock import SystemClock
from worker.errors import GateClosed, RunStopped
from worker.green.credentials import credential_chain
from worker.green.endpoint import Endpoint, resolve_endpoint, resolve_sts
from worker.green.identity import Caller, Unidentified, identify
from worker.green.interface import Credential, CredentialChain
from worker.settings import Settings

TEMPORARY_KEY_PREFIX: Final = "STS."
"""How the AccessKey IDs begin that STS gives out."""

PERMANENT_KEY_SECONDS: Final = 3.0
"""How long STS may take where the AccessKey ID would do: a start must not hang for a nicety."""

TEMPORARY_KEY_SECONDS: Final = 10.0
"""How long it may take where nothing else can tell the account."""

_DECLARE = "name the account: account_id in the configuration, or FACEPURGE_ACCOUNT_ID"


@dataclass(frozen=True, slots=True)
class Account:
    """What a run belongs to."""

    name: str
    """The account's number, or the AccessKey ID where nobody could tell it."""
    access_key_id: str = ""
    """Who signs; ``""`` where the account was declared and nobody was asked."""
    note: str = ""
    """A sentence for the plan where the account could not be established, otherwise ``""``."""

    def owns(self, recorded: str) -> bool:
        """Whether a run that was planned for ``recorded`` is this account's.

        One that was planned while STS could not be reached bears the name of its AccessKey ID.
        """
        return recorded in (self.name, self.access_key_id)

    def is_another(self, recorded: str) -> bool:
        """Whether a run of ``recorded`` is another account's for certain, as between two numbers.

        An AccessKey ID, with which a run or these credentials are called, tells no account.
        """
        is_number = recorded.isascii() and recorded.isdigit()
        return is_number and self.name != self.access_key_id and not self.owns(recorded)


def established(settings: Settings) -> Account:
    """The account of a run with ``settings``.

    Raises ``RunStopped`` or ``UsageRefused`` when there are no credentials or STS refuses them,
    ``UsageRefused`` or ``GateClosed`` for an address that cannot be used, and ``GateClosed`` for
    temporary credentials whose account nobody tells.
    """
    if settings.account_id:
        return Account(settings.account_id)
    return asyncio.run(_asked(settings))


async def _asked(settings: Settings) -> Account:
    chain = ConfidentialChain(credential_chain())
    credential = await chain.get()
    temporary = credential.access_key_id.startswith(TEMPORARY_KEY_PREFIX)
    sts = sts_of(settings)
    if sts is None:
        if not temporary:
            return Account(credential.access_key_id, credential.access_key_id)
        raise GateClosed(
            "the credentials are temporary, so their AccessKey ID does not say which account they"
            " are of; and STS is not asked about the keys of an endpoint that is not Alibaba"
            " Cloud's own",
            f"{_DECLARE}; or say with sts_endpoint whom to ask",
        )
    seconds = TEMPORARY_KEY_SECONDS if temporary else PERMANENT_KEY_SECONDS
    found = await told(settings, sts, chain, credential, seconds)
    if isinstance(found, Caller):
        return Account(found.account_id, credential.access_key_id)
    if found.credential_refused:
        raise RunStopped(f"{sts.url_base}: {found.sentence}", found.remedy)
    if temporary:
        raise GateClosed(
            "the credentials are temporary, so their AccessKey ID does not say which account they"
            f" are of, and {sts.url_base} did not either: {found.sentence}",
            f"{_DECLARE}; or {found.remedy}",
        )
    return Account(
        credential.access_key_id,
        credential.access_key_id,
        f"the run belongs to the AccessKey ID, so that a resume with another key needs"
        f" --same-account; {sts.url_base} did not tell the account ({found.sentence});"
        " account_id in the configuration names it",
    )


def sts_of(settings: Settings) -> Endpoint | None:
    """Whom to ask, or None; raises ``UsageRefused`` or ``GateClosed`` for what cannot be used."""
    service = resolve_endpoint(
        settings.region, settings.network, settings.endpoint, allow=settings.allow_endpoint
    )
    return resolve_sts(service, settings.sts_endpoint, allow=settings.allow_endpoint)


async def told(
    settings: Settings,
    sts: Endpoint,
    chain: CredentialChain,
    credential: Credential,
    seconds: float,
) -> Caller | Unidentified:
    """What STS says about ``credential``; asked again with a renewed one where it is refused."""
    clock = SystemClock()
    found = await identify(settings, sts, credential, clock, seconds)
    if isinstance(found, Unidentified) and found.credential_refused:
        renewed = await chain.renew()
        if renewed != credential:
            return await identify(settings, sts, renewed, clock, seconds)
    return found
