"""The ledger at work: claims, attempts, evidence, holds and sessions, on real SQLite files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.ledger.audit import rows as select
from tests.ledger.errands import begin, begun, put_back, request
from worker.errors import LedgerFailed
from worker.fold import DEFAULT_RULES
from worker.ledger import collation
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter, ThreadWriter
from worker.model import Attempt, Call, Evidence, Kind, Step, StopReason, Verb, Waiting

INTERVAL_US = DEFAULT_RULES.absence_interval_us


def evidence(kind: Kind, call: Call, **more: object) -> Evidence:
    listed = call.face_ids if kind is Kind.LISTED else ()
    return Evidence(kind, 50, code=str(kind), listed=listed, **more)  # type: ignore[arg-type]


async def claimed(ledger: Ledger) -> Call:
    return (await begun(ledger)).call


async def ended(ledger: Ledger, attempt: Attempt, kind: Kind) -> Waiting | None:
    return await ledger.record(attempt.seq, attempt.call, evidence(kind, attempt.call))


def reread(run_dir: Path, sql: str) -> list[tuple[object, ...]]:
    """What a second connection sees, of the whole plan: only what is committed."""
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    try:
        with unrolled(connection):
            return select(connection, sql)
    finally:
        connection.close()


async def begin_all(run_dir: Path) -> None:
    """Every call is begun and waits, as after a run that was stopped before any of them left."""
    connection = open_ledger(run_dir)
    ledger = Ledger(connection, InlineWriter)
    attempts = []
    while attempt := await begin(ledger):
        attempts.append(attempt)
    await put_back(ledger, attempts)
    await ledger.close()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """Three persons with two faces each, and one with three: two calls."""
    pairs = [*persons(3, 2), *(("big", f"9{n}") for n in range(3))]
    draft_run(tmp_path, [rows(pairs)], faces_per_call=2)
    async with opened_ledger(tmp_path) as one:
        yield one


# Claims


async def test_calls_are_claimed_in_the_order_of_the_input(ledger: Ledger) -> None:
    calls = [await claimed(ledger) for _ in range(4)]
    assert [call.call_no for call in calls] == [0, 1, 2, 3]
    assert calls[1] == Call(1, "person1", ("0000000100", "0000000101"), ("s0.csv:4", "s0.csv:5"))


async def test_one_call_in_flight_for_each_person(ledger: Ledger) -> None:
    big = [await begun(ledger) for _ in range(4)][3]
    assert await begin(ledger) is None
    await ended(ledger, big, Kind.LISTED)
    assert await claimed(ledger) == Call(4, "big", ("92",), ("s0.csv:10",))
    assert await begin(ledger) is None


async def test_what_applied_nothing_waits_again(ledger: Ledger) -> None:
    attempt = await begun(ledger)
    await ended(ledger, attempt, Kind.THROTTLED)
    assert await claimed(ledger) == attempt.call


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE face SET face_id = '0000000001' WHERE face_no = 1",
        "UPDATE face SET face_id = '0000000011' WHERE face_no = 2",
        "UPDATE call SET person_id = 'Person0' WHERE call_no = 0",
        "UPDATE call SET seal = zeroblob(16) WHERE call_no = 0",
        "DELETE FROM face WHERE face_no = 2",
        "UPDATE face SET call_no = 0 WHERE face_no = 3",
        "UPDATE face SET face_no = 99 WHERE face_no = 1",
    ],
)
async def test_a_call_that_is_not_what_was_planned_is_never_handed_out(
    tmp_path: Path, damage: str
) -> None:
    draft_run(tmp_path, [rows(persons(3, 2))])
    await begin_all(tmp_path)
    connection = open_ledger(tmp_path)
    connection.execute(damage)
    connection.close()
    async with opened_ledger(tmp_path) as ledger:
        with pytest.raises(LedgerFailed, match="call 0 of the ledger is not what was") as failed:
            await begin(ledger)
        assert str(tmp_path) in failed.value.cause
        assert "person0" not in str(failed.value)
        with pytest.raises(LedgerFailed):
            await begin(ledger)
    assert reread(tmp_path, "SELECT COUNT(*) FROM call WHERE state <> 0") == [(0,)]


@pytest.mark.parametrize("what", ["face_id", "person_id", "seal"])
async def test_a_byte_flipped_in_the_file_is_never_sent(tmp_path: Path, what: str) -> None:
    draft_run(tmp_path, [rows([("someperson", "31842550077981745")])])
    await begin_all(tmp_path)
    path = tmp_path / FILE_NAME
    ((seal, root),) = reread(
        tmp_path,
        "SELECT seal, (SELECT rootpage FROM sqlite_schema WHERE name = 'call') FROM call",
    )
    ((face_root,),) = reread(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'face'")
    needle = {"face_id": b"31842550077981745", "person_id": b"someperson", "seal": seal}[what]
    page = face_root if what == "face_id" else root
    content = bytearray(path.read_bytes())
    assert isinstance(needle, bytes)
    assert isinstance(page, int)
    position = content.index(needle, (page - 1) * 4096)
    content[position + len(needle) - 1] ^= 1
    path.write_bytes(content)
    async with opened_ledger(tmp_path) as ledger:
        with pytest.raises(LedgerFailed, match="is not what was planned"):
            await begin(ledger)
    assert reread(tmp_path, "SELECT COUNT(*) FROM attempt") == [(1,)], "the one before"


@pytest.mark.parametrize("begun", [True, False])
async def test_a_call_of_another_run_is_not_ours(tmp_path: Path, *, begun: bool) -> None:
    """The seal ties a call to its run: rows copied from another ledger do not fit."""
    draft_run(tmp_path / "one", [rows(persons(1))])
    if begun:
        await begin_all(tmp_path / "one")
    connection = open_ledger(tmp_path / "one")
    connection.execute("UPDATE run SET value = '\"another\"' WHERE key = 'run_id'")
    ledger = Ledger(connection, InlineWriter)
    with pytest.raises(LedgerFailed, match=r"(is|are) not what was planned"):
        await begin(ledger)
    await ledger.close()


# Attempts and evidence


async def test_an_attempt_is_on_disk_before_its_first_byte_may_leave(
    ledger: Ledger, tmp_path: Path
) -> None:
    """D1: read by another connection, and in a copy of the files, the moment it returns."""
    body = '{"faceIds":["ä"]}'.encode()
    attempt = await ledger.begin([Step.DELETE], 77, lambda call: request(call, "nonce-1", body))
    assert attempt is not None
    expected = [
        (
            attempt.seq,
            0,
            "DeleteFaces",
            "delete",
            "nonce-1",
            hashlib.sha256(body).hexdigest(),
            77,
            list(attempt.call.face_ids),
        )
    ]
    sql = (
        "SELECT seq, call_no, operation, step, nonce, body_sha256, opened_us, face_ids FROM attempt"
    )
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    for directory in (tmp_path, copy):
        found = [(*facts, json.loads(str(faces))) for *facts, faces in reread(directory, sql)]
        assert found == expected


async def test_an_ending_and_its_outcomes_come_together(ledger: Ledger, tmp_path: Path) -> None:
    seq, call, _ = await begun(ledger)
    one, other = call.face_ids
    good = Evidence(Kind.LISTED, 30, 20, 200, "200", "OK", "7A1C", (one,), 1.5)
    assert await ledger.record(seq, call, good) == Waiting(Step.LOOKUP, 30 + INTERVAL_US)
    assert reread(tmp_path, "SELECT * FROM ending") == [
        (seq + 1, seq, "listed", 30, 20, 200, "200", "OK", "7A1C", json.dumps([one]), 1.5)
    ]
    standings = reread(
        tmp_path,
        "SELECT face_id, step, outcome, code, attempts, first_sent_us, decided_by FROM face"
        " WHERE call_no = 0",
    )
    assert standings == [
        (one, "", "deleted", "200", 1, 20, seq + 1),
        (other, "lookup", "unknown", "not_listed", 1, 20, seq + 1),
    ]
    assert reread(tmp_path, "SELECT state, step, not_before_us FROM call WHERE call_no = 0") == [
        (0, "lookup", 30 + INTERVAL_US)
    ]
    assert await ledger.tally() == {"deleted": 1, "unknown": 1, "unsent": 7}
    assert reread(tmp_path, "SELECT COUNT(*) FROM call WHERE state = 0") == [(5,)]
    assert not await ledger.is_finished()


@pytest.mark.parametrize("settled", [True, False])
async def test_a_cancelled_caller_takes_nothing_back(
    ledger: Ledger, tmp_path: Path, *, settled: bool
) -> None:
    seq, call, _ = await begun(ledger)
    kind = Kind.REFUSED if settled else Kind.NOT_SENT
    caller = asyncio.create_task(ledger.record(seq, call, evidence(kind, call)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    await ledger.tally()  # whatever was submitted before is durable now
    assert reread(tmp_path, "SELECT attempt_seq, kind FROM ending") == [(seq, str(kind))]


async def test_an_attempt_ends_once(ledger: Ledger) -> None:
    """Evidence is only ever added: a second ending is a broken program, and it does not go on."""
    attempt = await begun(ledger)
    await ended(ledger, attempt, Kind.LISTED)
    with pytest.raises(LedgerFailed, match="UNIQUE"):
        await ended(ledger, attempt, Kind.REFUSED)


async def test_numbers_rise_over_attempts_endings_and_reopening(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(6))])
    seqs: list[int] = []
    for start in range(3):
        async with opened_ledger(tmp_path) as ledger:
            for number in range(2):
                nonce = f"{start}.{number}"
                attempt = await ledger.begin([Step.DELETE], 1, partial(request, nonce=nonce))
                assert attempt is not None
                await ended(ledger, attempt, Kind.LISTED)
                seqs.append(attempt.seq)
    endings = [seq for (seq,) in reread(tmp_path, "SELECT seq FROM ending ORDER BY seq")]
    assert seqs == [1, 3, 5, 7, 9, 11]
    assert endings == [2, 4, 6, 8, 10, 12]
    assert [n for (n,) in reread(tmp_path, "SELECT nonce FROM attempt ORDER BY seq")] == [
        f"{start}.{number}" for start in range(3) for number in range(2)
    ]


# After a crash


async def test_what_a_dead_process_left_is_closed_once(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(4))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)  # never closed: the process is gone
    done, in_flight = await begun(dead), await begun(dead, now_us=5)
    back, again = await begun(dead), await begun(dead)
    await ended(dead, done, Kind.LISTED)
    await ended(dead, back, Kind.THROTTLED)
    await ended(dead, again, Kind.THROTTLED)

    async with opened_ledger(tmp_path) as ledger:
        assert await ledger.close_open_attempts(99) == 1
        assert await ledger.close_open_attempts(99) == 0
        assert await ledger.tally() == {"deleted": 1, "unknown": 1, "unsent": 2}
        assert [await claimed(ledger), await claimed(ledger)] == [back.call, again.call]
        assert await begin(ledger) is None
    assert reread(
        tmp_path, "SELECT attempt_seq, ended_us, code FROM ending WHERE kind = 'closed'"
    ) == [(in_flight.seq, 99, "closed_after_crash")]
    standing = reread(
        tmp_path, "SELECT outcome, attempts, first_sent_us FROM face WHERE call_no = 1"
    )
    assert standing == [("unknown", 1, 5)]


async def test_a_resume_counts_what_it_would_send(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(4, 3))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)
    await begun(dead)
    await ended(dead, await begun(dead), Kind.THROTTLED)
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert books.left() == (12, 4, 4)
    books.close()
    async with opened_ledger(tmp_path) as ledger:
        await ledger.close_open_attempts(1)
    assert reread(tmp_path, "SELECT step, COUNT(*) FROM call GROUP BY step") == [
        ("delete", 3),
        ("lookup", 1),
    ]


# Holds


async def test_additions_take_out_what_nobody_has_claimed(ledger: Ledger, tmp_path: Path) -> None:
    attempt = await begun(ledger)
    held = await ledger.hold(
        frozenset({("person0", ""), ("person1", "0000000101"), ("big", ""), ("nobody", "")})
    )
    assert held == 4
    assert await ledger.tally() == {"unsent": 5, "held": 4}
    assert await claimed(ledger) == Call(1, "person1", ("0000000100",), ("s0.csv:4",))
    assert (await claimed(ledger)).person_id == "person2"
    assert await begin(ledger) is None
    await ended(ledger, attempt, Kind.LISTED)
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert len(books.holds()) == 4
    by_face = {line.face_id: line for line in books.lines()}
    books.close()
    assert by_face["90"].outcome == "held"
    assert by_face["90"].message == "on the exclusion list"
    assert by_face["0000000000"].outcome == "deleted"


async def test_a_hold_far_ahead_changes_no_order_and_touches_no_other_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collation, "CALLS_PER_BLOCK", 4)
    pairs = [*persons(30), ("big", "1"), ("big", "2"), ("big", "3"), *persons(31)[30:]]
    draft_run(tmp_path, [rows(pairs)], faces_per_call=2)
    async with opened_ledger(tmp_path) as ledger:
        attempts = [await begun(ledger)]
        assert await ledger.hold(frozenset({("big", "2"), ("nobody", "")})) == 1
        connection = open_ledger(tmp_path, read_only=True)
        assert select(connection, "SELECT call_no FROM call ORDER BY 1") == [(0,), (30,), (31,)]
        connection.close()
        attempts += [await begun(ledger) for _ in range(31)]
        assert [attempt.call.call_no for attempt in attempts] == [*range(31), 32]
        assert attempts[30].call.face_ids == ("1",)
        assert await begin(ledger) is None, "another call of that person is in flight"
        await put_back(ledger, attempts)
    async with opened_ledger(tmp_path) as again:
        assert [(await claimed(again)).call_no for _ in range(32)] == [*range(31), 32]


async def test_a_hold_on_person_and_face_counts_a_face_once(ledger: Ledger) -> None:
    additions = frozenset({("person0", ""), ("person0", "0000000000")})
    assert await ledger.hold(additions) == 2
    assert await ledger.hold(additions) == 0
    assert await ledger.tally() == {"unsent": 7, "held": 2}


async def test_a_hold_reaches_a_call_in_flight_when_it_comes_back(ledger: Ledger) -> None:
    """Throttled while the list grew: the next attempt goes without the face, or not at all."""
    attempts = [await begun(ledger), await begun(ledger)]
    part = attempts[1].call
    assert await ledger.hold(frozenset({("person0", ""), ("person1", part.face_ids[0])})) == 0
    told = [await ended(ledger, attempt, Kind.THROTTLED) for attempt in attempts]
    assert told == [None, Waiting(Step.DELETE, 0)]
    assert await ledger.tally() == {"unsent": 6, "held": 3}
    assert await claimed(ledger) == Call(1, "person1", part.face_ids[1:], part.places[1:])


async def test_a_hold_reaches_an_attempt_that_a_crash_left_behind(tmp_path: Path) -> None:
    """Whether it was deleted is looked up; where it was not, it is not sent again."""
    draft_run(tmp_path, [rows(persons(2))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)
    left_open = await begun(dead)
    await dead.hold(frozenset({("person0", "")}))
    async with opened_ledger(tmp_path) as ledger:
        assert await ledger.close_open_attempts(1) == 1
        assert (await claimed(ledger)).person_id == "person1"
        assert await begin(ledger) is None
        assert await ledger.tally() == {"unsent": 1, "unknown": 1}
        lookup = await begun(ledger, [Step.LOOKUP], 1 + INTERVAL_US)
        there = Evidence(Kind.SHOWN, 9, 8, code="200", listed=left_open.call.face_ids)
        assert await ledger.record(lookup.seq, lookup.call, there) is None
        assert await ledger.tally() == {"unsent": 1, "held": 1}


async def test_what_is_held_stays_held_when_the_rest_of_its_call_is_sent(ledger: Ledger) -> None:
    await ledger.hold(frozenset({("person0", "0000000001")}))
    attempt = await begun(ledger)
    assert attempt.call.face_ids == ("0000000000",)
    await ended(ledger, attempt, Kind.LISTED)
    assert await ledger.tally() == {"deleted": 1, "held": 1, "unsent": 7}


async def test_a_hold_comes_too_late_for_what_was_sent(ledger: Ledger) -> None:
    attempt = await begun(ledger)
    await ledger.hold(frozenset({("person0", "")}))
    await ended(ledger, attempt, Kind.LISTED)
    assert (await ledger.tally())["deleted"] == 2
    assert await ledger.hold(frozenset({("person0", "")})) == 0


# Sessions


async def test_sessions_and_their_ends(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 10)
        await ledger.end_session(20, StopReason.SIGTERM, "a sentence", {"quota": 1.23456})
    dead = Ledger(open_ledger(tmp_path), InlineWriter)
    await dead.begin_session(Verb.RESUME, 30)
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RETRY, 40)
        await ledger.end_session(50, StopReason.FINISHED, "", {})
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    first, second, third = books.sessions()
    books.close()
    assert (first.started_us, first.ended_us, first.stop_reason) == (10, 20, StopReason.SIGTERM)
    assert (first.detail, first.waits_seconds) == ("a sentence", {"quota": 1.235})
    assert (second.started_us, second.ended_us, second.stop_reason) == (30, None, StopReason.KILLED)
    assert (third.started_us, third.stop_reason) == (40, StopReason.FINISHED)
    assert [x.verb for x in (first, second, third)] == [Verb.RUN, Verb.RESUME, Verb.RETRY]


# Damage


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    draft_run(tmp_path, [rows(persons(2))])
    connection = open_ledger(tmp_path)
    connection.execute("DROP TABLE ending")
    connection.close()
    return tmp_path


async def test_a_ledger_without_one_of_its_tables_is_not_opened(torn: Path) -> None:
    connection = open_ledger(torn)
    with pytest.raises(LedgerFailed, match="no such table"):
        Ledger(connection, ThreadWriter)
    with pytest.raises(apsw.ConnectionClosedError):
        connection.execute("SELECT 1")
