"""What can go wrong on purpose, and for which requests.

A fault is one of the small values below; a rule says which requests it strikes. Both are written as
``reset at=half applies=before nth=3`` on the command line, and as a JSON object with the same keys
in a file of rules.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import msgspec

from worker.errors import InputRefused, UsageRefused
from worker.sandbox.throttle import ThrottleForm
from worker.sandbox.wording import amiss
from worker.spelling import nearest


class _Fault(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="fault"
):
    """What all faults share.

    ``applies`` says whether the service did what it was asked to do, whatever it answers.
    """

    applies: Literal["before", "never"] = "before"


class Reset(_Fault, frozen=True, tag="reset"):
    """RST instead of an answer, or in the middle of it."""

    at: Literal["start", "half"] = "start"


class Silence(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="fault",
    tag="silence",
):
    """Never answers; applies late after the client has closed the connection."""

    applies: Literal["late", "before", "never"] = "late"
    late_seconds: float = 0.0
    """Between the client's giving up and the change."""


class Drip(_Fault, frozen=True, tag="drip"):
    """The right answer, one byte at a time."""

    interval_seconds: float = 1.0


class Cut(_Fault, frozen=True, tag="cut"):
    """An answer that ends too early.

    A Content-Length longer than the body, a complete HTTP answer with half of the JSON, or chunks
    without their end.
    """

    form: Literal["length", "json", "chunked"] = "length"


class Body(_Fault, frozen=True, tag="body"):
    """HTTP 200 with something else than the documented answer."""

    form: Literal["html", "null", "no-data", "data-null", "empty"] = "html"


class Html(_Fault, frozen=True, tag="html"):
    """A page of some proxy on the way."""

    status: int = 502


class ServiceCode(_Fault, frozen=True, tag="service-code"):
    """A code of the service, outside (``code``) or inside (``data.code``).

    ``filled`` keeps the data of a good answer beside it, ``faceIds`` included.
    """

    code: int = 500
    place: Literal["outer", "inner"] = "outer"
    filled: bool = False
    status: int = 200


class GatewayCode(_Fault, frozen=True, tag="gateway-code"):
    """A refusal by the gateway."""

    applies: Literal["never", "before"] = "never"
    code: str = "Forbidden.RAM"
    status: int = 0
    """0 stands for the code's usual HTTP status."""


class Throttled(_Fault, frozen=True, tag="throttle"):
    """A refusal like that of the quota (``worker.sandbox.throttle.Throttle``)."""

    applies: Literal["never", "before"] = "never"
    form: ThrottleForm = "gateway-400"
    retry_after: str = ""
    acs_retry_after: str = ""
    wait_seconds: float = 1.0
    """What ``auto`` and ``date`` hints say."""


class Partial(_Fault, frozen=True, tag="partial"):
    """Only the first half of the faces is listed; ``applies`` says what happened to the others."""

    applies: Literal["never", "before"] = "never"


class Swapped(_Fault, frozen=True, tag="swapped"):
    """A good answer that names another person, or a face nobody asked for."""

    form: Literal["person", "face"] = "person"


class CountMismatch(_Fault, frozen=True, tag="count-mismatch"):
    """A good answer whose ``deleteCount`` is one too high."""


class Flood(_Fault, frozen=True, tag="flood"):
    """The right answer behind a flood of blanks, plain or compressed, or of header bytes."""

    form: Literal["body", "gzip", "headers"] = "body"
    size_bytes: int = 0
    """0 stands for 1 GiB, or 1 MiB of headers."""


class Redirect(_Fault, frozen=True, tag="redirect"):
    """A redirect that nobody may follow."""

    applies: Literal["never", "before"] = "never"
    status: int = 307
    location: str = ""
    """``""`` stands for ``/redirected`` on the sandbox itself, where an arrival is logged."""


class Lie(_Fault, frozen=True, tag="lie"):
    """The right answer, although nothing of it is done."""

    applies: Literal["never"] = "never"


Fault = (
    Reset
    | Silence
    | Drip
    | Cut
    | Body
    | Html
    | ServiceCode
    | GatewayCode
    | Throttled
    | Partial
    | Swapped
    | CountMismatch
    | Flood
    | Redirect
    | Lie
)

FAULTS: tuple[type[Fault], ...] = get_args(Fault)

_BY_NAME: Final = {str(kind.__struct_config__.tag): kind for kind in FAULTS}


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests a fault strikes: those let through by the gateway and the quota that match.

    ``nth`` counts the matching requests from 1, also over restarts with the same request log.
    """

    operation: str = "DeleteFaces"
    """An action name, or ``*`` for every operation."""
    person: str = ""
    """A person ID, or ``""`` for every person."""
    nth: int = 1
    every: int = 1
    """Of these, each second, third and so on."""
    count: int | None = None
    """How many of these; 0 for all that follow; by default 1, or all with a probability or every."""
    probability: float = 1.0
    after_seconds: float = 0.0
    """Time since the sandbox started."""
    until_seconds: float = 0.0
    """0 for no end."""


class FaultRule(msgspec.Struct, frozen=True):
    """A fault and the requests it strikes."""

    fault: Fault
    rule: Rule = Rule()


class Script:
    """The rules in force; they may be changed while the sandbox runs."""

    def __init__(self, rules: Iterable[FaultRule], seed: int) -> None:
        self._rules: list[tuple[FaultRule, list[int]]] = []
        self._random = random.Random(seed)  # noqa: S311 (a reproducible series, not a secret)
        for rule in rules:
            self.add(rule)

    def add(self, rule: FaultRule) -> None:
        """From now on ``rule`` counts the matching requests; earlier rules go first."""
        self._rules.append((rule, [0]))

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self._rules.clear()

    def strike(self, operation: str, person_id: str, since_start_seconds: float) -> Fault | None:
        """The fault for this request. Every rule that matches counts it, also beside another."""
        struck: Fault | None = None
        for fault_rule, seen in self._rules:
            rule = fault_rule.rule
            if rule.operation not in {"*", operation} or rule.person not in {"", person_id}:
                continue
            seen[0] += 1
            drawn = self._random.random() if rule.probability < 1.0 else 0.0
            if struck is None and _strikes(rule, seen[0], drawn, since_start_seconds):
                struck = fault_rule.fault
        return struck


def _strikes(rule: Rule, number: int, drawn: float, since_start_seconds: float) -> bool:
    once = rule.probability >= 1.0 and rule.every == 1
    count = rule.count if rule.count is not None else int(once)
    turn, off = divmod(number - rule.nth, max(rule.every, 1))
    return (
        number >= rule.nth
        and off == 0
        and (count == 0 or turn < count)
        and drawn < rule.probability
        and since_start_seconds >= rule.after_seconds
        and (rule.until_seconds == 0.0 or since_start_seconds < rule.until_seconds)
    )


def describe(fault: Fault | None) -> str:
    """The fault as the command line spells it, without what is default; ``""`` for None."""
    if fault is None:
        return ""
    words = msgspec.to_builtins(fault)
    default = msgspec.to_builtins(type(fault)())
    return " ".join(
        [words["fault"], *(f"{key}={words[key]}" for key in words if words[key] != default[key])]
    )


def parse_rule(text: str) -> FaultRule:
    """``FAULT [KEY=VALUE ...]`` with the keys of the fault and of ``Rule``.

    Raises ``UsageRefused``.
    """
    name, *words = text.split() or [""]
    document: dict[str, Any] = {"fault": name}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UsageRefused(
                f"--fault {text!r}: {word!r} is not KEY=VALUE",
                "see `facepurge sandbox --list faults`",
            )
        document[key] = value
    try:
        return _rule(document)
    except _Misspelt as misspelt:
        raise UsageRefused(f"--fault {text!r}: {misspelt.cause}", misspelt.remedy) from None


def read_rules(path: Path) -> tuple[FaultRule, ...]:
    """A JSON array of objects with the keys of ``parse_rule``. Raises ``InputRefused``."""
    try:
        documents = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except OSError as error:
        raise InputRefused(
            f"{path}: the fault rules cannot be read ({error.strerror})", "name a readable file"
        ) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputRefused(
            f"{path}: this is not a JSON array of fault rules",
            'write [{"fault": "reset", "nth": 3}, ...]',
        ) from error
    rules: list[FaultRule] = []
    for number, document in enumerate(documents, start=1):
        try:
            rules.append(_rule(document))
        except _Misspelt as misspelt:
            raise InputRefused(
                f"{path}: rule number {number}: {misspelt.cause}", misspelt.remedy
            ) from None
    return tuple(rules)


class _Misspelt(Exception):
    """A rule that is none: why, and what may have been meant."""

    def __init__(self, cause: str, meant: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        hint = f"did you mean {meant}? " if meant else ""
        self.remedy = f"{hint}see `facepurge sandbox --list faults`"


def _rule(document: dict[str, Any]) -> FaultRule:
    """The rule that ``document`` says; raises ``_Misspelt``."""
    name = document.get("fault", "")
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        meant = nearest(name, _BY_NAME) if isinstance(name, str) else ""
        raise _Misspelt(f"{name!r} is not the name of a fault", meant)
    hints = {**get_type_hints(Rule), **get_type_hints(kind)}
    keys = (*kind.__struct_fields__, *Rule.__struct_fields__)
    for key, value in document.items():
        if key == "fault":
            continue
        if key not in keys:
            raise _Misspelt(
                f"{key!r} is not one of the keys of {name}: {', '.join(keys)}", nearest(key, keys)
            )
        if expected := amiss(value, hints[key]):
            raise _Misspelt(f"{key} is {value!r}, and {expected} is expected")
    of_rule = {key: document[key] for key in Rule.__struct_fields__ if key in document}
    of_fault = {key: value for key, value in document.items() if key not in of_rule}
    fault: Fault = msgspec.convert(of_fault, Fault, strict=False)
    return FaultRule(fault, msgspec.convert(of_rule, Rule, strict=False))
