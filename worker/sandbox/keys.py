"""The key pairs and STS tokens that the sandbox accepts; they can change while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from worker.errors import UsageRefused

SANDBOX_ACCESS_KEY_ID = "LTAI-facepurge-sandbox"
"""The documented key of every sandbox that was given no other; it opens nothing else."""

SANDBOX_ACCESS_KEY_SECRET = "not-a-secret-facepurge-sandbox"  # noqa: S105 (opens only an emulator)
"""The secret that goes with ``SANDBOX_ACCESS_KEY_ID``."""

SANDBOX_ACCOUNT_ID = "1000000000000001"
"""The account of every sandbox that was given no other."""

ID_VARIABLE = "ALIBABA_CLOUD_ACCESS_KEY_ID"
SECRET_VARIABLE = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"  # noqa: S105 (the name of a variable)
TOKEN_VARIABLE = "ALIBABA_CLOUD_SECURITY_TOKEN"  # noqa: S105 (the name of a variable)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair, permanent or (with ``security_token``) issued by STS."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    state: Literal["active", "inactive", "expired"] = "active"
    """``inactive``: disabled by its owner. ``expired``: an STS token past its time."""


SANDBOX_KEY = AccessKey(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET)


class Keyring:
    """The keys in force now. All of them belong to the one account that the sandbox emulates."""

    def __init__(self, keys: Iterable[AccessKey]) -> None:
        self._keys = {key.access_key_id: key for key in keys}

    def find(self, access_key_id: str) -> AccessKey | None:
        return self._keys.get(access_key_id)

    def accept(self, key: AccessKey) -> None:
        """From now on ``key`` is valid; it replaces an older one with the same ID."""
        self._keys[key.access_key_id] = key

    def revoke(self, access_key_id: str) -> None:
        """From now on the key is not found."""
        self._keys.pop(access_key_id, None)

    def disable(self, access_key_id: str) -> None:
        """From now on the key is known and inactive."""
        self._keys[access_key_id] = replace(self._keys[access_key_id], state="inactive")

    def expire(self, access_key_id: str) -> None:
        """From now on the STS token issued with this key has expired."""
        self._keys[access_key_id] = replace(self._keys[access_key_id], state="expired")


def key_from_environment(environ: Mapping[str, str]) -> AccessKey:
    """The key pair that ``environ`` holds, otherwise the sandbox pair.

    Raises ``UsageRefused`` when only half of a pair is set.
    """
    key_id, secret = environ.get(ID_VARIABLE, ""), environ.get(SECRET_VARIABLE, "")
    if bool(key_id) != bool(secret):
        given, missing = (
            (ID_VARIABLE, SECRET_VARIABLE) if key_id else (SECRET_VARIABLE, ID_VARIABLE)
        )
        raise UsageRefused(
            f"the environment has {given} but no {missing}, so the sandbox has no key pair",
            "set both, or neither to use the documented sandbox pair",
        )
    if not key_id:
        return SANDBOX_KEY
    return AccessKey(key_id, secret, environ.get(TOKEN_VARIABLE, ""))
