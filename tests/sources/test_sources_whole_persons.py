"""Everything of a person: asked for in so many words, and never by leaving something empty."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.model import RESULT_COLUMNS


@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.json"])
@pytest.mark.parametrize("whole_persons", [False, True])
def test_a_record_may_ask_for_everything_of_its_person(
    read: Any,
    name: str,
    whole_persons: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    records = (
        '{"personId":"p","faces":"all","jobId":"j","note":1.50}',
        '{"n":2,"faces":"\\u0061ll","person_id":"q"}',
        '{"person_id":"q","faceIds":["1"]}',
    )
    text = "[" + ",\n".join(records) + "]" if name == "jobs.json" else "\n".join(records)
    reading = read(text.encode(), name, whole_persons=whole_persons)
    assert reading.entries == [
        (0, 1, "j", "p", "", "", "", '{"note":1.50}', True, None),
        (1, 2, "", "q", "", "", "", '{"n":2}', True, None),
        (2, 3, "", "q", "1", "", "", "", False, None),
    ]
    assert reading.summary.carried_columns == ("note", "n")


def test_other_keys_can_be_named_beside_it(read: Any) -> None:
    record = b'{"uid":"p","faces":"all","ticket":"t","personId":"x"}'
    columns = {"person": "uid", "job": "ticket", "face": "imgs"}
    assert read(record, "jobs.jsonl", columns=columns).entries == [
        (0, 1, "t", "p", "", "", "", '{"personId":"x"}', True, None)
    ]


def test_the_key_has_another_meaning_where_columns_gives_it_one(read: Any) -> None:
    """Then it holds face IDs, and no word among them means all."""
    data = b'{"personId":"p","faces":["1","2"]}\n{"personId":"q","faces":"all"}\n'
    entries = read(data, "jobs.jsonl", columns={"face": "faces"}).entries
    assert [(e.person_id, e.face_id, e.reason, e.whole) for e in entries] == [
        ("p", "1", "", False),
        ("p", "2", "", False),
        ("q", "all", "face ID is a word; no word ever means all faces or no face", False),
    ]
    entries = read(
        b'{"personId":"p","faces":"all","faceId":"1"}', "jobs.jsonl", columns={"job": "faces"}
    ).entries
    assert entries == [(0, 1, "all", "p", "1", "", "", "", False, None)]


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.tsv"])
def test_a_table_without_a_face_column_is_a_list_of_persons(read: Any, name: str) -> None:
    d = "\t" if name == "jobs.tsv" else ","
    data = f"note{d}personId{d}job_id\nn1{d}p{d}j\n\n{d}{d}\n{d}-_-{d}\n".encode()
    reading = read(data, name, whole_persons=True)
    assert reading.entries == [
        (0, 2, "j", "p", "", "", "", '{"note":"n1"}', True, None),
        (1, 5, "", "-_-", "", "", "", '{"note":""}', True, None),
    ]
    assert (reading.summary.blank_lines, reading.summary.records) == (2, 2)


def test_a_table_of_one_column(read: Any) -> None:
    data = b'\xef\xbb\xbfperson_id\r\n007\r\n\r\n"p"\r\n""\r\nq'
    reading = read(data, whole_persons=True)
    assert [(e.record, e.line, e.person_id, e.whole) for e in reading.entries] == [
        (0, 2, "007", True),
        (1, 4, "p", True),
        (2, 6, "q", True),
    ]
    assert reading.summary.blank_lines == 2


def test_the_person_column_can_be_named(read: Any) -> None:
    columns = {"person": "face_owner", "job": "photo_request"}
    entries = read(b"face_owner,photo_request\np,j\n", columns=columns, whole_persons=True).entries
    assert entries == [(0, 2, "j", "p", "", "", "", "", True, None)]


@pytest.mark.parametrize(
    "name", ["surface", "interface", "topic", "confidence", "epic", "fidelity", "imagined", "type"]
)
def test_columns_that_only_sound_like_a_face_are_carried(read: Any, name: str) -> None:
    (entry,) = read(f"person_id,{name}\np,x\n".encode(), whole_persons=True).entries
    assert (json.loads(entry.carried), entry.whole) == ({name: "x"}, True)


def test_a_table_never_asks_for_everything_by_itself(read: Any) -> None:
    """Without the flag a cell means one face, whatever stands in it and beside it."""
    data = b"person_id,face_id,faces\np,,all\np,all,all\np,1,all\n"
    assert [(e.face_id, e.reason, e.whole) for e in read(data).entries] == [
        ("", "face ID is empty", False),
        ("all", "face ID is a word; no word ever means all faces or no face", False),
        ("1", "", False),
    ]


def test_the_line_of_a_whole_person_in_a_report_of_ours_says_where_it_goes_on(read: Any) -> None:
    lines = ["person_empty,,", "unknown,gave_up,"]
    data = ",".join(RESULT_COLUMNS) + ",remedy\n"
    data += "".join(f"j,a.csv,2,p,,{line},,0,,,,resume\n" for line in lines)
    data += "j,a.csv,2,p,77,unknown,,,,1,,,,resume\n"
    entries = read(data.encode()).entries
    assert [(e.face_id, e.whole) for e in entries] == [("", False), ("", False), ("77", False)]
    for entry in entries[:2]:
        assert entry.reason.startswith("face ID is empty, as on the line of a report that is about")
        assert "facepurge resume" in entry.reason
        assert (entry.person_id, entry.column) == ("p", "face_id")
    assert entries[2].reason == ""
