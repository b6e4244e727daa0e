from __future__ import annotations

import pytest

from tests.report.fake_books import (
    UNVERIFIED,
    FakeBooks,
    concluded,
    line,
    outcomes,
    person_line,
    session,
)
from worker.model import Outcome, StopReason
from worker.report.interface import Line, Verification

VERIFIED = Verification(asked=2, answered=2)


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (outcomes("deleted", "absent", "held"), 0),
        (outcomes("held"), 0),
        (outcomes("deleted", "refused"), 4),
        (outcomes("deleted", "present"), 4),
        (outcomes("deleted", "no_person"), 4),
        (outcomes("deleted", "invalid"), 4),
        (outcomes("deleted", "conflict"), 4),
        (outcomes("refused", "unknown"), 5),
        (outcomes("refused", "unsent"), 5),
        (outcomes("deleted", "unsent", reason=StopReason.OUTAGE), 5),
        (outcomes("deleted", reason=StopReason.OUTAGE), 0),
        (outcomes("deleted", "unknown", reason=StopReason.KILLED), 5),
        (outcomes("deleted", reason=StopReason.KILLED), 0),
        (outcomes("unsent", reason=None), 5),
        (outcomes("deleted", "unsent", reason=StopReason.LIMIT), 8),
        (outcomes("deleted", "refused", "unsent", reason=StopReason.HALT), 8),
        (outcomes("deleted", "refused", "unsent", reason=StopReason.CANARY), 8),
        (outcomes("deleted", "unsent", reason=StopReason.REQUEST), 10),
        (outcomes("deleted", reason=StopReason.REQUEST), 10),
        (outcomes("deleted", "unsent", reason=StopReason.SIGINT), 130),
        (outcomes("deleted", "unsent", reason=StopReason.SIGTERM), 143),
        (outcomes("deleted", "unsent", reason=StopReason.SIGHUP), 129),
        (outcomes("deleted", "unsent", reason=StopReason.FATAL), 7),
        (outcomes("refused", "unsent", reason=StopReason.BREAKER), 7),
        (outcomes("unsent", reason=StopReason.LEDGER), 7),
        (outcomes("unsent", reason=StopReason.HOLDS), 7),
        (outcomes("deleted", rows=2), 1),
        (outcomes("deleted", rows=2, reason=StopReason.FATAL), 1),
        (outcomes("deleted", "a_new_word"), 1),
    ],
)
def test_the_exit_code(case: FakeBooks, code: int) -> None:
    assert concluded(case).exit_code == code


PRESENT = line(0, outcome="present", code="still_listed")
AGAIN = line(1, outcome="present", code="reappeared")
FACES_AGAIN = person_line(2, outcome="present", code="reappeared")
STILL_WITH_FACES = person_line(3, outcome="present", code="still_listed")
NOT_REMOVED = person_line(4, outcome="present", code="not_removed")


@pytest.mark.parametrize(
    ("given", "verified", "code"),
    [
        (PRESENT, UNVERIFIED, 4),
        (PRESENT, VERIFIED, 6),
        (AGAIN, UNVERIFIED, 6),
        (AGAIN, VERIFIED, 6),
        (FACES_AGAIN, UNVERIFIED, 6),
        (FACES_AGAIN, VERIFIED, 6),
        (STILL_WITH_FACES, UNVERIFIED, 4),
        (STILL_WITH_FACES, VERIFIED, 6),
        (NOT_REMOVED, UNVERIFIED, 4),
        (NOT_REMOVED, VERIFIED, 4),
        (line(0), VERIFIED, 0),
        (line(0, outcome="deleted", code="reappeared"), VERIFIED, 0),
    ],
)
def test_a_run_never_ends_quietly_with_what_is_there_again_or_after_a_verification(
    given: Line, verified: Verification, code: int
) -> None:
    books = FakeBooks([given], verified=verified)
    assert concluded(books).exit_code == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (StopReason.FINISHED, 6),
        (StopReason.OUTAGE, 6),
        (StopReason.KILLED, 6),
        (StopReason.LIMIT, 8),
        (StopReason.HALT, 8),
        (StopReason.CANARY, 6),
        (StopReason.REQUEST, 10),
        (StopReason.SIGTERM, 143),
        (StopReason.SWAPPED, 7),
    ],
)
def test_what_outranks_a_face_that_is_there_again(reason: StopReason, code: int) -> None:
    lines = [AGAIN, line(2, outcome="unknown", code=""), line(3, outcome="refused", code="400")]
    assert concluded(FakeBooks(lines, reads=[session(reason)])).exit_code == code


def test_no_person_is_wanted_where_the_settings_say_so() -> None:
    nobody = outcomes("deleted", "no_person")
    nobody.treat_no_person_as_absent = True
    conclusion = concluded(nobody)
    assert (conclusion.exit_code, conclusion.failed) == (0, 0)
    assert set(conclusion.tally.remedies.values()) == {0}
    nobody.treat_no_person_as_absent = False
    conclusion = concluded(nobody)
    assert (conclusion.exit_code, conclusion.failed) == (4, 1)
    assert conclusion.tally.remedies["data"] == 1


def test_only_the_last_session_counts() -> None:
    resumed = outcomes("deleted")
    resumed.reads = [session(StopReason.SIGINT), session()]
    assert concluded(resumed).exit_code == 0


def test_the_lines_add_up_to_the_rows_and_what_was_found() -> None:
    found = FakeBooks([line(0, face_id="1"), line(0, face_id="2"), person_line(0)], found=2)
    conclusion = concluded(found)
    assert conclusion.books_balance
    assert (conclusion.rows, conclusion.found_lines, found.header().rows) == (3, 2, 1)
    found.found, found.rows = 1, 1
    assert (concluded(found).books_balance, concluded(found).exit_code) == (False, 1)


def test_distinct_faces_leave_out_repeats_and_lines_without_a_face() -> None:
    tally = concluded(
        FakeBooks(
            [line(0), line(1, duplicate_of="in.csv:2"), line(2, outcome="invalid", face_id="")]
        )
    ).tally
    assert tally.lines[Outcome.DELETED] == 2
    assert tally.faces[Outcome.DELETED] == 1
    assert tally.lines[Outcome.INVALID] == 1
    assert tally.faces[Outcome.INVALID] == 0
    assert tally.whole_persons == dict.fromkeys(Outcome, 0)
    assert set(tally.lines) == set(Outcome)


def test_a_whole_person_asked_for_twice_counts_once_and_so_do_its_faces() -> None:
    first = [
        line(0, face_id="1"),
        line(0, face_id="2", outcome="present", code="reappeared"),
        person_line(0, outcome="present", code="reappeared"),
    ]
    repeated = [
        given._replace(record_no=1, line=3, label="in.csv:3", duplicate_of="in.csv:2")
        for given in first
    ]
    tally = concluded(FakeBooks([*first, *repeated], found=4)).tally
    assert (tally.lines[Outcome.DELETED], tally.lines[Outcome.PRESENT]) == (2, 4)
    assert (tally.faces[Outcome.DELETED], tally.faces[Outcome.PRESENT]) == (1, 1)
    assert tally.whole_persons[Outcome.PRESENT] == 1
    assert (tally.reappeared, tally.refilled) == (1, 1)
    assert (tally.remedies["retry"], tally.failures) == (4, 2)
