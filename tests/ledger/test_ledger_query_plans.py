"""How SQLite carries out what runs for every call: by index, without sorting, prepared once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import pytest

from tests.core.rig import draft_run, persons, rows
from tests.ledger.errands import ALL_STEPS, Errands, World
from worker.ledger import books, claims, frontier, journal, postings, standings
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Evidence, Kind, Request, Step, Verb

CALLS = 200


def steps_of(plan: apsw.ext.QueryPlan | None) -> Iterator[str]:
    """Every step of a plan, outer ones first."""
    if plan is not None:
        yield plan.detail
        for inner in plan.sub or ():
            yield from steps_of(inner)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    draft_run(tmp_path, [rows([*persons(5, 2), ("w", "")])])
    one = open_ledger(tmp_path)
    yield one
    one.close()


def plan_of(connection: apsw.Connection, sql: str) -> list[str]:
    info = apsw.ext.query_info(connection, sql, explain_query_plan=True)
    return list(steps_of(info.query_plan))[1:]


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("CLAIM", "step=?"),
        ("NEXT_DUE", "step=?"),
        ("CLAIM_BEGUN", "step=? AND not_before_us=? AND call_no<?"),
    ],
)
def test_the_next_call_is_the_first_of_its_index(
    connection: apsw.Connection, name: str, terms: str
) -> None:
    plan = plan_of(connection, getattr(claims, name))
    (outer,) = [step for step in plan if " c " in step or step.endswith(" c")]
    assert outer == f"SEARCH c USING INDEX call_waiting ({terms})"
    assert not any("TEMP B-TREE" in step for step in plan), "the index has the order already"
    # The persons in flight are few, and have an index that holds nobody else.
    scans = [step for step in plan if step.startswith("SCAN")]
    assert scans == ["SCAN call USING INDEX call_claimed"]


READS = {
    "FACES_OF_CALL": claims.FACES_OF_CALL,
    "TRACES_OF_CALL": standings.TRACES_OF_CALL,
    "STANDINGS_OF_CALL": standings.STANDINGS_OF_CALL,
    "UNDER_ANOTHER": journal.UNDER_ANOTHER,
    "HELD_CALLS": journal.HELD_CALLS,
    "WITH_UNKNOWN": journal.WITH_UNKNOWN,
    "WITH_REMOVAL": journal.WITH_REMOVAL,
    "LEFT_BEHIND": journal.LEFT_BEHIND,
}


@pytest.mark.parametrize("sql", READS.values(), ids=READS)
def test_nothing_else_reads_a_whole_table(connection: apsw.Connection, sql: str) -> None:
    plan = plan_of(connection, sql)
    conditional = {"face_unknown", "call_claimed"}
    for step in plan:
        if step.startswith("SCAN") and step != "SCAN CONSTANT ROW":
            assert step.split()[-1] in conditional, step
    assert not any("AUTOMATIC" in step for step in plan)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("ALL_STANDINGS", "SCAN f USING INDEX face_first_row"),
        ("STANDINGS_OF_ROW", "SEARCH f USING INDEX face_first_row (first_row=?)"),
    ],
)
def test_standings_are_read_in_the_order_of_the_rows(
    connection: apsw.Connection, name: str, first: str
) -> None:
    """Only the faces of one row are sorted, never the whole report."""
    plan = plan_of(connection, getattr(books, name))
    assert plan[0] == first
    assert [step for step in plan if "TEMP B-TREE" in step] == [
        "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY"
    ]
    assert not any("AUTOMATIC" in step for step in plan)


@pytest.mark.parametrize("name", ["LEFT", "LEFT_AND_RETRIED", "CALLS_AHEAD", "BEGUN_AHEAD"])
def test_what_is_left_is_counted_by_what_is_not_settled(
    connection: apsw.Connection, name: str
) -> None:
    """Of the calls and faces only those are read that have an index of their own."""
    of_few = {"call_waiting", "call_claimed", "face_unknown", "face_again"}
    for step in plan_of(connection, getattr(books, name)):
        table, *_ = step.removeprefix("SCAN ").split()
        if step.startswith("SCAN") and table in {"call", "face", "c", "f", "a", "e"}:
            assert step.split()[-1] in of_few, step


@pytest.mark.parametrize("name", ["NEXT_BEGUN", "IS_BEGUN", "BEHIND_BEGUN"])
def test_what_was_begun_ahead_is_found_by_number(connection: apsw.Connection, name: str) -> None:
    """There may be millions of such calls; they are neither counted nor sorted."""
    for step in plan_of(connection, getattr(frontier, name)):
        assert "USING INTEGER PRIMARY KEY" in step or step.startswith("CORRELATED"), step


@pytest.mark.parametrize("count", postings.ROWS_AT_ONCE)
@pytest.mark.parametrize(
    ("name", "row", "found"),
    [
        ("SET_DELETED", "(?, ?, ?, ?)", "SEARCH face USING COVERING INDEX face_call (call_no=?)"),
        ("SET_SETTLED", "(?)", "SEARCH call USING INTEGER PRIMARY KEY (rowid=?)"),
    ],
)
def test_what_is_settled_by_the_dozen_is_found_call_by_call(
    connection: apsw.Connection, name: str, row: str, found: str, count: int
) -> None:
    """In a ledger of millions of calls, without looking at the others."""
    plan = plan_of(connection, getattr(postings, name).format(", ".join([row] * count)))
    assert found in plan
    assert not any(step.startswith(("SCAN face", "SCAN call")) for step in plan), plan


class Prepared:
    """Counts what SQLite asks an authorizer, which it does whenever it prepares a statement."""

    def __init__(self) -> None:
        self.questions = 0

    def __call__(self, *_: Any) -> int:
        self.questions += 1
        return apsw.SQLITE_OK


async def test_a_long_run_prepares_nothing_sorts_nothing_and_reads_no_table(
    tmp_path: Path,
) -> None:
    """Over the whole life of many calls: good ones, lost ones, looked up and verified."""
    draft_run(tmp_path, [rows([*persons(CALLS, 2), ("w", "")])])
    connection = open_ledger(tmp_path)
    connection.execute("PRAGMA synchronous = OFF")
    prepared = Prepared()
    sorts: Counter[str] = Counter()
    read: Counter[str] = Counter()

    def profile(event: dict[str, Any]) -> None:
        sql, status = " ".join(event["sql"].split()), event["stmt_status"]
        sorts[sql] += status["SQLITE_STMTSTATUS_SORT"]
        read[sql] += status["SQLITE_STMTSTATUS_FULLSCAN_STEP"]

    ledger = Ledger(connection, InlineWriter)
    await ledger.begin_session(Verb.RUN, 1, verify="all")
    world = World({**{f"person{n}": [] for n in range(CALLS)}, "w": ["7", "8"]})
    seen: Counter[int] = Counter()

    def answer(asked: Request) -> Evidence:
        seen[asked.call_no] += 1
        if asked.step is Step.DELETE and asked.call_no % 3 and seen[asked.call_no] == 1:
            return Evidence(Kind.AMBIGUOUS, 0)
        return world.answer(asked)

    errands = Errands(ledger, answer)
    connection.authorizer = prepared
    for _ in range(CALLS):
        errands.now_us = await ledger.due(ALL_STEPS, errands.now_us) or errands.now_us
        await errands.one()
    known, prepared.questions = prepared.questions, 0
    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, profile)
    sent = await errands.all()
    connection.trace_v2(0)
    assert await ledger.tally() == {"absent": 2 * CALLS, "deleted": 2, "person_empty": 1}
    assert len(sent) > 2 * CALLS
    # A statement that is prepared for every call costs more than all that it does.
    assert known > 0
    assert prepared.questions < len(sent) / 10, "only what comes once"
    assert {sql: n for sql, n in sorts.items() if n} == {}
    # The persons in flight are read each time; there is one.
    assert {sql: n for sql, n in read.items() if n > 2 * len(sent)} == {}
    await ledger.close()
