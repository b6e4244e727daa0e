"""What was planned, what was begun and what lies between: whatever does not fit is found."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tests.core.rig import draft_run, opened_ledger
from tests.invariants.rehearsal import SETTINGS, entries, opened, reseal, violations
from tests.ledger.errands import begun as begun_attempt
from tests.ledger.repacking import repack_plan
from worker.holds import Holds
from worker.invariants.checking import examine
from worker.ledger.columns import Column, integers, numbers, packed, seal_of, unpacked
from worker.ledger.database import query
from worker.model import Entry, Verb

Spoil = Callable[[apsw.Connection], object]

FIRST_US = 10**15
"""When the first person is due."""

LARGE = [("large", str(100 + n)) for n in range(25)]
WANTED: list[tuple[str, str]] = [
    *[("late", "1"), ("soon", "2"), ("late", "3"), ("soon", "2")],
    *LARGE,
    *[("held", "4"), ("one", "5"), ("two", "5"), ("bad", "6!"), ("last", "7")],
]
WHOLES = [("named", "8"), ("everything", "9"), ("everything", ""), ("named", "8")]
DUE = {"soon": FIRST_US, "late": FIRST_US + 1}
# The calls: 0 soon, 1 late, 2 and 3 large, 4 last; then with whole persons 5 named, 6 everything.


def _entries(wanted: list[tuple[str, str]]) -> list[Entry]:
    return [entry._replace(due_us=DUE.get(entry.person_id)) for entry in entries(*wanted)]


async def _begin(run_dir: Path, *, wholes: bool) -> None:
    """Plan, begin two calls, and die."""
    facts = {"settings": msgspec.to_builtins(SETTINGS), "planned_us": FIRST_US}
    holds = Holds(frozenset({("held", "4")}), "0" * 64)
    wanted = [*WANTED, *(WHOLES if wholes else [])]
    draft_run(run_dir, [_entries(wanted)], holds=holds, facts=facts)
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, FIRST_US)
        for _ in range(2):
            await begun_attempt(ledger, now_us=FIRST_US)


@dataclass(frozen=True, slots=True)
class Begun:
    """Runs of which two calls were begun: one with faces only, one with a whole person, too."""

    faces: Path
    wholes: Path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    directory = tmp_path_factory.mktemp("begun")
    begun = Begun(directory / "faces", directory / "wholes")
    asyncio.run(_begin(begun.faces, wholes=False))
    asyncio.run(_begin(begun.wholes, wholes=True))
    return begun


@pytest.fixture
def begun(original: Begun, tmp_path: Path) -> Begun:
    """Copies, to be spoiled in one place."""
    for run_dir in (original.faces, original.wholes):
        shutil.copytree(run_dir, tmp_path / run_dir.name)
    return replace(original, faces=tmp_path / "faces", wholes=tmp_path / "wholes")


def found(run_dir: Path) -> set[str]:
    return {violation.invariant for violation in violations(run_dir, with_report=False)}


def sql(*statements: str) -> Spoil:
    def spoil(c: apsw.Connection) -> None:
        for statement in statements:
            c.execute(statement)

    return spoil


def planned(*statements: str) -> Spoil:
    """Something else is on the tape than what was begun, or than the rows."""
    return lambda c: repack_plan(c, *statements)


def _of_run(c: apsw.Connection, kind: str) -> str:
    (run_id,) = query(c, "SELECT value FROM run WHERE key = 'run_id'").fetchone()
    return msgspec.json.decode(run_id, type=str) if kind == "plan" else ""


TOLD = {
    "rows": ("row_block", "first_row, rows, invalid"),
    "amendments": ("amendment_block", "first_row, rows"),
    "plan": ("plan_block", "first_call_no, calls, persons, faces"),
}
"""What is told of a block of each kind, as it is sealed."""


def sealed_again(c: apsw.Connection, kind: str) -> None:
    table, columns = TOLD[kind]
    ((*counts, data),) = query(c, f"SELECT {columns}, data FROM {table}").fetchall()  # noqa: S608
    seal = seal_of(kind, _of_run(c, kind), counts, data)
    c.execute(f"UPDATE {table} SET seal = ?", (seal,))  # noqa: S608


def block(kind: str, change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The only block of a kind holds something else, and is sealed again."""

    def spoil(c: apsw.Connection) -> None:
        table, _ = TOLD[kind]
        ((data,),) = query(c, f"SELECT data FROM {table}").fetchall()  # noqa: S608
        columns: dict[str, Column] = dict(unpacked(data))
        change(columns)
        c.execute(f"UPDATE {table} SET data = ?", (packed(columns),))  # noqa: S608
        sealed_again(c, kind)

    return spoil


def told(kind: str, change: str) -> Spoil:
    """Something else is told of the block, and it is sealed again."""

    def spoil(c: apsw.Connection) -> None:
        c.execute(f"UPDATE {TOLD[kind][0]} SET {change}")  # noqa: S608
        sealed_again(c, kind)

    return spoil


def rubbish(kind: str) -> Spoil:
    """What cannot be unpacked, under a seal that fits."""

    def spoil(c: apsw.Connection) -> None:
        c.execute(f"UPDATE {TOLD[kind][0]} SET data = ?", (b"rubbish",))  # noqa: S608
        sealed_again(c, kind)

    return spoil


def number(name: str, index: int, value: int) -> Callable[[dict[str, Any]], object]:
    """One number of a column is another."""

    def change(columns: dict[str, Any]) -> None:
        count = len(columns["row_no"] if "row_no" in columns else columns["person_ids"])
        values = list(integers(columns[name], count))
        values[index] = value
        columns[name] = numbers(values)

    return change


SPOILED: list[tuple[str, Spoil, set[str]]] = [
    # The frontier.
    ("a call passed over", sql("UPDATE frontier SET call_no = 3"), {"L1"}),
    ("a call begun that is still to be begun", sql("UPDATE frontier SET call_no = 1"), {"T5"}),
    ("a frontier before all calls", sql("UPDATE frontier SET call_no = -1"), {"T5"}),
    ("a frontier beyond all calls", sql("UPDATE frontier SET call_no = 6"), {"L1", "T5"}),
    ("no frontier", sql("DELETE FROM frontier"), {"T5"}),
    ("a call that lost its rows",
     sql("DELETE FROM attempt", "DELETE FROM face WHERE call_no = 0", "DELETE FROM call WHERE call_no = 0"),
     {"L1"}),
    ("a call with an attempt that lost its rows",
     sql("DELETE FROM face WHERE call_no = 0", "DELETE FROM call WHERE call_no = 0"), {"D1"}),
    ("an attempt of a call that nobody began",
     sql("INSERT INTO attempt VALUES (9, 4, 'DeleteFaces', 'delete', '', '', '[\"7\"]', 1)"), {"D1"}),
    # Holds that come later.
    ("a hold that did not look ahead", sql("INSERT INTO hold VALUES ('last', '7')"), {"S2"}),
    ("a hold on a person that did not look ahead", sql("INSERT INTO hold VALUES ('large', '')"), {"S2"}),
    # What was begun is not what was planned.
    ("a call of another person",
     sql("UPDATE call SET person_id = 'other' WHERE call_no = 0"), {"D1", "S1", "T4", "seal"}),
    ("a call with another face",
     sql("UPDATE face SET face_id = '99' WHERE call_no = 0"), {"S1", "seal"}),
    ("a call with a face less",
     sql("DELETE FROM face WHERE call_no = 1 AND face_id = '3'"), {"S1", "T4", "seal"}),
    ("a call that is said to be whole",
     sql("UPDATE call SET whole = 1 WHERE call_no = 0"), {"S1", "seal"}),
    ("faces in another order",
     sql("UPDATE face SET face_no = face_no + 100 WHERE call_no = 1 AND face_id = '1'"), {"seal"}),
    ("a face of another line",
     sql("UPDATE face SET line = line + 1 WHERE call_no = 0"), {"T6", "seal"}),
    ("a face of another source",
     sql("UPDATE face SET source_no = 1 WHERE call_no = 0"), {"T6", "seal"}),
    ("a call that nobody planned",
     sql("INSERT INTO call SELECT 9, 'more', 0, 0, 'delete', 0, seal FROM call WHERE call_no = 0",
         "UPDATE face SET call_no = 9 WHERE call_no = 1 AND face_id = '3'"),
     {"S1", "T4", "T5", "seal"}),
    # The tape against the rows, where nothing was begun.
    ("another face on the tape",
     planned("UPDATE temp.face SET face_id = '77' WHERE call_no = 4"), {"S1"}),
    ("another person on the tape",
     planned("UPDATE temp.call SET person_id = 'other' WHERE call_no = 4"), {"S1"}),
    ("a face on the tape that is of another row",
     planned("UPDATE temp.face SET first_row = 31 WHERE call_no = 4"), {"S1", "S2", "T4", "T6"}),
    ("a face on the tape that is of a held row",
     planned("UPDATE temp.face SET first_row = 29, face_id = '4' WHERE call_no = 4",
             "UPDATE temp.call SET person_id = 'held' WHERE call_no = 4"), {"S2", "T4", "T6"}),
    ("a face on the tape that is of another line",
     planned("UPDATE temp.face SET line = 99 WHERE call_no = 4"), {"T6"}),
    ("a call too few on the tape",
     planned("DELETE FROM temp.call WHERE call_no = 4", "DELETE FROM temp.face WHERE call_no = 4"),
     {"T4"}),
    ("a face too few on the tape",
     planned("DELETE FROM temp.face WHERE call_no = 3 AND face_id = '124'"), {"T4"}),
    ("a call that is said to be whole on the tape",
     planned("UPDATE temp.call SET whole = 1 WHERE call_no = 4"), {"L1", "S1"}),
    ("a person in two places",
     planned("UPDATE temp.call SET call_no = 9 WHERE call_no = 3",
             "UPDATE temp.call SET call_no = 3 WHERE call_no = 4",
             "UPDATE temp.call SET call_no = 4 WHERE call_no = 9",
             "UPDATE temp.face SET call_no = 7 - call_no WHERE call_no IN (3, 4)"), {"T4", "seal"}),
    ("a person of whom more calls follow, and nobody says so",
     block("plan", number("lasts", 2, 1)), {"seal"}),
    ("a person of whom no more calls follow, and somebody says so",
     block("plan", number("lasts", 4, 0)), {"seal"}),
    # Who is due.
    ("somebody due who comes late",
     sql("UPDATE due SET due_us = due_us + 10 WHERE call_no = 0"), {"T4"}),
    ("a due time of another row", sql("UPDATE due SET row_no = 30 WHERE row_no = 0"), {"T4"}),
    ("a due time of no row", sql("UPDATE due SET row_no = 99 WHERE row_no = 0"), {"T4"}),
    ("a due time on another line", sql("UPDATE due SET line = line + 1 WHERE row_no = 0"), {"T4"}),
    ("a due time of another source", sql("UPDATE due SET source_no = 1 WHERE row_no = 0"), {"T4"}),
    ("a due time of another record", sql("UPDATE due SET record_no = 9 WHERE row_no = 0"), {"T4"}),
    ("a due time of a repeated row that points elsewhere",
     sql("UPDATE due SET first_row = 0 WHERE row_no = 3"), {"T4"}),
    ("a due time by another call", sql("UPDATE due SET call_no = 4 WHERE row_no = 0"), {"T4"}),
    ("a due time by the last call of somebody else",
     sql("UPDATE due SET last_call_no = 4 WHERE row_no = 0"), {"T4"}),
    ("a due time of a held row",
     sql("INSERT INTO due SELECT 29, due_us, 29, 0, 31, 29, call_no, last_call_no FROM due"
         " WHERE row_no = 0"), {"T4"}),
    # Verifications.
    ("everything to be verified, and a call that was begun without",
     sql("INSERT INTO verification VALUES (-1, 0)",
         "INSERT INTO verification VALUES (0, 0)"), {"L1"}),
    ("a verification of a call that nobody planned",
     sql("INSERT INTO verification VALUES (99, 0)"), {"T5"}),
    # What is said of rows.
    ("a repetition of a row on another line",
     block("amendments", number("first_line", 0, 50)), {"T6"}),
    ("a conflict with a row on another line",
     block("amendments", number("other_line", 2, 2)), {"T6"}),
    ("an amendment of another line", block("amendments", number("line", 0, 50)), {"T6"}),
    ("a repetition of another row",
     block("amendments", number("first_row", 0, 0)), {"T4", "T6"}),
    # A named face in a run without whole persons.
    ("a face named in a run that looks for none",
     sql("INSERT INTO named VALUES ('1', 'late', 1)"), {"S2"}),
]  # fmt: skip

WHOLES_SPOILED: list[tuple[str, Spoil, set[str]]] = [
    ("a named face that was forgotten", sql("DELETE FROM named WHERE face_id = '8'"), {"S2"}),
    ("a face that nobody has named", sql("INSERT INTO named VALUES ('10', 'late', 1)"), {"S2"}),
    ("a named face of another person",
     sql("UPDATE named SET person_id = 'other' WHERE face_id = '8'"), {"S2"}),
    ("a named face with another call", sql("UPDATE named SET call_no = 0 WHERE face_id = '8'"), {"S2"}),
    ("a held face with a call", sql("UPDATE named SET call_no = 0 WHERE face_id = '4'"), {"S2"}),
    ("a whole person who was not begun with the plan",
     sql("DELETE FROM face WHERE call_no = 6", "DELETE FROM call WHERE call_no = 6"), {"L1"}),
]  # fmt: skip

DAMAGED: list[tuple[str, Spoil, str]] = [
    ("rows of which a bit flipped",
     sql("UPDATE row_block SET data = CAST(data || x'00' AS BLOB)"), "their seal"),
    ("amendments of which a bit flipped",
     sql("UPDATE amendment_block SET data = CAST(data || x'00' AS BLOB)"), "their seal"),
    ("calls of which a bit flipped",
     sql("UPDATE plan_block SET data = CAST(data || x'00' AS BLOB)"), "their seal"),
    ("another seal", sql("UPDATE plan_block SET seal = x'00'"), "their seal"),
    ("calls of another run",
     lambda c: c.execute("UPDATE run SET value = '\"20200101T000000Z-000000\"' WHERE key = 'run_id'"),
     "their seal"),
    ("rows elsewhere", told("rows", "first_row = 1"), "0 rows are before them"),
    ("calls elsewhere", told("plan", "first_call_no = 1"), "0 calls are before them"),
    ("another number of rows under the old seal",
     sql("UPDATE row_block SET rows = rows - 1"), "their seal"),
    ("amendments elsewhere", told("amendments", "first_row = 1"), "begin with another row"),
    ("another number of rows", told("rows", "rows = rows - 1"), "a value in"),
    ("another number of calls", told("plan", "calls = calls - 1"), "a value in"),
    ("another number of invalid rows",
     told("rows", "invalid = 0"), "another number of them is invalid"),
    ("another number of persons",
     told("plan", "persons = 1"), "another number of persons"),
    ("another number of faces", told("plan", "faces = 1"), "another number of faces"),
    ("rows that cannot be unpacked",
     rubbish("rows"), "cannot be unpacked"),
    ("amendments that cannot be unpacked",
     rubbish("amendments"), "cannot be unpacked"),
    ("calls that cannot be unpacked",
     rubbish("plan"), "cannot be unpacked"),
    ("rows without faces", block("rows", lambda x: x.pop("face_ids")), "a value in face_ids"),
    ("rows with faces that are numbers",
     block("rows", lambda x: x.update(face_ids=7)), "a value in face_ids"),
    ("rows with lines that are texts",
     block("rows", lambda x: x.update(lines="7")), "a value in lines"),
    ("rows of which the last has no line",
     block("rows", lambda x: x.update(lines=range(3))), "a value in lines"),
    ("calls of which the last has no person",
     block("plan", lambda x: x.update(person_ids=x["person_ids"].part(0, 4))), "a value in person_ids"),
    ("a face too many for the sizes",
     block("plan", number("sizes", 0, 2)), "a value in face_ids"),
    ("a call without a face",
     block("plan", lambda x: x.update(sizes=numbers([0, 3, 20, 5, 1]))), "one of them has no face"),
    ("amendments out of order", block("amendments", number("row_no", 1, 2)), "order of their rows"),
    ("an amendment that begins elsewhere",
     block("amendments", number("row_no", 0, 1)), "begin with another row"),
    ("a fate that nobody knows", block("amendments", number("fate", 0, 9)), "one of their fates"),
]  # fmt: skip


def names(cases: list[Any]) -> list[Any]:
    return [pytest.param(spoil, expected, id=name) for name, spoil, expected in cases]


def test_what_was_begun_in_part_breaks_nothing(original: Begun) -> None:
    assert violations(original.faces, with_report=False) == []
    assert violations(original.wholes, with_report=False) == []
    with opened(original.faces) as c:
        assert query(c, "SELECT call_no FROM frontier").fetchall() == [(2,)]
        assert query(c, "SELECT COUNT(*) FROM call").fetchall() == [(2,)]


@pytest.mark.parametrize(("spoil", "broken"), names(SPOILED))
def test_what_does_not_fit_the_plan_is_found(begun: Begun, spoil: Spoil, broken: set[str]) -> None:
    with opened(begun.faces) as c:
        spoil(c)
        with_tally(c)
    assert found(begun.faces) == broken, violations(begun.faces, with_report=False)


@pytest.mark.parametrize(("spoil", "broken"), names(WHOLES_SPOILED))
def test_what_is_known_of_named_faces_has_to_be_what_the_input_says(
    begun: Begun, spoil: Spoil, broken: set[str]
) -> None:
    with opened(begun.wholes) as c:
        spoil(c)
    assert found(begun.wholes) == broken, violations(begun.wholes, with_report=False)


@pytest.mark.parametrize(("spoil", "sentence"), names(DAMAGED))
def test_a_damaged_block_is_a_finding_and_nothing_else_is_judged(
    begun: Begun, spoil: Spoil, sentence: str
) -> None:
    with opened(begun.faces) as c:
        spoil(c)
        reseal(c)
        examination = examine(c)
    assert set(examination.counts) == {"seal"}
    assert sentence in "\n".join(map(str, examination.violations))
    assert examination.rows == examination.calls == 0


def with_tally(connection: apsw.Connection) -> None:
    """Seals of the calls that have rows fit again."""
    tally = query(connection, "SELECT * FROM tally").fetchall()
    reseal(connection)
    connection.execute("DELETE FROM tally")
    connection.executemany("INSERT INTO tally VALUES (?, ?)", tally)
