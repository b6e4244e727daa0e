"""The ledger at work: claims, attempts, evidence, holds and sessions, on real SQLite files."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.rig import draft_run, opened_ledger, persons, rows
from tests.ledger.audit import audit
from tests.ledger.audit import rows as select
from tests.ledger.errands import request
from worker.errors import LedgerFailed, LimitReached
from worker.fold import Rules
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter, ThreadWriter
from worker.model import Call, Entry, Evidence, Kind, Step, StopReason, Verb, Waiting

NEVER_OF_A_DELETION = frozenset({Kind.CLOSED, Kind.SHOWN, Kind.NO_PERSON, Kind.REMOVED})
LONG_AFTER_US = 10**15
NOT_SETTLED = frozenset({Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT, Kind.FATAL})


def evidence(kind: Kind, call: Call, **more: object) -> Evidence:
    listed = call.face_ids if kind is Kind.LISTED else ()
    return Evidence(kind, 50, code=str(kind), listed=listed, **more)  # type: ignore[arg-type]


async def to_delete(ledger: Ledger) -> Call | None:
    return await ledger.claim([Step.DELETE], 0)


async def claimed(ledger: Ledger, *steps: Step, now_us: int = 0) -> Call:
    call = await ledger.claim(steps or [Step.DELETE], now_us)
    assert call is not None
    return call


def reread(run_dir: Path, sql: str) -> list[tuple[object, ...]]:
    """What a second connection sees: only what is committed."""
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    try:
        return select(connection, sql)
    finally:
        connection.close()


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
    calls = [await claimed(ledger) for _ in range(4)]
    assert await to_delete(ledger) is None
    big = calls[3]
    seq = await ledger.open_attempt(request(big), 1)
    assert await to_delete(ledger) is None
    await ledger.record(seq, big, evidence(Kind.LISTED, big))
    assert await claimed(ledger) == Call(4, "big", ("92",), ("s0.csv:10",))
    assert await to_delete(ledger) is None


async def test_what_applied_nothing_waits_again(ledger: Ledger) -> None:
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.record(seq, call, evidence(Kind.THROTTLED, call))
    assert await claimed(ledger) == call


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE face SET face_id = '0000000001' WHERE face_no = 0",
        "UPDATE face SET face_id = '0000000011' WHERE face_no = 1",
        "UPDATE call SET person_id = 'Person0' WHERE call_no = 0",
        "UPDATE call SET seal = zeroblob(16) WHERE call_no = 0",
        "DELETE FROM face WHERE face_no = 1",
        "UPDATE face SET call_no = 0 WHERE face_no = 2",
        "UPDATE face SET face_no = 99 WHERE face_no = 0",
    ],
)
async def test_a_call_that_is_not_what_was_planned_is_never_handed_out(
    tmp_path: Path, damage: str
) -> None:
    draft_run(tmp_path, [rows(persons(3, 2))])
    connection = open_ledger(tmp_path)
    connection.execute(damage)
    connection.close()
    async with opened_ledger(tmp_path) as ledger:
        with pytest.raises(LedgerFailed, match="call 0 of the ledger is not what was") as failed:
            await to_delete(ledger)
        assert str(tmp_path) in failed.value.cause
        assert "person0" not in str(failed.value)
        with pytest.raises(LedgerFailed):
            await to_delete(ledger)
    assert reread(tmp_path, "SELECT COUNT(*) FROM call WHERE state <> 0") == [(0,)]


@pytest.mark.parametrize("what", ["face_id", "person_id", "seal"])
async def test_a_byte_flipped_in_the_file_is_never_sent(tmp_path: Path, what: str) -> None:
    draft_run(tmp_path, [rows([("someperson", "31842550077981745")])])
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
            await to_delete(ledger)
    assert reread(tmp_path, "SELECT COUNT(*) FROM attempt") == [(0,)]


async def test_a_call_of_another_run_is_not_ours(tmp_path: Path) -> None:
    """The seal ties a call to its run: rows copied from another ledger do not fit."""
    draft_run(tmp_path / "one", [rows(persons(1))])
    connection = open_ledger(tmp_path / "one")
    connection.execute("UPDATE run SET value = '\"another\"' WHERE key = 'run_id'")
    ledger = Ledger(connection, InlineWriter)
    with pytest.raises(LedgerFailed, match="is not what was planned"):
        await to_delete(ledger)
    await ledger.close()


# Attempts and evidence


async def test_an_attempt_is_on_disk_before_its_first_byte_may_leave(
    ledger: Ledger, tmp_path: Path
) -> None:
    """D1: read by another connection, and in a copy of the files, the moment it returns."""
    call = await claimed(ledger)
    body = '{"faceIds":["ä"]}'.encode()
    seq = await ledger.open_attempt(request(call, "nonce-1", body), 77)
    expected = [
        (
            seq,
            0,
            "DeleteFaces",
            "nonce-1",
            hashlib.sha256(body).hexdigest(),
            77,
            list(call.face_ids),
        )
    ]
    sql = "SELECT seq, call_no, operation, nonce, body_sha256, opened_us, face_ids FROM attempt"
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    for directory in (tmp_path, copy):
        found = [(*facts, json.loads(str(faces))) for *facts, faces in reread(directory, sql)]
        assert found == expected


async def test_an_ending_and_its_outcomes_come_together(ledger: Ledger, tmp_path: Path) -> None:
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 10)
    one, other = call.face_ids
    await ledger.record(
        seq, call, Evidence(Kind.LISTED, 30, 20, 200, "200", "OK", "7A1C", (one,), 1.5)
    )
    assert reread(tmp_path, "SELECT * FROM ending") == [
        (seq + 1, seq, "listed", 30, 20, 200, "200", "OK", "7A1C", json.dumps([one]), 1.5)
    ]
    standings = reread(
        tmp_path,
        "SELECT face_id, outcome, code, attempts, first_sent_us, decided_by FROM face"
        " WHERE call_no = 0",
    )
    assert standings == [
        (one, "deleted", "200", 1, 20, seq + 1),
        (other, "unknown", "not_listed", 1, 20, seq + 1),
    ]
    assert await ledger.tally() == {"deleted": 1, "unknown": 1, "unsent": 7}
    assert reread(tmp_path, "SELECT COUNT(*) FROM call WHERE state = 0") == [(5,)]
    assert not await ledger.is_finished()


@pytest.mark.parametrize("settled", [True, False])
async def test_a_cancelled_caller_takes_nothing_back(
    ledger: Ledger, tmp_path: Path, *, settled: bool
) -> None:
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 1)
    kind = Kind.REFUSED if settled else Kind.NOT_SENT
    caller = asyncio.create_task(ledger.record(seq, call, evidence(kind, call)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    await ledger.tally()  # whatever was submitted before is durable now
    assert reread(tmp_path, "SELECT attempt_seq, kind FROM ending") == [(seq, str(kind))]


async def test_an_attempt_ends_once(ledger: Ledger) -> None:
    """Evidence is only ever added: a second ending is a broken program, and it does not go on."""
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.record(seq, call, evidence(Kind.LISTED, call))
    with pytest.raises(LedgerFailed, match="UNIQUE"):
        await ledger.record(seq, call, evidence(Kind.REFUSED, call))


async def test_numbers_rise_over_attempts_endings_and_reopening(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(6))])
    seqs: list[int] = []
    for start in range(3):
        async with opened_ledger(tmp_path) as ledger:
            for number in range(2):
                call = await claimed(ledger)
                seq = await ledger.open_attempt(request(call, f"{start}.{number}"), 1)
                await ledger.record(seq, call, evidence(Kind.LISTED, call))
                seqs.append(seq)
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
    done, in_flight, claimed_only, again = [await claimed(dead) for _ in range(4)]
    seq = await dead.open_attempt(request(done, "a"), 1)
    await dead.record(seq, done, evidence(Kind.LISTED, done))
    seq = await dead.open_attempt(request(again, "b"), 1)
    await dead.record(seq, again, evidence(Kind.THROTTLED, again))
    assert await claimed(dead) == again
    lost = await dead.open_attempt(request(in_flight, "c"), 5)

    async with opened_ledger(tmp_path) as ledger:
        assert await ledger.close_open_attempts(99) == 1
        assert await ledger.close_open_attempts(99) == 0
        assert await ledger.tally() == {"deleted": 1, "unknown": 1, "unsent": 2}
        assert [await claimed(ledger), await claimed(ledger)] == [claimed_only, again]
        assert await to_delete(ledger) is None
    assert reread(
        tmp_path, "SELECT attempt_seq, ended_us, code FROM ending WHERE kind = 'closed'"
    ) == [(lost, 99, "closed_after_crash")]
    standing = reread(
        tmp_path, "SELECT outcome, attempts, first_sent_us FROM face WHERE call_no = 1"
    )
    assert standing == [("unknown", 1, 5)]


async def test_a_resume_counts_what_it_would_send(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(4, 3))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)
    in_flight = await claimed(dead)
    await claimed(dead)
    await dead.open_attempt(request(in_flight), 1)
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
    call = await claimed(ledger)
    held = await ledger.hold(
        frozenset({("person0", ""), ("person1", "0000000101"), ("big", ""), ("nobody", "")})
    )
    assert held == 4
    assert await ledger.tally() == {"unsent": 5, "held": 4}
    assert await claimed(ledger) == Call(1, "person1", ("0000000100",), ("s0.csv:4",))
    assert (await claimed(ledger)).person_id == "person2"
    assert await to_delete(ledger) is None
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.record(seq, call, evidence(Kind.LISTED, call))
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert len(books.holds()) == 4
    by_face = {line.face_id: line for line in books.lines()}
    books.close()
    assert by_face["90"].outcome == "held"
    assert by_face["90"].message == "on the exclusion list"
    assert by_face["0000000000"].outcome == "deleted"


async def test_a_hold_on_person_and_face_counts_a_face_once(ledger: Ledger) -> None:
    additions = frozenset({("person0", ""), ("person0", "0000000000")})
    assert await ledger.hold(additions) == 2
    assert await ledger.hold(additions) == 0
    assert await ledger.tally() == {"unsent": 7, "held": 2}


async def test_a_hold_reaches_a_call_in_flight_when_it_comes_back(ledger: Ledger) -> None:
    """Throttled while the list grew: the next attempt goes without the face, or not at all."""
    whole, part = await claimed(ledger), await claimed(ledger)
    attempts = [
        await ledger.open_attempt(request(call, str(call.call_no)), 1) for call in (whole, part)
    ]
    assert await ledger.hold(frozenset({("person0", ""), ("person1", part.face_ids[0])})) == 0
    for call, seq in zip((whole, part), attempts, strict=True):
        await ledger.record(seq, call, evidence(Kind.THROTTLED, call))
    assert await ledger.tally() == {"unsent": 6, "held": 3}
    assert await claimed(ledger) == Call(1, "person1", part.face_ids[1:], part.places[1:])


async def test_a_hold_reaches_a_claim_a_crash_left_behind(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(2))])
    dead = Ledger(open_ledger(tmp_path), InlineWriter)
    await claimed(dead)
    await dead.hold(frozenset({("person0", "")}))
    async with opened_ledger(tmp_path) as ledger:
        assert await ledger.close_open_attempts(1) == 0
        assert (await claimed(ledger)).person_id == "person1"
        assert await to_delete(ledger) is None
        assert await ledger.tally() == {"unsent": 1, "held": 1}


async def test_what_is_held_stays_held_when_the_rest_of_its_call_is_sent(ledger: Ledger) -> None:
    await ledger.hold(frozenset({("person0", "0000000001")}))
    call = await claimed(ledger)
    assert call.face_ids == ("0000000000",)
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.record(seq, call, evidence(Kind.LISTED, call))
    assert await ledger.tally() == {"deleted": 1, "held": 1, "unsent": 7}


async def test_a_hold_comes_too_late_for_what_was_sent(ledger: Ledger) -> None:
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.hold(frozenset({("person0", "")}))
    await ledger.record(seq, call, evidence(Kind.LISTED, call))
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


# What waits for its time


async def test_an_unclear_end_waits_for_its_lookups_and_then_for_nothing(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(1, 2))])
    async with opened_ledger(tmp_path) as ledger:
        call = await claimed(ledger)
        seq = await ledger.open_attempt(request(call), 1)
        waiting = await ledger.record(seq, call, Evidence(Kind.AMBIGUOUS, 1_000_000))
        assert waiting == Waiting(Step.LOOKUP, 4_000_000)
        looks = [Step.LOOKUP, Step.DELETE]
        assert await ledger.claim(looks, 3_999_999) is None
        assert await ledger.due(looks, 3_999_999) == 4_000_000
        assert await ledger.due([Step.DELETE], 0) is None
        for number, now_us in enumerate((4_000_000, 7_500_000)):
            look = await claimed(ledger, *looks, now_us=now_us)
            assert look == Call(0, "person0", call.face_ids, call.places, Step.LOOKUP)
            seq = await ledger.open_attempt(request(look, f"l{number}"), now_us)
            shown = Evidence(Kind.SHOWN, now_us + 500_000, now_us)
            waiting = await ledger.record(seq, look, shown)
        assert waiting is None
        assert await ledger.tally() == {"absent": 2}
        assert await ledger.is_finished()


async def test_a_time_written_before_the_clock_was_set_back_is_not_waited_for(
    ledger: Ledger,
) -> None:
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call), 1)
    await ledger.record(seq, call, Evidence(Kind.AMBIGUOUS, 500_000_000))
    assert await ledger.due([Step.LOOKUP], 1_000_000) == 1_000_000
    assert await ledger.claim([Step.LOOKUP], 1_000_000) is not None


async def test_a_new_session_looks_again_at_what_was_given_up(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(1))])
    rules = Rules(max_lookups=1)
    ledger = Ledger(open_ledger(tmp_path), InlineWriter, rules=rules)
    await ledger.begin_session(Verb.RUN, 0)
    call = await claimed(ledger)
    seq = await ledger.open_attempt(request(call, "a"), 1)
    await ledger.record(seq, call, Evidence(Kind.AMBIGUOUS, 1))
    look = await claimed(ledger, Step.LOOKUP, now_us=LONG_AFTER_US)
    seq = await ledger.open_attempt(request(look, "b"), 1)
    assert await ledger.record(seq, look, Evidence(Kind.AMBIGUOUS, 2)) is None
    assert not await ledger.is_finished()
    await ledger.begin_session(Verb.RESUME, 3)
    assert await ledger.claim([Step.LOOKUP], LONG_AFTER_US) is not None
    await ledger.close()


async def test_a_new_round_takes_up_what_was_present_and_nothing_else(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    ledger = Ledger(open_ledger(tmp_path), InlineWriter, rules=Rules(max_attempts=1))
    await ledger.begin_session(Verb.RUN, 0)
    for kind in (Kind.LISTED, Kind.REFUSED, Kind.AMBIGUOUS):
        call = await claimed(ledger)
        seq = await ledger.open_attempt(request(call, str(kind)), 1)
        await ledger.record(seq, call, evidence(kind, call))
    look = await claimed(ledger, Step.LOOKUP, now_us=LONG_AFTER_US)
    seq = await ledger.open_attempt(request(look, "look"), 1)
    assert await ledger.record(seq, look, Evidence(Kind.SHOWN, 1, listed=look.face_ids)) is None
    assert await ledger.tally() == {"deleted": 1, "refused": 1, "present": 1}
    await ledger.begin_session(Verb.RETRY, 2)
    assert (await claimed(ledger)).person_id == "person2"
    assert await to_delete(ledger) is None
    await ledger.close()


@pytest.mark.parametrize(("verify", "calls"), [("none", 0), ("all", 3), ("sample:2", 2)])
async def test_what_is_settled_is_looked_up_once_more_where_that_was_asked_for(
    tmp_path: Path, verify: str, calls: int
) -> None:
    draft_run(tmp_path, [rows(persons(3))])
    async with opened_ledger(tmp_path) as ledger:
        await ledger.begin_session(Verb.RUN, 0, verify=verify)
        while (call := await to_delete(ledger)) is not None:
            seq = await ledger.open_attempt(request(call, str(call.call_no)), 1)
            await ledger.record(seq, call, evidence(Kind.LISTED, call))
        looked = 0
        while call := await ledger.claim([Step.VERIFY], LONG_AFTER_US):
            looked += 1
            seq = await ledger.open_attempt(request(call, f"v{call.call_no}"), 1)
            assert await ledger.record(seq, call, Evidence(Kind.SHOWN, 60)) is None
        assert looked == calls
        assert await ledger.is_finished()
    books = LedgerBooks(open_ledger(tmp_path, read_only=True))
    assert (books.verification().asked, books.verification().answered) == (calls, calls)
    books.close()


# Whole persons


def whole(person_id: str) -> Entry:
    return Entry(0, 2, "", person_id, "", "", "", "", whole=True)


async def test_what_is_found_of_a_whole_person_comes_under_holds_and_conflicts(
    tmp_path: Path,
) -> None:
    entries = [whole("ann"), Entry(1, 3, "", "ben", "2", "", "", "")]
    holds = Holds(frozenset({("ann", "1")}), "")
    draft_run(tmp_path, [entries], holds=holds)
    async with opened_ledger(tmp_path) as ledger:
        look = await claimed(ledger, Step.LOOKUP)
        assert look == Call(0, "ann", (), ("s0.csv:2",), Step.LOOKUP, whole=True)
        seq = await ledger.open_attempt(request(look, "look"), 1)
        found = tuple(str(number) for number in range(1, 25))
        waiting = await ledger.record(seq, look, Evidence(Kind.SHOWN, 50, listed=found))
        assert waiting == Waiting(Step.DELETE, 0)
        assert await ledger.tally() == {"held": 1, "conflict": 1, "unsent": 24}
        first = await claimed(ledger)
        assert first.face_ids == found[2:22]
        seq = await ledger.open_attempt(request(first, "first"), 1)
        assert await ledger.record(seq, first, evidence(Kind.LISTED, first)) == (Step.DELETE, 0)
        rest = await claimed(ledger)
        assert rest.face_ids == found[22:]
        seq = await ledger.open_attempt(request(rest, "rest"), 1)
        waiting = await ledger.record(seq, rest, evidence(Kind.LISTED, rest))
        assert waiting is not None
        assert waiting.step is Step.LOOKUP
        look = await claimed(ledger, Step.LOOKUP, now_us=LONG_AFTER_US)
        seq = await ledger.open_attempt(request(look, "again"), 1)
        assert await ledger.record(seq, look, Evidence(Kind.SHOWN, 60, listed=found[:2])) is None
    assert reread(tmp_path, "SELECT outcome, code FROM face WHERE face_id = ''") == [
        ("held", "faces_kept")
    ]


async def test_more_than_allowed_is_not_claimed(tmp_path: Path) -> None:
    draft_run(tmp_path, [[whole("ann")]])
    ledger = Ledger(open_ledger(tmp_path), InlineWriter, max_delete=1)
    look = await claimed(ledger, Step.LOOKUP)
    seq = await ledger.open_attempt(request(look), 1)
    await ledger.record(seq, look, Evidence(Kind.SHOWN, 50, listed=("1", "2")))
    for _ in range(2):
        with pytest.raises(LimitReached, match="2 faces are to be deleted"):
            await to_delete(ledger)
    await ledger.close()
    again = Ledger(open_ledger(tmp_path), InlineWriter, max_delete=2)
    assert (await claimed(again)).face_ids == ("1", "2")
    await again.close()


# Any sequence whatsoever


class LedgerAtWork(RuleBasedStateMachine):
    """Loops, crashes and growing holds in any order; the audit reads the file independently."""

    @initialize(size=st.integers(1, 3), data=st.data())
    def plan(self, size: int, data: st.DataObject) -> None:
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.run_dir = Path(self.directory.name)
        pairs = [(f"p{p}", f"{p}{f}") for p in range(3) for f in range(4)]
        draft_run(self.run_dir, [rows(pairs)], faces_per_call=size, holds=NO_HOLDS)
        self.total = len(pairs)
        self.holds: set[Hold] = set()
        self.nonces = itertools.count()
        self.sent: set[tuple[str, str]] = set()
        self.last_seq = 0
        self._open()

    def _open(self) -> None:
        self.connection = open_ledger(self.run_dir)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.ledger = self.runner.run(self._ledger())
        self.claims: list[Call] = []
        self.in_flight: list[tuple[Call, int]] = []

    async def _ledger(self) -> Ledger:
        return Ledger(self.connection, InlineWriter)

    @rule()
    def claim(self) -> None:
        call = self.runner.run(to_delete(self.ledger))
        if call is not None:
            assert call.face_ids
            pairs = {(call.person_id, face_id) for face_id in call.face_ids}
            assert not self.sent & pairs, "what may be gone is not sent again"
            for person_id, face_id in pairs:
                assert not {(person_id, ""), (person_id, face_id)} & self.holds
            self.claims.append(call)

    @precondition(lambda self: self.claims)
    @rule()
    def open_attempt(self) -> None:
        call = self.claims.pop(0)
        nonce = str(next(self.nonces))
        seq = self.runner.run(self.ledger.open_attempt(request(call, nonce), 1))
        assert seq > self.last_seq
        self.last_seq = seq
        self.in_flight.append((call, seq))

    @precondition(lambda self: self.in_flight)
    @rule(
        kind=st.sampled_from([kind for kind in Kind if kind not in NEVER_OF_A_DELETION]),
        listed=st.integers(0, 3),
        data=st.data(),
    )
    def record(self, kind: Kind, listed: int, data: st.DataObject) -> None:
        call, seq = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        faces = call.face_ids[:listed] if kind is Kind.LISTED else ()
        end = Evidence(kind, 9, code=str(kind), listed=faces)
        self.runner.run(self.ledger.record(seq, call, end))
        if kind not in NOT_SETTLED:
            self.sent |= {(call.person_id, face_id) for face_id in call.face_ids}

    @rule(
        kind=st.sampled_from([Kind.SHOWN, Kind.NO_PERSON, Kind.AMBIGUOUS]), listed=st.integers(0, 3)
    )
    def look(self, kind: Kind, listed: int) -> None:
        """Only what a lookup lists may be sent again."""
        call = self.runner.run(self.ledger.claim([Step.LOOKUP], LONG_AFTER_US))
        if call is None:
            return
        nonce = str(next(self.nonces))
        seq = self.runner.run(self.ledger.open_attempt(request(call, nonce), 1))
        self.last_seq = seq
        there = call.face_ids[:listed] if kind is Kind.SHOWN else ()
        end = Evidence(kind, 9, code=str(kind), listed=there)
        self.runner.run(self.ledger.record(seq, call, end))
        self.sent -= {(call.person_id, face_id) for face_id in there}

    @rule(person=st.integers(0, 2), face=st.none() | st.integers(0, 3))
    def hold(self, person: int, face: int | None) -> None:
        one = (f"p{person}", "" if face is None else f"{person}{face}")
        self.runner.run(self.ledger.hold(frozenset({one})))
        self.holds.add(one)

    @rule()
    def crash_and_start_again(self) -> None:
        self._open()
        assert self.runner.run(self.ledger.close_open_attempts(9)) >= 0
        assert not select(self.connection, "SELECT 1 FROM call WHERE state = 1")
        self.sent |= {
            (person_id, face_id)
            for person_id, face_id in select(
                self.connection,
                "SELECT person_id, face_id FROM face JOIN call USING (call_no)"
                " WHERE outcome = 'unknown'",
            )
        }

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "connection"):
            assert sum(audit(self.connection).values()) == self.total

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
            self.directory.cleanup()
            self.runner.close()


LedgerAtWork.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestLedgerAtWork = LedgerAtWork.TestCase


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
