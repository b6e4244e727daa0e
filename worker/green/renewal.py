"""Renewing a credential that the service refused, once for everybody."""

from __future__ import annotations

import asyncio

from worker.green.interface import Credential, CredentialChain


class Renewal:
    """Turns refusals of a credential into at most one renewal each."""

    def __init__(self, chain: CredentialChain) -> None:
        self._chain = chain
        self._lock = asyncio.Lock()
        self._unproven: Credential | None = None

    def accepted(self, credential: Credential) -> None:
        """The service accepted a signature made with ``credential``."""
        if self._unproven == credential:
            self._unproven = None

    async def refused(self, credential: Credential) -> bool:
        """Whether there is another credential now; ``credential`` signed a refused attempt.

        Attempts signed with an older one learn that there is a newer, and renew nothing. A renewed
        credential that is refused before it was ever accepted is not renewed again, so that two
        dead credentials cannot alternate for ever. Raises ``worker.errors.RunStopped``.
        """
        async with self._lock:
            if await self._chain.get() != credential:
                return True
            if self._unproven == credential:
                return False
            self._unproven = await self._chain.renew()
            return self._unproven != credential
