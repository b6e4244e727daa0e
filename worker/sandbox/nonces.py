"""The nonces seen lately: a signed request is accepted once."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

REMEMBERED_SECONDS = 1800.0
"""A date may be 15 minutes ahead, and is then valid for another 15."""


class Nonces:
    """Which (key, nonce) pairs were used in the last half hour; digests only, to stay small."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def use(self, access_key_id: str, nonce: str, now_seconds: float) -> bool:
        """Remember the nonce; False when it was used before. ``now_seconds`` is wall time."""
        while self._order and self._order[0][0] < now_seconds - REMEMBERED_SECONDS:
            self._seen.discard(self._order.popleft()[1])
        digest = blake2b(f"{access_key_id}\n{nonce}".encode(), digest_size=16).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        self._order.append((now_seconds, digest))
        return True
