"""Between what was planned and what was begun: nothing is lost, nothing comes twice."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.core.rig import draft_run, opened_ledger, rows
from tests.ledger.errands import begin, begun, put_back
from worker.errors import LedgerDamaged
from worker.invariants.checking import check
from worker.ledger.books import LedgerBooks, Left
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.model import Attempt, Evidence, Kind, Step, Verb

PERSONS = [("a", "1"), ("b", "2"), ("c", "3"), ("c", "4"), ("d", "5"), ("e", "6")]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    draft_run(tmp_path, [rows(PERSONS)])
    return tmp_path


async def claimed(ledger: Ledger, count: int = 100) -> list[str]:
    """The persons of so many calls, or of all that are left, in the order of their claims."""
    attempts: list[Attempt] = []
    while len(attempts) < count and (attempt := await begin(ledger, now_us=1)) is not None:
        attempts.append(attempt)
    await put_back(ledger, attempts)
    return [attempt.call.person_id for attempt in attempts]


def judged(run_dir: Path) -> list[str]:
    with closing(open_ledger(run_dir, read_only=True)) as connection:
        return [str(violation) for violation in check(connection)]


def left(run_dir: Path) -> Left:
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    try:
        return books.left()
    finally:
        books.close()


async def test_what_was_begun_and_not_sent_comes_again_once_and_the_rest_after_it(
    run_dir: Path,
) -> None:
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        assert await claimed(ledger, 2) == ["a", "b"]
    assert judged(run_dir) == []
    assert left(run_dir) == Left(faces=6, persons=5, calls=5)
    async with opened_ledger(run_dir) as ledger:
        await ledger.close_open_attempts(1)
        await ledger.begin_session(Verb.RESUME, 1)
        assert await claimed(ledger) == ["a", "b", "c", "d", "e"]
    assert judged(run_dir) == []


async def test_a_hold_reaches_calls_that_nobody_has_begun(run_dir: Path) -> None:
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        assert await claimed(ledger, 1) == ["a"]
        assert await ledger.hold(frozenset({("c", "3"), ("d", "")})) == 2
    assert judged(run_dir) == []
    # What has rows before its turn is counted once.
    assert left(run_dir) == Left(faces=4, persons=4, calls=4)
    async with opened_ledger(run_dir) as ledger:
        await ledger.close_open_attempts(1)
        await ledger.begin_session(Verb.RESUME, 1)
        assert sorted(await claimed(ledger)) == ["a", "b", "c", "e"]
        assert await ledger.tally() == {"unsent": 4, "held": 2}
    assert judged(run_dir) == []


@pytest.mark.parametrize("verify", ["all", "sample:100"])
async def test_a_call_that_is_begun_after_all_were_asked_for_is_asked_for(
    run_dir: Path, verify: str
) -> None:
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1, verify=verify)
        assert await claimed(ledger, 3) == ["a", "b", "c"]
    assert judged(run_dir) == []
    with closing(apsw.Connection(str(run_dir / FILE_NAME))) as connection:
        asked = connection.execute("SELECT call_no FROM verification ORDER BY 1").fetchall()
        assert asked == [(-1,), (0,), (1,), (2,)]


async def test_a_plan_that_was_changed_under_a_run_at_work_is_not_carried_out(
    run_dir: Path,
) -> None:
    async with opened_ledger(run_dir) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        with closing(apsw.Connection(str(run_dir / FILE_NAME))) as connection:
            connection.execute("UPDATE plan_block SET data = CAST(data || x'00' AS BLOB)")
        with pytest.raises(LedgerDamaged, match="its calls from 0 on are not what was planned"):
            await begin(ledger)
        # Others can still be recorded.
        assert await ledger.tally() == {"unsent": 6}


async def test_an_id_with_leading_zeros_is_begun_as_it_was_planned(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("007", "0001")])])
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        assert await claimed(ledger) == ["007"]
    with closing(apsw.Connection(str(tmp_path / FILE_NAME))) as connection:
        kept = connection.execute("SELECT person_id, face_id FROM call JOIN face USING (call_no)")
        assert kept.fetchall() == [("007", "0001")]


async def test_a_face_that_is_found_under_somebody_else_is_taken_out_ahead(
    tmp_path: Path,
) -> None:
    draft_run(tmp_path, [rows([("a", ""), ("b", "1"), ("c", "2")])])
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 1)
        attempt_seq, look, _ = await begun(ledger, [Step.LOOKUP])
        shown = Evidence(Kind.SHOWN, 2, 1, code="200", listed=("1", "9"))
        await ledger.record(attempt_seq, look, shown)
        assert await claimed(ledger, 1) == ["a"]
        assert await ledger.tally() == {"unsent": 3, "conflict": 2}
        assert await claimed(ledger) == ["a", "c"]
