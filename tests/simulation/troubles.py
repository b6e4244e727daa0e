"""What can go wrong with one request: its kinds, and how each is drawn.

A lookup never lies: no kind makes it omit a face that is there, or deny a person who is. That it
still shows faces deleted a moment ago is a property of the library, not a kind of trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final, Literal

from worker.green.operations import DELETE_FACES, GET_PERSON
from worker.sandbox.faults import (
    Body,
    CountMismatch,
    Cut,
    Drip,
    Fault,
    Flood,
    GatewayCode,
    Html,
    Partial,
    Redirect,
    Reset,
    ServiceCode,
    Silence,
    Swapped,
    Throttled,
)
from worker.sandbox.throttle import ThrottleForm


@dataclass(frozen=True, slots=True)
class Unreached:
    """No connection: nothing leaves."""

    code: str
    after_seconds: float


@dataclass(frozen=True, slots=True)
class ClosedBeforeSend:
    """The connection is gone when the slot comes: nothing leaves."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It leaves and never arrives; the connection is reset."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """It arrives only after its sender has given up."""

    seconds: float
    """From the giving up to the arrival."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The network delivers it twice, and one of the two answers comes back."""

    second_answers: bool
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Spoiled:
    """It arrives, and the service or the way back spoils the answer."""

    fault: Fault


Trouble = Unreached | ClosedBeforeSend | Lost | Delayed | Repeated | Spoiled


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a kind of trouble has to know of the request that it meets."""

    operation: str
    unknown_person: str
    """How the sender reads an answer about an unknown person (``Settings.unknown_person``)."""


Draw = Callable[[Random, Circumstances], Trouble | None]


Applies = Literal["before", "never"]
APPLIES: tuple[Applies, ...] = ("before", "never")
PLACES: tuple[Literal["outer", "inner"], ...] = ("outer", "inner")
BODIES: tuple[Literal["html", "null", "no-data", "data-null", "empty"], ...] = (
    "html",
    "null",
    "no-data",
    "data-null",
    "empty",
)
IN_THE_BODY: tuple[ThrottleForm, ...] = ("service-200", "service-588")
BY_THE_GATEWAY: tuple[ThrottleForm, ...] = ("gateway-400", "gateway-400", "gateway-503")
BY_STATUS: tuple[ThrottleForm, ...] = ("gateway-429", "http-429")


def _applies(random: Random) -> Applies:
    return random.choice(APPLIES)


def _refused(_random: Random, _: Circumstances) -> Trouble:
    return Unreached("connection_refused", 0.001)


def _dns(random: Random, _: Circumstances) -> Trouble:
    return Unreached("dns_failed", random.uniform(0.01, 5.0))


def _connect_timeout(_random: Random, _: Circumstances) -> Trouble:
    return Unreached("connect_timeout", 10.0)


def _tls(_random: Random, _: Circumstances) -> Trouble:
    return Unreached("tls_failed", 0.2)


def _closed(_random: Random, _: Circumstances) -> Trouble:
    return ClosedBeforeSend()


def _lost(_random: Random, _: Circumstances) -> Trouble:
    return Lost()


def _delayed(random: Random, _: Circumstances) -> Trouble:
    return Delayed(random.expovariate(1 / 15.0))


def _repeated(random: Random, _: Circumstances) -> Trouble:
    return Repeated(random.random() < 0.7, random.expovariate(1 / 0.05))


def _reset_before(_random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Reset(applies="never"))


def _reset_after(_random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Reset())


def _half(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(random.choice((Reset(at="half"), Cut(form="length"), Cut(form="chunked"))))


def _cut_json(_random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Cut(form="json"))


def _silence(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Silence(applies=random.choice(("before", "never"))))


def _late(random: Random, _: Circumstances) -> Trouble:
    # Up to long after the lookups that follow the giving up.
    return Spoiled(Silence(applies="late", late_seconds=random.expovariate(1 / 20.0)))


def _drip(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Drip(applies=_applies(random)))


def _flood(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Flood(applies=_applies(random)))


def _page(random: Random, _: Circumstances) -> Trouble:
    status = random.choice((502, 502, 503, 504, 500, 404, 400, 403))
    return Spoiled(Html(applies=_applies(random), status=status))


def _nothing(random: Random, now: Circumstances) -> Trouble | None:
    form = random.choice(BODIES)
    if now.operation == GET_PERSON.action and now.unknown_person == "empty-data":
        # To this sender a good answer without data says that there is no such person.
        form = "null"
    return Spoiled(Body(applies=_applies(random), form=form))


def _failure(random: Random, _: Circumstances) -> Trouble:
    code = random.choice((500, 580, 581, 585, 503, 586, 587, 591, 280))
    place = random.choice(PLACES)
    status = random.choice((200, 200, code))
    return Spoiled(ServiceCode(applies=_applies(random), code=code, place=place, status=status))


def _contradiction(random: Random, _: Circumstances) -> Trouble:
    place = random.choice(PLACES)
    return Spoiled(ServiceCode(applies=_applies(random), code=500, place=place, filled=True))


def _gateway_failure(random: Random, _: Circumstances) -> Trouble:
    code = random.choice(("InternalError", "ServiceUnavailable", "SomethingNew"))
    return Spoiled(GatewayCode(applies=_applies(random), code=code))


def _throttled_588(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Throttled(form=random.choice(IN_THE_BODY)))


def _throttled_gateway(random: Random, _: Circumstances) -> Trouble:
    hint = random.choice(("", "", "auto", "date", "0", "-5", "soon", "3"))
    milliseconds = random.choice(("", "auto", "1500", "x"))
    form = random.choice(BY_THE_GATEWAY)
    wait_seconds = random.uniform(0.1, 8.0)
    return Spoiled(
        Throttled(
            form=form, retry_after=hint, acs_retry_after=milliseconds, wait_seconds=wait_seconds
        )
    )


def _throttled_429(random: Random, _: Circumstances) -> Trouble:
    form = random.choice(BY_STATUS)
    hint = random.choice(("", "auto", "100000"))
    return Spoiled(Throttled(form=form, retry_after=hint))


def _partial(random: Random, now: Circumstances) -> Trouble | None:
    if now.operation != DELETE_FACES.action:
        return None
    return Spoiled(Partial(applies=_applies(random)))


def _miscount(random: Random, now: Circumstances) -> Trouble | None:
    if now.operation != DELETE_FACES.action:
        return None
    return Spoiled(CountMismatch(applies=_applies(random)))


def _refusal(random: Random, now: Circumstances) -> Trouble | None:
    if now.operation == GET_PERSON.action:
        code = random.choice((401, 403, 480, 590))
    else:
        code = random.choice((400, 401, 403, 404, 480, 590))
    return Spoiled(ServiceCode(applies="never", code=code))


def _swapped_person(random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Swapped(applies=_applies(random), form="person"))


def _swapped_face(random: Random, now: Circumstances) -> Trouble | None:
    if now.operation != DELETE_FACES.action:
        return None
    return Spoiled(Swapped(applies=_applies(random), form="face"))


def _forbidden(random: Random, _: Circumstances) -> Trouble:
    if random.random() < 0.5:
        return Spoiled(GatewayCode(code=random.choice(("Forbidden.RAM", "NoPermission"))))
    return Spoiled(ServiceCode(applies="never", code=596))


def _redirect(_random: Random, _: Circumstances) -> Trouble:
    return Spoiled(Redirect())


KINDS: Final[Mapping[str, Draw]] = MappingProxyType(
    {
        "connection-refused": _refused,
        "dns-failed": _dns,
        "connect-timeout": _connect_timeout,
        "closed-before-send": _closed,
        "lost-request": _lost,
        "delayed-request": _delayed,
        "repeated-request": _repeated,
        "reset-before-applying": _reset_before,
        "reset-after-applying": _reset_after,
        "half-answer": _half,
        "cut-json": _cut_json,
        "silence": _silence,
        "applied-late": _late,
        "drip": _drip,
        "flood": _flood,
        "html-page": _page,
        "no-data": _nothing,
        "service-failure": _failure,
        "contradiction": _contradiction,
        "gateway-failure": _gateway_failure,
        "throttled-588": _throttled_588,
        "throttled-400": _throttled_gateway,
        "throttled-429": _throttled_429,
        "partial-listing": _partial,
        "count-mismatch": _miscount,
        "refusal": _refusal,
        "redirect": _redirect,
    }
)
"""Trouble that may meet any number of requests."""

STOPPING_KINDS: Final[Mapping[str, Draw]] = MappingProxyType(
    {
        "tls-failed": _tls,
        "swapped-person": _swapped_person,
        "swapped-face": _swapped_face,
        "forbidden": _forbidden,
    }
)
"""Trouble that ends a session each time."""

OUTAGES: Final[Mapping[str, Draw]] = MappingProxyType(
    {
        "outage-refused": _refused,
        "outage-reset": _lost,
        "outage-page": lambda random, _: Spoiled(Html(applies="never", status=503)),
        "outage-silence": lambda random, _: Spoiled(Silence(applies="never")),
        "throttling-storm": _throttled_gateway,
    }
)
"""Trouble that meets every request for a while."""
