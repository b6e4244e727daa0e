"""One request as it reached the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request with its header names in lower case and its target decoded."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    """Repeated headers are joined with ``,``."""
    body: bytes
    seconds: float
    """Monotonic time at which the first bytes of the request were read from the socket."""


def arrival(
    method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes, seconds: float
) -> Arrival:
    """Build an ``Arrival`` from a request line's target and header fields as received."""
    path, _, query = target.partition("?")
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    return Arrival(method, unquote(path), pairs, joined, body, seconds)
