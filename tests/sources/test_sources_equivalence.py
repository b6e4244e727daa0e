"""The fast ways equal the careful one, and both equal an obviously right second parser."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.reading import all_entries
from worker.errors import InputRefused
from worker.model import Entry, Stretch
from worker.sources import intake, open_sources, source, text
from worker.sources.cells import CellReader, Rows
from worker.sources.identifiers import IdGrammar
from worker.sources.interface import SourceOptions
from worker.sources.place import Place
from worker.sources.table import TableReader
from worker.sources.text import Block, ByteBlock

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Result = tuple[list[Entry], int] | str


class Dribble(io.BytesIO):
    """Standard input that gives a few bytes at a time, as a slow pipe does."""

    step = 7

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(self.step, size) if size and size > 0 else self.step)


def outcome(data: bytes, stdin: type[io.BytesIO] = io.BytesIO, **options: Any) -> Result:
    """Entries and blank lines, or the refusal."""
    (opened,) = open_sources(["-"], SourceOptions(**options), stdin(data))
    try:
        entries = all_entries(opened)
    except InputRefused as refused:
        refusal = refused
    else:
        return entries, opened.summary().blank_lines
    assert refusal.remedy
    assert refusal.cause.isprintable()
    return refusal.cause


@pytest.fixture(params=["at once", "in small pieces"])
def stdin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[io.BytesIO]:
    if request.param == "at once":
        return io.BytesIO
    monkeypatch.setattr(source, "HEAD_BYTES", 4)
    return Dribble


def _only_scanned(reader: CellReader, block: Block) -> Rows:
    return reader.quoted_rows(block)


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """``outcome`` with every short cut taken out."""

    def carefully(data: bytes, **options: Any) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr(CellReader, "rows_of", _only_scanned)
            patch.setattr(TableReader, "_dues", lambda *_: None)
            patch.setattr(
                IdGrammar,
                "accepts_all",
                lambda grammar, texts: not any(map(grammar.defect, texts)),
            )
            return outcome(data, **options)

    return carefully  # type: ignore[return-value]


# Few letters, so that structure, repeats, defects and coincidences are frequent.
table_noise = st.lists(
    st.sampled_from(
        ["p", "1", "22", ",", ",", "\n", "\n", "\r\n", '"', '""', ";", " ", "\r", "\ufeff", "é", "p,1\n", '"p",2\n', "p,1,", "x\n", "2026-11-30", "p,2026-11-30T18:00Z,7\n"]
    ),
    max_size=40,
).map("".join)  # fmt: skip
headers = st.sampled_from(
    [
        "person_id,face_id\n",
        "person_id,face_ids\r\n",
        "note,face_id,person_id,job_id\n",
        "person_id,due_at,face_ids\n",
    ]
)


@quick
@given(headers, table_noise, st.sampled_from(["[0-9]{1,32}", "[0-9;]+", "(?s:[^x])+"]))
def test_short_cuts_change_nothing(
    careful: Callable[..., Result], header: str, noise: str, face_id_pattern: str
) -> None:
    data = (header + noise + "\n").encode()
    options: dict[str, Any] = {"format": "csv", "face_id_pattern": face_id_pattern}
    fast, slow = outcome(data, **options), careful(data, **options)
    if isinstance(fast, str) or isinstance(slow, str):
        # Two defects in one chunk may be found in another order, never overlooked.
        assert isinstance(fast, str)
        assert isinstance(slow, str)
    else:
        assert fast == slow


@quick
@given(
    st.sampled_from(
        ["person_id\n", "note,person_id\r\n", "job_id,personId,x\n", "person_id,dueAt\n"]
    ),
    table_noise,
    st.sampled_from(["[A-Za-z0-9_-]{1,32}", "(?s:[^x])+"]),
)
def test_short_cuts_change_nothing_in_a_list_of_persons(
    careful: Callable[..., Result], header: str, noise: str, person_id_pattern: str
) -> None:
    data = (header + noise + "\n").encode()
    options: dict[str, Any] = {
        "format": "csv",
        "person_id_pattern": person_id_pattern,
        "whole_persons": True,
    }
    fast, slow = outcome(data, **options), careful(data, **options)
    assert isinstance(fast, str) == isinstance(slow, str)
    if not isinstance(fast, str):
        assert fast == slow
        assert all(e.whole == (not e.reason) and not e.face_id for e in fast[0])


@quick
@given(headers, table_noise)
def test_where_pieces_are_cut_changes_nothing(header: str, noise: str) -> None:
    data = (header + noise + "\n").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "HEAD_BYTES", 4)
        in_pieces = outcome(data, Dribble, format="csv")
    at_once = outcome(data, format="csv")
    assert isinstance(in_pieces, str) == isinstance(at_once, str)
    if not isinstance(at_once, str):
        assert in_pieces == at_once


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=6
) | st.sampled_from(['"', ",", "\n", "\r\n", "a\rb", "p,1\n", ";", "'"])
persons = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
faces = st.from_regex(r"[0-9]{1,32}", fullmatch=True)


@quick
@given(
    st.lists(st.tuples(persons, faces, cells, cells), min_size=1, max_size=20),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_tables_equal_what_the_csv_module_reads(
    stdin: type[io.BytesIO],
    rows: list[tuple[str, str, str, str]],
    quoting: Any,
    delimiter: str,
    ending: str,
) -> None:
    text = io.StringIO(newline="")
    names = ["person_id", "face_id", "job_id", "note"]
    # Up to Python 3.12 the module's writer leaves a carriage return without quotes.
    if any("\r" in cell for row in rows for cell in row):
        quoting = csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    writer.writerows([names, *rows])
    data = text.getvalue()
    result = outcome(data.encode(), stdin, format="csv", delimiter=delimiter)
    if isinstance(result, str):
        assert "look like rows" in result
        assert any("\n" in cell for row in rows for cell in row)
        return
    entries, blank_lines = result
    expected = list(csv.DictReader(io.StringIO(data, newline=""), delimiter=delimiter))
    assert blank_lines == 0
    assert [(e.person_id, e.face_id, e.label, json.loads(e.carried)) for e in entries] == [
        (r["person_id"], r["face_id"], r["job_id"], {"note": r["note"]}) for r in expected
    ]
    line = 2
    for number, (entry, row) in enumerate(zip(entries, rows, strict=True)):
        assert (entry.record, entry.line) == (number, line)
        line += 1 + "".join(row).count("\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
json_records = st.fixed_dictionaries(
    {"personId": persons, "faceIds": st.lists(faces, min_size=1, max_size=3)},
    optional={"jobId": st.text(st.characters(codec="utf-8"), max_size=5), "n": json_values, "ü": json_values},
)  # fmt: skip


@quick
@given(
    st.lists(json_records, min_size=1, max_size=10),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from(["json", "jsonl"]),
)
def test_json_equals_what_the_json_module_reads(
    stdin: type[io.BytesIO],
    records: list[dict[str, Any]],
    ascii_only: bool,  # noqa: FBT001 (a drawn value)
    indent: int | None,
    format_: str,
) -> None:
    if format_ == "json":
        text = json.dumps(records, ensure_ascii=ascii_only, indent=indent)
    else:
        text = "\n".join(json.dumps(r, ensure_ascii=ascii_only) for r in records)
    result = outcome(text.encode(), stdin, format=format_)
    assert not isinstance(result, str)
    expected = []
    for number, record in enumerate(records):
        others = {k: v for k, v in record.items() if k in {"n", "ü"}}
        for index, face in enumerate(record["faceIds"]):
            carried = others if index == 0 and others else None
            expected.append((number, record["personId"], face, record.get("jobId", ""), carried))
    assert [
        (e.record, e.person_id, e.face_id, e.label, json.loads(e.carried) if e.carried else None)
        for e in result[0]
    ] == expected


@quick
@given(
    st.binary(max_size=200) | table_noise.map(str.encode),
    st.sampled_from(["", "csv", "tsv", "jsonl", "json"]),
    st.sampled_from([b"", b"person_id,face_ids\n", b"[", b'{"personId":"p","faceId":', b"\xef\xbb\xbf"]),
)  # fmt: skip
def test_random_bytes_are_read_or_refused_and_nothing_else(
    stdin: type[io.BytesIO], data: bytes, format_: str, start: bytes
) -> None:
    outcome(start + data, stdin, format=format_)


@quick
@given(st.lists(st.sampled_from(['{"personId":"p","faceIds":["1"]}', "[", "]", "{", "}", ",", ":", '"', "1", "1e5", "null", "NaN", "\\", "\\ud800", " ", "\n", "\r", '"personId"', '"faceIds"', "\u2028"]), max_size=25).map("".join))  # fmt: skip
def test_near_json_is_read_or_refused_and_nothing_else(text: str) -> None:
    for format_ in ("json", "jsonl"):
        for data in (text.encode(), f"[{text}]".encode()):
            at_once = outcome(data, format=format_)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(source, "HEAD_BYTES", 1)
                in_pieces = outcome(data, Dribble, format=format_)
            assert isinstance(in_pieces, str) == isinstance(at_once, str)
            if not isinstance(at_once, str):
                assert in_pieces == at_once


@quick
@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_gzip_is_refused_or_read_whole(read: Any, at: int, value: int) -> None:
    rows = b"person_id,face_id\n" + b"".join(b"p,%d\n" % n for n in range(100))
    damaged = bytearray(gzip.compress(rows, mtime=0))
    at %= len(damaged)
    damaged[at] = value
    try:
        reading = read(bytes(damaged), "damaged.csv.gz")
    except InputRefused:
        return
    assert [face for _, face in reading.pairs] == [str(n) for n in range(100)]


def test_ids_cannot_borrow_from_their_neighbours() -> None:
    grammar = IdGrammar.face(SourceOptions().face_id_pattern)
    assert grammar.accepts_all(["1", "2"])
    for texts in (
        ["1\n2"],
        ["1\n2", ""],
        ["", "1"],
        ["1", ""],
        ["1\n", "2"],
        ["\n"],
        ["1\n2", "3"],
    ):
        assert not grammar.accepts_all(texts)


def test_plain_blocks_and_idle_quotes_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: Any) -> Rows:
        raise AssertionError("the short way was not taken")

    reader = CellReader(iter([ByteBlock(b"person_id,face_id\n", 1, 0)]), Place("-"), ",", 1000)
    reader.header()
    monkeypatch.setattr(CellReader, "quoted_rows", unexpected)
    assert reader.rows_of(Block('p,1\r\n\n"q",2\r\n', 5)) == (
        [5, 7],
        [["p", "q"], ["1", "2"]],
    )


def test_a_chunk_holds_a_few_thousand_rows_or_columns_of_more() -> None:
    rows = b"person_0000001,31842550077981745\n" * 300_000
    (opened,) = open_sources(["-"], SourceOptions(), io.BytesIO(b"person_id,face_id\n" + rows))
    chunks = list(opened.chunks())
    assert sum(map(len, chunks)) == 300_000
    for chunk in chunks:
        most = text.GATHERED_BYTES if isinstance(chunk, Stretch) else intake.PIECE_BYTES
        assert len(chunk) <= 2 * most // 34
    assert [type(chunk) for chunk in chunks[-3:]] == [Stretch, Stretch, list]
