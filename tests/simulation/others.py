"""Everybody else who uses the same account: production, other programs, whoever rotates keys."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random

from tests.simulation.event_log import EventLog
from tests.simulation.history import Pair
from tests.simulation.keys import KeyHolder
from tests.simulation.scenario import Happening
from tests.simulation.server import Server
from tests.simulation.simulated_loop import now_seconds
from worker.sandbox.world import Change


class Others:
    """Does what was drawn, when it was drawn for, to whatever is there then."""

    def __init__(
        self, server: Server, keys: KeyHolder, random: Random, seen: Counter[str], log: EventLog
    ) -> None:
        self._server = server
        self._keys = keys
        self._random = random
        self._seen = seen
        self._log = log
        self.added: dict[Pair, float] = {}
        """When each face was added last."""

    def begin(self, happenings: Iterable[Happening]) -> None:
        """From now on."""
        later = asyncio.get_running_loop().call_later
        for happening in happenings:
            if happening.kind == "traffic":
                for second in range(happening.seconds):
                    later(happening.after_seconds + second, self._traffic, happening)
            else:
                later(happening.after_seconds, self._happen, happening)

    def _traffic(self, happening: Happening) -> None:
        self._seen["quota-traffic"] += 1
        for operation in ("DeleteFaces", "GetPerson"):
            self._server.take_slots(operation, happening.calls_per_second)

    def _happen(self, happening: Happening) -> None:
        if happening.kind == "key-rotated":
            self._seen["key-rotated"] += 1
            self._log.note("others", "the key is rotated")
            self._keys.rotate()
            return
        change = self._change(happening.kind)
        if change is None:
            return
        self._seen[f"others-{happening.kind}"] += 1
        self._log.note("others", f"{happening.kind} {change.person_id}")
        self._server.change(change)
        for face_id in change.added:
            self.added[change.person_id, face_id] = now_seconds()

    def _change(self, kind: str) -> Change | None:
        library, random = self._server.library, self._random
        if kind == "added-again":
            gone = [pair for pair in library.gone if pair[0] in library]
            if not gone:
                return None
            person, face = random.choice(gone)
            return Change(person, added=(face,))
        persons = list(library)
        if not persons:
            return None
        person = random.choice(persons)
        if kind == "added":
            return Change(person, added=library.new_face_ids(1))
        if kind == "person-deleted":
            return Change(person, person="deleted")
        held = library.held(person)
        return Change(person, deleted=(random.choice(held),)) if held else None
