"""What a report reads: every row in input order, with what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.rig import RUN_ID, draft_run, opened_ledger, rows
from worker.holds import Holds
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.model import Call, Entry, Evidence, Kind, Request

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


@pytest.fixture
async def run_dir(tmp_path: Path) -> Path:
    """ann's faces deleted after a throttle, dan refused, eve in flight when the process died."""
    draft_run(tmp_path, SOURCES, holds=Holds(frozenset({("held", "")}), "x"))
    async with opened_ledger(tmp_path) as ledger:

        async def attempt(evidence: Evidence, *, settled: bool) -> None:
            call = await ledger.claim()
            assert call is not None
            seq = await ledger.open_attempt(_request(call), evidence.ended_us - 9)
            await ledger.record(seq, call.call_no, evidence, settled=settled)

        await attempt(Evidence(Kind.THROTTLED, 20, 15, 200, "588", "slow", "r1"), settled=False)
        await attempt(
            Evidence(Kind.LISTED, 40, 35, 200, "200", "OK", "r2", ("001", "002")), settled=True
        )
        await attempt(
            Evidence(Kind.NOT_SENT, 50, code="connect_failed", message="refused"), settled=False
        )
        await attempt(Evidence(Kind.REFUSED, 60, 55, 200, "586", "no", "r3"), settled=True)
        eve = await ledger.claim()
        assert eve is not None
        await ledger.open_attempt(_request(eve), 70)
    return tmp_path


def _request(call: Call) -> Request:
    return Request("DeleteFaces", call.call_no, call.person_id, call.face_ids, b"", str(id(call)))


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
    async with opened_ledger(run_dir) as ledger:
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
    assert (figures.retries, figures.throttles) == (2, 1)
    assert list(books.sent_times_us("DeleteFaces")) == [15, 35, 55]
    assert list(books.sent_times_us("AddFaces")) == []


async def test_what_was_fatal_before_it_left_is_not_counted_as_sent(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("p", "1")])])
    async with opened_ledger(tmp_path) as ledger:
        for number, sent_us in enumerate((None, 5)):
            call = await ledger.claim()
            assert call is not None
            seq = await ledger.open_attempt(_request(call), number)
            end = Evidence(Kind.FATAL, 9, sent_us, code="tls_failed")
            await ledger.record(seq, call.call_no, end, settled=False)
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    (figures,) = books.call_figures()
    assert (figures.attempts, figures.sent) == (2, 1)
    assert [line.attempts for line in books.lines()] == [1]
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
    assert books.faces_waiting() == 0


def test_lines_are_streamed(books: LedgerBooks) -> None:
    lines = books.lines()
    assert next(lines).face_id == "001"
    assert next(lines).face_id == "002"
