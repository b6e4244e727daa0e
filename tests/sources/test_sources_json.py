from __future__ import annotations

import json
from typing import Any

import pytest

BOTH = pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.ndjson", "jobs.json"])


def _as(name: str, *records: str) -> bytes:
    text = "[" + ",\n".join(records) + "]" if name == "jobs.json" else "\n".join(records)
    return text.encode()


@BOTH
@pytest.mark.parametrize("person", ["person_id", "personId"])
@pytest.mark.parametrize("face", ["face_id", "faceId", "face_ids", "faceIds"])
@pytest.mark.parametrize("job", ["job_id", "jobId"])
def test_every_spelling_is_understood(
    read: Any, name: str, person: str, face: str, job: str
) -> None:
    value = '["1","2"]' if face.endswith("s") else '"1"'
    reading = read(_as(name, f'{{"{job}":"j","{face}":{value},"{person}":"p"}}'), name)
    assert reading.pairs == [("p", "1"), ("p", "2")][: len(reading.entries)]
    assert len(reading.entries) == 1 + face.endswith("s")
    assert {e.label for e in reading.entries} == {"j"}


@BOTH
def test_integers_are_taken_digit_by_digit(read: Any, name: str) -> None:
    record = '{"personId":"p","faceIds":[31842550077981745,18446744073709551617],"jobId":12}'
    reading = read(_as(name, record), name)
    assert reading.pairs == [("p", "31842550077981745"), ("p", "18446744073709551617")]
    assert reading.entries[0].label == "12"


@BOTH
def test_other_keys_are_carried_digit_for_digit_and_in_order(read: Any, name: str) -> None:
    others = (
        '"z":1.50,"a":{"y":[1e400,-0,null,true],"x":"é\\n\\u001b"},'
        f'"big":{"9" * 5000},"empty":{{}},"line":"\\u2028"'
    )
    reading = read(_as(name, f'{{"personId":"p","faceIds":["1","2"],{others}}}'), name)
    first, second = reading.entries
    assert second.carried == ""
    exact: dict[str, Any] = {"parse_int": str, "parse_float": str, "object_pairs_hook": list}
    assert json.loads(first.carried, **exact) == json.loads("{" + others + "}", **exact)
    assert "é" in first.carried
    assert reading.summary.carried_columns == ("z", "a", "big", "empty", "line")


@BOTH
def test_names_of_other_keys_are_listed_in_order_of_appearance(read: Any, name: str) -> None:
    records = ['{"personId":"p","faceId":"1","b":1}', '{"a":1,"faceId":"1","personId":"p","b":2}']
    assert read(_as(name, *records), name).summary.carried_columns == ("b", "a")


@BOTH
def test_columns_name_other_keys(read: Any, name: str) -> None:
    columns = {"person": "uid", "face": "imgs"}
    records = ['{"uid":"p","imgs":["1"],"personId":"q"}', '{"uid":"p","imgs":"2"}']
    reading = read(_as(name, *records), name, columns=columns)
    assert reading.pairs == [("p", "1"), ("p", "2")]
    assert reading.entries[0].carried == '{"personId":"q"}'


def test_blank_lines_and_white_space_are_skipped(read: Any) -> None:
    data = b'\xef\xbb\xbf\n {"personId":"p","faceId":"1"}\t\r\n\r\n{"personId":"q","faceId":"2"}'
    reading = read(data, "jobs.jsonl")
    assert [(e.record, e.line) for e in reading.entries] == [(0, 2), (1, 4)]
    assert reading.summary.blank_lines == 2


def test_each_element_of_an_array_knows_its_line(read: Any) -> None:
    data = (
        b'\xef\xbb\xbf\n[\r\n\r\n {"personId":"p",\n  "faceIds": [\n"1"\n]}\n,\n'
        b'{"personId":"q","faceId":"2"},{"personId":"r","faceId":"3"}\n]\n\n'
    )
    entries = read(data, "jobs.json").entries
    assert [(e.record, e.line, e.person_id) for e in entries] == [
        (0, 4, "p"),
        (1, 9, "q"),
        (2, 9, "r"),
    ]


def test_an_array_on_one_line_is_longer_than_any_line_may_be(read: Any) -> None:
    records = ",".join(f'{{"personId":"p{n}","faceId":"{n}"}}' for n in range(30_000))
    reading = read(f"[{records}]".encode(), "jobs.json", max_line_bytes=1000)
    assert reading.pairs == [(f"p{n}", str(n)) for n in range(30_000)]
    assert {e.line for e in reading.entries} == {1}


def test_a_well_paired_escape_is_a_character(read: Any) -> None:
    record = b'{"personId":"p","faceId":"1","jobId":"\\ud83d\\ude00","n":"\\ud83d\\ude00"}'
    (entry,) = read(record, "jobs.jsonl").entries
    assert (entry.reason, entry.label, entry.carried) == ("", "😀", '{"n":"😀"}')


def test_a_number_cut_by_a_piece_is_read_whole(read: Any) -> None:
    filler = " " * (256 * 1024 - 8)
    for number in ("1e5", "1.5", "-12", "12345678"):
        for room in range(9):
            data = f"[{filler[room:]}{number},{number}]".encode()
            assert len(read(data, "jobs.json").entries) == 2
