"""Key pairs from where Alibaba Cloud users keep them, without ever stopping the event loop.

The environment is read directly; everything else is the business of the official
``alibabacloud-credentials``, imported only when it is needed (0.25 s, 40 MB). Its asynchronous API
awaits while it holds a thread lock, so that concurrent refreshes freeze the loop for seconds: only
its synchronous one is called here, in one thread at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from worker.errors import RunStopped, UsageRefused
from worker.green.interface import Credential, CredentialChain

LOOKUP_DEADLINE_SECONDS = 30.0
"""The longest chain (instance metadata that does not answer) takes a few seconds."""

FRESH_SECONDS = 10.0
"""How long one reading is good for; the library renews 15 minutes before an expiry."""

_REMEDY = (
    "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or fill one of the other "
    "places (`aliyun configure` writes ~/.aliyun/config.json), then start again"
)
_NOT_PLAIN = "the key pair or its token contains a space, a line end or the like"
_TRIM = "store it without the line end that editors and `echo` add"
_PROVIDER = re.compile(r"(\w+)CredentialsProvider: ")
# A parser's error quotes the line it tripped over, and a server's error its whole answer.
_QUOTATION = re.compile(r"\\n|\n|[{'\"<]|result:|body:", re.ASCII)
_KEY_LIKE = re.compile(r"[A-Za-z0-9+=]{20,}")
_INNER_PROVIDERS = (
    "_DefaultCredentialsProvider__last_used_provider",
    "_CLIProfileCredentialsProvider__innerProvider",
    "_ProfileCredentialsProvider__innerProvider",
)
"""How the library's providers keep the one that has found something."""
_CHATTY_LOGGERS = ("credentials", "alibabacloud-tea", "apscheduler")


def credential_chain(environment: Mapping[str, str] | None = None) -> CredentialChain:
    """The environment's key pair where there is one, as in the official chain; or that chain.

    Raises ``UsageRefused`` for half a pair, or for one that no header can carry: going on to
    another place could find another account's key.
    """
    environment = os.environ if environment is None else environment
    key_id = environment.get("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
    secret = environment.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
    if not key_id and not secret:
        return OfficialChain()
    if not (key_id and secret):
        missing = "SECRET" if key_id else "ID"
        raise UsageRefused(
            f"ALIBABA_CLOUD_ACCESS_KEY_{missing}: is not set, but its other half is",
            "set both, or none to use another place of the credential chain",
        )
    token = environment.get("ALIBABA_CLOUD_SECURITY_TOKEN", "")
    credential = Credential(key_id, secret, token, "environment")
    if not _is_plain(credential):
        raise UsageRefused(f"ALIBABA_CLOUD_ACCESS_KEY_*: {_NOT_PLAIN}", _TRIM)
    return FixedCredential(credential)


def _is_plain(credential: Credential) -> bool:
    text = credential.access_key_id + credential.access_key_secret + credential.security_token
    return text.isascii() and text.isprintable() and " " not in text


class FixedCredential:
    """One key pair for the whole run: the environment's, or the sandbox's."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def get(self) -> Credential:
        return self._credential

    async def renew(self) -> Credential:
        return self._credential


class OfficialChain:
    """The default chain of ``alibabacloud-credentials``."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._look_up: Callable[[], Credential] | None = None
        self._known: Credential | None = None
        self._fresh_until = 0.0
        self._answer: asyncio.Future[Credential | RunStopped] | None = None

    async def get(self) -> Credential:
        if self._known is not None and asyncio.get_running_loop().time() < self._fresh_until:
            return self._known
        async with self._lock:
            if self._known is not None and asyncio.get_running_loop().time() < self._fresh_until:
                return self._known
            try:
                return await self._read()
            except RunStopped:
                if self._known is None:
                    raise
                # A refresh begins long before the expiry: what is known may still be good, and
                # the service's refusal leads to ``renew``, which does not look away.
                self._stay_fresh()
                return self._known

    async def renew(self) -> Credential:
        async with self._lock:
            self._look_up = self._answer = None
            return await self._read()

    async def _read(self) -> Credential:
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().create_future()
            # A daemon: an executor's thread that hangs in a look-up would keep the process alive.
            threading.Thread(
                target=self._look_up_for, args=(self._answer,), name="credentials", daemon=True
            ).start()
        try:
            async with asyncio.timeout(LOOKUP_DEADLINE_SECONDS):
                # Shielded: a caller that gives up leaves the look-up to the next one.
                found = await asyncio.shield(self._answer)
        except TimeoutError:
            raise RunStopped(
                f"credentials: nothing was found within {LOOKUP_DEADLINE_SECONDS:.0f} s", _REMEDY
            ) from None
        if isinstance(found, RunStopped):
            raise found
        self._known = found
        self._stay_fresh()
        return found

    def _stay_fresh(self) -> None:
        self._fresh_until = asyncio.get_running_loop().time() + FRESH_SECONDS

    def _look_up_for(self, answer: asyncio.Future[Credential | RunStopped]) -> None:
        """In the thread: look up, and tell the loop."""
        outcome: Credential | RunStopped
        try:
            if self._look_up is None:
                self._look_up = _official_look_up()
            outcome = self._look_up()
        except RunStopped as stopped:
            outcome = stopped
        except Exception as error:  # noqa: BLE001 (the library raises every kind, from KeyError on)
            outcome = RunStopped(f"credentials: none found{_places(str(error))}", _REMEDY)

        def tell() -> None:
            if not answer.done():
                answer.set_result(outcome)

        # A closed loop means that nobody waits any more.
        with suppress(RuntimeError):
            answer.get_loop().call_soon_threadsafe(tell)


def _official_look_up() -> Callable[[], Credential]:
    """A new default chain: every place is read again, none of its caches survives."""
    # Heavy, and rarely needed; the package ships no types.
    from alibabacloud_credentials.client import (  # type: ignore[import-untyped]  # noqa: PLC0415
        Client,
    )

    for name in _CHATTY_LOGGERS:
        # They write to stderr on their own, and one of them, with DEBUG=sdk, tokens.
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.disabled = True
    client: Any = Client()

    def look_up() -> Credential:
        found = client.get_credential()
        if not (found.access_key_id and found.access_key_secret):
            raise RunStopped("credentials: a place was found, but it holds no key pair", _REMEDY)
        credential = Credential(
            found.access_key_id,
            found.access_key_secret,
            found.security_token or "",
            str(found.provider_name or ""),
            _expiry_us(client),
        )
        if not _is_plain(credential):
            raise RunStopped(f"credentials of {credential.provider}: {_NOT_PLAIN}", _TRIM)
        return credential

    return look_up


def _expiry_us(client: Any) -> int | None:
    """When what was just found ends, where the library knows it.

    Its chain passes on everything but that, so its cache is looked into, without a refresh; another
    edition may keep it elsewhere, and then nobody knows.
    """
    provider: Any = getattr(client, "cloud_credential", None)
    for name in ("provider", *_INNER_PROVIDERS):
        provider = getattr(provider, name, None) or provider
    try:
        seconds = provider._credentials_cache._cached_value.value().get_expiration()  # noqa: SLF001
    except Exception:  # noqa: BLE001 (a provider without a cache, or another edition: a nicety)
        return None
    return seconds * 1_000_000 if isinstance(seconds, int) and seconds > 0 else None


def _places(error: str) -> str:
    """Where the library looked and why in vain, without quoting what it found there."""
    parts = _PROVIDER.split(error)
    places = []
    for name, text in zip(parts[1::2], parts[2::2], strict=False):
        reason = _KEY_LIKE.sub("<redacted>", _QUOTATION.split(text, maxsplit=1)[0])
        reason = "".join(c for c in reason if c.isprintable()).strip(" ,:.[")[:200]
        places.append(f"{name}: {reason or 'failed'}")
    return f"; looked at {'; '.join(places)}" if places else ""
