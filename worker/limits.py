"""Which values of the settings can be acted upon: pure checks, each with a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from worker import canary, halting, timetable
from worker.errors import GateClosed, UsageRefused
from worker.settings import DOCUMENTED_RATE_PER_SECOND, Settings

DAY_SECONDS: Final = 86_400.0

LEAST_LEFT_PER_SECOND: Final = 2.0
"""Calls a second that a reserve must leave to the batch."""

RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "rate_per_second": (0.001, 1_000_000, "calls per second"),
    "concurrency": (1, 5_000, "calls in flight"),
    "reserve_per_second": (0, 1_000_000, "calls per second, 0 for no reserve"),
    "retry_after_cap_seconds": (0.001, DAY_SECONDS, "seconds"),
    "outage_limit_minutes": (0.001, 10_080, "minutes"),
    "connect_timeout_seconds": (0.001, DAY_SECONDS, "seconds"),
    "read_timeout_seconds": (0.001, DAY_SECONDS, "seconds"),
    "total_timeout_seconds": (0.001, DAY_SECONDS, "seconds"),
    "grace_seconds": (0.001, DAY_SECONDS, "seconds"),
    "absence_interval_seconds": (0, 3_600, "seconds"),
    "max_attempts": (1, 100, "attempts"),
    "max_lookups": (1, 100, "lookups"),
    "max_rounds": (1, 100, "rounds"),
    "max_line_bytes": (1_024, 1024**3, "bytes"),
    "max_expanded_bytes": (1_024, 2**62, "bytes"),
    "max_expansion_ratio": (1, 1_000_000, "times the compressed size"),
    "max_delete": (0, 10**12, "faces, 0 for no limit"),
    "max_persons": (0, 10**12, "persons, 0 for no limit"),
    "plan_ttl_hours": (0.001, 8_760, "hours"),
}
"""Setting name to least value, greatest value and unit; every number of the settings is here."""

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+){1,4}")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERIFY = re.compile(r"none|all|sample:[1-9][0-9]{0,11}")
_PART_OF_AN_ID = re.compile(r"[A-Za-z0-9_-]")

_Place = Callable[[str], str]


def check(settings: Settings, origins: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise ``UsageRefused`` (or ``GateClosed``) for the first value that cannot be acted upon.

    ``origins`` names the place of each value, as ``Configuration.origins`` does; a key that is
    missing there is named itself.
    """

    def place(key: str) -> str:
        origin = origins.get(key, "default")
        return key if origin == "default" else origin

    _check_texts(settings, place)
    for key in RANGES:
        _check_range(key, getattr(settings, key), place(key))
    check_rate(
        settings.rate_per_second,
        raised_quota=settings.raised_quota,
        where=place("rate_per_second"),
    )
    _check_deadlines(settings, place)
    _check_input(settings, place)
    _check_belts(settings, place)


def check_rate(rate_per_second: float, *, raised_quota: bool, where: str) -> None:
    """Raise ``UsageRefused`` for a rate out of range, ``GateClosed`` for one above the quota.

    ``where`` is the place of the value, as the message names it.
    """
    _check_range("rate_per_second", rate_per_second, where)
    if rate_per_second > DOCUMENTED_RATE_PER_SECOND and not raised_quota:
        raise GateClosed(
            f"{where}: {rate_per_second:g} calls per second is more than "
            f"the {DOCUMENTED_RATE_PER_SECOND:g} that the service documents for an account",
            "lower the rate, or add --raised-quota (raised_quota = true) if Alibaba Cloud has "
            "raised the quota of this account",
        )


def _check_range(key: str, value: float, where: str) -> None:
    least, greatest, unit = RANGES[key]
    if not (math.isfinite(value) and least <= value <= greatest):
        raise UsageRefused(
            f"{where}: found {value}, and {least:,} to {greatest:,} {unit} is expected",
            "choose a value in this range",
        )


def _check_texts(settings: Settings, place: _Place) -> None:
    texts: dict[str, tuple[str, str]] = {
        key: (place(key), value)
        for key, value in msgspec.structs.asdict(settings).items()
        if isinstance(value, str)
    }
    for table in ("columns", "client_info"):
        for name, value in msgspec.to_builtins(getattr(settings, table)).items():
            texts[f"{table}.{name}"] = (f"{place(table)}: {name}", value)
    for key, (where, text) in texts.items():
        if not text.isprintable() and not (key == "delimiter" and text == "\t"):
            raise UsageRefused(
                f"{where}: the text contains a control character or one that cannot be printed",
                "type the value again by hand",
            )
        if len(text) > 4_096:
            raise UsageRefused(
                f"{where}: the text is {len(text)} characters long, and 4,096 are the most",
                "shorten it",
            )
    if settings.region and not _REGION.fullmatch(settings.region):
        raise UsageRefused(
            f"{place('region')}: {settings.region!r} is not the name of a region",
            "write it as the console does, like cn-shanghai",
        )
    for key in ("endpoint", "sts_endpoint"):
        if "@" in getattr(settings, key):
            raise UsageRefused(
                f"{place(key)}: an address with a user or a password in it is not accepted",
                "write the address alone; credentials come from the Alibaba Cloud credential chain",
            )
    if settings.account_id and not _ACCOUNT.fullmatch(settings.account_id):
        raise UsageRefused(
            f"{place('account_id')}: {settings.account_id!r} is not the ID of an account",
            "write the number that the console shows for the account, in quotes",
        )
    if not _VERIFY.fullmatch(settings.verify):
        raise UsageRefused(
            f"{place('verify')}: found {settings.verify[:40]!r}, and none, all or sample:N is expected",
            "write sample:N with the number of persons to look up again, like sample:100",
        )


def _check_deadlines(settings: Settings, place: _Place) -> None:
    for key in ("connect_timeout_seconds", "read_timeout_seconds"):
        if getattr(settings, key) > settings.total_timeout_seconds:
            raise UsageRefused(
                f"{place(key)}: {getattr(settings, key):g} seconds are longer than the whole call "
                f"may take ({place('total_timeout_seconds')}: {settings.total_timeout_seconds:g})",
                f"lower {key} or raise total_timeout_seconds",
            )


def _check_belts(settings: Settings, place: _Place) -> None:
    halting.parse(settings.halt, place("halt"))
    canary.parse(settings.canary, place("canary"))
    timetable.parse_duration(settings.max_duration, place("max_duration"))
    timetable.parse_spans(settings.window, place("window"))
    timetable.parse_zone(settings.time_zone, place("time_zone"))
    left = settings.rate_per_second - settings.reserve_per_second
    if settings.reserve_per_second and left < LEAST_LEFT_PER_SECOND:
        raise UsageRefused(
            f"{place('reserve_per_second')}: {settings.reserve_per_second:g} of"
            f" {settings.rate_per_second:g} calls per second leave {max(left, 0):g} to the batch, and"
            f" it needs {LEAST_LEFT_PER_SECOND:g} or more: one of them is room for the others' jitter",
            "lower reserve_per_second (--reserve), or run when the others need less",
        )
    if settings.stop_file and settings.stop_file == settings.pause_file:
        raise UsageRefused(
            f"{place('pause_file')}: the file is the stop file as well, and the same file cannot mean"
            " both",
            "name two different files",
        )


def _check_input(settings: Settings, place: _Place) -> None:
    for key in ("person_id_pattern", "face_id_pattern"):
        try:
            matches_nothing = re.compile(getattr(settings, key)).fullmatch("") is not None
        except (re.error, OverflowError, RecursionError) as error:
            raise UsageRefused(
                f"{place(key)}: this is not a regular expression ({error})",
                "correct the pattern; it has to match the whole ID",
            ) from error
        if matches_nothing:
            raise UsageRefused(
                f"{place(key)}: this pattern accepts an empty ID, and an empty ID names nothing",
                "use + or {1,32} where it says * or {0,32}",
            )
    for name, column in settings.columns.items():
        if name not in ("person", "face", "job", "due") or not column:
            raise UsageRefused(
                f"{place('columns')}: {name}={column} is not person=, face=, job= or due= with the "
                "name of a column",
                "write it like person=customer,face=image,job=ticket,due=deadline",
            )
    if len(set(settings.columns.values())) < len(settings.columns):
        raise UsageRefused(
            f"{place('columns')}: two of person, face, job and due name the same column",
            "name a column of its own for each",
        )
    delimiter = settings.delimiter
    if len(delimiter) > 1:
        raise UsageRefused(
            f"{place('delimiter')}: {delimiter!r} is not one character",
            "give one character, like ';'; for tabs use --format tsv",
        )
    if delimiter and (
        _PART_OF_AN_ID.match(delimiter) or delimiter in '"\\ ' or not delimiter.isascii()
    ):
        raise UsageRefused(
            f"{place('delimiter')}: {delimiter!r} cannot separate columns, because IDs or quoting "
            "use it",
            "export the file with another delimiter, like ',' or ';'",
        )
