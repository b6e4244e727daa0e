"""From real files to a durable plan: what draw_up does with its sources."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.rig import RUN_ID
from tests.ledger.errands import begin
from worker.deadlines import Schedule, due_us
from worker.errors import InputRefused
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.draft import LedgerDraft
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter
from worker.model import Step
from worker.plan import FACES_PER_CALL, PlanFigures, Rejection, draw_up
from worker.sources import open_sources
from worker.sources.interface import SourceOptions

SAMPLE = "31842550077981745"
"""The service's own sample ID: another face after a trip through a double."""


def planned(
    run_dir: Path,
    *paths: Path,
    holds: frozenset[Hold] = frozenset(),
    options: SourceOptions | None = None,
) -> tuple[PlanFigures, list[int]]:
    named = [str(path) for path in paths]
    sources = open_sources(named, options or SourceOptions(), io.BytesIO())
    told: list[int] = []
    with LedgerDraft(run_dir) as draft:
        figures = draw_up(
            sources, Holds(holds, "x") if holds else NO_HOLDS, draft, RUN_ID, told.append
        )
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
    return figures, told


async def calls(run_dir: Path) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    connection = open_ledger(run_dir)
    ledger = Ledger(connection, InlineWriter)
    found = []
    while attempt := await begin(ledger, [Step.DELETE, Step.LOOKUP]):
        call = attempt.call
        found.append((call.person_id, call.face_ids, call.places))
        connection.execute("UPDATE call SET state = 2 WHERE call_no = ?", (call.call_no,))
    await ledger.close()
    return found


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


async def test_rows_of_all_sources_are_merged_by_person(tmp_path: Path, run_dir: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(
        f"person_id,face_id,job_id\nben,0042,\nann,{SAMPLE},j\n\nben,0042,\nann,{SAMPLE[:-1]}6,j\n"
    )
    objects = tmp_path / "b.jsonl.gz"
    objects.write_bytes(
        gzip.compress(
            b'{"personId": "ben", "faceIds": ["042", "0042", 42]}\n'
            b'{"personId": "cid", "faceIds": [31842550077981744]}\n'
        )
    )
    figures, told = planned(run_dir, table, objects)
    assert await calls(run_dir) == [
        ("ben", ("0042", "042", "42"), (f"{table}:2", f"{objects}:1", f"{objects}:1")),
        ("ann", (SAMPLE, f"{SAMPLE[:-1]}6"), (f"{table}:3", f"{table}:6")),
        ("cid", ("31842550077981744",), (f"{objects}:2",)),
    ]
    assert figures == PlanFigures(
        rows=8,
        records=6,
        blank_lines=1,
        persons=3,
        whole_persons=0,
        faces=6,
        calls=3,
        repeats=2,
        held=0,
        conflicts=0,
        invalid=0,
        invalid_by_reason=(),
        rejections=(),
        oversized_persons=0,
        largest_person_faces=3,
    )
    assert told == sorted(told)
    assert told[-1] == 8
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    assert [(s.name, s.format, s.blank_lines) for s in books.sources()] == [
        (str(table), "csv", 1),
        (str(objects), "jsonl", 0),
    ]
    books.close()


async def test_holds_conflicts_and_bad_rows_are_set_aside(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("person_id,face_id\nann,1\nben,2\ncid,2\ndan,ALL\ndan,3\neve,4\neve,5\nfay,6\n")
    figures, _ = planned(run_dir, path, holds=frozenset({("eve", "4"), ("fay", "")}))
    assert [(person, faces) for person, faces, _ in await calls(run_dir)] == [
        ("ann", ("1",)),
        ("dan", ("3",)),
        ("eve", ("5",)),
    ]
    assert (figures.held, figures.conflicts, figures.invalid) == (2, 2, 1)
    assert [rejection.place for rejection in figures.rejections] == [
        f"{path}:3",
        f"{path}:4",
        f"{path}:5:face_id",
    ]
    assert figures.rejections[0] == Rejection(
        f"{path}:3", f"the same face is under another person at {path}:4"
    )


async def test_a_face_held_under_one_person_is_a_conflict_under_another(
    tmp_path: Path, run_dir: Path
) -> None:
    """Whose face it is is doubtful all the more."""
    path = tmp_path / "a.csv"
    path.write_text("person_id,face_id\nann,1\nben,1\n")
    figures, _ = planned(run_dir, path, holds=frozenset({("ann", "")}))
    assert (figures.held, figures.conflicts, figures.calls) == (1, 1, 0)
    assert await calls(run_dir) == []


async def test_more_than_the_documented_maximum_is_split(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "a.jsonl"
    faces = [f"{number:03d}" for number in range(2 * FACES_PER_CALL + 1)]
    path.write_text(json.dumps({"personId": "ann", "faceIds": faces}) + "\n")
    figures, _ = planned(run_dir, path)
    assert (figures.calls, figures.oversized_persons, figures.largest_person_faces) == (3, 1, 41)
    connection = open_ledger(run_dir)
    with unrolled(connection):
        sizes = connection.execute("SELECT COUNT(*) FROM face GROUP BY call_no ORDER BY call_no")
        assert [size for (size,) in sizes] == [20, 20, 1]
    connection.close()


def test_a_source_that_cannot_be_trusted_leaves_no_plan(tmp_path: Path, run_dir: Path) -> None:
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("person_id,face_id\nann,1\n")
    bad.write_text('person_id,face_id\nann,"1\n')
    with pytest.raises(InputRefused, match=r"b\.csv"):
        planned(run_dir, good, bad)
    assert list(run_dir.iterdir()) == []


async def test_whole_persons_of_tables_and_objects_meet_named_faces(
    tmp_path: Path, run_dir: Path
) -> None:
    table = tmp_path / "a.csv"
    table.write_text("person_id,ticket\nann,t1\nben,t2\nann,t3\n")
    objects = tmp_path / "b.jsonl"
    objects.write_text(
        '{"personId": "ben", "faceIds": ["1"]}\n'
        '{"personId": "cid", "faces": "all"}\n'
        '{"personId": "ben", "faces": "all"}\n'
        '{"personId": "dan", "faceIds": ["2"]}\n'
    )
    figures, _ = planned(run_dir, table, objects, options=SourceOptions(whole_persons=True))
    assert (figures.persons, figures.whole_persons, figures.faces) == (4, 3, 2)
    assert (figures.rows, figures.records, figures.calls, figures.repeats) == (7, 7, 4, 2)
    assert figures.duration_seconds(4.0) == 1.0
    assert sorted(await calls(run_dir)) == [
        ("ann", (), (f"{table}:2",)),
        ("ben", ("1",), (f"{objects}:1",)),
        ("cid", (), (f"{objects}:2",)),
        ("dan", ("2",), (f"{objects}:4",)),
    ]


@pytest.mark.parametrize(("rate", "seconds"), [(20.0, 0.15), (0.5, 6.0)])
def test_the_duration_counts_calls(
    tmp_path: Path, run_dir: Path, rate: float, seconds: float
) -> None:
    table = tmp_path / "a.csv"
    table.write_text("person_id,face_id\nann,1\nann,2\nben,3\ncid,4\n")
    figures, _ = planned(run_dir, table)
    assert figures.duration_seconds(rate) == seconds


def looked_at(run_dir: Path, *paths: Path, **judged: Any) -> PlanFigures:
    sources = open_sources([str(path) for path in paths], SourceOptions(), io.BytesIO())
    holds = judged.pop("holds", NO_HOLDS)
    with LedgerDraft(run_dir) as draft:
        return draw_up(sources, holds, draft, RUN_ID, lambda _: None, **judged)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_damaged_ids_are_refused_unless_somebody_knows_better(
    tmp_path: Path, run_dir: Path, suffix: str
) -> None:
    faces = [str(int(float(SAMPLE)) + 4 * number) for number in range(0, 4_000, 37)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        path.write_text("person_id,face_id\n" + "".join(f"p,{face}\n" for face in faces))
    else:
        path.write_text("".join(f'{{"personId":"p","faceId":{face}}}\n' for face in faces))
    with pytest.raises(InputRefused, match="are numbers that a double can hold") as refused:
        looked_at(run_dir, path)
    assert refused.value.cause.startswith(f"{path}: 105 of 105 long face IDs")
    for way in ("import the column as Text", "VARCHAR", "dtype=str", "quotes", "--accept-ids"):
        assert way in refused.value.remedy
    figures = looked_at(run_dir, path, accept_ids=True)
    assert figures.warnings == (refused.value.cause,)
    assert figures.faces == 109


def test_a_doubt_is_said_and_nothing_is_refused(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"p,{number:04d}" for number in range(0, 9_999, 7)]
    path.write_text("\n".join(["person_id,face_id", *rows, "p,12", ""]))
    figures = looked_at(run_dir, path)
    (warning,) = figures.warnings
    assert warning.startswith(f"{path}: face IDs have 4 digits, with zeros in front")
    assert f"1 are shorter ({path}:{len(rows) + 2})" in warning


def test_a_hold_without_its_zeros_is_refused(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("person_id,face_id\nann,1\nben,42\n")
    holds = Holds(frozenset({("ben", "0042")}), "x")
    with pytest.raises(InputRefused, match="the exclusion list has this face with more or fewer"):
        looked_at(run_dir, path, holds=holds)
    figures = looked_at(run_dir, path, holds=holds, accept_ids=True)
    assert (figures.faces, figures.held, len(figures.warnings)) == (2, 0, 1)


async def test_work_is_planned_in_the_order_in_which_it_is_due(
    tmp_path: Path, run_dir: Path
) -> None:
    table, objects = tmp_path / "a.csv", tmp_path / "b.jsonl"
    table.write_text("person_id,face_id,due_at\nann,1,\nben,2,2026-12-01\ncid,3,2026-11-30\n")
    objects.write_text(
        '{"personId": "ben", "faceIds": ["4", "5"], "dueAt": "2026-11-01T08:00+08:00"}\n'
        '{"personId": "dan", "faceIds": ["6"], "dueAt": "soon"}\n'
        '{"personId": "eve", "faceIds": ["7"]}\n'
    )
    start_us = due_us("2026-11-30T23:59:59Z")
    figures = looked_at(run_dir, table, objects, schedule=lambda: Schedule(start_us, 0.5))
    assert figures.invalid == 1
    assert figures.rejections[0].place == f"{objects}:2:dueAt"
    forecast = figures.forecast
    assert forecast is not None
    assert [(job.place, job.due_us, job.sent_us - start_us) for job in forecast.first_late] == [
        (f"{table}:4", due_us("2026-11-30"), 2_000_000),
        (f"{objects}:1", due_us("2026-11-01T00:00Z"), 0),
    ]
    assert (forecast.past_due_jobs, forecast.needed_rate_per_second) == (1, 1.0)
    planned(run_dir, table, objects)
    assert [person for person, _, _ in await calls(run_dir)] == ["ben", "cid", "ann", "eve"]
