from __future__ import annotations

import pytest

from tests.report.fake_books import FakeBooks, concluded, line, outcomes, person_line, session
from worker.model import StopReason, Verb
from worker.report.closing import last_line, summary_lines
from worker.report.interface import CallFigures, Line, Verification

REPORT = "to see the report type: less r/report/summary.json"
RESUME = "to go on type: facepurge resume r"
RETRY = "to try again type: facepurge retry r"
FAILURES = "to see why type: less r/report/failures.csv"
REJECTED = "to see why type: less r/report/rejected.csv"
VERIFIED = Verification(asked=3, answered=3)


def said(*given: Line, found: int = 0, **changes: object) -> str:
    books = FakeBooks(given, found=found)
    for name, value in changes.items():
        setattr(books, name, value)
    return last_line(concluded(books), "r")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (outcomes("deleted"), f"1 face deleted; finished, every face is gone; {REPORT}"),
        (
            outcomes("deleted", "deleted", "absent", "refused"),
            f"2 faces deleted, 1 found absent; finished with 1 refused; {FAILURES}",
        ),
        (
            outcomes("deleted", "held", "invalid"),
            f"1 face deleted; finished with 1 held, 1 invalid; {REJECTED}",
        ),
        (
            outcomes("deleted", "unsent", reason=StopReason.SIGINT),
            f"1 face deleted; stopped: it was interrupted (SIGINT); {RESUME}",
        ),
        (
            outcomes("deleted", "unknown", "refused", "present"),
            f"1 face deleted; ended with 1 present, 1 refused, 1 unknown; {RESUME}",
        ),
        (
            outcomes("deleted", "present", "refused", "no_person"),
            f"1 face deleted; finished with 1 no_person, 1 present, 1 refused; {RETRY}",
        ),
        (
            outcomes("unsent", reason=StopReason.OUTAGE),
            "0 faces deleted; stopped: the service could not be used for too long; " + RESUME,
        ),
        (
            outcomes("deleted", "unknown", reason=StopReason.SWAPPED),
            (
                "1 face deleted; stopped: an answer spoke of another person or face; to see what"
                " came type: less r/report/failures.csv"
            ),
        ),
    ],
)
def test_the_last_line(case: FakeBooks, words: str) -> None:
    assert last_line(concluded(case), "r") == words


def test_a_directory_in_a_command_is_fit_for_a_shell() -> None:
    assert last_line(concluded(outcomes("unsent")), "my runs/r").endswith(
        "facepurge resume 'my runs/r'"
    )


def test_a_refusal_that_can_be_mended_is_tried_again_after_that() -> None:
    assert said(line(0, outcome="refused", code="403"), line(1, outcome="refused", code="400")) == (
        "0 faces deleted; finished with 2 refused; mend key, rights or account"
        " (r/report/failures.csv has the codes), then type: facepurge retry r"
    )


def test_of_persons_nobody_knows_the_region_is_doubted_first() -> None:
    assert said(line(0, outcome="no_person", code="404")) == (
        "0 faces deleted; finished with 1 no_person; check account and region first, under a wrong"
        " one nobody is known; to see who is not type: less r/report/failures.csv"
    )
    wanted = said(line(0, outcome="no_person", code="404"), treat_no_person_as_absent=True)
    assert wanted == f"0 faces deleted; finished with 1 no_person; {REPORT}"


FOUND = [line(0, face_id=str(number)) for number in range(12)]


def test_whole_persons_are_counted_beside_their_faces() -> None:
    persons = [person_line(number) for number in range(3)]
    assert said(*FOUND, *persons, found=12) == (
        f"12 faces deleted, 3 persons empty; finished, every face is gone; {REPORT}"
    )
    removed = person_line(3, outcome="person_deleted")
    assert said(*FOUND, persons[0], removed, found=12).startswith(
        "12 faces deleted, 1 person empty, 1 person removed; finished, every face is gone; "
    )


def test_whole_persons_that_did_not_go_are_in_the_results_only() -> None:
    refused = person_line(0, outcome="refused", code="400")
    assert said(refused).endswith("to see why type: less r/report/results.csv")
    face = line(1, outcome="refused", code="400")
    assert said(refused, face).endswith(FAILURES)
    assert said(person_line(0, outcome="present", code="not_removed")).endswith(RETRY)
    assert said(person_line(0, outcome="conflict", code="faces_kept")).endswith(REJECTED)


def test_a_limit_names_the_command_with_a_higher_one() -> None:
    found = line(0, outcome="unsent", code="")
    whole = person_line(0, outcome="unsent")
    detail = "12 faces are to be deleted, and --max-delete allows 10; raise it if it is right"
    assert said(found, whole, found=1, reads=[session(StopReason.LIMIT, detail=detail)]) == (
        f"0 faces deleted; stopped: {detail}; to go on with a higher limit N type:"
        " facepurge resume r --max-delete N"
    )


@pytest.mark.parametrize(
    ("given", "loud"),
    [
        (
            [line(0, outcome="present", code="reappeared")],
            "1 face listed although said to be gone; ",
        ),
        (
            [
                person_line(0, outcome="present", code="reappeared"),
                person_line(1, outcome="present", code="reappeared"),
            ],
            "2 persons have faces although said to be empty; ",
        ),
        (
            [
                line(0, outcome="present", code="reappeared"),
                person_line(0, outcome="present", code="reappeared"),
            ],
            (
                "1 face listed although said to be gone; 1 person has faces although said to be empty;"
                " finished with 2 present; "
            ),
        ),
    ],
)
def test_what_is_there_again_is_said_loudly(given: list[Line], loud: str) -> None:
    words = said(*given)
    assert loud in words
    assert words.endswith(
        "; the service did not do what it said, or somebody adds faces: ask its support and whoever"
        " adds them (to see which: grep reappeared r/report/results.csv), then type: facepurge retry r"
    )
    open_too = said(*given, line(9, outcome="unknown", code=""))
    assert loud.partition(";")[0] in open_too
    assert open_too.endswith(RESUME)


def test_what_a_verification_found_is_said_loudly() -> None:
    given = [
        line(0),
        line(1, outcome="present", code="still_listed"),
        line(2, outcome="present", code="reappeared"),
        person_line(3, outcome="present", code="still_listed"),
        person_line(4, outcome="present", code="not_removed"),
    ]
    quiet = said(*given[:2])
    assert quiet == f"1 face deleted; finished with 1 present; {RETRY}"
    assert said(*given[:2], verified=VERIFIED) == (
        "1 face deleted, verification: 3 of 3 lookups answered; 1 face still there;"
        f" finished with 1 present; {RETRY}"
    )
    assert said(*given, verified=VERIFIED).startswith(
        "1 face deleted, verification: 3 of 3 lookups answered; 1 face listed although said to"
        " be gone; 1 face still there; 1 person still with faces; finished with 4 present; "
    )


def test_a_session_that_only_looked_says_that_it_deleted_nothing() -> None:
    looked = [session(), session(verb=Verb.VERIFY)]
    assert said(*FOUND, reads=looked, verified=VERIFIED) == (
        "nothing was deleted by this verification (3 of 3 lookups answered), in all 12 faces"
        f" deleted; finished, every face is gone; {REPORT}"
    )


def test_lookups_alone_have_deleted_nothing_and_are_not_nothing() -> None:
    lookups = [CallFigures("GetPerson", 2, 2, 0, 0)]
    absent = line(0, outcome="absent", code="")
    assert said(absent, figures=lookups) == (
        f"0 faces deleted, 1 found absent; finished, every face is gone; {REPORT}"
    )
    assert said(person_line(0), figures=lookups).startswith("0 faces deleted, 1 person empty; ")


def test_an_unfinished_verification_is_taken_up() -> None:
    part = Verification(asked=3, answered=2)
    stopped = [session(), session(StopReason.SIGTERM, verb=Verb.VERIFY)]
    assert said(line(0), reads=stopped, verified=part).endswith(RESUME)
    given_up = [session(), session(verb=Verb.VERIFY)]
    assert said(line(0), reads=given_up, verified=part) == (
        "nothing was deleted by this verification (2 of 3 lookups answered), in all 1 face deleted;"
        f" ended with 1 person not verified; {RESUME}"
    )
    assert said(line(0), reads=given_up, verified=VERIFIED).endswith(REPORT)


def test_a_round_that_was_cut_short_is_taken_up_and_not_begun_again() -> None:
    books = outcomes("present", reason=StopReason.KILLED)
    books.waiting = True
    assert last_line(concluded(books), "r").endswith(f"the process died; {RESUME}")
    assert concluded(books).exit_code == 5
    books.waiting = False
    assert concluded(books).exit_code == 4


def test_the_last_line_says_when_nothing_was_sent_and_when_it_was_a_rehearsal() -> None:
    stopped = outcomes("unsent", reason=StopReason.FATAL)
    stopped.figures = [CallFigures("DeleteFaces", 1, 0, 0, 0)]
    stopped.rehearsal = True
    stopped.reads = [session(StopReason.FATAL, detail="596: not activated; order the service.")]
    assert last_line(concluded(stopped), "r") == (
        f"rehearsal: nothing was sent; stopped: 596: not activated; order the service; {RESUME}"
    )


def test_the_last_line_of_unbalanced_books_asks_for_the_directory_to_be_kept() -> None:
    words = last_line(concluded(outcomes("deleted", rows=2)), "r")
    assert "1 line counted where 2 were read or found" in words
    assert words.endswith("facepurge report r")


def test_a_planned_run_says_that_it_never_began() -> None:
    planned = outcomes("unsent", reason=None)
    planned.figures = []
    assert last_line(concluded(planned), "r") == (
        f"nothing was sent; the run was planned and never begun; {RESUME}"
    )


def test_the_last_line_is_one_line_that_no_terminal_obeys() -> None:
    stopped = outcomes("unsent", reason=StopReason.FATAL)
    stopped.reads = [session(StopReason.FATAL, detail="\x1b[2Jgone\nline")]
    assert r"\x1b[2Jgone\nline" in last_line(concluded(stopped), "r")


def test_every_reason_to_stop_has_a_sentence_of_its_own() -> None:
    words = {last_line(concluded(outcomes("unsent", reason=reason)), "r") for reason in StopReason}
    assert len(words) == len(StopReason)


def test_the_summary_shows_the_outcomes_that_occur_in_columns() -> None:
    case = outcomes(*["deleted"] * 12, "no_person")
    assert summary_lines(concluded(case), "r") == (
        "purge: 13 lines, 2 calls sent",
        "  deleted    12  the service confirmed it",
        "  no_person   1  the service knows no such person",
        "causes",
        "  no_person (200), 1 face: the service says that it knows no such person",
        "    at in.csv:14",
        (
            "    next: check account and region first, under a wrong one nobody is known; if they are"
            " right, the person is not in this library: check where the line comes from, or accept it"
            " with --treat-no-person-as-absent in the next run"
        ),
        "books: balanced (13 of 13 lines)",
        "report: r/report",
    )
    case.rehearsal = True
    assert summary_lines(concluded(case), "r")[0].startswith("rehearsal, nothing real was deleted")


def test_the_summary_says_how_far_a_verification_came() -> None:
    case = outcomes("deleted")
    case.verified = Verification(asked=1_200, answered=1_199)
    assert "verification: 1,199 of 1,200 lookups answered" in summary_lines(concluded(case), "r")


def test_a_call_of_the_program_that_sends_nothing_claims_nothing_of_the_run() -> None:
    books = outcomes("deleted", "refused")
    assert last_line(concluded(books), "r", idle="nothing here can be tried again") == (
        "nothing was sent now, nothing here can be tried again; in all 1 face deleted; finished with"
        f" 1 refused; {FAILURES}"
    )
    looked = FakeBooks([line()], reads=[session(verb=Verb.VERIFY)], verified=VERIFIED)
    assert last_line(concluded(looked), "r", idle="").startswith(
        "nothing was sent now; in all 1 face deleted, verification: 3 of 3 lookups answered; "
    )
    unsent = FakeBooks([line(outcome="held")], figures=())
    assert last_line(concluded(unsent), "r", idle="nothing was left to do").startswith(
        "nothing was sent, nothing was left to do; "
    )


def test_a_report_that_is_not_there_is_what_to_type_for() -> None:
    conclusion = concluded(outcomes("deleted", "unknown", reason=StopReason.SWAPPED))
    assert last_line(conclusion, "r", is_written=False) == (
        "1 face deleted; stopped: an answer spoke of another person or face; the report is not"
        " written; to write it type: facepurge report r"
    )
    assert summary_lines(conclusion, "r", is_written=False)[-1] == "report: not written"


def test_nobody_is_sent_on_before_a_swapped_answer_is_explained() -> None:
    given = [
        line(outcome="unknown", code="swapped_answer", request_id="A1"),
        line(1, outcome="unsent", code="", request_id=""),
    ]
    stopped = concluded(FakeBooks(given, reads=[session(StopReason.SWAPPED)]))
    assert stopped.tally.remedies["support"] == 2
    assert stopped.tally.remedies["resume"] == 0
    told = "\n".join(summary_lines(stopped, "r"))
    assert "unknown (swapped_answer), 1 face: the answer spoke of another person or face" in told
    assert told.count("once you know, type: facepurge resume r --swap-explained") == 2
    assert "quoting request ID A1" in told
    # Whoever has gone on has explained it.
    gone_on = [session(StopReason.SWAPPED), session(StopReason.SIGTERM, verb=Verb.RESUME)]
    assert concluded(FakeBooks(given, reads=gone_on)).tally.remedies["resume"] == 2
