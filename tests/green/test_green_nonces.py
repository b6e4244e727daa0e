"""Nonces that are drawn many at a time."""

from __future__ import annotations

import re
from random import Random, SystemRandom

from worker.green.nonces import DRAWN_AT_ONCE, Nonces


class Counted(Random):
    """Small numbers, as may come by chance, and how often it was asked."""

    asked = 0

    def getrandbits(self, bits: int, /) -> int:
        self.asked += 1
        return super().getrandbits(bits) >> 100


def test_no_nonce_comes_twice() -> None:
    nonces = Nonces(SystemRandom())
    drawn = [nonces.draw() for _ in range(10 * DRAWN_AT_ONCE + 1)]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in drawn)


def test_many_are_drawn_at_once() -> None:
    randomness = Counted(1)
    nonces = Nonces(randomness)
    drawn = [nonces.draw() for _ in range(2 * DRAWN_AT_ONCE)]
    assert randomness.asked == 2
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in drawn), "leading zeros are digits"
    assert len(set(drawn)) == len(drawn)
