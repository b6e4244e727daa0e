"""Instants as reports write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


@lru_cache(maxsize=1024)
def _second(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def iso_utc(epoch_us: int) -> str:
    """Microseconds since the epoch as ``2026-01-31T23:59:59.123Z``; cut, never rounded up."""
    return _second(epoch_us // 1_000_000) + _MILLISECONDS[epoch_us // 1000 % 1000]


def iso_utc_column(epochs_us: Sequence[int | None]) -> list[str]:
    """``iso_utc`` over a column, ``""`` where there is None."""
    if None in epochs_us:
        return ["" if us is None else iso_utc(us) for us in epochs_us]
    milliseconds = [us // 1000 for us in epochs_us if us is not None]
    return [_second(ms // 1000) + _MILLISECONDS[ms % 1000] for ms in milliseconds]
