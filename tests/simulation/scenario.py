"""What one simulation is about: library, runs, service, network, troubles; all drawn from a seed."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.simulation.network import Paths, Spell, Weather
from tests.simulation.orders import Given, Order, Persons, draw_digits, draw_order
from tests.simulation.troubles import KINDS, OUTAGES, STOPPING_KINDS
from worker.sandbox.facts import Facts
from worker.sandbox.quota import Quota
from worker.sandbox.throttle import Throttle, ThrottleForm

FACT_VALUES = {name: typing.get_args(hint) for name, hint in typing.get_type_hints(Facts).items()}

SETTLED_BY_OTHERS = ("v3", "client_info_key", "max_faces_per_call")
"""Facts that are not drawn like the others."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that others do at the service; which face or person it meets is drawn then."""

    after_seconds: float
    kind: Literal[
        "added-again", "added", "face-deleted", "person-deleted", "traffic", "key-rotated"
    ]
    calls_per_second: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation before it begins."""

    persons: Persons
    lag_seconds: float
    facts: Facts
    quota: Quota
    paths: Paths
    weather: Weather
    orders: tuple[Order, ...]
    happenings: tuple[Happening, ...]


def draw_scenario(random: Random) -> Scenario:
    """The same ``random`` draws the same scenario."""
    persons = _persons(random)
    facts = _facts(random)
    quota = _quota(random)
    calm_after_seconds = random.choice((0.0, 10.0, 60.0, 120.0)) * random.uniform(0.5, 1.5)
    weather = _weather(random, calm_after_seconds)
    paths = _paths(random)
    given = Given(persons, facts, quota, paths, weather.calm_after_seconds)
    names = ("a", "b") if random.random() < 0.25 else ("a",)
    return Scenario(
        persons=persons,
        lag_seconds=random.choice((0.0, 0.0, 0.2, 0.8)),
        facts=facts,
        quota=quota,
        paths=paths,
        weather=weather,
        orders=tuple(draw_order(random, name, given) for name in names),
        happenings=_happenings(random, weather.calm_after_seconds),
    )


def _persons(random: Random) -> Persons:
    count = random.choice((1, 2, 3, 4, 5, 6, 8, 10, 12))
    if random.random() < 0.04:
        count = random.randint(30, 60)
    persons: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for number in range(count):
        faces: list[str] = []
        wanted = 22 if random.random() < 0.01 else random.choice((0, 1, 1, 1, 2, 2, 3, 4))
        while len(faces) < wanted:
            face = draw_digits(random)
            if face not in taken:
                faces.append(face)
                taken.add(face)
        if persons and faces and random.random() < 0.02:
            # A face that the service has under two persons.
            faces.append(random.choice([f for x in persons.values() for f in x] or faces[:1]))
        persons[f"{random.choice(('p', 'P_', '0', '-'))}{number}"] = tuple(dict.fromkeys(faces))
    return persons


def _facts(random: Random) -> Facts:
    """Every switch of what nobody outside the service knows."""
    drawn: dict[str, Any] = {
        name: random.choice(values)
        for name, values in FACT_VALUES.items()
        if values and name not in SETTLED_BY_OTHERS
    }
    if random.random() < 0.03:
        drawn["max_faces_per_call"] = random.randint(1, 3)
    return Facts(**drawn)


def _quota(random: Random) -> Quota:
    return Quota(
        window=random.choice(("off", "sliding", "sliding", "sliding", "calendar", "bucket")),
        burst=random.choice((0, 0, 1, 5)),
        shared=random.random() < 0.3,
        count_throttled=random.random() < 0.2,
        throttle=Throttle(
            form=random.choice(typing.get_args(ThrottleForm)),
            code=random.choice(("Throttling.User", "Throttling.Api", "Throttling")),
            retry_after=random.choice(("", "", "auto", "date", "junk", "-1")),
            acs_retry_after=random.choice(("", "", "auto")),
        ),
    )


def _paths(random: Random) -> Paths:
    steady = random.random() < 0.4
    return Paths(
        one_way_seconds=random.choice((0.001, 0.02, 0.15)),
        jitter_seconds=0.003 if steady else random.choice((0.02, 0.3, 2.0)),
        answer_seconds=random.choice((0.005, 0.05, 0.3)),
        answer_sigma=0.2 if steady else random.choice((0.5, 1.5)),
        connect_seconds=0.0 if steady else random.choice((0.01, 0.15, 1.0)),
        connect_share=random.choice((0.05, 0.3, 1.0)),
        dated=random.random() < 0.9,
    )


def _weather(random: Random, calm_after_seconds: float) -> Weather:
    # A few kinds at a time: what all of them together hide, some of them alone show.
    names = list(KINDS)
    kinds = names if random.random() < 0.15 else random.sample(names, random.randint(1, 5))
    spells: list[Spell] = []
    if random.random() < 0.15:
        began = random.uniform(0, 20)
        ended = began + random.choice((3.0, 20.0, 100.0, 400.0)) * random.uniform(0.5, 1.5)
        spells.append(Spell(random.choice(list(OUTAGES)), began, ended))
        calm_after_seconds = max(calm_after_seconds, ended)
    stopping = random.random() < 0.12
    return Weather(
        kinds=tuple(kinds),
        share=random.choice((0.0, 0.03, 0.1, 0.3, 0.3, 0.6, 0.9)),
        spells=tuple(spells),
        stopping_kinds=tuple(STOPPING_KINDS) if stopping else (),
        stopping_share=random.choice((0.02, 0.1)),
        calm_after_seconds=calm_after_seconds,
    )


def _happenings(random: Random, calm_after_seconds: float) -> tuple[Happening, ...]:
    happenings: list[Happening] = []
    until = max(calm_after_seconds, 5.0)
    if random.random() < 0.3:
        kinds: tuple[Any, ...] = ("added-again", "added", "face-deleted", "person-deleted")
        happenings += [
            Happening(random.uniform(0, until), random.choice(kinds))
            for _ in range(random.randint(1, 6))
        ]
    if random.random() < 0.15:
        happenings.append(
            Happening(
                random.uniform(0, until), "traffic", random.randint(1, 18), random.randint(1, 30)
            )
        )
    if random.random() < 0.15:
        happenings += [
            Happening(random.uniform(0, until), "key-rotated") for _ in range(random.randint(1, 3))
        ]
    return tuple(sorted(happenings, key=lambda x: x.after_seconds))
