"""Times that answers carry: the server's clock, and how long it asks to be left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


def server_time_us(headers: Mapping[str, str]) -> int | None:
    """The ``Date`` header in microseconds since the epoch; None where there is none to read."""
    return _http_date_us(headers.get("date", ""))


def retry_after_seconds(
    headers: Mapping[str, str], received_us: int, cap_seconds: float
) -> float | None:
    """The longer of ``x-acs-retry-after`` (milliseconds) and ``Retry-After``, from 0 to the cap.

    ``Retry-After`` is a number of seconds or an HTTP date, which is taken relative to the server's
    own ``Date`` where it has one. None where neither can be read. Alibaba Cloud's SDKs read the
    first; whether Content Moderation sends either is not documented.
    """
    hints = []
    if _NUMBER.fullmatch(milliseconds := headers.get("x-acs-retry-after", "").strip()):
        hints.append(float(milliseconds) / 1000)
    if _NUMBER.fullmatch(after := headers.get("retry-after", "").strip()):
        hints.append(float(after))
    elif (date_us := _http_date_us(after)) is not None:
        now_us = server_time_us(headers)
        hints.append((date_us - (received_us if now_us is None else now_us)) / 1_000_000)
    return min(max(*hints, 0.0), cap_seconds) if hints else None


def _http_date_us(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1_000_000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
