"""The fold, cell by cell, and what must hold for any evidence whatsoever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.fold import Standing, Trace, fold
from worker.model import Evidence, Kind, Outcome

FACE, OTHER = "31842550077981745", "031842550077981745"
ENDED_US = 5_000


def ending(kind: Kind, code: str = "c", listed: tuple[str, ...] = (), **more: int) -> Evidence:
    return Evidence(kind, ENDED_US, code=code, listed=listed, **more)  # type: ignore[arg-type]


def trace(
    end: Evidence | None, *, seq: int = 1, faces: tuple[str, ...] = (FACE,), opened_us: int = 100
) -> Trace:
    return Trace(seq, faces, opened_us, None if end is None else seq + 1, end)


def test_a_face_nobody_tried_is_unsent() -> None:
    assert fold(FACE, []) == Standing(Outcome.UNSENT, "", 0, None, None)


@pytest.mark.parametrize(
    ("end", "outcome", "code", "attempts"),
    [
        (ending(Kind.LISTED, "200", (FACE,)), Outcome.DELETED, "200", 1),
        (ending(Kind.LISTED, "200", (OTHER,)), Outcome.UNKNOWN, "not_listed", 1),
        (ending(Kind.LISTED, "200"), Outcome.UNKNOWN, "not_listed", 1),
        (ending(Kind.AMBIGUOUS, "read_timeout"), Outcome.UNKNOWN, "read_timeout", 1),
        (ending(Kind.CLOSED, "closed_after_crash"), Outcome.UNKNOWN, "closed_after_crash", 1),
        (ending(Kind.SWAPPED, "swapped"), Outcome.UNKNOWN, "swapped", 1),
        (None, Outcome.UNKNOWN, "no_end_recorded", 1),
        (ending(Kind.REFUSED, "586"), Outcome.REFUSED, "586", 1),
        (ending(Kind.THROTTLED, "588"), Outcome.UNSENT, "588", 1),
        (ending(Kind.AGAIN, "clock"), Outcome.UNSENT, "clock", 1),
        (ending(Kind.FATAL, "Forbidden.RAM", sent_us=7), Outcome.UNSENT, "Forbidden.RAM", 1),
        (ending(Kind.FATAL, "tls_failed"), Outcome.UNSENT, "tls_failed", 0),
        (ending(Kind.NOT_SENT, "connect_failed"), Outcome.UNSENT, "connect_failed", 0),
    ],
)
def test_what_one_attempt_shows(
    end: Evidence | None, outcome: Outcome, code: str, attempts: int
) -> None:
    standing = fold(FACE, [trace(end)])
    assert (standing.outcome, standing.code, standing.attempts) == (outcome, code, attempts)
    assert standing.decided_by == (None if end is None else 2)


def test_every_kind_of_ending_has_its_cell() -> None:
    """A kind added to the vocabulary needs a decision here, not a default."""
    outcomes = {kind: fold(FACE, [trace(ending(kind, listed=(FACE,)))]).outcome for kind in Kind}
    assert outcomes == {
        Kind.LISTED: Outcome.DELETED,
        Kind.REFUSED: Outcome.REFUSED,
        Kind.THROTTLED: Outcome.UNSENT,
        Kind.AGAIN: Outcome.UNSENT,
        Kind.FATAL: Outcome.UNSENT,
        Kind.SWAPPED: Outcome.UNKNOWN,
        Kind.AMBIGUOUS: Outcome.UNKNOWN,
        Kind.NOT_SENT: Outcome.UNSENT,
        Kind.CLOSED: Outcome.UNKNOWN,
    }


STRONGEST_FIRST = [
    (ending(Kind.LISTED, "200", (FACE,)), Outcome.DELETED),
    (ending(Kind.AMBIGUOUS, "reset"), Outcome.UNKNOWN),
    (ending(Kind.REFUSED, "586"), Outcome.REFUSED),
    (ending(Kind.THROTTLED, "588"), Outcome.UNSENT),
]


@pytest.mark.parametrize("stronger", range(4))
@pytest.mark.parametrize("weaker", range(4))
def test_stronger_evidence_wins_whether_it_came_first_or_last(stronger: int, weaker: int) -> None:
    strong, outcome = STRONGEST_FIRST[min(stronger, weaker)]
    weak, _ = STRONGEST_FIRST[max(stronger, weaker)]
    assert fold(FACE, [trace(strong, seq=1), trace(weak, seq=3)]).outcome == outcome
    assert fold(FACE, [trace(weak, seq=1), trace(strong, seq=3)]).outcome == outcome


def test_among_equals_the_latest_is_told() -> None:
    early, late = (
        trace(ending(Kind.REFUSED, "old"), seq=1),
        trace(ending(Kind.REFUSED, "new"), seq=3),
    )
    assert fold(FACE, [late, early]).code == "new"
    assert fold(FACE, [late, early]).decided_by == 4


def test_an_attempt_about_other_faces_says_nothing() -> None:
    """A face whose ID differs by a leading zero is another face."""
    other = trace(ending(Kind.LISTED, "200", (FACE, OTHER)), faces=(OTHER,))
    assert fold(FACE, [other]) == fold(FACE, [])


def test_attempts_and_first_sending() -> None:
    traces = [
        trace(ending(Kind.NOT_SENT), seq=1, opened_us=10),
        trace(ending(Kind.THROTTLED, sent_us=30), seq=3, opened_us=20),
        trace(ending(Kind.AMBIGUOUS), seq=5, opened_us=40),
        trace(None, seq=7, opened_us=50),
    ]
    standing = fold(FACE, traces)
    assert (standing.attempts, standing.first_sent_us) == (3, 30)


def test_where_nobody_knows_when_it_left_the_opening_counts() -> None:
    assert fold(FACE, [trace(None, opened_us=77)]).first_sent_us == 77
    assert fold(FACE, [trace(ending(Kind.NOT_SENT), opened_us=77)]).first_sent_us is None


endings = st.builds(
    Evidence,
    kind=st.sampled_from(Kind),
    ended_us=st.integers(0, 9),
    sent_us=st.none() | st.integers(0, 9),
    code=st.sampled_from(["", "200", "500"]),
    listed=st.sampled_from([(), (FACE,), (OTHER,), (FACE, OTHER)]),
)


@st.composite
def evidence(draw: st.DrawFn) -> list[Trace]:
    """Attempts as a ledger holds them: numbers from one counter, each attempt with one end."""
    seq = 0
    traces = []
    for end in draw(st.lists(st.none() | endings, max_size=6)):
        faces = draw(st.sampled_from([(FACE,), (OTHER,), (FACE, OTHER)]))
        traces.append(trace(end, seq=seq + 1, faces=faces, opened_us=draw(st.integers(0, 9))))
        seq += 2
    return traces


@given(evidence(), st.data())
def test_order_and_repetition_do_not_matter(traces: list[Trace], data: st.DataObject) -> None:
    repeated = traces + [data.draw(st.sampled_from(traces)) for _ in traces]
    shuffled = data.draw(st.permutations(repeated))
    assert fold(FACE, shuffled) == fold(FACE, traces)


@given(evidence(), endings)
def test_nothing_more_turns_deleted_into_something_else(
    traces: list[Trace], further: Evidence
) -> None:
    good = trace(ending(Kind.LISTED, "200", (FACE,)), seq=100)
    assert fold(FACE, [*traces, good]).outcome is Outcome.DELETED
    assert fold(FACE, [*traces, good, trace(further, seq=200)]).outcome is Outcome.DELETED


@given(evidence())
def test_nothing_is_claimed_that_no_attempt_shows(traces: list[Trace]) -> None:
    """An independent reading of the table: which kinds of ending were there at all?"""
    mine = [t for t in traces if FACE in t.face_ids]
    ends = [t.ending for t in mine if t.ending is not None]
    listed = any(e.kind is Kind.LISTED and FACE in e.listed for e in ends)
    may_be_gone = len(ends) < len(mine) or any(
        e.kind in {Kind.LISTED, Kind.AMBIGUOUS, Kind.CLOSED, Kind.SWAPPED} for e in ends
    )
    refused = any(e.kind is Kind.REFUSED for e in ends)
    expected = (
        Outcome.DELETED
        if listed
        else Outcome.UNKNOWN
        if may_be_gone
        else Outcome.REFUSED
        if refused
        else Outcome.UNSENT
    )
    assert fold(FACE, traces).outcome is expected


@given(evidence())
def test_an_end_learnt_later_only_adds_knowledge(traces: list[Trace]) -> None:
    """An attempt still open counts as unknown; its end may say more, never that more was sent."""
    still_open = [replace(t, ending_seq=None, ending=None) for t in traces]
    before, after = fold(FACE, still_open), fold(FACE, traces)
    assert after.attempts <= before.attempts
    assert before.outcome in {Outcome.UNKNOWN, Outcome.UNSENT}
