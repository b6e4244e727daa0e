"""What a report reads: every row in input order, with what became of it."""

from __future__ import annotations

import itertools
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from tests.core.rig import RUN_ID, draft_run, rows
from tests.ledger.errands import ALL_STEPS, Errands, World, begun, unsynced_ledger
from worker.errors import GateClosed
from worker.fold import DEFAULT_RULES
from worker.holds import Holds
from worker.ledger import collation, rowmap
from worker.ledger.books import LedgerBooks, Left
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.model import Entry, Evidence, Kind, Request, Step, StopReason, Verb
from worker.report.interface import Verification

NONCES = itertools.count()

SOURCES = [
    [
        Entry(0, 2, "job-1", "ann", "001", "", "", '{"note":"=1"}'),
        Entry(0, 2, "job-1", "ann", "002", "", "", ""),
        Entry(1, 3, "", "ben", "7", "", "", ""),
        Entry(2, 5, "", "ann", "001", "", "", ""),
        Entry(3, 6, "job-1", "", "", "empty person", "person_id", ""),
        Entry(4, 7, "", "ann", "x", "not a number", "face_id", ""),
    ],
    [
        Entry(0, 1, "", "cid", "7", "", "", ""),
        Entry(1, 2, "", "held", "9", "", "", ""),
        Entry(2, 3, "", "dan", "31842550077981745", "", "", ""),
        Entry(3, 4, "", "eve", "5", "", "", ""),
        Entry(4, 5, "", "ann", "002", "", "", ""),
        Entry(5, 6, "", "held", "9", "", "", ""),
    ],
]


async def attempt(ledger: Ledger, evidence: Evidence) -> None:
    """The next deletion ends so."""
    seq, call, _ = await begun(ledger, now_us=evidence.ended_us - 9)
    await ledger.record(seq, call, evidence)


@pytest.fixture
async def run_dir(tmp_path: Path) -> Path:
    """ann's faces deleted after a throttle, dan refused, eve in flight when the process died."""
    draft_run(tmp_path, SOURCES, holds=Holds(frozenset({("held", "")}), "x"))
    async with unsynced_ledger(tmp_path) as ledger:
        await attempt(ledger, Evidence(Kind.THROTTLED, 20, 15, 200, "588", "slow", "r1"))
        await attempt(ledger, Evidence(Kind.LISTED, 40, 35, 200, "200", "OK", "r2", ("001", "002")))
        await attempt(ledger, Evidence(Kind.NOT_SENT, 50, code="connect_failed", message="refused"))
        await attempt(ledger, Evidence(Kind.REFUSED, 60, 55, 200, "586", "no", "r3"))
        await begun(ledger, now_us=70)
    return tmp_path


@pytest.fixture
def books(run_dir: Path) -> LedgerBooks:
    return LedgerBooks(open_ledger(run_dir, read_only=True))


def test_every_row_in_input_order_with_what_became_of_it(books: LedgerBooks) -> None:
    told = [
        (t.record_no, t.label, t.source, t.line, t.person_id, t.face_id, t.outcome, t.duplicate_of)
        for t in books.lines()
    ]
    assert told == [
        (0, "job-1", "s0.csv", 2, "ann", "001", "deleted", ""),
        (0, "job-1", "s0.csv", 2, "ann", "002", "deleted", ""),
        (1, "s0.csv:3", "s0.csv", 3, "ben", "7", "conflict", ""),
        (2, "s0.csv:5", "s0.csv", 5, "ann", "001", "deleted", "s0.csv:2"),
        (3, "job-1", "s0.csv", 6, "", "", "invalid", ""),
        (4, "s0.csv:7", "s0.csv", 7, "ann", "x", "invalid", ""),
        (5, "s1.csv:1", "s1.csv", 1, "cid", "7", "conflict", ""),
        (6, "s1.csv:2", "s1.csv", 2, "held", "9", "held", ""),
        (7, "s1.csv:3", "s1.csv", 3, "dan", "31842550077981745", "refused", ""),
        (8, "s1.csv:4", "s1.csv", 4, "eve", "5", "unsent", ""),
        (9, "s1.csv:5", "s1.csv", 5, "ann", "002", "deleted", "s0.csv:2"),
        (10, "s1.csv:6", "s1.csv", 6, "held", "9", "held", "s1.csv:2"),
    ]


def test_a_repeated_row_carries_the_same_evidence(books: LedgerBooks) -> None:
    first, *_, repeat, _ = [t for t in books.lines() if t.outcome == "deleted"] + [None]
    assert first is not None
    assert repeat is not None
    told = (first.code, first.message, first.request_id, first.attempts)
    assert told == ("200", "OK", "r2", 2)
    assert (repeat.code, repeat.message, repeat.request_id, repeat.attempts) == told
    assert (first.first_sent_us, first.finished_us) == (15, 40)
    assert (repeat.first_sent_us, repeat.finished_us) == (15, 40)
    assert first.carried == '{"note":"=1"}'


def test_a_face_that_is_gone_from_the_ledger_is_not_called_unsent(run_dir: Path) -> None:
    connection = open_ledger(run_dir)
    connection.execute("DELETE FROM face WHERE face_id = '002' AND outcome = 'deleted'")
    assert connection.changes() == 1
    books = LedgerBooks(connection)
    with pytest.raises(GateClosed, match="faces of calls that were begun are gone"):
        list(books.lines())
    books.close()


async def test_what_was_done_is_told_where_the_rest_of_the_plan_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stops where it cannot read its plan: just there it has to say what it has done."""
    monkeypatch.setattr(collation, "CALLS_PER_BLOCK", 2)
    draft_run(tmp_path, [rows((f"p{n}", str(n)) for n in range(6))])
    async with unsynced_ledger(tmp_path) as ledger:
        for _ in range(2):
            seq, call, _ = await begun(ledger)
            await ledger.record(seq, call, Evidence(Kind.LISTED, 2, 1, listed=call.face_ids))
    connection = open_ledger(tmp_path)
    connection.execute("UPDATE plan_block SET faces = faces + 1 WHERE first_call_no = 2")
    books = LedgerBooks(connection)
    assert [line.outcome for line in books.lines()] == ["deleted"] * 2 + ["unsent"] * 4
    connection.execute("DELETE FROM face WHERE call_no = 1")
    with pytest.raises(GateClosed, match="faces of calls that were begun are gone"):
        list(books.lines())
    books.close()


def test_a_row_that_was_not_sent_says_why(books: LedgerBooks) -> None:
    told = {t.face_id: (t.message, t.attempts, t.finished_us) for t in books.lines() if not t.code}
    assert told == {
        "7": ("the same face is under another person at s0.csv:3", 0, None),
        "": ("person_id: empty person", 0, None),
        "x": ("face_id: not a number", 0, None),
        "9": ("on the exclusion list", 0, None),
        "5": ("", 0, None),
    }


async def test_what_died_in_flight_is_unknown_once_it_is_closed(run_dir: Path) -> None:
    async with unsynced_ledger(run_dir) as ledger:
        await ledger.close_open_attempts(99)
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    (eve,) = [line for line in books.lines() if line.person_id == "eve"]
    books.close()
    assert (eve.outcome, eve.code, eve.attempts) == ("unknown", "closed_after_crash", 1)
    assert (eve.first_sent_us, eve.finished_us) == (70, 99)
    assert "process died" in eve.message


def test_calls_are_counted_as_they_left(books: LedgerBooks) -> None:
    """Five attempts over three calls; one never left, one may have, one was a throttle."""
    (figures,) = books.call_figures()
    assert (figures.operation, figures.attempts, figures.sent) == ("DeleteFaces", 5, 4)
    assert (figures.retries, figures.throttles) == (1, 1)
    assert list(books.sent_times_us("DeleteFaces")) == [15, 35, 55]
    assert list(books.sent_times_us("AddFaces")) == []


async def test_what_was_fatal_before_it_left_is_not_counted_as_sent(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1")])])
    async with unsynced_ledger(tmp_path) as ledger:
        for ended_us, sent_us in ((9, None), (19, 15)):
            await attempt(ledger, Evidence(Kind.FATAL, ended_us, sent_us, code="tls_failed"))
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    (figures,) = books.call_figures()
    assert (figures.attempts, figures.sent) == (2, 1)
    assert [line.attempts for line in books.lines()] == [1]
    books.close()


async def test_every_operation_has_its_own_figures(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1"), ("q", "2")])])
    async with unsynced_ledger(tmp_path) as ledger:
        await attempt(ledger, Evidence(Kind.LISTED, 20, 15, listed=("1",)))
        await attempt(ledger, Evidence(Kind.AMBIGUOUS, 40, 35))
        world = World({"q": []})
        errands = Errands(ledger, lambda _: Evidence(Kind.AMBIGUOUS, 0), now_us=50)
        errands.now_us = await ledger.due(ALL_STEPS, 50) or 0
        await errands.one()
        errands.answer = world.answer
        await errands.all()
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    told = {x.operation: (x.attempts, x.sent, x.retries, x.throttles) for x in books.call_figures()}
    # A second lookup is no retry; one that brought nothing made another necessary.
    assert told == {"DeleteFaces": (2, 2, 0, 0), "GetPerson": (3, 3, 1, 0)}
    times = list(books.sent_times_us("GetPerson"))
    assert all(two - one >= DEFAULT_RULES.absence_interval_us for one, two in pairwise(times))
    assert list(books.sent_times_us("DeleteFaces")) == [15, 35]
    books.close()


def test_the_run_and_its_sources_are_what_was_sealed(books: LedgerBooks) -> None:
    header = books.header()
    assert (header.run_id, header.account, header.rehearsal) == (RUN_ID, "account", False)
    assert (header.rows, header.faces, header.persons, header.calls) == (12, 4, 3, 3)
    assert header.repeats == 3
    assert header.settings["rate_per_second"] == 19.8
    assert books.value("endpoint") == "http://127.0.0.1"
    assert [(s.name, s.records, s.carried_columns) for s in books.sources()] == [
        ("s0.csv", 6, ()),
        ("s1.csv", 6, ()),
    ]
    assert books.holds() == {("held", "")}
    assert books.sessions() == []


def test_the_tally_is_of_distinct_faces_to_be_sent(books: LedgerBooks) -> None:
    assert books.tally() == {"deleted": 2, "refused": 1, "unsent": 1}


# What is left


def test_what_was_in_flight_when_a_process_died_is_left(books: LedgerBooks) -> None:
    assert books.left() == Left(faces=1, persons=1, calls=1)


async def test_a_call_that_only_waits_for_a_lookup_is_left(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1"), ("p", "2"), ("q", "3"), ("r", "4"), ("w", "")])])

    async def left() -> Left:
        books = LedgerBooks(open_ledger(tmp_path, read_only=True))
        try:
            return books.left()
        finally:
            books.close()

    assert await left() == Left(faces=4, persons=4, calls=4)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        await attempt(ledger, Evidence(Kind.AMBIGUOUS, 20, 15))
        await attempt(ledger, Evidence(Kind.REFUSED, 30, 25, code="400"))
        await attempt(ledger, Evidence(Kind.LISTED, 40, 35, listed=("4",)))
    # p is unknown, r waits for its verification, and nobody has looked for w.
    assert await left() == Left(faces=2, persons=2, calls=3)
    async with unsynced_ledger(tmp_path) as ledger:
        world = World({"p": ["1"], "r": [], "w": []})
        await Errands(ledger, world.answer, now_us=50).all()
    assert await left() == Left(0, 0, 0)


async def test_what_was_given_up_is_left(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1"), ("w", "")])])
    async with unsynced_ledger(tmp_path) as ledger:
        await Errands(ledger, lambda _: Evidence(Kind.AMBIGUOUS, 0)).all()
        assert await ledger.due(ALL_STEPS, 10**12) is None
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert books.left() == Left(faces=1, persons=2, calls=2)
    assert books.tally() == {"unknown": 2}
    books.close()


async def test_what_a_new_round_would_take_up(tmp_path: Path) -> None:
    pairs = [("gone", "1"), ("there", "2"), ("there", "3"), ("nobody", "4"), ("no", "5"), ("w", "")]
    draft_run(tmp_path, [rows([*pairs, ("forbidden", "6")])])
    refusals = {"no": "400", "forbidden": "403"}
    world = World({"gone": ["1"], "there": ["2", "3"], "w": ["7"]})

    def answer(asked: Request) -> Evidence:
        if asked.step is Step.DELETE and asked.person_id in refusals:
            return Evidence(Kind.REFUSED, 0, code=refusals[asked.person_id])
        if asked.step is Step.DELETE and asked.person_id in {"there", "w"}:
            return Evidence(Kind.AMBIGUOUS, 0)
        return world.answer(asked)

    async with unsynced_ledger(tmp_path) as ledger:
        await Errands(ledger, answer).all()
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert books.tally() == {"deleted": 1, "present": 4, "no_person": 1, "refused": 2}
    assert books.left() == Left(0, 0, 0)
    # Two faces and one that was found, and the person of whom everything was to go.
    assert books.retried(()) == Left(faces=4, persons=3, calls=3)
    assert books.retried({"403"}) == Left(faces=5, persons=4, calls=4)
    books.close()


async def test_a_round_that_goes_on_with_the_rest_counts_nobody_twice(tmp_path: Path) -> None:
    """A canary that failed keeps back the other calls of a person whose first call was refused."""
    pairs = [("p", f"{number:02}") for number in range(40)] + [("w", ""), ("x", "9")]
    draft_run(tmp_path, [rows(pairs)])
    world = World({"p": [], "w": ["7"], "x": ["9"]})

    def answer(asked: Request) -> Evidence:
        if asked.step is Step.DELETE and asked.person_id == "p":
            return Evidence(Kind.REFUSED, 0, code="403")
        return world.answer(asked)

    async with unsynced_ledger(tmp_path) as ledger:
        errands = Errands(ledger, answer)
        while not [asked for asked in errands.sent if asked.step is Step.DELETE]:
            await errands.one()
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert books.left() == Left(faces=22, persons=3, calls=3)
    assert books.retried({"403"}) == Left(faces=20, persons=1, calls=1)
    assert books.left_and_retried({"403"}) == Left(faces=42, persons=3, calls=4)
    assert books.left_and_retried(()) == books.left()
    books.close()


# Whole persons and verification


async def test_the_lines_of_a_whole_person(tmp_path: Path) -> None:
    """Under each row that asks for the person: every face that was found, and then the person."""
    sources = [
        [
            Entry(0, 2, "", "w", "", "", "", "{}", whole=True),
            Entry(1, 3, "", "w", "1", "", "", ""),
            Entry(2, 4, "again", "w", "", "", "", "", whole=True),
            Entry(3, 5, "", "x", "9", "", "", ""),
        ]
    ]
    draft_run(tmp_path, sources, holds=Holds(frozenset({("w", "3")}), "x"))
    world = World({"w": ["1", "2", "3"], "x": ["9"]})
    async with unsynced_ledger(tmp_path) as ledger:
        await Errands(ledger, world.answer).all()
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    told = [(x.label, x.face_id, x.outcome, x.message, x.duplicate_of) for x in books.lines()]
    kept, listed = "only faces that must not be sent are left", "on the exclusion list"
    assert told == [
        ("s0.csv:2", "2", "deleted", "", ""),
        ("s0.csv:2", "3", "held", listed, ""),
        ("s0.csv:2", "", "held", kept, ""),
        ("s0.csv:3", "1", "deleted", "", ""),
        ("again", "2", "deleted", "", "s0.csv:2"),
        ("again", "3", "held", listed, "s0.csv:2"),
        ("again", "", "held", kept, "s0.csv:2"),
        ("s0.csv:5", "9", "deleted", "", ""),
    ]
    assert books.found_lines() == 4
    books.close()


async def test_how_much_of_a_verification_was_answered(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1"), ("q", "2"), ("r", "3")])])
    world = World({"p": ["1"], "q": ["2"], "r": ["3"]})

    def answer(asked: Request) -> Evidence:
        if asked.step is Step.VERIFY and asked.person_id == "q":
            return Evidence(Kind.AMBIGUOUS, 0)
        return world.answer(asked)

    def verification() -> Verification:
        books = LedgerBooks(open_ledger(tmp_path, read_only=True))
        try:
            return books.verification()
        finally:
            books.close()

    assert verification() == Verification(0, 0)
    async with unsynced_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify="all")
        errands = Errands(ledger, answer)
        await errands.all((Step.DELETE,))
        assert verification() == Verification(asked=3, answered=0)
        await errands.all()
        await ledger.end_session(2, StopReason.FINISHED, "", {})
    assert verification() == Verification(asked=3, answered=2)


def lines_peak(run_dir: Path, count: int) -> int:
    """Bytes that Python has at most at a time while it reads so many lines."""
    draft_run(run_dir, [rows(("p", str(number)) for number in range(count))])
    books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
    tracemalloc.start()
    assert sum(1 for _ in books.lines()) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    books.close()
    return peak


def test_lines_take_no_more_memory_where_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A block of either kind is in memory, whole: blocks of 500 faces, so that there are many of them.
    monkeypatch.setattr(rowmap, "ROWS_PER_BLOCK", 500)
    monkeypatch.setattr(collation, "CALLS_PER_BLOCK", 25)
    few, many = lines_peak(tmp_path / "few", 2_000), lines_peak(tmp_path / "many", 12_000)
    assert many < 1.5 * few


def test_lines_are_streamed(books: LedgerBooks) -> None:
    lines = books.lines()
    assert next(lines).face_id == "001"
    assert next(lines).face_id == "002"
