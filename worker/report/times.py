"""Instants as reports write them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=1024)
def _second(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# Faces of one call share their times, and every time is written to two files.
@lru_cache(maxsize=8192)
def iso_utc(epoch_us: int) -> str:
    """Microseconds since the epoch as ``2026-01-31T23:59:59.123Z``; cut, never rounded up."""
    seconds, micros = divmod(epoch_us, 1_000_000)
    return f"{_second(seconds)}.{micros // 1000:03d}Z"
