from __future__ import annotations

import pytest

from tests.report.fake_books import FakeBooks, concluded, line, session
from worker.model import Outcome, StopReason
from worker.report.closing import last_line, summary_lines
from worker.report.interface import CallFigures


def books(
    *outcomes: str, reason: StopReason | None = StopReason.FINISHED, rows: int = -1
) -> FakeBooks:
    lines = [line(number, outcome=outcome) for number, outcome in enumerate(outcomes)]
    return FakeBooks(lines, reads=[session(reason)] if reason else [], rows=rows)


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (books("deleted", "absent", "held"), 0),
        (books("held"), 0),
        (books("deleted", "refused"), 4),
        (books("deleted", "present"), 4),
        (books("deleted", "no_person"), 4),
        (books("deleted", "invalid"), 4),
        (books("deleted", "conflict"), 4),
        (books("refused", "unknown"), 5),
        (books("refused", "unsent"), 5),
        (books("deleted", "unsent", reason=StopReason.OUTAGE), 5),
        (books("deleted", "unknown", reason=StopReason.KILLED), 5),
        (books("deleted", reason=StopReason.KILLED), 0),
        (books("unsent", reason=None), 5),
        (books("deleted", "unsent", reason=StopReason.SIGINT), 130),
        (books("deleted", "unsent", reason=StopReason.SIGTERM), 143),
        (books("deleted", "unsent", reason=StopReason.FATAL), 7),
        (books("refused", "unsent", reason=StopReason.BREAKER), 7),
        (books("unsent", reason=StopReason.LEDGER), 7),
        (books("unsent", reason=StopReason.HOLDS), 7),
        (books("deleted", rows=2), 1),
        (books("deleted", rows=2, reason=StopReason.FATAL), 1),
        (books("deleted", "a_new_word"), 1),
    ],
)
def test_the_exit_code(case: FakeBooks, code: int) -> None:
    assert concluded(case).exit_code == code


def test_a_face_that_is_there_again_outranks_what_is_left() -> None:
    again = FakeBooks(
        [line(0, outcome="present", code="reappeared"), line(1, outcome="unknown", code="")]
    )
    assert concluded(again).exit_code == 6
    assert "1 deleted face there again" in last_line(concluded(again), "runs/r")


def test_only_the_last_session_counts() -> None:
    resumed = books("deleted")
    resumed.reads = [session(StopReason.SIGINT), session()]
    assert concluded(resumed).exit_code == 0


def test_distinct_faces_leave_out_repeats_and_lines_without_a_face() -> None:
    conclusion = concluded(
        FakeBooks(
            [line(0), line(1, duplicate_of="in.csv:2"), line(2, outcome="invalid", face_id="")]
        )
    )
    assert conclusion.lines[Outcome.DELETED] == 2
    assert conclusion.faces[Outcome.DELETED] == 1
    assert conclusion.lines[Outcome.INVALID] == 1
    assert conclusion.faces[Outcome.INVALID] == 0
    assert set(conclusion.lines) == set(Outcome)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            books("deleted"),
            (
                "1 face deleted; finished, every face is gone; to see the report type: less"
                " 'my runs/r'/report/summary.json"
            ),
        ),
        (
            books("deleted", "deleted", "absent", "refused"),
            (
                "2 faces deleted, 1 found absent; finished with 1 refused; to see why type: less"
                " 'my runs/r'/report/failures.csv"
            ),
        ),
        (
            books("deleted", "invalid"),
            (
                "1 face deleted; finished with 1 invalid; to see why type: less"
                " 'my runs/r'/report/rejected.csv"
            ),
        ),
        (
            books("deleted", "unsent", reason=StopReason.SIGINT),
            (
                "1 face deleted; stopped: it was interrupted (SIGINT); to go on type: facepurge"
                " resume 'my runs/r'"
            ),
        ),
        (
            books("unknown"),
            "0 faces deleted; finished with 1 unknown; whether the unknown ones are gone was not established: look them up before anything is sent again; to see them type: less 'my runs/r'/report/failures.csv",
        ),
    ],
)
def test_the_last_line(case: FakeBooks, said: str) -> None:
    assert last_line(concluded(case), "my runs/r") == said


def test_the_last_line_says_when_nothing_was_sent_and_when_it_was_a_rehearsal() -> None:
    stopped = books("unsent", reason=StopReason.FATAL)
    stopped.figures = [CallFigures("DeleteFaces", 1, 0, 0, 0)]
    stopped.rehearsal = True
    stopped.reads = [session(StopReason.FATAL, detail="596: not activated; order the service.")]
    assert last_line(concluded(stopped), "r") == (
        "rehearsal: nothing was sent; stopped: 596: not activated; order the service;"
        " to go on type: facepurge resume r"
    )


def test_the_last_line_of_unbalanced_books_asks_for_the_directory_to_be_kept() -> None:
    said = last_line(concluded(books("deleted", rows=2)), "r")
    assert "1 line counted where 2 were read" in said
    assert "facepurge report r" in said


def test_a_planned_run_says_that_it_never_began() -> None:
    planned = books("unsent", reason=None)
    planned.figures = []
    assert last_line(concluded(planned), "r") == (
        "nothing was sent; the run was planned and never begun; to go on type: facepurge resume r"
    )


def test_the_last_line_is_one_line_that_no_terminal_obeys() -> None:
    stopped = books("unsent", reason=StopReason.FATAL)
    stopped.reads = [session(StopReason.FATAL, detail="\x1b[2Jgone\nline")]
    assert r"\x1b[2Jgone\nline" in last_line(concluded(stopped), "r")


def test_every_reason_to_stop_has_a_sentence_of_its_own() -> None:
    said = {last_line(concluded(books("unsent", reason=reason)), "r") for reason in StopReason}
    assert len(said) == len(StopReason)


def test_the_summary_shows_the_outcomes_that_occur_in_columns() -> None:
    case = books(*["deleted"] * 12, "no_person")
    assert summary_lines(concluded(case), "r") == (
        "purge: 13 lines, 2 calls sent",
        "  deleted    12  the service confirmed it",
        "  no_person   1  the service knows no such person",
        "books: balanced (13 of 13 lines)",
        "report: r/report",
    )
    case.rehearsal = True
    assert summary_lines(concluded(case), "r")[0].startswith("rehearsal, nothing real was deleted")
