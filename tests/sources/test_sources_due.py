"""When work is due: an optional column or key, read strictly and carried as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.model import RESULT_COLUMNS

NOON_US = 1_796_040_000_000_000
"""2026-11-30T12:00:00Z."""
MIDNIGHT_US = NOON_US + 12 * 3600 * 1_000_000

NO_TIME = (
    "due time is not a date or time that can be read; 2026-11-30, 2026-11-30T18:00 or"
    " 2026-11-30T18:00:00+08:00 is expected"
)
NO_DAY = NO_TIME.replace("is not a date or time that can be read", "does not exist in the calendar")


@pytest.mark.parametrize("name", ["due_at", "dueAt"])
def test_a_table_says_when_its_rows_are_due(read: Any, name: str) -> None:
    data = f"person_id,{name},face_id\np,2026-11-30T12:00,1\nq,,2\nr,2026-11-30,3\n"
    reading = read(data.encode())
    assert [(e.face_id, e.due_us) for e in reading.entries] == [
        ("1", NOON_US),
        ("2", None),
        ("3", MIDNIGHT_US),
    ]
    assert [json.loads(e.carried) for e in reading.entries] == [
        {name: "2026-11-30T12:00"},
        {name: ""},
        {name: "2026-11-30"},
    ]
    assert reading.summary.carried_columns == (name,)


@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.json"])
def test_a_json_record_says_when_it_is_due(read: Any, name: str) -> None:
    records = [
        '{"personId":"p","faceIds":["1","2"],"dueAt":"2026-11-30T20:00+08:00"}',
        '{"personId":"q","faces":"all","due_at":"2026-11-30 12:00:00"}',
        '{"personId":"r","faceId":"3","dueAt":null}',
        '{"personId":"s","faceId":"4","dueAt":""}',
    ]
    text = "\n".join(records) if name == "jobs.jsonl" else f"[{','.join(records)}]"
    entries = read(text.encode(), name).entries
    assert [e.reason for e in entries] == [""] * 5
    assert [(e.person_id, e.due_us) for e in entries] == [
        ("p", NOON_US),
        ("p", NOON_US),
        ("q", NOON_US),
        ("r", None),
        ("s", None),
    ]
    assert json.loads(entries[0].carried) == {"dueAt": "2026-11-30T20:00+08:00"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tomorrow", NO_TIME),
        ("30.11.2026", NO_TIME),
        ("11/30/2026", NO_TIME),
        ("20261130", NO_TIME),
        ("1796040000", NO_TIME),
        ("46356", NO_TIME),
        (" 2026-11-30", NO_TIME),
        ("2026-11-30T", NO_TIME),
        ("2026-11-30T12", NO_TIME),
        ("2026-11-30Z", NO_TIME),
        ("2026-11-30T12:00 CET", NO_TIME),
        ("2026-11-30T12:00+00:75", NO_TIME),
        ("2026-W48-1", NO_TIME),
        ("٢٠٢٦-11-30", NO_TIME),
        ("2026-02-30", NO_DAY),
        ("2026-11-31T10:00Z", NO_DAY),
        ("2026-11-30T24:00", NO_DAY),
        ("2026-11-30T23:59:60Z", NO_DAY),
        ("0000-01-01", NO_DAY),
        ("2026-11-30T12:00+99:00", NO_DAY),
    ],
)
def test_an_unreadable_due_time_refuses_its_record_and_is_never_guessed(
    read: Any, text: str, reason: str
) -> None:
    table = f"person_id,due_at,face_id\np,{text},1\nq,2026-11-30,2\n"
    objects = json.dumps({"personId": "p", "faceIds": ["1", "2"], "due_at": text})
    whole = json.dumps({"personId": "p", "faces": "all", "due_at": text})
    persons = f"person_id,due_at\np,{text}\n"
    for bad, *after in (
        read(table.encode()).entries,
        read(objects.encode(), "jobs.jsonl").entries,
        read(whole.encode(), "jobs.jsonl").entries,
        read(persons.encode(), whole_persons=True).entries,
    ):
        assert (bad.person_id, bad.face_id, bad.reason, bad.column) == ("p", "", reason, "due_at")
        assert bad.due_us is None
        assert not bad.whole
        assert [e.reason for e in after] == [""] * len(after)


@pytest.mark.parametrize(
    ("value", "what"),
    [("1796040000", "a number"), ("true", "true or false"), ("[]", "a list"), ("{}", "an object")],
)
def test_a_due_time_in_json_is_a_text(read: Any, value: str, what: str) -> None:
    record = f'{{"personId":"p","faceIds":["1"],"dueAt":{value}}}'
    (entry,) = read(record.encode(), "jobs.jsonl").entries
    assert entry.reason == f"due time is {what}; it must be a text in quotes"
    assert entry.column == "dueAt"


def test_another_column_can_be_named_and_stays_in_the_report(read: Any) -> None:
    reading = read(
        b"person_id,deadline,face_id,due_at\np,2026-11-30,1,whatever\n",
        columns={"due": "deadline"},
    )
    (entry,) = reading.entries
    assert entry.due_us == MIDNIGHT_US
    assert json.loads(entry.carried) == {"deadline": "2026-11-30", "due_at": "whatever"}
    record = b'{"personId":"p","faceIds":["1"],"deadline":"2026-11-30"}'
    (entry,) = read(record, "jobs.jsonl", columns={"due": "deadline"}).entries
    assert entry.due_us == MIDNIGHT_US


def test_a_named_column_that_is_not_there_is_refused(refuse: Any) -> None:
    refusal = refuse(b"person_id,face_id,dedline\np,1,2026-11-30\n", columns={"due": "deadline"})
    assert "no column is named" in refusal.cause
    assert "--columns due=dedline" in refusal.remedy


def test_two_due_columns_are_an_ambiguity(read: Any, refuse: Any) -> None:
    refusal = refuse(b"person_id,face_id,due_at,dueAt\np,1,2026-11-30,2026-12-01\n")
    assert "only one can be the due" in refusal.cause
    assert refusal.remedy.endswith("--columns due=due_at")
    record = b'{"personId":"p","faceIds":["1"],"due_at":"2026-11-30","dueAt":"2026-11-30"}'
    (entry,) = read(record, "jobs.jsonl").entries
    assert entry.reason == "both dueAt and due_at are given"


def test_a_report_of_ours_keeps_its_due_times(read: Any, refuse: Any) -> None:
    ours = ["j", "a.csv", "2", "p", "1", "unsent", "", "", "", "0", "", "", ""]
    head = ",".join([*RESULT_COLUMNS, "remedy", "note", "due_at"])
    row = ",".join([*ours, "resume", "n", "2026-11-30"])
    (entry,) = read(f"{head}\n{row}\n".encode()).entries
    assert entry.due_us == MIDNIGHT_US
    assert json.loads(entry.carried) == {"note": "n", "due_at": "2026-11-30"}
    other = f"{head.replace('due_at', 'deadline')}\n{row}\n".encode()
    assert read(other).entries[0].due_us is None
    assert read(other, columns={"due": "deadline"}).entries[0].due_us == MIDNIGHT_US
    twice = f"{head},dueAt\n{row},2026-11-30\n".encode()
    assert "only one can be the due" in refuse(twice).cause
