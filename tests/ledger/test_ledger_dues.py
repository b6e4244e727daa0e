"""Work in the order in which it is due, and what becomes of due times at a rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import RUN_ID
from tests.ledger.errands import unsynced_ledger
from worker.deadlines import Forecast, LateJob, Schedule
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger import dues
from worker.ledger.database import open_ledger
from worker.ledger.draft import LedgerDraft
from worker.ledger.unrolling import unrolled
from worker.model import Entry, SourceSummary
from worker.plan import PlanFigures

SECOND = 1_000_000


def planned(
    run_dir: Path,
    entries: Sequence[Entry],
    schedule: Schedule | None = None,
    holds: frozenset[Hold] = frozenset(),
    faces_per_call: int = 20,
) -> PlanFigures:
    with LedgerDraft(run_dir) as draft:
        draft.add(0, list(entries))
        count = len(entries)
        draft.add_source(0, SourceSummary("a.csv", "csv", "0" * 64, 1, count, count, 0, ()))
        draft.add_holds(Holds(holds, "x") if holds else NO_HOLDS)
        figures = draft.arrange(RUN_ID, faces_per_call, schedule)
        draft.seal(
            {
                "run_id": RUN_ID,
                "rows": figures.rows,
                "persons": figures.persons,
                "calls": figures.calls,
                "faces": figures.faces,
                "whole_persons": figures.whole_persons,
            }
        )
    return figures


def forecast_of(
    run_dir: Path, entries: Sequence[Entry], rate: float = 1, faces_per_call: int = 20
) -> Forecast:
    figures = planned(run_dir, entries, Schedule(0, rate), faces_per_call=faces_per_call)
    assert figures.forecast is not None
    return figures.forecast


def calls(run_dir: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Persons and their faces in the order in which they will be claimed."""
    connection = open_ledger(run_dir)
    found: dict[int, tuple[str, list[str]]] = {}
    with unrolled(connection):
        for call_no, person_id, face_id in connection.execute(
            "SELECT c.call_no, c.person_id, f.face_id FROM call c JOIN face f USING (call_no)"
            " ORDER BY c.call_no, f.face_no"
        ):
            found.setdefault(call_no, (person_id, []))[1].append(face_id)
    connection.close()
    return [(person, tuple(faces)) for person, faces in found.values()]


def row(
    record: int, person: str, face: str, due_seconds: float | None = None, *, whole: bool = False
) -> Entry:
    due_us = None if due_seconds is None else round(due_seconds * SECOND)
    return Entry(record, record + 2, "", person, face, "", "", "", whole, due_us)


def test_who_is_due_first_goes_first_and_who_is_not_due_last(tmp_path: Path) -> None:
    planned(
        tmp_path,
        [
            row(0, "never", "1"),
            row(1, "late", "2", 300),
            row(2, "soon", "3", 100),
            row(3, "late", "4", 400),
            row(4, "merged", "5", 500),
            row(5, "also soon", "6", 100),
            row(6, "merged", "7", 50),
            row(7, "nor ever", "8"),
            row(8, "merged", "9"),
        ],
    )
    assert calls(tmp_path) == [
        ("merged", ("5", "7", "9")),
        ("soon", ("3",)),
        ("also soon", ("6",)),
        ("late", ("2", "4")),
        ("never", ("1",)),
        ("nor ever", ("8",)),
    ]


def test_only_rows_that_are_sent_make_their_person_due(tmp_path: Path) -> None:
    planned(
        tmp_path,
        [
            row(0, "a", "1"),
            row(1, "b", "2", 200),
            row(2, "c", "3"),
            row(3, "c", "held", 10),
            row(4, "d", "4"),
            row(5, "d", "5", 10),
            row(6, "e", "5"),
            row(7, "a", "1", 300),
        ],
        holds=frozenset({("c", "held")}),
    )
    assert calls(tmp_path) == [("b", ("2",)), ("a", ("1",)), ("c", ("3",)), ("d", ("4",))]


def test_a_whole_person_is_due_like_any_other(tmp_path: Path) -> None:
    planned(
        tmp_path,
        [row(0, "a", "1"), row(1, "b", "", 9, whole=True), row(2, "a", "2", 3), row(3, "b", "7")],
    )
    assert calls(tmp_path) == [("a", ("1", "2")), ("b", ("", "7"))]


def test_without_due_times_nothing_is_foretold(tmp_path: Path) -> None:
    assert planned(tmp_path, [row(0, "a", "1")], Schedule(0, 1)).forecast is None


def test_nor_without_a_schedule(tmp_path: Path) -> None:
    assert planned(tmp_path, [row(0, "a", "1", 5)]).forecast is None


def test_nor_where_only_rows_set_aside_are_due(tmp_path: Path) -> None:
    entries = [row(0, "a", "1", 5), row(1, "b", "1", 5), row(2, "c", "2")]
    assert planned(tmp_path, entries, Schedule(0, 1)).forecast is None


def test_everything_in_time(tmp_path: Path) -> None:
    entries = [row(n, f"p{n}", str(n), 10 + n) for n in range(5)]
    assert forecast_of(tmp_path, entries, 0.5) == Forecast(
        schedule=Schedule(0, 0.5),
        persons=5,
        late_persons=0,
        past_due_persons=0,
        late_jobs=0,
        past_due_jobs=0,
        first_late=(),
        last_due_call_us=8 * SECOND,
        needed_rate_per_second=4 / 14,
        latest_start_us=6 * SECOND,
    )


def test_what_cannot_make_it_is_named_with_what_it_would_take(tmp_path: Path) -> None:
    entries = [
        row(0, "past", "1", -1),
        row(1, "a", "2", 5),
        row(2, "b", "3", 1),
        row(3, "c", "4", 1.5),
        row(4, "c", "5", 60),
        row(5, "past", "6", 70),
        row(6, "nobody waits", "7"),
    ]
    forecast = forecast_of(tmp_path, entries)
    # past, b, c, a leave at 0, 1, 2, 3 seconds.
    assert forecast == Forecast(
        schedule=Schedule(0, 1),
        persons=4,
        late_persons=2,
        past_due_persons=1,
        late_jobs=2,
        past_due_jobs=1,
        first_late=(
            LateJob("a.csv:2", -SECOND, 0),
            LateJob("a.csv:5", 1_500_000, 2 * SECOND),
        ),
        last_due_call_us=3 * SECOND,
        needed_rate_per_second=2 / 1.5,
        latest_start_us=-500_000,
    )


def test_all_of_it_past_due_has_no_latest_start(tmp_path: Path) -> None:
    forecast = forecast_of(tmp_path, [row(0, "a", "1", -5), row(1, "b", "2", -6)])
    assert (forecast.past_due_jobs, forecast.past_due_persons) == (2, 2)
    assert (forecast.latest_start_us, forecast.needed_rate_per_second) == (None, 0.0)


def test_a_job_is_late_by_the_last_of_its_calls(tmp_path: Path) -> None:
    faces = [Entry(0, 2, "", "a", str(n), "", "", "", due_us=1_500_000) for n in range(5)]
    forecast = forecast_of(tmp_path, faces, faces_per_call=2)
    assert forecast.first_late == (LateJob("a.csv:2", 1_500_000, 2 * SECOND),)
    assert (forecast.late_jobs, forecast.late_persons) == (1, 1)


def test_a_repeated_row_is_as_late_as_its_first(tmp_path: Path) -> None:
    entries = [row(0, "a", "1", 10), row(1, "b", "2", 10), row(2, "b", "2", 0.5)]
    forecast = forecast_of(tmp_path, [row(3, "c", "3", 0.2), *entries])
    assert forecast.first_late == (LateJob("a.csv:4", 500_000, SECOND),)


def test_only_the_first_twenty_are_listed(tmp_path: Path) -> None:
    forecast = forecast_of(tmp_path, [row(n, f"p{n}", str(n), -n - 1) for n in range(50)])
    assert forecast.late_jobs == 50
    assert [job.place for job in forecast.first_late] == [f"a.csv:{n + 2}" for n in range(20)]


async def hold(run_dir: Path, additions: frozenset[Hold]) -> None:
    """Since the plan, as far as anything is left to be held."""
    async with unsynced_ledger(run_dir) as ledger:
        await ledger.hold(additions)


def foretold(run_dir: Path, schedule: Schedule) -> Forecast | None:
    connection = open_ledger(run_dir, read_only=True)
    try:
        return dues.forecast(connection, schedule)
    finally:
        connection.close()


async def test_what_is_held_since_the_plan_is_not_foretold(tmp_path: Path) -> None:
    planned(tmp_path, [row(0, "a", "1", -1), row(1, "b", "2", 0.5), row(2, "c", "3", 0.5)])
    for person, persons, late in (("b", 2, 2), ("a", 1, 1)):
        await hold(tmp_path, frozenset({(person, "")}))
        forecast = foretold(tmp_path, Schedule(0, 1))
        assert forecast is not None
        assert (forecast.persons, forecast.late_jobs) == (persons, late)
    await hold(tmp_path, frozenset({("c", "3")}))
    assert foretold(tmp_path, Schedule(0, 1)) is None


jobs = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.none() | st.integers(-3, 12)),
    min_size=1,
    max_size=25,
)


pairs_held = st.frozensets(
    st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 9)), max_size=3
)


@settings(max_examples=80, deadline=None)
@given(jobs, st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 3), pairs_held)
async def test_the_order_and_the_forecast_are_those_of_the_rows(
    drawn: list[tuple[str, int, int | None]],
    rate: float,
    faces_per_call: int,
    pairs: frozenset[tuple[str, int | None]],
) -> None:
    # A face belongs to one person; conflicts have tests of their own.
    entries = [
        row(n, person, f"{ord(person)}{face}", due) for n, (person, face, due) in enumerate(drawn)
    ]
    held = frozenset((x, "" if face is None else f"{ord(x)}{face}") for x, face in pairs)
    schedule = Schedule(0, rate)
    with TemporaryDirectory() as scratch:
        run_dir = Path(scratch)
        at_first = planned(run_dir, entries, schedule, faces_per_call=faces_per_call).forecast
        made = calls(run_dir)
        assert foretold(run_dir, schedule) == at_first
        await hold(run_dir, held)
        since = foretold(run_dir, schedule)
        assert calls(run_dir) == made
    due_of: dict[str, float] = {}
    for entry in entries:
        due = math.inf if entry.due_us is None else entry.due_us
        due_of[entry.person_id] = min(due, due_of.get(entry.person_id, math.inf))
    # Nobody is lost, nobody goes twice, and the order is that of due times, then of appearance.
    assert sorted(face for _, faces in made for face in faces) == sorted(
        {entry.face_id for entry in entries}
    )
    persons = list(dict.fromkeys(person for person, _ in made))
    assert persons == sorted(due_of, key=lambda person: due_of[person])
    agrees(at_first, entries, due_of, made, held=frozenset(), rate=rate)
    agrees(since, entries, due_of, made, held=held, rate=rate)


def agrees(
    forecast: Forecast | None,
    entries: Sequence[Entry],
    due_of: Mapping[str, float],
    made: Sequence[tuple[str, tuple[str, ...]]],
    *,
    held: frozenset[Hold],
    rate: float,
) -> None:
    """``due_of`` has infinity for who is due at no time; ``held`` is what was added since the plan."""
    sent_us: dict[tuple[str, str], int] = {}
    last: dict[str, int] = {}
    for call_no, (person, faces) in enumerate(made):
        for face in faces:
            if not held & {(person, ""), (person, face)}:
                sent_us[person, face] = round(call_no / rate * SECOND)
                last[person] = call_no
    due_and_waiting = {p: due for p, due in due_of.items() if due < math.inf and p in last}
    if forecast is None:
        assert not due_and_waiting
        return
    late = [
        entry
        for entry in entries
        if entry.due_us is not None
        and (entry.person_id, entry.face_id) in sent_us
        and (entry.due_us < 0 or sent_us[entry.person_id, entry.face_id] > entry.due_us)
    ]
    assert forecast.late_jobs == len(late)
    assert [(job.place, job.due_us) for job in forecast.first_late] == [
        (f"a.csv:{entry.line}", entry.due_us) for entry in late
    ]
    assert forecast.past_due_jobs == sum(1 for entry in late if (entry.due_us or 0) < 0)
    assert forecast.persons == len(due_and_waiting)
    assert forecast.past_due_persons == sum(due < 0 for due in due_and_waiting.values())
    waiting = {p: due for p, due in due_and_waiting.items() if due >= 0}
    starts = [due - last[person] / rate * SECOND for person, due in waiting.items()]
    assert forecast.latest_start_us == (pytest.approx(min(starts), abs=1) if starts else None)
    rates = [last[person] * SECOND / due for person, due in waiting.items() if due]
    assert forecast.needed_rate_per_second == pytest.approx(max(rates, default=0.0))
    assert forecast.last_due_call_us == max(
        round(last[person] / rate * SECOND) for person in due_and_waiting
    )
