"""The options of ``facepurge sandbox`` as a ``SandboxOptions``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.errors import UsageRefused
from worker.sandbox.faults import FaultRule, parse_rule, read_rules
from worker.sandbox.keys import key_from_environment
from worker.sandbox.latency import parse_latency
from worker.sandbox.options import SandboxOptions, parse_facts
from worker.sandbox.quota import Quota
from worker.sandbox.state import Generated, parse_generated
from worker.sandbox.throttle import Throttle

_MOST_OFFSET_SECONDS = 86_400_000.0


def options_from_flags(flags: Mapping[str, Any], environ: Mapping[str, str]) -> SandboxOptions:
    """What the command line asks for; the keys are the flags with ``_`` for ``-``.

    Raises ``UsageRefused`` and ``InputRefused``.
    """
    return SandboxOptions(
        port=flags["port"],
        state=_state(flags),
        log=Path(flags["log"]) if flags["log"] else None,
        account=_account(flags["account"]),
        keys=(key_from_environment(environ),),
        quota=_quota(flags),
        latency=parse_latency(flags["latency"]),
        facts=parse_facts(flags["fact"]),
        faults=_faults(flags),
        seed=flags["seed"],
        clock_offset_seconds=_clock_offset_seconds(flags),
    )


def _account(account: str) -> str:
    if not re.fullmatch(r"[0-9]{1,64}", account, re.ASCII):
        raise UsageRefused(
            f"--account {account[:40]!r} is not the number of an account", "give digits only"
        )
    return account


def _state(flags: Mapping[str, Any]) -> Path | Generated | None:
    if flags["generate"]:
        return parse_generated(flags["generate"], flags["seed"])
    return Path(flags["state"]) if flags["state"] else None


def _clock_offset_seconds(flags: Mapping[str, Any]) -> float:
    seconds = float(flags["clock_offset"])
    if not abs(seconds) <= _MOST_OFFSET_SECONDS:  # also for what is not a number
        raise UsageRefused(
            f"--clock-offset {seconds} is more than a thousand days", "give fewer seconds"
        )
    return seconds


def _quota(flags: Mapping[str, Any]) -> Quota:
    if flags["quota_burst"] and flags["quota"] != "bucket":
        raise UsageRefused(
            f"--quota-burst {flags['quota_burst']}: only a bucket saves up calls, and the quota is"
            f" {flags['quota']}",
            "add --quota bucket, or leave out --quota-burst",
        )
    return Quota(
        window=flags["quota"],
        calls_per_second=flags["quota_rate"],
        burst=flags["quota_burst"],
        shared=flags["quota_shared"],
        count_throttled=flags["quota_count_throttled"],
        throttle=Throttle(
            form=flags["throttle"],
            retry_after=flags["retry_after"],
            acs_retry_after=flags["acs_retry_after"],
        ),
    )


def _faults(flags: Mapping[str, Any]) -> tuple[FaultRule, ...]:
    rules = [parse_rule(text) for text in flags["fault"]]
    for path in flags["faults"]:
        rules += read_rules(Path(path))
    return tuple(rules)
