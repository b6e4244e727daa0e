"""Credentials that the logs know about before anybody can sign with them."""

from __future__ import annotations

from worker.green.interface import Credential, CredentialChain
from worker.telemetry import register_secret


class ConfidentialChain:
    """A chain whose secrets and tokens will never appear in a log."""

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
