"""Everything a sandbox can be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

import msgspec

from worker.errors import UsageRefused
from worker.sandbox.facts import Facts
from worker.sandbox.faults import FaultRule
from worker.sandbox.keys import SANDBOX_ACCOUNT_ID, SANDBOX_KEY, AccessKey
from worker.sandbox.latency import Latency, NoLatency
from worker.sandbox.quota import Quota
from worker.sandbox.state import Generated
from worker.sandbox.wording import amiss
from worker.spelling import nearest

LOOPBACK = "127.0.0.1"


class SandboxOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox's beginning; the defaults are the service as documented, with an empty library."""

    port: int = 0
    """0 for any free port."""
    host: str = LOOPBACK
    """No other is accepted: an emulator with known keys is not for the network."""
    state: Path | Generated | Mapping[str, Sequence[str]] | None = None
    """The library it begins with: a file, made up, or person to faces; None for an empty one."""
    log: Path | None = None
    """The request log; with the same ``state`` it brings back the world of an earlier life."""
    keep_lines: bool = True
    """Keep the log's lines in memory, for tests; a process of its own never does."""
    account: str = SANDBOX_ACCOUNT_ID
    """What STS, on the same port, says the keys belong to."""
    keys: tuple[AccessKey, ...] = (SANDBOX_KEY,)
    quota: Quota = Quota()
    latency: Latency = NoLatency()
    facts: Facts = Facts()
    faults: tuple[FaultRule, ...] = ()
    seed: int = 0
    """Of random faults and latencies."""
    clock_offset_seconds: float = 0.0
    """How far the sandbox's clock (signatures, ``Date``) is ahead of the machine's."""


def parse_facts(pairs: Iterable[str]) -> Facts:
    """``KEY=VALUE`` for each switch to be set. Raises ``UsageRefused``."""
    given: dict[str, str] = {}
    hints = get_type_hints(Facts, include_extras=True)
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageRefused(
                f"--fact {pair!r} is not a switch and its value",
                "write it as KEY=VALUE; see `facepurge sandbox --list facts`",
            )
        if key not in hints:
            meant = nearest(key, hints)
            raise UsageRefused(
                f"--fact {pair!r}: {key!r} is not the name of a switch",
                f"{f'did you mean {meant}? ' if meant else ''}see `facepurge sandbox --list facts`",
            )
        if expected := amiss(value, hints[key]):
            raise UsageRefused(
                f"--fact {pair!r}: found {value!r}, and {expected} is expected",
                "see `facepurge sandbox --list facts`",
            )
        given[key] = value
    return msgspec.convert(given, Facts, strict=False)
