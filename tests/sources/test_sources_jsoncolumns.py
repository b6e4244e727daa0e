"""JSON lines read by column are exactly those that are read one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.reading import Carefully, Drops, cut_at, read

pytestmark = pytest.mark.usefixtures("from_the_first_byte")

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Shapes, of which ``%s`` are texts; all but the first five are none that columns can hold.
SHAPES = (
    '{"personId":"%s","faceIds":["%s"]}',
    '{ "faceId" : "%s" ,"personId": "%s", "n":-1.50e3, "none":null,"yes":true }',
    '{"a":"%s","personId":"%s","tags":["%s"],"faceIds":[ "%s" ],"jobId":"%s"}',
    '{"personId":"%s","dueAt":"%s","faceId":"%s","ü":0}',
    '{"person_id":"%s","face_id":"%s"}',
    '{"personId":"%s","faceIds":["%s","%s"]}',
    '{"personId":"%s","faceIds":"%s"}',
    '{"personId":"%s","faceId":["%s"]}',
    '{"personId":"%s","faces":"all","a":"%s"}',
    '{"personId":"%s","faceId":"%s","personId":"%s"}',
    '{"personId":"%s","faceId":"%s","x":NaN}',
    '{"personId":"%s","faceId":"%s","x":{"y":"%s"}}',
    '{"personId":"%s","faceId":"%s","x":01}',
    '{"personId":"%s","faceId":%s}',
    '{"personId":["%s"],"faceId":"%s"}',
    '{"personId":"%s","faceId":"%s","jobId":null,"dueAt":null}',
    '{"personId":"%s","faceId":"%s","jobId":["%s"]}',
    '{"personId":"%s","faceId":"%s","jobId":7}',
    '{"personId":"%s"}',
    '["%s"]',
    ' {"personId":"%s","faceIds":["%s"]}',
    '{"personId":"%s","faceIds":["%s"]} ',
    '{"personId":"%s","faceIds":["%s"]}\r',
)  # fmt: skip
texts = st.sampled_from(
    ["1", "1", "1", "22", "p", "", "2026-11-30", "é", "🜨", "\\n", "\\ud800", '\\"', '"', ",", '","', '":"', '"]}', "\t", "\x1f", "\x01", "\ufeff", "%s", "{", "x" * 33, '","faceIds":["', '"]}\n{"personId":"']
)  # fmt: skip
plain_texts = st.sampled_from(["1", "22", "2026-11-30"])


@st.composite
def lines_of_shapes(draw: st.DrawFn) -> str:
    """Mostly one shape, mostly good texts."""
    main = draw(st.sampled_from(SHAPES))
    lines = []
    for _ in range(draw(st.integers(1, 20))):
        shape = draw(st.sampled_from(SHAPES)) if draw(st.integers(0, 9)) == 9 else main
        source = texts if draw(st.integers(0, 5)) == 5 else plain_texts
        lines.append(shape % tuple(draw(source) for _ in range(shape.count("%s"))))
    return draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n"])).join(lines)


@quick
@given(lines_of_shapes(), st.booleans(), st.integers(1, 200), st.integers(1, 100))
def test_any_lines_are_the_same_by_column(
    row_by_row: Carefully,
    lines: str,
    ends: bool,  # noqa: FBT001 (a drawn value)
    gathered_bytes: int,
    part_bytes: int,
) -> None:
    data = (lines + "\n" * ends).encode()
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, gathered_bytes, part_bytes)
        assert read(data, format="jsonl").told == row_by_row(data, format="jsonl").told


cell = st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32), max_size=6)
persons = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
faces = st.from_regex(r"[0-9]{1,32}", fullmatch=True)


@quick
@given(
    st.lists(st.tuples(persons, faces, cell, cell, cell), min_size=15, max_size=30),
    st.booleans(),
)
def test_good_lines_are_read_by_column(
    row_by_row: Carefully,
    rows: list[tuple[str, ...]],
    spaced: bool,  # noqa: FBT001 (a drawn value)
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    data = "".join(
        json.dumps(
            {"x%": a, "personId": p, "n": 1.5, "faceIds": [f], "tags": [b], "jobId": j},
            ensure_ascii=False,
            separators=separators,
        )
        + "\n"
        for p, f, j, a, b in rows
    ).encode()
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, 400, 100)
        outcome = read(data, format="jsonl")
        assert outcome.told == row_by_row(data, format="jsonl").told
    assert len(outcome.entries) == len(rows)
    assert outcome.by_column >= 10


SAMPLE = (
    '{"personId":"p1","faceIds":["1"],"note":"n"}\n'
    '{"personId":"p2","faceIds":["22"],"note":""}\n'
    '{"personId":"p3","faceIds":["333"],"note":"é 🜨 {}%s"}\n'
    '{"personId":"p4","faceIds":["4"],"note":"a \\"word\\""}\n'
    '{"personId":"p 5","faceIds":["5"],"note":"n"}\n'
    '\n'
    '{"personId":"p6","faceIds":["6"],"note":"n"}\n'
    '{"personId":"p7","faceIds":["7","8"],"note":"n"}\n'
)  # fmt: skip


def test_where_blocks_and_parts_are_cut_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully
) -> None:
    data = SAMPLE.encode()
    expected = row_by_row(data, format="jsonl")
    assert [entry.line for entry in expected.entries] == [1, 2, 3, 4, 5, 7, 8, 8]
    by_column = set()
    for size in range(1, len(data) + 1):
        for part in (1, 100, len(data)):
            cut_at(monkeypatch, size, part)
            monkeypatch.setattr(Drops, "size", max(12, size // 3))
            outcome = read(data, format="jsonl")
            assert outcome.told == expected.told, (size, part)
            by_column.add(outcome.by_column)
    assert max(by_column) == 4
    assert min(by_column) < 3


@pytest.mark.parametrize(
    "damage",
    [b"\0", b'"', b"\r", b"\n", b",", b":", b"}", b"]", b"\\", b"\t", b"\x1f", b"\x01", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b"x", b"1", b" ", b"", b'""'],
    ids=repr,
)  # fmt: skip
def test_one_damaged_byte_anywhere_is_found_the_same(row_by_row: Carefully, damage: bytes) -> None:
    data = SAMPLE.encode()
    for at in range(len(data)):
        damaged = data[:at] + damage + data[at + 1 :]
        assert read(damaged, format="jsonl").told == row_by_row(damaged, format="jsonl").told, at


@pytest.mark.parametrize("shape", SHAPES)
def test_only_shapes_that_columns_can_hold_are_read_by_column(
    row_by_row: Carefully, shape: str
) -> None:
    line = (shape + "\n").replace("%s", "2026-11-30" if "dueAt" in shape else "1", 5)
    line = line.replace(
        '"dueAt":"2026-11-30","faceId":"2026-11-30"', '"dueAt":"2026-11-30","faceId":"1"'
    )
    data = line.encode() * 20
    outcome = read(data, format="jsonl")
    assert outcome.told == row_by_row(data, format="jsonl").told
    assert bool(outcome.by_column) == (shape in SHAPES[:5])


@pytest.mark.parametrize(
    "options",
    [{"person_id_pattern": "[a-z0-9]+"}, {"face_id_pattern": "[0-9]{1,31}"}],
    ids=["another person", "another face"],
)
def test_other_patterns_are_looked_at_one_by_one(options: dict[str, Any]) -> None:
    data = b'{"personId":"p","faceIds":["1"]}\n' * 20
    assert not read(data, format="jsonl", **options).by_column
    assert read(data, format="jsonl").by_column


@pytest.mark.parametrize(
    "other",
    ['"faceId":"2","a":"3","b":"4"', '"a":"2","faceId":"3","b":"4","c":"5"', '"a":"\\u0041","faceId":"3","b":"4"'],
    ids=["swapped keys", "another key", "an escape"],
)  # fmt: skip
def test_a_line_that_differs_is_seen_amid_the_others(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully, other: str
) -> None:
    cut_at(monkeypatch, 1_000, 1_000)
    plain = '{"personId":"1","a":"2","faceId":"3","b":"4"}\n' * 60
    data = (plain + '{"personId":"1",' + other + "}\n" + plain).encode()
    outcome = read(data, format="jsonl")
    assert outcome.told == row_by_row(data, format="jsonl").told
    assert outcome.by_column


def test_objects_that_would_be_huge_are_not_made_by_column(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully
) -> None:
    from worker.sources import jsoncolumns

    data = b'{"personId":"p","faceIds":["1"],"note":"n"}\n' * 20
    assert read(data, format="jsonl").by_column
    monkeypatch.setattr(jsoncolumns, "MOST_CARRIED_BYTES", 10)
    outcome = read(data, format="jsonl")
    assert not outcome.by_column
    assert outcome.told == row_by_row(data, format="jsonl").told
