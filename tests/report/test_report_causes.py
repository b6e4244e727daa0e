"""Why faces are not gone: each cause with whom it concerns, its first places, and the next step."""

from __future__ import annotations

import json
import shlex

import click
import pytest

import worker.cli
from tests.report.fake_books import FakeBooks, concluded, line, outcomes, person_line
from worker.green.codes import GATEWAY_CODES, SERVICE_CODES
from worker.model import Kind, Outcome, StopReason
from worker.report.batches import Batch
from worker.report.causes import MOST_CAUSES, OTHER_CODES, PLACES_KEPT, Cause, Causes
from worker.report.closing import MOST_CAUSES_SHOWN, last_line, summary_lines
from worker.report.interface import Line
from worker.report.reasons import action, concerned, reason
from worker.report.remedies import Remedy, remedy_for
from worker.report.summary import summarise

UNOBJECTIONABLE = frozenset({Outcome.DELETED, Outcome.ABSENT, Outcome.HELD})


def causes(*lines: Line) -> tuple[Cause, ...]:
    counting = Causes(UNOBJECTIONABLE, remedy_for)
    # In batches, as a report reads them.
    for one in lines:
        counting.add(Batch.of([one]))
    return counting.causes()


def cause(outcome: str, code: str = "", **changes: object) -> Cause:
    (one,) = causes(line(0, outcome=outcome, code=code, message=code, **changes))
    return one


def test_causes_are_counted_by_outcome_and_code_what_concerns_most_first() -> None:
    given = [line(n, outcome="refused", code="400", request_id=f"R{n}") for n in range(5)]
    given += [line(9, outcome="refused", code="403", request_id="")]
    given += [line(10), line(11, outcome="held", code="")]
    assert causes(*given) == (
        Cause(
            outcome="refused",
            code="400",
            remedy=Remedy.DATA,
            lines=5,
            faces=5,
            persons=0,
            places=("in.csv:2", "in.csv:3", "in.csv:4"),
            request_ids=("R0", "R1", "R2"),
        ),
        Cause("refused", "403", Remedy.PERMISSION, 1, 1, 0, ("in.csv:11",), ()),
    )


def test_a_repeated_line_is_a_line_and_no_face() -> None:
    first = line(0, outcome="present", code="still_listed")
    (one,) = causes(first, first._replace(line=7, duplicate_of="in.csv:2"))
    assert (one.lines, one.faces, one.places) == (2, 1, ("in.csv:2", "in.csv:7"))
    assert one.request_ids == ("7A1C",)


def test_whole_persons_are_counted_beside_faces() -> None:
    (one,) = causes(
        line(0, outcome="refused", code="400"), person_line(0, outcome="refused", code="400")
    )
    assert (one.lines, one.faces, one.persons) == (2, 1, 1)
    assert concerned(one) == "1 face and 1 person"
    assert one.places == ("in.csv:2",)


def test_invalid_lines_are_grouped_by_their_reason() -> None:
    bad = [line(n, outcome="invalid", code="", face_id="", message="no face") for n in range(2)]
    (one,) = causes(*bad)
    assert (reason(one), concerned(one), one.remedy) == ("no face", "2 lines", Remedy.DATA)


def test_codes_without_end_take_no_room_without_end() -> None:
    many = [line(n, outcome="unknown", code=f"c{n}") for n in range(MOST_CAUSES + 100)]
    found = causes(*many)
    assert len(found) == MOST_CAUSES + 1
    assert (found[0].code, found[0].lines) == (OTHER_CODES, 100)
    assert sum(one.lines for one in found) == len(many)
    assert max(len(one.places) for one in found) == PLACES_KEPT


@pytest.mark.parametrize(
    ("outcome", "code", "step"),
    [
        ("unsent", "", "type: facepurge resume r"),
        ("unsent", "Forbidden.RAM", "mend key, rights or account, then type: facepurge resume r"),
        ("unknown", "no_end_recorded", "type: facepurge resume r"),
        (
            "unknown",
            "500",
            (
                "type: facepurge resume r; if it stays so, ask the support of Alibaba Cloud, quoting"
                " request ID 7A1C"
            ),
        ),
        ("present", "still_listed", "type: facepurge retry r"),
        (
            "present",
            "reappeared",
            (
                "ask the support of Alibaba Cloud, quoting request ID 7A1C; find out whether somebody"
                " adds them; then type: facepurge retry r"
            ),
        ),
        ("refused", "Sorry.NotKnown", "ask the support of Alibaba Cloud, quoting request ID 7A1C"),
        (
            "conflict",
            "faces_kept",
            "nothing; what the person's other lines say has to be settled first",
        ),
    ],
)
def test_the_next_step(outcome: str, code: str, step: str) -> None:
    request_id = "" if code in ("", "no_end_recorded") else "7A1C"
    assert action(cause(outcome, code, request_id=request_id), "r") == step


def test_permission_is_mended_before_a_new_round() -> None:
    step = action(cause("refused", "403"), "r")
    assert "AliyunYundunGreenWebFullAccess" in step
    assert step.endswith("then type: facepurge retry r")


def test_a_new_round_waits_for_the_end_of_the_run() -> None:
    given = [line(0, outcome="present", code="still_listed"), line(1, outcome="unsent", code="")]
    told = summary_lines(concluded(FakeBooks(given)), "r")
    assert "    next: once facepurge resume has finished the run, type: facepurge retry r" in told


@pytest.mark.parametrize(
    ("stop", "others", "command"),
    [
        (StopReason.CANARY, ("present",), "facepurge retry r "),
        (StopReason.CANARY, ("refused",), "facepurge resume r --canary none"),
        (StopReason.CANARY, ("unknown",), "facepurge resume r"),
        (StopReason.HALT, ("refused",), "facepurge resume r (adding --halt never"),
        (StopReason.LIMIT, (), "facepurge resume r --max-delete N"),
    ],
)
def test_a_cause_and_the_last_line_name_the_same_command(
    stop: StopReason, others: tuple[str, ...], command: str
) -> None:
    ran = concluded(outcomes("unsent", *others, reason=stop))
    last = last_line(ran, "r").partition("; ")[2].partition("; ")[2]
    assert command in last
    told = summary_lines(ran, "r")
    at = next(n for n, text in enumerate(told) if text.startswith("  unsent ("))
    assert told[at + 2] == f"    next: {last}"


def test_nobody_is_accused_of_what_the_service_may_not_have_done() -> None:
    again = line(0, outcome="present", code="reappeared")
    (one,) = causes(again)
    assert reason(one) == (
        "the service said that they are gone, and lists them: it did not delete them, or somebody"
        " adds them again"
    )


def test_what_was_kept_back_is_one_cause_whatever_kept_it_back() -> None:
    given = [line(n, outcome="unsent", code=code) for n, code in enumerate(("", "stopped", "held"))]
    (one,) = causes(*given)
    assert (one.code, one.lines) == ("", 3)


def test_a_refusal_that_only_another_input_mends_names_the_file_to_mend() -> None:
    assert "r/report/failures.csv" in action(cause("refused", "400"), "r")
    assert "r/report/results.csv" in action(cause("refused", "400", face_id=""), "r")
    for outcome in ("conflict", "invalid"):
        assert "r/report/rejected.csv" in action(cause(outcome), "r")


CODES = [
    *(str(code) for code in SERVICE_CODES),
    *GATEWAY_CODES,
    *("", "not_listed", "still_listed", "reappeared", "not_removed", "faces_kept", "person_empty"),
    *("no_end_recorded", "cancelled", "read_timeout", "connection_refused", "a code nobody knows"),
]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("outcome", [x for x in Outcome if x not in UNOBJECTIONABLE])
def test_every_cause_has_a_sentence_and_commands_that_exist(outcome: Outcome, code: str) -> None:
    one = cause(outcome, code)
    what = reason(one)
    assert not what.endswith(".")
    assert what or outcome is Outcome.INVALID
    step = action(one, "r")
    assert step
    assert not step.endswith(".")
    for text in step.split("facepurge ")[1:]:
        verb, directory, *_ = shlex.split(text.replace(";", " "))
        assert worker.cli.facepurge.get_command(click.Context(worker.cli.facepurge), verb)
        assert directory == "r"


def test_every_code_that_refuses_for_good_has_a_sentence_of_its_own() -> None:
    refusing = [
        str(code) for code, meaning in SERVICE_CODES.items() if meaning.kind is Kind.REFUSED
    ]
    assert len(refusing) > 5
    assert len({reason(cause("refused", code)) for code in refusing}) == len(refusing)


def test_the_summary_tells_the_causes_after_the_outcomes() -> None:
    given = [line(n, outcome="refused", code="400") for n in range(4)]
    given += [line(9, outcome="unsent", code="", request_id="")]
    told = summary_lines(concluded(FakeBooks(given)), "my runs/r")
    assert told[told.index("causes") :] == (
        "causes",
        "  refused (400), 4 faces: the service finds something wrong with the request",
        "    first at in.csv:2, in.csv:3, in.csv:4",
        (
            "    next: check person and face in the input, and the region; mend them and run"
            " 'my runs/r'/report/failures.csv again as a new input"
        ),
        "  unsent, 1 face: the run ended before their turn",
        "    at in.csv:11",
        "    next: type: facepurge resume 'my runs/r'",
        "books: balanced (5 of 5 lines)",
        "report: my runs/r/report",
    )


def test_the_summary_shows_the_causes_that_concern_most_and_counts_the_rest() -> None:
    given = [line(n, outcome="unknown", code=f"c{n}") for n in range(MOST_CAUSES_SHOWN + 3)]
    told = summary_lines(concluded(FakeBooks(given)), "r")
    assert "  and 3 more causes, in r/report/summary.json" in told
    assert sum(text.startswith("    next: ") for text in told) == MOST_CAUSES_SHOWN


def test_a_code_or_a_place_that_a_terminal_would_obey_is_shown_instead() -> None:
    odd = line(0, outcome="unknown", code="\x1b[2J", source="a\nb.csv")
    text = "\n".join(summary_lines(concluded(FakeBooks([odd])), "r"))
    assert r"unknown (\x1b[2J)" in text
    assert r"at a\nb.csv:2" in text


def test_the_causes_in_summary_json() -> None:
    books = FakeBooks(
        [
            line(0, outcome="refused", code="400"),
            line(1, outcome="invalid", code="", face_id="", request_id="", message="no face"),
        ]
    )
    document = json.loads(json.dumps(summarise(books, concluded(books))["causes"]))
    assert document == [
        {
            "outcome": "invalid",
            "code": "",
            "reason": "no face",
            "remedy": "data",
            "lines": 1,
            "faces": 0,
            "whole_persons": 0,
            "first_places": ["in.csv:3"],
            "first_request_ids": [],
        },
        {
            "outcome": "refused",
            "code": "400",
            "reason": "the service finds something wrong with the request",
            "remedy": "data",
            "lines": 1,
            "faces": 1,
            "whole_persons": 0,
            "first_places": ["in.csv:2"],
            "first_request_ids": ["7A1C"],
        },
    ]
