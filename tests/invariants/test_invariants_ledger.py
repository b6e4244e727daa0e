"""One thing is changed in the ledger of a real run: the checker names the invariant it breaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import apsw
import pytest

from tests.invariants.conftest import WANTED
from tests.invariants.rehearsal import Rehearsal, opened, report, reseal, violations
from tests.ledger.repacking import repacked
from worker.errors import GateClosed
from worker.ledger.database import query
from worker.ledger.unrolling import unrolled

Copied = Callable[[], Rehearsal]
Spoil = Callable[[apsw.Connection], object]

PAIRS = [(person, face.removesuffix("!")) for person, face in WANTED]


def attempts(c: apsw.Connection, person: str, *kinds: str) -> list[int]:
    """Numbers of the person's attempts that ended so, in their order."""
    rows = query(
        c,
        "SELECT a.seq, e.kind FROM attempt a JOIN call c USING (call_no)"
        " JOIN ending e ON e.attempt_seq = a.seq WHERE c.person_id = ? ORDER BY a.seq",
        (person,),
    )
    return [seq for seq, kind in rows if kind in kinds]


def end_of(c: apsw.Connection, seq: int) -> int:
    (end_seq,) = query(c, "SELECT seq FROM ending WHERE attempt_seq = ?", (seq,)).fetchone()
    return int(end_seq)


def forget(c: apsw.Connection, seq: int) -> None:
    """As if the attempt had never been made."""
    c.execute("DELETE FROM ending WHERE attempt_seq = ?", (seq,))
    c.execute("DELETE FROM attempt WHERE seq = ?", (seq,))


def state(c: apsw.Connection, person: str, outcome: str, face: str | None = None) -> None:
    c.execute(
        "UPDATE face SET outcome = ?1 WHERE call_no IN (SELECT call_no FROM call WHERE person_id = ?2)"
        " AND IFNULL(?3, face_id) = face_id",
        (outcome, person, face),
    )


def answer(c: apsw.Connection, person: str, **columns: object) -> None:
    """The answer that listed the person's faces was another one."""
    (seq,) = attempts(c, person, "listed")
    for column, value in columns.items():
        c.execute(f"UPDATE ending SET {column} = ? WHERE attempt_seq = ?", (value, seq))  # noqa: S608


def ask_for(c: apsw.Connection, seq: int, *face_ids: str, operation: str = "DeleteFaces") -> None:
    """The attempt names other faces, and its body with it."""
    (person,) = query(
        c, "SELECT person_id FROM call JOIN attempt USING (call_no) WHERE seq = ?", (seq,)
    ).fetchone()
    document: dict[str, Any] = {"personId": person}
    if operation == "DeleteFaces":
        document["faceIds"] = face_ids
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    c.execute(
        "UPDATE attempt SET face_ids = ?, body_sha256 = ?, operation = ? WHERE seq = ?",
        (json.dumps(face_ids), hashlib.sha256(body).hexdigest(), operation, seq),
    )


def configure(c: apsw.Connection, **settings: object) -> None:
    """The run was planned with other settings than those it was carried out with."""
    (text,) = query(c, "SELECT value FROM run WHERE key = 'settings'").fetchone()
    changed = json.dumps({**json.loads(text), **settings})
    c.execute("UPDATE run SET value = ? WHERE key = 'settings'", (changed,))


def only_one_lookup(c: apsw.Connection) -> None:
    first, second = attempts(c, "lost", "shown")
    ends = (end_of(c, first), end_of(c, second))
    forget(c, second)
    c.execute("UPDATE face SET decided_by = ? WHERE decided_by = ?", ends)


def lookups_at_once(c: apsw.Connection) -> None:
    first, second = attempts(c, "lost", "shown")
    (ended_us,) = query(c, "SELECT ended_us FROM ending WHERE attempt_seq = ?", (first,)).fetchone()
    c.execute("UPDATE ending SET sent_us = ? WHERE attempt_seq = ?", (ended_us + 10, second))


def listed_again(c: apsw.Connection) -> None:
    """The last lookup lists what was found absent."""
    (*_, last) = attempts(c, "lost", "shown")
    c.execute("""UPDATE ending SET listed = '["3","4"]' WHERE attempt_seq = ?""", (last,))


def another_lookup(c: apsw.Connection, person: str, listed: str) -> None:
    """Somebody looked once more, after everything."""
    (last,) = query(c, "SELECT MAX(seq) FROM ending").fetchone()
    seq = attempts(c, person, "shown", "listed")[-1]
    c.execute(
        "INSERT INTO attempt SELECT ?, call_no, 'GetPerson', 'verify', ?, body_sha256, face_ids,"
        " opened_us + 5000000 FROM attempt WHERE seq = ?",
        (last + 1, "f" * 32, seq),
    )
    c.execute(
        "INSERT INTO ending SELECT ?, ?, 'shown', ended_us + 5000000, sent_us + 5000000, 200, '200',"
        " '', '', ?, NULL FROM ending WHERE attempt_seq = ?",
        (last + 2, last + 1, listed, seq),
    )
    c.execute(
        "UPDATE attempt SET body_sha256 = ? WHERE seq = ?",
        (hashlib.sha256(json.dumps({"personId": person}, separators=(",", ":")).encode()).hexdigest(),
         last + 1),
    )  # fmt: skip


def only_one_answer_in_each_round(c: apsw.Connection) -> None:
    for seq in attempts(c, "nobody", "no_person")[::2]:
        forget(c, seq)


def removal_of_somebody(c: apsw.Connection) -> None:
    ask_for(c, attempts(c, "slow", "throttled")[0], operation="DeletePerson")
    c.execute("UPDATE attempt SET step = 'remove' WHERE operation = 'DeletePerson'")


def many_left_open(c: apsw.Connection) -> None:
    configure(c, concurrency=1)
    c.execute("UPDATE ending SET kind = 'closed', code = 'x' WHERE kind = 'ambiguous'")


def reappeared_quietly(c: apsw.Connection) -> None:
    another_lookup(c, "good", '["1"]')
    c.execute(
        "UPDATE face SET outcome = 'present', code = 'still_listed',"
        " decided_by = (SELECT MAX(seq) FROM ending) WHERE face_id = '1' AND found_by IS NULL"
    )


def untouched(c: apsw.Connection) -> None:
    for seq in attempts(c, "slow", "not_sent", "throttled", "listed"):
        forget(c, seq)
    state(c, "slow", "unknown")
    c.execute(
        "UPDATE face SET attempts = 0, first_sent_us = NULL, decided_by = NULL WHERE face_id = '16'"
    )


def record_kept_for_nothing(c: apsw.Connection) -> None:
    state(c, "whole", "held", "")
    c.execute("UPDATE face SET code = 'record_kept' WHERE face_id = '' AND outcome = 'held'")


def without_the_look_between(c: apsw.Connection) -> None:
    """After an end that nobody knows, the face was sent again straight away."""
    (look,) = attempts(c, "again", "shown")
    forget(c, look)


def swap(c: apsw.Connection, one: int, other: int) -> None:
    """The attempt with one number began where another record has its number, and the reverse."""
    c.execute("UPDATE attempt SET seq = -1 WHERE seq = ?", (one,))
    c.execute("UPDATE ending SET attempt_seq = -1 WHERE attempt_seq = ?", (one,))
    c.execute("UPDATE ending SET seq = ? WHERE seq = ?", (one, other))
    c.execute("UPDATE attempt SET seq = ? WHERE seq = -1", (other,))
    c.execute("UPDATE ending SET attempt_seq = ? WHERE attempt_seq = -1", (other,))


def overlapping(c: apsw.Connection) -> None:
    """The second lookup of a person was opened while the first was in flight."""
    first, second = attempts(c, "lost", "shown")
    swap(c, second, end_of(c, first))


def older_than_the_plan(c: apsw.Connection) -> None:
    c.execute(
        "UPDATE run SET value = (SELECT MIN(opened_us) + 1 FROM attempt) WHERE key = 'planned_us'"
    )
    c.execute("UPDATE session SET started_us = (SELECT MIN(opened_us) + 2 FROM attempt)")


def clock_set_back_between_plan_and_start(c: apsw.Connection) -> None:
    c.execute(
        "UPDATE run SET value = (SELECT MAX(opened_us) FROM attempt) WHERE key = 'planned_us'"
    )


def sql(*statements: str) -> Spoil:
    def spoil(c: apsw.Connection) -> None:
        for statement in statements:
            c.execute(statement)

    return spoil


SPOILED: list[tuple[str, Spoil, set[str]]] = [
    # Claims without evidence. The evidence that is named for them does not say so either (T5).
    ("deleted that was only looked up", lambda c: state(c, "lost", "deleted"), {"T1", "T5"}),
    ("deleted that is still there", lambda c: state(c, "stays", "deleted"), {"T1", "T5"}),
    ("deleted by an answer that says 500",
     lambda c: answer(c, "good", code="500"),
     {"T1", "T6"}),
    ("deleted by an answer with HTTP 404",
     lambda c: answer(c, "good", http_status=404),
     {"T1"}),
    ("deleted by an answer about a face nobody asked for",
     lambda c: answer(c, "good", listed='["1","2","9"]'), {"T1"}),
    ("deleted, and listed by a later lookup",
     lambda c: another_lookup(c, "good", '["1"]'), {"T1"}),
    ("absent that is still there", lambda c: state(c, "stays", "absent"), {"T2", "T5"}),
    ("absent after one lookup", only_one_lookup, {"T2"}),
    ("absent after two lookups at once", lookups_at_once, {"T2"}),
    ("absent, and listed by the last lookup", listed_again, {"T2", "T5"}),
    ("absent for want of a person", lambda c: state(c, "nobody", "absent"), {"T2", "T5"}),
    ("no_person after one answer",
     only_one_answer_in_each_round, {"T2"}),
    ("present that is gone", lambda c: state(c, "half", "present", "6"), {"T2", "T5"}),
    ("present before all was tried", lambda c: configure(c, max_attempts=3), {"T2"}),
    ("refused that was not", lambda c: state(c, "stays", "refused"), {"T5"}),
    ("unsent that was sent", lambda c: state(c, "good", "unsent"), {"T5"}),
    ("unknown that is deleted", lambda c: state(c, "good", "unknown"), {"T5"}),
    ("unknown that is absent", lambda c: state(c, "half", "unknown", "6"), {"T5"}),
    ("held that was deleted", lambda c: state(c, "good", "held"), {"S2", "T5"}),
    ("a conflict that was deleted", lambda c: state(c, "good", "conflict"), {"T4", "T5"}),
    ("said to have reappeared",
     sql("UPDATE face SET code = 'reappeared' WHERE outcome = 'present'"), {"T5"}),
    ("a person with faces left called empty",
     lambda c: state(c, "shared", "person_empty", ""), {"T2"}),
    ("a person called deleted whose record is there",
     lambda c: state(c, "whole", "person_deleted", ""), {"T1"}),
    ("a person called empty after faces were listed again",
     lambda c: another_lookup(c, "whole", '["10"]'),
     {"T1", "T2"}),
    ("a person called unknown that is empty",
     lambda c: state(c, "whole", "unknown", ""), {"T5"}),
    ("a face called empty", lambda c: state(c, "good", "person_empty"), {"T4", "T5"}),
    ("unknown that nobody touched", untouched, {"T5"}),
    ("unknown that is in conflict", lambda c: state(c, "shared", "unknown", "1"), {"S2", "T2"}),
    ("present, and deleted since", lambda c: state(c, "again", "present"), {"T2", "T5"}),
    ("present, and not said to have reappeared", reappeared_quietly, {"T5"}),
    ("refused after an end that nobody knows",
     lambda c: c.execute("UPDATE ending SET kind = 'ambiguous' WHERE attempt_seq = ?",
                         attempts(c, "barred", "refused")[:1]), {"T2a"}),
    ("absent by a clock that was set back",
     lambda c: c.execute("UPDATE ending SET sent_us = sent_us - 60000000 WHERE attempt_seq = ?",
                         attempts(c, "lost", "shown")[1:]), {"T2"}),
    # What the report says beside the outcome.
    ("an attempt more than were made",
     sql("UPDATE face SET attempts = attempts + 1 WHERE face_id = '1' AND found_by IS NULL"), {"T6"}),
    ("a first attempt at another time",
     sql("UPDATE face SET first_sent_us = 1 WHERE face_id = '1' AND found_by IS NULL"), {"T6"}),
    ("the evidence of another person",
     lambda c: c.execute("UPDATE face SET decided_by = ? WHERE face_id = '9'",
                         (end_of(c, attempts(c, "good", "listed")[0]),)), {"T5"}),
    ("no evidence named", sql("UPDATE face SET decided_by = NULL WHERE face_id = '1' AND found_by IS NULL"), {"T5"}),
    # What was sent.
    ("a face that the call does not have",
     lambda c: ask_for(c, attempts(c, "slow", "throttled")[0], "99"), {"S1", "T6"}),
    ("a face twice",
     lambda c: ask_for(c, attempts(c, "slow", "throttled")[0], "16", "16"), {"S1"}),
    ("no face at all", lambda c: ask_for(c, attempts(c, "slow", "throttled")[0]), {"S1", "T6"}),
    ("more faces than a person can have",
     lambda c: ask_for(c, attempts(c, "slow", "throttled")[0], *map(str, range(100, 121))), {"S1", "T6"}),
    ("everything of somebody nobody asked for",
     lambda c: ask_for(c, attempts(c, "again", "shown")[0], operation="GetPerson"), {"S1"}),
    ("the removal of a person that nobody asked for",
     removal_of_somebody,
     {"S1", "T6"}),
    ("another face than the row", sql("UPDATE face SET face_id = '17' WHERE face_id = '16'"),
     {"S1", "S2", "T1", "T4", "T5", "T6"}),
    ("another face in the row", sql("UPDATE row SET face_id = '017' WHERE face_id = '16'"),
     {"S1", "S2", "T4"}),
    ("another person in the row",
     sql("UPDATE row SET person_id = 'slowly' WHERE face_id = '16'"), {"S1", "S2"}),
    ("another person in the call",
     sql("UPDATE call SET person_id = 'slowly' WHERE person_id = 'slow'"), {"S1", "S2", "D1"}),
    ("a face found that no lookup listed",
     lambda c: c.execute("""UPDATE ending SET listed = '["10"]' WHERE attempt_seq = ?""",
                         (attempts(c, "whole", "shown")[0],)), {"S1"}),
    ("a face found for somebody who is not to go as a whole",
     sql("UPDATE face SET found_by = (SELECT MIN(seq) FROM ending) WHERE face_id = '16'",
         "UPDATE run SET value = value - 1 WHERE key = 'faces'"), {"S1", "T4", "seal"}),
    ("a face sent before it was found",
     lambda c: c.execute("UPDATE face SET found_by = ? WHERE face_id = '10'",
                         (end_of(c, attempts(c, "whole", "shown")[-1]),)), {"S1"}),
    ("a row in conflict that was sent",
     sql("UPDATE row SET fate = 'conflict' WHERE face_id = '16'"), {"S2", "T4", "T6"}),
    ("a held row that was sent", sql("UPDATE row SET fate = 'held' WHERE face_id = '16'"), {"S2", "T4"}),
    ("an invalid row that was sent",
     sql("UPDATE row SET fate = 'invalid' WHERE face_id = '16'"), {"S2", "T4"}),
    ("two rows in conflict that may be sent",
     sql("UPDATE row SET fate = '' WHERE face_id = '15'"), {"S2", "T4", "T6"}),
    ("the record of somebody of whom something is held",
     sql("UPDATE row SET person_id = 'whole' WHERE face_id = '13'",
         "UPDATE attempt SET step = 'remove' WHERE seq = (SELECT MAX(seq) FROM attempt"
         " WHERE call_no = (SELECT call_no FROM call WHERE person_id = 'whole'))"),
     {"S1", "S2", "D1", "T2", "T5", "T6"}),
    ("a record kept that nothing is held of",
     record_kept_for_nothing,
     {"T2"}),
    ("a found face that is somebody else's",
     lambda c: state(c, "shared", "unsent", "1"), {"S2", "T2"}),
    ("something on the exclusion list waits",
     sql("INSERT INTO hold VALUES ('stays', '')",
         "UPDATE face SET step = 'delete' WHERE face_id = '7'",
         "UPDATE call SET state = 0, step = 'delete' WHERE person_id = 'stays'"), {"S2"}),
    ("a found face that the plan holds",
     sql("UPDATE row SET person_id = 'whole', face_id = '10' WHERE face_id = '13'"), {"S1", "S2"}),
    ("a found face in conflict with nobody", lambda c: state(c, "whole", "conflict", "10"), {"T4", "T5"}),
    ("an answer that lists a face twice",
     lambda c: answer(c, "good", listed='["1","2","2"]'), {"T1"}),
    ("faces listed by an answer that was cut",
     lambda c: c.execute("""UPDATE ending SET listed = '["3"]' WHERE attempt_seq = ?""",
                         attempts(c, "lost", "ambiguous")), {"T1", "T2", "T5"}),
    ("a call with a face twice",
     sql("INSERT INTO face SELECT 99, call_no, first_row, source_no, line, face_id, found_by, step, outcome, code,"
         " attempts, first_sent_us, decided_by FROM face WHERE face_id = '16'",
         "UPDATE run SET value = value + 1 WHERE key = 'faces'"), {"S1", "T4"}),
    ("a call said to be about everything",
     sql("UPDATE call SET whole = 1 WHERE person_id = 'slow'"), {"S1"}),
    ("sent again without a look", without_the_look_between, {"T2a"}),
    ("sent again in the round in which it was refused",
     sql("UPDATE session SET verb = 'resume' WHERE session_no = 2"), {"R4"}),
    ("more attempts than were allowed", lambda c: configure(c, max_attempts=1), {"R4"}),
    # The plan.
    ("a face that was lost", sql("DELETE FROM face WHERE face_id = '2'"), {"S1", "T4", "T6"}),
    ("a row that was lost", sql("DELETE FROM row WHERE face_id = 'x'"), {"S1", "T4"}),
    ("a row too many",
     sql("INSERT INTO row SELECT 99, 99, 0, 99, label, person_id, '2', 'invalid', 'r', 'f', ''"
         " FROM row WHERE row_no = 0"), {"S1", "T4"}),
    ("a repetition that is none", sql("UPDATE repeat SET first_row = 3"), {"T4", "T6"}),
    ("a first row that is called a repetition", sql("INSERT INTO repeat VALUES (10, 0)"),
     {"S2", "T4", "T6"}),
    ("a pair of which one row is held",
     sql("UPDATE row SET fate = 'held' WHERE row_no = (SELECT row_no FROM repeat)"), {"S2", "T6"}),
    ("an empty face that nobody explained",
     sql("UPDATE row SET face_id = '' WHERE face_id = '16'"), {"S1", "T4"}),
    ("a repetition to be sent",
     sql("UPDATE face SET first_row = (SELECT row_no FROM repeat) WHERE face_id = '1'"
         " AND found_by IS NULL"), {"S2", "T4", "T6"}),
    ("a conflict that is none", sql("DELETE FROM row WHERE person_id = 'one'"), {"S1", "T4", "T6"}),
    ("another number of rows", sql("UPDATE run SET value = '99' WHERE key = 'rows'"), {"T4"}),
    # The order of things.
    ("an attempt before the plan", older_than_the_plan, {"S4"}),
    ("attempts without a session", sql("DELETE FROM session"), {"R4", "S4"}),
    ("an attempt begun before the last had ended", overlapping, {"T5"}),
    ("a call that nobody works on with an open attempt",
     lambda c: c.execute("DELETE FROM ending WHERE attempt_seq = ?",
                         (attempts(c, "slow", "throttled")[0],)), {"D3", "T5", "T6"}),
    ("more attempts left open than could be in flight",
     many_left_open,
     {"D3"}),
    ("a settled call with something to do",
     sql("UPDATE face SET step = 'lookup' WHERE face_id = '7'"), {"L1"}),
    ("a waiting call without anything to wait for",
     sql("UPDATE call SET state = 0 WHERE person_id = 'stays'"), {"L1"}),
    ("a state that nobody knows",
     sql("UPDATE call SET state = 7, step = 'x' WHERE person_id = 'stays'"), {"T4", "T5"}),
    # The records of the attempts.
    ("another body", sql("UPDATE attempt SET body_sha256 = printf('%064d', 0) WHERE seq = 1"), {"D1"}),
    ("an operation that is not of its step",
     lambda c: c.execute("UPDATE attempt SET step = 'lookup' WHERE seq = ?",
                         attempts(c, "slow", "throttled")), {"D1", "T6"}),
    ("a nonce twice",
     sql("UPDATE attempt SET nonce = (SELECT nonce FROM attempt WHERE seq = 1)"
         " WHERE seq IN (1, 2)"), {"R2"}),
    ("a nonce that is none", sql("UPDATE attempt SET nonce = 'n' WHERE seq = 1"), {"R2"}),
    ("more calls in a second than the rate", lambda c: configure(c, rate_per_second=2.0), {"R1"}),
    ("more calls in a second than the shared rate",
     lambda c: configure(c, rate_per_second=2.0, shared_quota=True), {"R1"}),
]  # fmt: skip

DISFIGURED: list[tuple[str, Spoil, set[str]]] = [
    ("faces that are no list", sql("UPDATE attempt SET face_ids = '{}' WHERE seq = 1"), {"D1"}),
    ("a face that is a number", sql("UPDATE attempt SET face_ids = '[1]' WHERE seq = 1"), {"D1"}),
    ("a list cut short", sql("""UPDATE ending SET listed = '["1"' WHERE attempt_seq = 1"""), {"T5"}),
    ("a kind that nobody knows",
     sql("UPDATE ending SET kind = 'gone' WHERE attempt_seq = 1"), {"T5"}),
    ("an outcome that nobody knows",
     sql("UPDATE face SET outcome = 'gone' WHERE face_id = '1' AND found_by IS NULL"), {"T4"}),
    ("an operation that nobody knows",
     sql("UPDATE attempt SET operation = 'DeleteAll' WHERE seq = 1"), {"D1"}),
    ("an attempt of no call", sql("UPDATE attempt SET call_no = 999 WHERE seq = 1"), {"D1"}),
    ("an end of no attempt", sql("DELETE FROM attempt WHERE seq = 1"), {"T5"}),
    ("an end before its attempt",
     sql("UPDATE ending SET seq = -1 WHERE attempt_seq = 1"), {"T5"}),
    ("two records with one number",
     sql("UPDATE ending SET seq = (SELECT MIN(seq) FROM attempt WHERE seq > 1) WHERE attempt_seq = 1"), {"T5"}),
    ("two ends",
     sql("ALTER TABLE ending RENAME TO old",
         "CREATE TABLE ending AS SELECT * FROM old",
         "INSERT INTO ending SELECT seq + 10000, attempt_seq, kind, ended_us, sent_us, http_status,"
         " code, message, request_id, listed, retry_after_seconds FROM old WHERE attempt_seq = 1"),
     {"T5"}),
    ("a face of no row", sql("UPDATE face SET first_row = 999 WHERE face_id = '1' AND found_by IS NULL"), {"T4"}),
    ("a face of no call", sql("UPDATE face SET call_no = 999 WHERE face_id = '1' AND found_by IS NULL"), {"T4"}),
    ("a call without a face", sql("DELETE FROM face WHERE face_id = '16'"), {"T4"}),
]  # fmt: skip


def names(cases: list[tuple[str, Spoil, set[str]]]) -> list[Any]:
    return [pytest.param(spoil, broken, id=name) for name, spoil, broken in cases]


def test_a_run_in_which_every_outcome_occurs_breaks_nothing(original: Rehearsal) -> None:
    assert violations(original.run_dir, server=original.server, pairs=PAIRS, finished=True) == []
    with opened(original.run_dir) as c, unrolled(c):
        seen = {x for (x,) in c.execute("SELECT outcome FROM face UNION SELECT fate FROM row")}
    assert seen >= {
        *("deleted", "absent", "present", "refused", "no_person"),
        *("held", "conflict", "invalid", "person_empty"),
    }


@pytest.mark.parametrize(("spoil", "broken"), names(SPOILED))
def test_what_was_spoiled_is_found(copied: Copied, spoil: Spoil, broken: set[str]) -> None:
    run = copied()
    with opened(run.run_dir) as c, repacked(c):
        spoil(c)
        reseal(c)
    with suppress(GateClosed):
        # What nobody can make sense of has the report that was written before.
        report(run.run_dir)
    found = violations(run.run_dir, pairs=PAIRS)
    assert {violation.invariant for violation in found} == broken, "\n".join(map(str, found))
    assert all(violation.place for violation in found)


@pytest.mark.parametrize(("spoil", "broken"), names(DISFIGURED))
def test_what_cannot_be_read_is_named_and_nothing_else_judged(
    copied: Copied, spoil: Spoil, broken: set[str]
) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        spoil(c)
    found = violations(run.run_dir, pairs=PAIRS)
    assert {violation.invariant for violation in found} == broken, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE call SET seal = x'00' WHERE call_no = 0", {"seal"}),
        ("UPDATE run SET value = '\"another\"' WHERE key = 'account'", {"seal"}),
        ("UPDATE tally SET faces = faces + 1 WHERE outcome = 'deleted'", {"T4"}),
        ("DELETE FROM tally WHERE outcome = 'present'", {"T4"}),
    ],
)
def test_seals_and_tally_are_reckoned_up(copied: Copied, statement: str, broken: set[str]) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        c.execute(statement)
    found = violations(run.run_dir, with_report=False)
    assert {violation.invariant for violation in found} == broken


LAST_US = 10**15 + 2_000_000
"""When the last of eleven calls leaves, five a second."""


def test_a_clock_set_back_is_no_violation(copied: Copied) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        clock_set_back_between_plan_and_start(c)
        reseal(c)
    assert violations(run.run_dir, with_report=False) == []


@pytest.mark.parametrize("set_back", [True, False])
def test_departures_on_both_sides_of_a_clock_set_back_are_not_added_up(
    copied: Copied, *, set_back: bool
) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        configure(c, rate_per_second=5.0, shared_quota=True)
        seqs = [seq for (seq,) in query(c, "SELECT seq FROM attempt ORDER BY seq")]
        half = len(seqs) // 2
        assert half > 10
        c.execute("DELETE FROM session WHERE session_no = 2")
        for number, seq in enumerate(seqs):
            # Five a second, and in the middle the clock goes back to where it began.
            sent_us = 10**15 + number % half * 200_000
            opened_us = sent_us if set_back else 10**15 + number
            c.execute("UPDATE attempt SET opened_us = ? WHERE seq = ?", (opened_us, seq))
            c.execute("UPDATE ending SET sent_us = ? WHERE attempt_seq = ?", (sent_us, seq))
        reseal(c)
    found = {violation.invariant for violation in violations(run.run_dir, with_report=False)}
    assert ("R1" in found) is not set_back


@pytest.mark.parametrize(
    ("orders", "broken"),
    [
        ([], True),
        ([(10**15 - 1, 5.0, 0)], False),
        ([(10**15 - 1, 5.0, 1)], True),
        ([(10**15 + 1_000_000, 5.0, 0)], True),
        ([(10**15 - 1, 5.0, 0), (10**15 + 1_000_000, 2.0, 0)], True),
        ([(10**15 - 1, 2.0, 0), (10**15, 5.0, 0)], False),
        # One that was granted its departure just before it was slowed down.
        ([(10**15 - 1, 5.0, 0), (LAST_US - 100_000, 2.0, 0)], False),
    ],
)
def test_a_rate_that_was_ordered_counts_from_when_it_was_taken(
    copied: Copied, orders: list[tuple[int, float, int]], *, broken: bool
) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        configure(c, rate_per_second=2.0, shared_quota=True)
        c.execute("DELETE FROM session WHERE session_no = 2")
        seqs = [seq for (seq,) in query(c, "SELECT seq FROM attempt ORDER BY seq")]
        for number, seq in enumerate(seqs):
            # Five a second for two seconds, and then nothing for a while each.
            sent_us = 10**15 + (number * 200_000 if number <= 10 else number * 10**7)
            c.execute("UPDATE attempt SET opened_us = ? WHERE seq = ?", (10**15 + number, seq))
            c.execute("UPDATE ending SET sent_us = ? WHERE attempt_seq = ?", (sent_us, seq))
        for number, (taken_us, rate, refused) in enumerate(orders, start=1):
            c.execute("INSERT INTO command VALUES (?, 1, 'rate', ?, 0, 'somebody')", (number, rate))
            c.execute(
                "INSERT INTO command_taken VALUES (?, ?, '', '', ?)", (number, taken_us, refused)
            )
        reseal(c)
    found = {violation.invariant for violation in violations(run.run_dir, with_report=False)}
    assert ("R1" in found) is broken


def test_nothing_may_be_left_open_at_the_end(copied: Copied) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        state(c, "again", "unknown")
        c.execute("UPDATE call SET state = 0, step = 'lookup' WHERE person_id = 'again'")
        forget(c, attempts(c, "again", "listed")[0])
        c.execute("UPDATE face SET decided_by = NULL, attempts = 1 WHERE face_id = '9'")
        reseal(c)
    assert violations(run.run_dir, with_report=False) == []
    found = violations(run.run_dir, with_report=False, finished=True)
    assert [violation.invariant for violation in found] == ["L1", "L1"]


def test_the_input_is_compared_byte_for_byte(original: Rehearsal) -> None:
    other = [*PAIRS[:3], ("lost", "04"), *PAIRS[4:]]
    (found,) = violations(original.run_dir, with_report=False, pairs=other)
    assert (found.invariant, found.place) == ("S1", "s0.csv:5")
    (found,) = violations(original.run_dir, with_report=False, pairs=PAIRS[:-1])
    assert found.invariant == "S1"


def test_violations_name_places_and_no_ids(copied: Copied) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        c.execute("UPDATE call SET person_id = 'somebody-else' WHERE person_id = 'slow'")
        state(c, "stays", "deleted")
    said = "\n".join(map(str, violations(run.run_dir)))
    assert "s0.csv:" in said
    for person, face in WANTED:
        assert person not in said.split() or person in {"held", "lost", "good", "again"}
        assert f"'{face}'" not in said
    assert "somebody-else" not in said


def test_what_depends_on_unknown_settings_is_judged_only_as_far_as_they_cannot_matter(
    copied: Copied,
) -> None:
    run = copied()
    with opened(run.run_dir) as c:
        configure(c, max_attempts=2, rate_per_second=1000.0, absence_interval_seconds=0.01)
        reseal(c)
    assert violations(run.run_dir, with_report=False, same_settings=False) == []
    with opened(run.run_dir) as c:
        state(c, "stays", "deleted")
        reseal(c)
    found = violations(run.run_dir, with_report=False, same_settings=False)
    assert {violation.invariant for violation in found} == {"T1", "T5"}
