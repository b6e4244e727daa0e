"""What one run of a simulation is asked to do, drawn from what its service holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tests.simulation.network import Paths
from worker.holds import Hold
from worker.model import Entry, Verb
from worker.sandbox.facts import Facts
from worker.sandbox.quota import Quota
from worker.settings import Settings

Persons = Mapping[str, tuple[str, ...]]
"""Each person with their faces."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an order has to fit."""

    persons: Persons
    facts: Facts
    quota: Quota
    paths: Paths
    calm_after_seconds: float


@dataclass(frozen=True, slots=True)
class Order:
    """One run: what is to go, and how."""

    name: str
    sources: tuple[tuple[Entry, ...], ...]
    holds: frozenset[Hold]
    more_holds: tuple[tuple[float, Hold], ...]
    """(after, hold): added to the exclusion list while the run works."""
    list_vanishes_after_seconds: float | None
    settings: Settings
    starts_after_seconds: float
    eventful: float
    """Share of the lives of the program to which each kind of thing happens."""
    afterwards: tuple[Verb, ...]
    """What is asked for once everything is settled."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(entry for source in self.sources for entry in source)


def draw_digits(random: Random) -> str:
    """A face ID: any number of digits, also more than a machine word holds, zeros in front."""
    length = random.choice((1, 6, 13, 13, 17, 17, 17, 20, 32))
    return "".join(random.choice("0123456789") for _ in range(length))


def draw_order(random: Random, name: str, given: Given) -> Order:
    """The run called ``name``."""
    whole = random.random() < 0.3
    entries = _entries(random, given.persons, whole=whole)
    sources = (
        (tuple(entries),)
        if random.random() < 0.8
        else (tuple(entries[: len(entries) // 2]), tuple(entries[len(entries) // 2 :]))
    )
    pairs = sorted({(x.person_id, x.face_id) for x in entries if not x.reason})
    keeps = bool(pairs) and random.random() < 0.2
    holds = _some_holds(random, pairs) if keeps else []
    more = _some_holds(random, pairs) if keeps else []
    until = max(given.calm_after_seconds, 3.0)
    afterwards = [
        random.choice((Verb.VERIFY, Verb.RETRY)) for _ in range(random.choice((0, 0, 0, 1, 1, 2)))
    ]
    return Order(
        name=name,
        sources=sources,
        holds=frozenset(holds),
        more_holds=tuple((random.uniform(0, until), hold) for hold in more if hold not in holds),
        list_vanishes_after_seconds=(
            random.uniform(0, until) if keeps and random.random() < 0.1 else None
        ),
        settings=_settings(random, given, whole=whole, keeps=keeps),
        starts_after_seconds=random.choice((0.0, random.uniform(0, 5))),
        eventful=random.choice((0.0, 0.0, 0.1, 0.2, 0.5)),
        afterwards=tuple(afterwards),
    )


def _some_holds(random: Random, pairs: list[tuple[str, str]]) -> list[Hold]:
    chosen = random.sample(pairs, random.randint(0, min(2, len(pairs))))
    return [(person, random.choice((face, face, ""))) for person, face in chosen]


def _entries(random: Random, persons: Persons, *, whole: bool) -> list[Entry]:
    rows: list[tuple[str, str, str]] = []  # person, face, reason; face '' asks for everything
    known = list(persons)
    for person, faces in persons.items():
        if random.random() < 0.1:
            continue
        if whole and random.random() < 0.5:
            rows.append((person, "", ""))
            if random.random() < 0.6:
                continue
        share = random.choice((0.5, 1.0, 1.0))
        rows += [(person, face, "") for face in faces if random.random() < share]
        if not faces or random.random() < 0.08:
            rows.append((person, draw_digits(random), ""))  # the service does not have it
    if random.random() < 0.15:
        stranger = f"nobody{random.randint(0, 9)}"
        rows.append((stranger, "" if whole and random.random() < 0.5 else draw_digits(random), ""))
    if rows and random.random() < 0.1:
        _, face, _ = random.choice(rows)
        rows.append((random.choice(known), face, ""))  # perhaps the face of somebody else
    if random.random() < 0.3:
        random.shuffle(rows)
    if rows and random.random() < 0.2:
        rows += random.choices(rows, k=2)
    if random.random() < 0.1:
        rows.append((random.choice(known), "1.5E+12", "not a face ID"))
    if not any(not reason for *_, reason in rows):
        rows.append((known[0], draw_digits(random), ""))
    return [
        Entry(
            number,
            number + 2,
            "",
            person,
            face,
            reason,
            "face_id" if reason else "",
            "",
            whole=not face,
        )
        for number, (person, face, reason) in enumerate(rows)
    ]


def _settings(random: Random, given: Given, *, whole: bool, keeps: bool) -> Settings:
    # Not so short that a slow network alone keeps everything from being answered.
    slow = given.paths.jitter_seconds > 1
    read_timeout_seconds = 30.0 if slow else random.choice((4.0, 10.0, 30.0))
    return Settings(
        region="cn-shanghai",
        signature=random.choice(("roa", "roa", "v3")),
        rate_per_second=random.choice((19.80, 19.80, 19.80, 5.0)),
        shared_quota=given.quota.shared if random.random() < 0.8 else random.random() < 0.5,
        concurrency=random.choice((1, 4, 64, 256)),
        retry_after_cap_seconds=random.choice((5.0, 60.0, 300.0)),
        outage_limit_minutes=random.choice((0.5, 3.0, 60.0)),
        read_timeout_seconds=read_timeout_seconds,
        total_timeout_seconds=2 * read_timeout_seconds,
        grace_seconds=random.choice((0.5, 3.0, 30.0)),
        skip_invalid=True,
        absence_interval_seconds=random.choice((3.0, 3.0, 3.0, 1.0)),
        max_attempts=random.choice((1, 2, 3, 3, 3)),
        max_lookups=random.choice((1, 2, 5, 5)),
        max_rounds=random.choice((1, 2, 5)),
        verify=random.choice(("none", "none", "none", "all", "sample:2")),
        unknown_person=given.facts.unknown_person if random.random() < 0.6 else "",
        treat_no_person_as_absent=random.random() < 0.2,
        whole_persons=whole,
        delete_person=whole and random.random() < 0.5,
        max_delete=random.randint(1, 12) if whole and random.random() < 0.1 else 0,
        exclude_from="holds" if keeps else "",
        allow_oversized_persons=True,
    )
