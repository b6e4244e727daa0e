"""The ledger after a death, or a disk error, at every single write and sync."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apsw
import pytest

from tests.ledger.audit import audit, rows
from tests.ledger.disk import disk
from tests.ledger.errands import begin, begun
from tests.ledger.scripted_run import LONG_AFTER_US, plan, script
from worker.errors import FacepurgeError, GateClosed, LedgerFailed
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter
from worker.model import Step, Verb

LOOPS = 2
WAITING_FACES = """
SELECT c.step, COUNT(*) FROM call c JOIN face f USING (call_no)
WHERE c.state = 0 AND f.step = c.step GROUP BY c.step
"""
ROOT = Path(__file__).parents[2]


def nothing_told_is_lost(connection: apsw.Connection, told: list[str]) -> None:
    """D1, D2: what the ledger called durable is there."""
    attempts = dict(rows(connection, "SELECT seq, nonce FROM attempt"))
    endings = dict(rows(connection, "SELECT attempt_seq, kind FROM ending"))
    for line in told:
        match line.split():
            case "opened", seq, nonce:
                assert attempts[int(seq)] == nonce
            case "ended", seq, kind:
                assert endings[int(seq)] == kind
            case "held", person_id:
                assert [person_id] in [
                    [p] for (p,) in rows(connection, "SELECT person_id FROM hold")
                ]


async def resumes(run_dir: Path, told: list[str]) -> int:
    """D3: open the ledger as the next start does; returns how many attempts were left open."""
    connection = open_ledger(run_dir)
    connection.execute("PRAGMA synchronous = OFF")
    nothing_told_is_lost(connection, told)
    audit(connection)
    left_open = len(
        rows(
            connection,
            "SELECT 1 FROM attempt WHERE seq NOT IN (SELECT attempt_seq FROM ending)",
        )
    )
    assert left_open <= LOOPS
    ledger = Ledger(connection, InlineWriter)
    assert await ledger.close_open_attempts(99) == left_open
    assert await ledger.close_open_attempts(99) == 0
    counted = audit(connection)
    assert sum(counted.values()) == 14
    ends = rows(connection, "SELECT attempt_seq FROM ending")
    assert len(ends) == len(rows(connection, "SELECT 1 FROM attempt"))
    assert not rows(connection, "SELECT 1 FROM call WHERE state = 1")
    # Whatever is open can be claimed, and nothing else: what may be gone, to be looked up first.
    with unrolled(connection):
        waiting = dict(rows(connection, WAITING_FACES))
    claimed: Counter[str] = Counter()
    while attempt := await begin(ledger, [Step.LOOKUP, Step.DELETE], LONG_AFTER_US):
        call = attempt.call
        claimed[call.step] += len(call.face_ids)
        connection.execute("UPDATE call SET state = 2 WHERE call_no = ?", (call.call_no,))
    assert claimed == waiting
    assert waiting.get("delete", 0) >= counted.get("unsent", 0)
    await ledger.close()
    return left_open


def test_killed_at_every_write_and_sync(tmp_path: Path) -> None:
    plan(tmp_path / "template")
    target = tmp_path / "dead"
    target.mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.ledger.scripted_run", tmp_path / "template", target],
        cwd=ROOT,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    points = sorted(target.iterdir(), key=lambda path: int(path.name))
    left_open = {
        asyncio.run(resumes(path, (path / "told").read_text().splitlines())) for path in points
    }
    told = [len((path / "told").read_text().splitlines()) for path in points]
    assert left_open == {0, 1, 2}
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 14
    assert len(points) > 40


# apsw has no way to hand on an error that SQLite itself ignores, as in the last checkpoint.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("for_ever", [True, False], ids=["disk stays broken", "one error"])
def test_an_error_at_every_write_and_sync(tmp_path: Path, *, for_ever: bool) -> None:
    """D4: after one failed write nothing is written any more, even if the disk would do it again."""
    plan(tmp_path / "template")
    for point in itertools.count(1):
        run_dir = tmp_path / str(point)
        shutil.copytree(tmp_path / "template", run_dir)
        told: list[str] = []

        def happens(number: int, point: int = point) -> None:
            if number == point or (for_ever and number > point):
                raise apsw.FullError

        failure: FacepurgeError | None = None
        with disk(happens) as used:
            try:
                asyncio.run(script(run_dir, told.append))
            except FacepurgeError as error:
                failure = error
            if used.operations < point:
                return
        match failure:
            case LedgerFailed():
                assert str(run_dir) in failure.cause
                assert "facepurge resume" in failure.remedy
            case GateClosed():
                assert "cannot be opened" in failure.cause
                assert not told
            case _:
                assert told[-1] == "session ended"
        asyncio.run(resumes(run_dir, told))


async def test_after_a_failed_write_nothing_is_claimed(tmp_path: Path) -> None:
    plan(tmp_path)
    broken = False

    def happens(number: int) -> None:
        if broken:
            raise apsw.IOError

    with disk(happens):
        ledger = Ledger(open_ledger(tmp_path), InlineWriter)
        await begun(ledger)
        broken = True
        with pytest.raises(LedgerFailed):
            await begin(ledger)
        broken = False
        for attempt in (
            begin(ledger),
            ledger.tally(),
            ledger.begin_session(Verb.RUN, 1),
        ):
            with pytest.raises(FacepurgeError, match="nothing more is sent"):
                await attempt
        await ledger.close()
