"""A process that dies at any commit, and the ones after it too: the run ends in the truth."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw
import msgspec
import pytest

from tests.core.rig import draft_run, lines, rows
from tests.ledger.audit import audit
from tests.ledger.audit import rows as select
from tests.ledger.errands import Errands, World, begun
from worker.cli.purge import close_left_behind
from worker.fold import DEFAULT_RULES
from worker.holds import Holds
from worker.ledger.books import LedgerBooks, Left
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter, Write
from worker.model import Evidence, Kind, Request, Step, Verb
from worker.report.interface import Verification
from worker.settings import Settings

T = TypeVar("T")

RULES = replace(DEFAULT_RULES, delete_person=True)
PAIRS = [("lost", "1"), ("lost", "2"), ("deaf", "3"), ("held", "4"), ("part", "5"), ("part", "6"),
         ("whole", ""), ("whole", "7"), ("gone", "")]  # fmt: skip
HAS = {
    "lost": ["1", "2"],
    "deaf": ["3"],
    "held": ["4"],
    "part": ["5", "6"],
    "whole": ["7", "8", "9"],
    "gone": [],
}


class Fault(NamedTuple):
    """What goes wrong with a request although, or because, the service does it or not."""

    applied: bool
    answer: Evidence


LOST = Fault(applied=True, answer=Evidence(Kind.AMBIGUOUS, 0, code="read_timeout"))
DEAF = Fault(applied=False, answer=Evidence(Kind.AMBIGUOUS, 0, code="reset"))
SLOW = Fault(applied=False, answer=Evidence(Kind.THROTTLED, 0, code="588"))
OMITS = Fault(applied=True, answer=Evidence(Kind.LISTED, 0, code="200", listed=("6",)))

FAULTS = {
    ("lost", Step.DELETE): [SLOW, LOST],
    ("lost", Step.LOOKUP): [DEAF],
    ("deaf", Step.DELETE): [DEAF, LOST],
    ("part", Step.DELETE): [OMITS],
    ("part", Step.VERIFY): [DEAF],
    ("whole", Step.LOOKUP): [SLOW],
    ("whole", Step.DELETE): [DEAF],
    ("whole", Step.REMOVE): [LOST],
    ("gone", Step.REMOVE): [DEAF],
}


class Service:
    """A world with its faults, which outlives every process."""

    def __init__(self) -> None:
        self.world = World(HAS)
        self.seen: list[Request] = []
        self._asked: Counter[tuple[str, Step]] = Counter()

    def answer(self, request: Request) -> Evidence:
        self.seen.append(request)
        about = (request.person_id, request.step)
        faults = FAULTS.get(about, [])[self._asked[about] :]
        self._asked[about] += 1
        if not faults:
            return self.world.answer(request)
        if faults[0].applied:
            self.world.apply(request)
        return faults[0].answer


class Died(BaseException):
    """In place of the process."""


class MortalWriter(InlineWriter):
    """Dies in place of the numbered commit, counted from 1; never at 0."""

    def __init__(self, connection: apsw.Connection, last: Write[None], dies_at: int) -> None:
        super().__init__(connection, last)
        self.commits = 0
        self._dies_at = dies_at

    def submit(self, write: Write[T]) -> asyncio.Future[T]:
        self.commits += 1
        if self.commits == self._dies_at:
            raise Died
        return super().submit(write)


def session(run_dir: Path, service: Service, verb: Verb, number: int, *, dies_at: int) -> int:
    """One process from its start to its end, or its death; returns its commits."""
    connection = open_ledger(run_dir)
    connection.execute("PRAGMA synchronous = OFF")
    writers: list[MortalWriter] = []

    def writer(connection: apsw.Connection, last: Write[None]) -> MortalWriter:
        writers.append(MortalWriter(connection, last, dies_at))
        return writers[-1]

    async def work() -> None:
        ledger = Ledger(connection, writer, rules=RULES)
        now_us = number * 10**9
        await ledger.close_open_attempts(now_us)
        assert not select(connection, "SELECT 1 FROM call WHERE state = 1")
        audit(connection, RULES)
        await ledger.begin_session(verb, now_us, verify="all")
        await Errands(ledger, service.answer, now_us=now_us).all()
        assert await ledger.is_finished()

    try:
        asyncio.run(work())
    finally:
        audit(connection, RULES)
        connection.close()
    return writers[0].commits


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("planned") / "run"
    draft_run(run_dir, [rows(PAIRS)], holds=Holds(frozenset({("held", "")}), "x"))
    return run_dir


def judge(run_dir: Path, service: Service) -> None:
    """The books against what the service has, and what it saw against the books."""
    outcomes = {(x.person_id, x.face_id): x.outcome for x in lines(run_dir)}
    gone = {"deleted", "absent"}
    assert outcomes.pop(("held", "4")) == "held"
    assert outcomes.pop(("whole", "")) == outcomes.pop(("gone", "")) == "person_deleted"
    assert outcomes.keys() == {
        (person_id, face_id)
        for person_id, faces in HAS.items()
        for face_id in faces
        if person_id != "held"
    }
    assert set(outcomes.values()) <= gone
    assert service.world.persons == {"lost": set(), "deaf": set(), "held": {"4"}, "part": set()}
    connection = open_ledger(run_dir, read_only=True)
    opened = {nonce for (nonce,) in select(connection, "SELECT nonce FROM attempt")}
    connection.close()
    seen = [request.nonce for request in service.seen]
    assert set(seen) <= opened
    assert len(set(seen)) == len(seen)
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    verification, left = books.verification(), books.left()
    books.close()
    assert verification == Verification(asked=5, answered=5)
    assert left == Left(0, 0, 0)


def test_dead_at_any_commit_it_goes_on_to_the_truth(template: Path, tmp_path: Path) -> None:
    """Most of the processes that go on die as well."""
    deaths = 0
    for point in itertools.count(1):
        run_dir, service = tmp_path / str(point), Service()
        shutil.copytree(template, run_dir)
        again = point * 7 % 29
        for number, dies_at in enumerate([point, again, 0], start=1):
            verb = Verb.RUN if number == 1 else Verb.RESUME
            try:
                session(run_dir, service, verb, number, dies_at=dies_at)
            except Died:
                deaths += 1
            else:
                break
        judge(run_dir, service)
        shutil.rmtree(run_dir)
        if number == 1:
            break
    assert point > 80
    assert deaths > 1.5 * point


async def test_a_report_after_a_death_goes_by_what_the_dead_session_went_by(tmp_path: Path) -> None:
    """Its account had been calibrated since the plan: there, code 400 may mean "not there"."""
    rules = replace(DEFAULT_RULES, not_found_codes=frozenset({"404", "400"}))
    draft_run(tmp_path, [rows([("p", "1")])], facts={"settings": msgspec.to_builtins(Settings())})

    def answer(request: Request) -> Evidence:
        refused = request.step is Step.DELETE
        return Evidence(Kind.REFUSED if refused else Kind.NO_PERSON, 0, code="400")

    connection = open_ledger(tmp_path)
    ledger = Ledger(connection, InlineWriter, rules=rules)
    await ledger.begin_session(Verb.RUN, 1)
    errands = Errands(ledger, answer)
    await errands.one()
    due_us = await ledger.due((Step.LOOKUP,), errands.now_us)
    assert due_us is not None
    await begun(ledger, (Step.LOOKUP,), due_us)
    connection.close()
    await close_left_behind(tmp_path)
    (line,) = lines(tmp_path)
    assert (line.outcome, line.code) == ("unknown", "400")
