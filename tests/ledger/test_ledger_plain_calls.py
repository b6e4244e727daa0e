"""Calls that are deleted at the first attempt are settled in one step, to the very same rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.core.rig import draft_run, rows
from tests.ledger.audit import audit
from tests.ledger.errands import ALL_STEPS, Errands, World, unsynced_ledger
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.model import Call, Evidence, Kind, Request, Step, Verb

SIZES = (1, 2, 5, 19, 20, 21, 45)
"""Faces of a person: above 20 there are several calls."""
PAIRS = [
    (f"p{number}", f"{number:03d}{face:02d}")
    for number in range(60)
    for face in range(SIZES[number % len(SIZES)])
]
TABLES = ("call", "face", "attempt", "ending", "tally", "verification", "hold", "frontier")


def contents(connection: apsw.Connection) -> dict[str, list[Any]]:
    return {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608 (one of TABLES)
        for table in TABLES
    }


class Temper:
    """A service that mostly does as it is asked, and now and then anything else."""

    def __init__(self, seed: int) -> None:
        library: dict[str, list[str]] = {}
        for person_id, face_id in PAIRS:
            library.setdefault(person_id, []).append(face_id)
        self._world = World(library)
        self._chance = random.Random(seed)

    def __call__(self, request: Request) -> Evidence:
        mood = self._chance.random()
        if request.step is not Step.DELETE or mood < 0.6:
            return self._world.answer(request)
        if mood < 0.7:
            # One of the faces stays, and nobody says so.
            self._world.answer(request)
            return Evidence(Kind.LISTED, 0, code="200", listed=request.face_ids[1:])
        kinds = [Kind.REFUSED, Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.AMBIGUOUS]
        kind = self._chance.choice(kinds)
        return Evidence(kind, 0, code="403" if kind is Kind.REFUSED else "")


async def worked(run_dir: Path, seed: int, verify: str, canary: tuple[int, ...]) -> dict[str, Any]:
    """A whole run with holds on the way; what its ledger holds in the end."""
    draft_run(run_dir, [rows(PAIRS)])
    chance = random.Random(seed)
    async with unsynced_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify=verify, canary=canary)
        errands = Errands(ledger, Temper(seed))
        for _ in range(40):
            await errands.one()
            if chance.random() < 0.2:
                person_id, face_id = chance.choice(PAIRS)
                await ledger.hold(frozenset({(person_id, chance.choice(["", face_id]))}))
        if not canary:
            await errands.all(ALL_STEPS)
    connection = open_ledger(run_dir, read_only=True, checked=True)
    try:
        audit(connection)
        return contents(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("verify", "canary"), [("none", ()), ("all", ()), ("sample:7", ()), ("none", (2, 5))]
)
async def test_the_short_way_writes_what_the_long_way_would(
    tmp_path: Path,
    seed: int,
    verify: str,
    canary: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = 0
    is_plain: Callable[[Ledger, Call, Evidence], bool] = Ledger._is_plain

    def counted(self: Ledger, call: Call, evidence: Evidence) -> bool:
        nonlocal plain
        found = is_plain(self, call, evidence)
        plain += found
        return found

    monkeypatch.setattr(Ledger, "_is_plain", counted)
    short = await worked(tmp_path / "short", seed, verify, canary)
    monkeypatch.setattr(Ledger, "_is_plain", lambda *_: False)
    long = await worked(tmp_path / "long", seed, verify, canary)
    assert short == long
    assert (plain > 10) is (verify == "none" and not canary), "or nothing was compared"
