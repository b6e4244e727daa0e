"""A planned run and the real pipeline around whatever service a test brings."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from worker.cli.purge import lanes_of
from worker.clock import SystemClock
from worker.fold import DEFAULT_RULES, Rules
from worker.green.client import GreenClient
from worker.green.credentials import FixedCredential
from worker.green.endpoint import resolve_endpoint
from worker.green.interface import Credential
from worker.green.transport import open_transport
from worker.holds import NO_HOLDS, Holds
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.draft import LedgerDraft
from worker.ledger.journal import Ledger
from worker.ledger.writer import ThreadWriter
from worker.model import Call, Entry, Evidence, SourceSummary, Verb
from worker.pacing import Pacers
from worker.pipeline import Pipeline
from worker.plan import PlanFigures
from worker.report.interface import Line
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings

RUN_ID = "20261123T000000Z-abcdef"


def rows(pairs: Iterable[tuple[str, str]]) -> list[Entry]:
    """One CSV-like record per pair, beginning on line 2; an empty face asks for the whole person."""
    return [
        Entry(number, number + 2, "", person_id, face_id, "", "", "", whole=not face_id)
        for number, (person_id, face_id) in enumerate(pairs)
    ]


def persons(count: int, faces: int = 1) -> list[tuple[str, str]]:
    """``count`` persons with ``faces`` faces each."""
    return [
        (f"person{number}", f"{number:08d}{face:02d}")
        for number in range(count)
        for face in range(faces)
    ]


def draft_run(
    run_dir: Path,
    sources: Sequence[Sequence[Entry]],
    *,
    holds: Holds = NO_HOLDS,
    faces_per_call: int = 20,
    facts: Mapping[str, object] | None = None,
) -> PlanFigures:
    """Plan and seal a run from entries; returns the plan's figures."""
    run_dir.mkdir(exist_ok=True)
    with LedgerDraft(run_dir) as draft:
        for source_no, entries in enumerate(sources):
            draft.add(source_no, list(entries))
            draft.add_source(
                source_no,
                SourceSummary(
                    f"s{source_no}.csv", "csv", "0" * 64, 1, len(entries), len(entries), 0, ()
                ),
            )
        draft.add_holds(holds)
        figures = draft.arrange(RUN_ID, faces_per_call)
        header: dict[str, object] = {
            "run_id": RUN_ID,
            "program_version": "0.0.0",
            "planned_us": 1,
            "account": "account",
            "endpoint": "http://127.0.0.1",
            "rehearsal": False,
            "settings": msgspec.to_builtins(Settings()),
            "persons": figures.persons,
            "whole_persons": figures.whole_persons,
            "faces": figures.faces,
            "calls": figures.calls,
            "repeats": figures.repeats,
            "rows": figures.rows,
            "holds_sha256": "",
        }
        draft.seal({**header, **(facts or {})})
    return figures


class Silence:
    """A log that keeps what it was told."""

    def __init__(self) -> None:
        self.ended: list[tuple[Call, Evidence]] = []

    def attempt_ended(self, call: Call, evidence: Evidence) -> None:
        self.ended.append((call, evidence))


@asynccontextmanager
async def opened_ledger(
    run_dir: Path, *, rules: Rules = DEFAULT_RULES, max_delete: int = 0
) -> AsyncIterator[Ledger]:
    ledger = Ledger(
        open_ledger(run_dir, checked=True), ThreadWriter, rules=rules, max_delete=max_delete
    )
    try:
        yield ledger
    finally:
        await ledger.close()


def lines(run_dir: Path) -> list[Line]:
    """The lines a report would be written from."""
    books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
    try:
        return list(books.lines())
    finally:
        books.close()


@asynccontextmanager
async def client_of(
    url: str, pacers: Pacers, settings: Settings | None = None
) -> AsyncIterator[GreenClient]:
    """The real client with the sandbox's key pair."""
    settings = settings or Settings()
    clock = SystemClock()
    async with open_transport(url, settings, clock) as transport:
        yield GreenClient.configured(
            settings,
            transport=transport,
            endpoint=resolve_endpoint("", "public", url, allow=False),
            credentials=FixedCredential(
                Credential(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET)
            ),
            clock=clock,
            randomness=random.SystemRandom(),
            departures=pacers.of,
        )


def pipeline_of(
    ledger: Ledger, client: GreenClient, pacers: Pacers, *, concurrency: int = 256
) -> Pipeline:
    """The real pipeline without an exclusion list."""
    return Pipeline(
        ledger,
        client,
        lanes_of(pacers, Verb.RUN),
        SystemClock(),
        Silence(),
        holds=None,
        concurrency=concurrency,
        grace_seconds=30.0,
    )
