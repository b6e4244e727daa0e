"""Damaged IDs and due times through the real program: refused, overruled, shown, sent in order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.core.id_columns import as_double, as_spreadsheet, digits, snowflakes
from tests.e2e.inputs import write_table
from tests.e2e.judge import Report, judge
from tests.e2e.program import Program
from tests.e2e.service import FAST, serving

FACES = digits(17)(random.Random(4), 60)
REMEDY = (
    "  remedy: export the IDs again as text: in a spreadsheet import the column as Text and never"
    " open the CSV itself, in SQL CAST(... AS VARCHAR), in pandas dtype=str, in JSON put IDs in"
    " quotes; if they are right as they are, add --accept-ids"
)


def rows_of(faces: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"p{number // 3}", face) for number, face in enumerate(faces)]


@pytest.mark.parametrize(
    ("spoil", "said", "verb"),
    [
        (as_double, "are numbers that a double can hold", ("run", "--yes")),
        (as_spreadsheet, "have only zeros behind their 15th digit", ("plan",)),
    ],
)
async def test_rounded_ids_stop_the_run_and_nothing_is_sent(
    program: Program,
    tmp_path: Path,
    spoil: Callable[[str], str],
    said: str,
    verb: tuple[str, ...],
) -> None:
    pairs = rows_of([spoil(face) for face in FACES])
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        ended = await program(*verb, "a.csv", "--endpoint", service.url)
        assert (ended.code, ended.out) == (2, ""), ended.err
        assert "facepurge: a.csv: " in ended.err
        assert said in ended.err
        assert "(a.csv:2, a.csv:" in ended.err
        assert REMEDY in ended.err.splitlines()
        assert ended.last_line == "nothing was sent"
        assert not any(face in ended.err for _, face in pairs)
        assert service.entries == []
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("how", "said"), [((), "  warning   a.csv: "), (("-q",), "warning: a.csv: ")]
)
async def test_who_knows_better_overrules_it_and_is_still_warned(
    program: Program, tmp_path: Path, how: tuple[str, ...], said: str
) -> None:
    pairs = rows_of([as_double(face) for face in FACES])
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        ended = await program(
            "run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *FAST, *how,
            "--accept-ids",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert said in ended.err
        judge(tmp_path / "r", pairs, service.journal.lines)
    assert service.deleted == set(pairs)


async def test_idle_snowflakes_pass_without_a_word(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", rows_of(snowflakes(0.05)(random.Random(1), 2_000)))
    ended = await program("plan", "a.csv", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert (document["warnings"], document["forecast"], document["faces"]) == ([], None, 2_000)


async def test_a_hold_that_lost_its_zeros_is_not_run_over(program: Program, tmp_path: Path) -> None:
    (tmp_path / "holds.txt").write_text("ben,0042\n")
    pairs = [("ann", "1"), ("ben", "42")]
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--exclude-from", "holds.txt")
        ended = await program(*run)
        assert ended.code == 2
        assert "a.csv:3: the exclusion list has this face with more or fewer zeros" in ended.err
        assert service.entries == []


def moment(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="seconds")


async def test_the_plan_says_what_cannot_make_it(program: Program, tmp_path: Path) -> None:
    rows = [(f"p{n}", str(n), moment(seconds=1000)) for n in range(50)]
    rows += [("past", "90", "2020-01-01"), ("never", "91", ""), ("later", "92", moment(days=3))]
    write_table(tmp_path / "a.csv", rows, ("person_id", "face_id", "due_at"))
    plan = ("plan", "a.csv", "--rate", "0.02")
    ended = await program(*plan)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [
        line for line in lines if line.startswith("  due                 52   persons go first")
    ]
    # The first of 50 goes 50 seconds after the one that is past due, the twentieth in time.
    assert (
        "  late                32   jobs of 32 persons cannot make it, 1 past due already" in lines
    )
    (needed,) = (line for line in lines if line.startswith("  needed "))
    assert needed == "  needed    for the rest, 0.06 calls/s from now on"
    (start,) = (line for line in lines if line.startswith("  or "))
    assert start.endswith(" UTC at 0.02 calls/s")
    listed = [line for line in lines if line.startswith("  a.csv:")]
    assert len(listed) == 20
    assert listed[0].startswith("  a.csv:21: due ")
    assert " would be sent " in listed[0]
    assert "  ... and 12 more jobs late" in lines
    document = json.loads((await program(*plan, "--json")).out)["forecast"]
    assert (document["persons"], document["late_jobs"], document["past_due_jobs"]) == (52, 32, 1)
    assert (document["late_persons"], document["past_due_persons"]) == (32, 1)
    assert document["rate_per_second"] == 0.02
    assert [job["place"] for job in document["first_late"]] == [f"a.csv:{n}" for n in range(21, 41)]
    assert document["needed_rate_per_second"] == pytest.approx(0.05, rel=0.02)
    assert document["latest_start_at"] < document["start_at"] < document["last_due_call_at"]


async def test_what_is_due_first_is_sent_first_and_reported_in_the_order_of_the_input(
    program: Program, tmp_path: Path
) -> None:
    rows = [
        ("c", "1", ""),
        ("b", "2", "2199-12-31"),
        ("a", "3", "2199-01-01T00:00Z"),
        ("c", "4", ""),
        ("d", "5", "2199-06-30T23:59+08:00"),
    ]
    write_table(tmp_path / "a.csv", rows, ("person_id", "face_id", "due_at"))
    pairs = [(person, face) for person, face, _ in rows]
    async with serving(pairs) as service:
        ended = await program(
            "run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r",
            "--concurrency", "1",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert "  in time   with a start by 2199-" in ended.err
        judge(tmp_path / "r", pairs, service.journal.lines)
        assert [entry.person_id for entry in service.entries] == ["a", "d", "b", "c"]
    report = Report(tmp_path / "r")
    assert report.pairs == pairs
    assert [row["due_at"] for row in report.results] == [due for _, _, due in rows]


async def test_an_unreadable_due_time_is_a_row_refused(program: Program, tmp_path: Path) -> None:
    rows = [("a", "1", "2199-01-01"), ("b", "2", "31.12.2199")]
    write_table(tmp_path / "a.csv", rows, ("person_id", "face_id", "deadline"))
    named = ("--columns", "due=deadline", "--region", "cn-shanghai")
    ended = await program("plan", "a.csv", *named)
    assert ended.code == 2
    assert "  a.csv:3:deadline: due time is not a date or time that can be read" in ended.err
    assert ended.last_line == "nothing was sent"
    ended = await program("plan", "a.csv", *named, "--skip-invalid")
    assert ended.code == 4
    assert "  due                  1   persons go first" in ended.out
