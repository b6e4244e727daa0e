"""The credentials of a simulation: rotated while the program works."""

from __future__ import annotations

from worker.green.interface import Credential
from worker.sandbox.keys import AccessKey, Keyring


class KeyHolder:
    """The account's present key, and the keyring that the service checks against."""

    def __init__(self) -> None:
        self._number = 0
        self.present = self._make()
        self.keyring = Keyring([self.present])

    def _make(self) -> AccessKey:
        self._number += 1
        number = self._number
        return AccessKey(f"STS.{number}", f"secret-{number}", f"token-{number}")

    def rotate(self) -> None:
        """The present token expires at once, and there is a new one."""
        self.keyring.expire(self.present.access_key_id)
        self.present = self._make()
        self.keyring.accept(self.present)


class SimulatedChain:
    """Where one process reads credentials; implements ``worker.green.interface.CredentialChain``.

    ``stale``: what it renews is what it had, as where nobody has put the new token in its place.
    """

    def __init__(self, holder: KeyHolder, *, stale: bool) -> None:
        self._holder = holder
        self._stale = stale
        self._known = self._read()

    def _read(self) -> Credential:
        key = self._holder.present
        return Credential(key.access_key_id, key.access_key_secret, key.security_token)

    async def get(self) -> Credential:
        return self._known

    async def renew(self) -> Credential:
        if not self._stale:
            self._known = self._read()
        return self._known
