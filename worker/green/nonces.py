"""Nonces: a number for each attempt that no other attempt has, in this run or any other."""

from __future__ import annotations

from random import Random
from typing import Final

BITS: Final = 128
DIGITS: Final = BITS // 4

DRAWN_AT_ONCE: Final = 64
"""The system is asked for so many together: each question is a system call, during which another thread
takes over."""


class Nonces:
    """Draws them from ``randomness``: ``random.SystemRandom``, except in a simulation."""

    def __init__(self, randomness: Random) -> None:
        self._randomness = randomness
        self._drawn: list[str] = []

    def draw(self) -> str:
        """One that was never drawn before: 32 hexadecimal digits. From one thread at a time."""
        if not self._drawn:
            digits = (
                f"{self._randomness.getrandbits(BITS * DRAWN_AT_ONCE):0{DIGITS * DRAWN_AT_ONCE}x}"
            )
            self._drawn = [
                digits[start : start + DIGITS] for start in range(0, len(digits), DIGITS)
            ]
        return self._drawn.pop()
