"""The settings under which a plan is carried out: what binds, and what may still be said.

What was planned is what runs, so every setting binds unless it is named here: another value is a
difference. A new setting therefore binds until somebody says that it does not change what is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from worker.cli.planning import anchored
from worker.configuration import Configuration
from worker.settings import Settings
from worker.timetable import ALWAYS

SESSION: Final = frozenset(
    {
        "allow_endpoint",
        "sts_endpoint",
        "ca_file",
        "raised_quota",
        "concurrency",
        "retry_after_cap_seconds",
        "outage_limit_minutes",
        "connect_timeout_seconds",
        "read_timeout_seconds",
        "total_timeout_seconds",
        "grace_seconds",
        "max_duration",
        "stop_file",
        "pause_file",
        "report_format",
        "log_format",
    }
)
"""About this session only: how the work is done, not what is sent or claimed."""

CEILINGS: Final = frozenset({"max_delete", "max_persons", "plan_ttl_hours"})
"""May be lowered, never raised; 0 is no ceiling."""

FLOORS: Final = frozenset({"reserve_per_second"})
"""May be raised, never lowered."""

BELTS: Final = frozenset({"require_excludes", "halt", "canary", "window"})
"""May be put on where the plan has none, never taken off or changed."""

HOURS: Final = frozenset({"time_zone", "outside_window"})
"""Say what a window means: they bind where the plan has one, and go with the one put on otherwise."""

TARGET: Final = frozenset({"region", "endpoint", "network", "account_id"})
"""Compared by the address and the account that they come to."""

ELSEWHERE: Final = frozenset({"run_dir"})
"""A plan is its own run directory."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings in force for a plan, and what was said against it."""

    settings: Settings
    differences: tuple[str, ...]
    """One sentence each."""


def terms(planned: Settings, typed: Collection[str], given: Configuration) -> Terms:
    """What the settings of a plan are, now that ``given`` was said beside it.

    ``typed`` are the settings that the planning was given by flag: they win over a file or a
    variable of today, as they won when the plan was made, except where that narrows the plan: a
    lower ceiling, a higher floor or a belt is heard from wherever it comes. Nothing is checked here.
    """
    default, now = Settings(), anchored(given.settings)
    said: dict[str, Any] = {}
    differences: list[str] = []
    for key, origin in given.origins.items():
        value, stands = getattr(now, key), getattr(planned, key)
        by_flag = origin.startswith("--")
        # A file that merely repeats the defaults, as the reference does, says nothing.
        if value == stands or not (by_flag or value != getattr(default, key)):
            continue
        is_overruled = not by_flag and key in typed
        if key in SESSION:
            if not is_overruled:
                said[key] = value
        elif (key in BELTS and stands == getattr(default, key)) or (
            key in HOURS and planned.window == ALWAYS
        ):
            said[key] = value
        elif key in CEILINGS:
            if value < stands or not stands:
                said[key] = value
            elif by_flag:
                differences.append(
                    f"{origin}: the plan allows {shown(stands)}, and {shown(value)} is more"
                )
        elif key in FLOORS:
            if value > stands:
                said[key] = value
            elif by_flag:
                differences.append(
                    f"{origin}: the plan keeps {shown(stands)}, and {shown(value)} is less"
                )
        elif key not in TARGET | ELSEWHERE and not is_overruled:
            differences.append(
                f"{origin}: the plan has {shown(stands)}, and this says {shown(value)}"
            )
    said |= _target(planned, typed, given)
    return Terms(msgspec.structs.replace(planned, **said), tuple(differences))


def _target(planned: Settings, typed: Collection[str], given: Configuration) -> dict[str, Any]:
    """Where the calls would go by what is said now; a region said now is not the plan's endpoint."""
    said: dict[str, Any] = {}
    address = {"region", "endpoint", "network"}
    for keys in (address, {"account_id"}):
        was_typed = not keys.isdisjoint(typed)
        for key in keys:
            origin, value = given.origins[key], getattr(given.settings, key)
            is_said = origin.startswith("--") or (
                not was_typed and value != getattr(Settings(), key)
            )
            if is_said and value != getattr(planned, key):
                said[key] = value
    if "region" in said and "endpoint" not in said:
        said["endpoint"] = ""
    if "endpoint" in said and "region" not in said:
        said["region"] = ""
    return said


def shown(value: object) -> str:
    """A setting's value as a person would say it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, msgspec.Struct):
        return shown(msgspec.to_builtins(value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text}" for key, text in value.items()) or "nothing"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "nothing"
