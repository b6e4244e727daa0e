"""The whole plan in tables, for whoever judges a run: by readers of any kind, at any time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest

from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.ledger.audit import rows as select
from tests.ledger.errands import Errands, World, begin
from worker.errors import GateClosed
from worker.holds import Holds
from worker.ledger.database import FILE_NAME, open_beside, open_ledger
from worker.ledger.unrolling import unrolled
from worker.model import Step

PAIRS = [("w", ""), *persons(4, 3), ("person0", "0000000000"), ("x", "0000000101")]
COUNTS = (
    "SELECT (SELECT COUNT(*) FROM row), (SELECT COUNT(*) FROM repeat), (SELECT COUNT(*) FROM call),"
)
COUNTS += " (SELECT COUNT(*) FROM face)"
WHOLE_PLAN = [(15, 1, 7, 10)]
"""Rows, repeats, calls of at most two faces, and faces with the whole person."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    holds = Holds(frozenset({("person3", "0000000302"), ("person3", "0000000301")}), "x")
    draft_run(tmp_path / "run", [rows(PAIRS)], faces_per_call=2, holds=holds)
    return tmp_path / "run"


def counted(connection: apsw.Connection) -> list[tuple[int, int, int, int]]:
    with unrolled(connection):
        return select(connection, COUNTS)


def test_a_plan_is_laid_out_as_it_was_read_and_arranged(run_dir: Path) -> None:
    connection = open_ledger(run_dir)
    with unrolled(connection):
        assert select(connection, COUNTS) == WHOLE_PLAN
        assert select(
            connection, "SELECT row_no, line, fate, reason FROM row WHERE fate <> ''"
        ) == [
            (0, 2, "whole", ""),
            (5, 7, "conflict", "the same face is under another person at s0.csv:16"),
            (11, 13, "held", "on the exclusion list"),
            (12, 14, "held", "on the exclusion list"),
            (14, 16, "conflict", "the same face is under another person at s0.csv:7"),
        ]
        assert select(connection, "SELECT * FROM repeat") == [(13, 1)]
        assert select(
            connection,
            "SELECT call_no, person_id, state, COUNT(*), COUNT(DISTINCT face_no), MIN(f.line)"
            " FROM call JOIN face f USING (call_no) GROUP BY call_no",
        ) == [
            (0, "w", 0, 1, 1, 2),
            (1, "person0", 0, 2, 2, 3),
            (2, "person0", 0, 1, 1, 5),
            (3, "person1", 0, 2, 2, 6),
            (4, "person2", 0, 2, 2, 9),
            (5, "person2", 0, 1, 1, 11),
            (6, "person3", 0, 1, 1, 12),
        ]
    connection.close()


async def test_what_was_begun_is_there_as_it_is(run_dir: Path) -> None:
    async with opened_ledger(run_dir) as ledger:
        errands = Errands(ledger, World({"person0": ["0000000000"], "w": ["9"]}).answer)
        await errands.one((Step.LOOKUP,))
        await errands.one((Step.DELETE,))
    connection = open_ledger(run_dir)
    begun = select(connection, "SELECT * FROM face ORDER BY face_no")
    with unrolled(connection):
        faces = select(connection, "SELECT * FROM face ORDER BY face_no")
        assert faces[: len(begun)] == begun
        assert {face[8] for face in faces[len(begun) :]} == {"unsent"}
        assert len({face[0] for face in faces}) == len(faces) == WHOLE_PLAN[0][3] + 1
    connection.close()


def test_within_it_is_the_same_once_more_and_afterwards_nothing_is_left(run_dir: Path) -> None:
    before = (run_dir / FILE_NAME).read_bytes()
    connection = open_ledger(run_dir)
    for _ in range(2):
        with unrolled(connection):
            connection.execute("DELETE FROM row WHERE row_no = 3")
            with unrolled(connection):
                assert select(connection, "SELECT COUNT(*) FROM row") == [(WHOLE_PLAN[0][0] - 1,)]
            assert select(connection, "SELECT COUNT(*) FROM row") == [(WHOLE_PLAN[0][0] - 1,)]
        assert select(connection, "SELECT name FROM sqlite_temp_schema") == []
        assert select(connection, "SELECT COUNT(*) FROM call") == [(1,)]
    connection.close()
    again = open_ledger(run_dir)
    assert counted(again) == WHOLE_PLAN
    again.close()
    assert len((run_dir / FILE_NAME).read_bytes()) == len(before)


def test_an_error_within_leaves_nothing_either(run_dir: Path) -> None:
    connection = open_ledger(run_dir, read_only=True)

    def fail() -> None:
        with unrolled(connection):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert select(connection, "SELECT name FROM sqlite_temp_schema") == []
    connection.close()


@pytest.mark.parametrize("beside", [True, False])
def test_who_may_only_read_sees_it_and_still_may_only_read(run_dir: Path, *, beside: bool) -> None:
    connection = (open_beside if beside else open_ledger)(run_dir, read_only=True)
    with unrolled(connection):
        assert select(connection, COUNTS) == WHOLE_PLAN
        with pytest.raises(apsw.ReadOnlyError):
            connection.execute("DELETE FROM hold")
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("DELETE FROM hold")
    connection.close()


async def test_it_stays_as_it_was_while_the_run_works(run_dir: Path) -> None:
    """The run is not kept from writing, and what it writes comes with the next look."""
    connection = open_beside(run_dir, read_only=True)
    async with opened_ledger(run_dir) as ledger:
        with unrolled(connection):
            while await begin(ledger):
                pass
            claimed = "SELECT COUNT(*) FROM call WHERE state = 1"
            assert select(connection, claimed) == [(0,)]
        with unrolled(connection):
            # One of each person who has any.
            assert select(connection, claimed) == [(4,)]
            assert select(connection, COUNTS) == WHOLE_PLAN
    connection.close()


ARCHIVED = """
import os, sys
from pathlib import Path
from tests.ledger.test_ledger_unrolling import counted
from worker.ledger.database import open_ledger
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(counted(open_ledger(Path(sys.argv[1]), read_only=True)))
"""


def test_an_archive_that_nobody_may_write_is_laid_out(run_dir: Path) -> None:
    """As another user, because root may do everything."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        copy = Path(place, "run")
        shutil.copytree(run_dir, copy)
        (copy / FILE_NAME).chmod(0o444)
        copy.chmod(0o555)
        before = sorted(copy.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", ARCHIVED, str(copy)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        after = sorted(copy.iterdir())
        copy.chmod(0o700)
    assert done.stdout == f"{WHOLE_PLAN}\n", done.stderr
    assert after == before


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE plan_block SET data = zeroblob(9)",
        "UPDATE row_block SET data = zeroblob(9)",
        "UPDATE amendment_block SET data = zeroblob(9)",
    ],
)
def test_what_is_not_what_was_planned_is_not_laid_out(run_dir: Path, spoil: str) -> None:
    connection = open_ledger(run_dir)
    connection.execute(spoil)
    with pytest.raises(GateClosed, match="the ledger is damaged"):
        counted(connection)
    assert select(connection, "SELECT name FROM sqlite_temp_schema") == []
    connection.close()
