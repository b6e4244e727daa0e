"""Lays flags over the environment over a file over the defaults, and says where each value came from.

Precedence: flags, then ``FACEPURGE_*`` variables, then the TOML file named by ``--config`` (or by
``FACEPURGE_CONFIG``), then the defaults of ``worker.settings``. Nothing is guessed: an unknown key
is refused with the nearest known one, and credentials are refused wherever they appear.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec

from worker.errors import UsageRefused
from worker.limits import check
from worker.settings import ClientInfo, Settings
from worker.spelling import nearest
from worker.toml_file import TomlFile

PREFIX: Final = "FACEPURGE_"
CONFIG_VARIABLE: Final = "FACEPURGE_CONFIG"
"""Names the configuration file where ``--config`` is not given; not a setting itself."""

TYPES: Final[Mapping[str, Any]] = MappingProxyType(
    {field.name: field.type for field in msgspec.structs.fields(Settings)}
)
CLIENT_INFO_KEYS: Final = tuple(field.name for field in msgspec.structs.fields(ClientInfo))

_CREDENTIAL = re.compile(r"accesskey|secret|token|password|passwd|credential|signingkey")


class Given(NamedTuple):
    """A value from one layer, and the place a person can change it at."""

    value: object
    place: str
    """``--rate``, ``FACEPURGE_RATE_PER_SECOND`` or ``purge.toml:12: rate_per_second``."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings in force, and for each key where its value was found."""

    settings: Settings
    origins: Mapping[str, str]
    """Setting name to place; ``default`` where nobody said anything."""

    @property
    def changes(self) -> str:
        """How many settings are not what they would be if nobody had said anything, in words."""
        default = msgspec.structs.asdict(Settings())
        now = msgspec.structs.asdict(self.settings)
        count = sum(now[key] != default[key] for key in default)
        return f"{count} of {len(default)} settings {'is' if count == 1 else 'are'} not default"


def load(
    flags: Mapping[str, Given],
    environment: Mapping[str, str],
    file: str | None = None,
    *,
    known_flags: Mapping[str, str] = MappingProxyType({}),
) -> Configuration:
    """The configuration in force.

    ``flags`` holds only what was given on the command line, by setting name, already typed;
    ``file`` is the path after ``--config``, or None. ``known_flags`` are all that a verb takes, by
    their names without dashes, with the setting of each or ``""``: whoever knows a flag looks for its
    variable and its key under the same name.
    Raises ``UsageRefused`` for anything unreadable, unknown or out of its limits, and
    ``GateClosed`` for a rate above the documented one without ``raised_quota``.
    """
    layers = _from_environment(environment, known_flags)
    path = file or environment.get(CONFIG_VARIABLE) or None
    given = {**(_from_file(Path(path), known_flags) if path else {}), **layers, **flags}
    values = {key: _typed(key, item) for key, item in given.items()}
    origins = {key: given[key].place if key in given else "default" for key in TYPES}
    settings = msgspec.structs.replace(Settings(), **values)
    check(settings, origins)
    return Configuration(settings, MappingProxyType(origins))


def looks_like_credential(name: str) -> bool:
    """Whether a key, variable or flag of this name would hold a secret."""
    return _CREDENTIAL.search(re.sub(r"[^a-z]", "", name.lower())) is not None


def credential_refused(place: str) -> UsageRefused:
    """The refusal for a credential at ``place``; its value is never shown."""
    return UsageRefused(
        f"{place}: credentials are not taken from here, so that they end up in no file, "
        "process list or log of this program",
        "remove it; the Alibaba Cloud credential chain is used: ALIBABA_CLOUD_ACCESS_KEY_ID and "
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET in the environment, OIDC, the CLI's profile, a "
        "credentials file, the ECS role or a credentials URI",
    )


def _meant(name: str, known: list[str]) -> str:
    """``did you mean ...?`` with the nearest known name, or all of them when none is near."""
    meant = nearest(name, known)
    return f"did you mean {meant}?" if meant else f"the known ones are {', '.join(known)}"


def _meant_setting(key: str, known_flags: Mapping[str, str], spelt: Callable[[str], str]) -> str:
    """The same of an unknown setting, which may be the name of a flag; ``spelt`` as its place has it."""
    flag = "--" + key.replace("_", "-")
    setting = known_flags.get(key)
    if setting == "":
        return f"{flag} is a flag only: give it with the command"
    if setting:
        return f"did you mean {spelt(setting)}, which is what {flag} sets?"
    meant = nearest(key, [*TYPES, *known_flags])
    if meant in TYPES:
        return f"did you mean {spelt(meant)}?"
    if meant:
        # A misspelt flag: it is told by the right name what becomes of it.
        return _meant_setting(meant, known_flags, spelt)
    return f"the known ones are {', '.join(map(spelt, TYPES))}"


def pairs(text: str, place: str) -> dict[str, str]:
    """``name=value,name=value`` as a table; raises ``UsageRefused``."""
    table: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise UsageRefused(
                f"{place}: found {_shown(part)} where name=value is expected",
                f"write it as in {place}{'=' if place.startswith(PREFIX) else ' '}name=value,name=value",
            )
        if name in table:
            raise UsageRefused(f"{place}: {name} is given twice", "keep one of the two")
        table[name] = value
    return table


def _variable(key: str) -> str:
    return PREFIX + key.upper()


def _from_environment(
    environment: Mapping[str, str], known_flags: Mapping[str, str]
) -> dict[str, Given]:
    found: dict[str, Given] = {}
    known = {*map(_variable, TYPES), CONFIG_VARIABLE}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            if looks_like_credential(variable):
                raise credential_refused(variable)
            key = variable.removeprefix(PREFIX).lower()
            raise UsageRefused(
                f"{_shown(variable)}: this environment variable is not known",
                f"{_meant_setting(key, {**known_flags, 'config': 'config'}, _variable)}"
                " (unset it if it is not meant for this program)",
            )
        if not environment[variable]:
            raise UsageRefused(
                f"{variable}: it is set but empty, which would silently drop what it should say",
                "give it a value or unset it",
            )
        if variable != CONFIG_VARIABLE:
            key = variable.removeprefix(PREFIX).lower()
            found[key] = Given(_parsed(key, environment[variable], variable), variable)
    return found


def _parsed(key: str, text: str, variable: str) -> object:
    """The text of a variable as the type its setting has."""
    kind = TYPES[key]
    if kind is bool:
        if text not in ("true", "false"):
            raise _mistyped(variable, key, _shown(text))
        return text == "true"
    if kind is int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise _mistyped(variable, key, _shown(text))
        return int(text)
    if kind is float:
        if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", text):
            raise _mistyped(variable, key, _shown(text))
        return float(text)
    if key in ("columns", "client_info"):
        return pairs(text, variable)
    return text


def _from_file(path: Path, known_flags: Mapping[str, str]) -> dict[str, Given]:
    toml = TomlFile(path)
    found: dict[str, Given] = {}
    for key, value in toml.table.items():
        place = toml.place(key)
        for name in (key, *(value if isinstance(value, dict) and key not in TYPES else ())):
            if looks_like_credential(name):
                raise credential_refused(toml.place(name))
        if key not in TYPES:
            raise UsageRefused(
                f"{place}: this key is not known",
                _meant_setting(key, known_flags, str)
                + (
                    " (the tables are [columns] and [client_info])"
                    if isinstance(value, dict)
                    else ""
                ),
            )
        found[key] = Given(value, place)
    return found


def _typed(key: str, given: Given) -> object:
    """The value, if it has exactly the type of its setting; a whole number may stand for a float."""
    value, place = given
    kind = TYPES[key]
    if key in ("columns", "client_info"):
        table = _text_table(key, value, place)
        return ClientInfo(**table) if key == "client_info" else table
    if kind is float and type(value) is int:
        # Beyond any limit anyway, and too long for a float.
        return float(value) if abs(value) < 10**18 else math.inf
    choices = get_args(kind) if get_origin(kind) is Literal else None
    if (value not in choices) if choices else type(value) is not kind:
        raise _mistyped(place, key, _shown(value))
    return value


def _text_table(key: str, value: object, place: str) -> dict[str, str]:
    known = ["person", "face", "job", "due"] if key == "columns" else list(CLIENT_INFO_KEYS)
    if not isinstance(value, dict):
        raise _mistyped(place, key, _shown(value))
    for name, text in value.items():
        if name not in known:
            if looks_like_credential(name):
                raise credential_refused(f"{place}: {name}")
            raise UsageRefused(
                f"{place}: {_shown(name)} is not one of its names", _meant(name, known)
            )
        if not isinstance(text, str):
            raise UsageRefused(
                f"{place}: {name} is {_shown(text)}, and text is expected", "put it in quotes"
            )
    return dict(value)


def _mistyped(place: str, key: str, found: str) -> UsageRefused:
    kind = TYPES[key]
    remedies: dict[Any, tuple[str, str]] = {
        bool: ("true or false", "write true or false, without quotes"),
        int: ("a whole number", "write digits only: no quotes, units or separators"),
        float: ("a number", "write it like 19.8: no quotes, units or separators"),
        str: ("text", "put the value in quotes"),
    }
    if key in ("columns", "client_info"):
        expected, remedy = (
            "a table of names and texts",
            f"write a table [{key}] with one name a line",
        )
    elif get_origin(kind) is Literal:
        words = [word for word in get_args(kind) if word]
        expected = "one of " + ", ".join(words)
        remedy = "write one of these words"
    else:
        expected, remedy = remedies[kind]
    return UsageRefused(f"{place}: found {found}, and {expected} is expected", remedy)


def _shown(value: object) -> str:
    """The value as a message may show it: on one line, short, without control characters."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."
