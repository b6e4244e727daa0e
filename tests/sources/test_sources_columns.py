"""Reading by column gives exactly what reading row by row gives, and nothing at any doubt."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.sources.reading import Carefully, Drops, cut_at, read
from worker.errors import InputRefused
from worker.model import RESULT_COLUMNS
from worker.sources import text
from worker.sources.columns import accepts
from worker.sources.identifiers import IdGrammar
from worker.sources.interface import SourceOptions
from worker.sources.place import Place
from worker.sources.text import ByteBlock, byte_blocks, gathered
from worker.texts import Texts

pytestmark = pytest.mark.usefixtures("from_the_first_byte")

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


HEADERS = (
    "person_id,face_id\n",
    "person_id,face_ids\r\n",
    "note,face_id,person_id,job_id\n",
    "face_id,due_at,person_id\n",
    '"person_id","a ""name"" with % and \\",face_id\n',
    ",".join(RESULT_COLUMNS) + "\n",
)
noise = st.lists(
    st.sampled_from(
        ["p,1\n", "p,1\n", "p,1\r\n", "q,22,333\n", "a,1,p,j\n", "1,2026-11-30,p\n", "1,,p\n", '"p","1"\n', '"p",1\r\n', '"a",1,"p",""\n', 'p,"1"\n', "p,", "1", "\n", "\n\n", ",", '"', '""', "\r", "\\", "\t", ";", "é", "\ufeff", "\0", "\x1f", "🜨,1\n", "1,x,p\n", "p" * 33 + ",1\n", "p,\n", ",1\n", " "]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@quick
@given(st.sampled_from(HEADERS), noise, st.integers(1, 90), st.integers(1, 90))
def test_any_rows_are_the_same_by_column(
    row_by_row: Carefully, header: str, rows: str, gathered_bytes: int, part_bytes: int
) -> None:
    data = (header + rows + "\n").encode()
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, gathered_bytes, part_bytes)
        assert read(data, format="csv").told == row_by_row(data, format="csv").told


cell = st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n",\ufeff'), max_size=8)
persons = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
faces = st.from_regex(r"[0-9]{1,32}", fullmatch=True)
dues = st.sampled_from(["", "2026-11-30", "2026-11-30T18:00+08:00"])


@quick
@given(
    st.lists(st.tuples(cell, persons, cell, faces, dues, cell), min_size=20, max_size=40),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([b",", b";", b"\t", b"|", b"\x1f", b" ", b"'"]),
)
def test_good_rows_are_the_same_by_column(
    row_by_row: Carefully,
    rows: Sequence[tuple[str, ...]],
    ending: str,
    delimiter: bytes,
) -> None:
    sign = delimiter.decode()
    clean = [tuple(text.replace(sign, "") for text in row) for row in rows]
    header = ("a%{}", "person_id", "job_id", "face_id", "due_at", "\\ü")
    data = "".join(sign.join(row) + ending for row in (header, *clean)).encode()
    outcome = read(data, format="csv", delimiter=sign)
    assert outcome.told == row_by_row(data, format="csv", delimiter=sign).told
    assert len(outcome.entries) == len(rows)


# Every kind of cell and row that is read by column, and three rows that are not.
SAMPLE = (
    'id,note,person_id,face_id,label_of_job,due_at\n'
    'a,,person_1,31842550077981745,one,\n'
    'ü,%s,p,1,,2026-11-30\r\n'
    '"q","n","p-2","22","l",""\n'
    '"q",n,p-2,"22",l,\n'
    'x\\y,"say ""no""",p3,3,l,\n'
    'x,n,p 4,4,l,\n'
    '\n'
    'b,{},p5,0005,six,2026-11-30T18:00Z\n'
    'c,n,p6,6,l,\n'
)  # fmt: skip
LABELLED = "label_of_job,person_id,face_id\n" + "a b,p,1\n" * 12
OPTIONS: dict[str, Any] = {"format": "csv", "columns": {"job": "label_of_job"}}


def test_where_blocks_and_parts_are_cut_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully
) -> None:
    data = SAMPLE.encode()
    expected = row_by_row(data, **OPTIONS)
    assert [entry.line for entry in expected.entries] == [2, 3, 4, 5, 6, 7, 9, 10]
    by_column = set()
    for size in range(1, len(data) + 1):
        for part in (1, 40, len(data)):
            cut_at(monkeypatch, size, part)
            monkeypatch.setattr(Drops, "size", max(12, size // 3))
            outcome = read(data, **OPTIONS)
            assert outcome.told == expected.told, (size, part)
            by_column.add(outcome.by_column)
    # Two rows in doubt at least are read one by one, and all six others can be read by column.
    assert max(by_column) == 6
    assert min(by_column) < 3


@pytest.mark.parametrize(
    "damage",
    [b"\0", b'"', b"\r", b"\n", b",", b";", b"\\", b"\t", b"\x7f", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b"x", b"1", b" ", b"", b"\r\n", b'""'],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("sample", [SAMPLE, LABELLED], ids=["every kind", "labels"])
def test_one_damaged_byte_anywhere_is_found_the_same(
    row_by_row: Carefully, damage: bytes, sample: str
) -> None:
    data = sample.encode()
    for at in range(len(data)):
        damaged = data[:at] + damage + data[at + 1 :]
        assert read(damaged, **OPTIONS).told == row_by_row(damaged, **OPTIONS).told, at


@pytest.mark.parametrize(
    "rows",
    ['"p,1"\n', '"p\n","1"\n', '"p,1\n"\n', 'p,"1\r\n"\n', '"p,1\n', 'p","1\n', 'p,1"\n"q,2\n', '"p"","1"\n', '"p""",1\n', '"p"x,1\n', 'x"p",1\n', '"p,1",\n', '"p","1\r"\n', '"p",1\r"q",2\n'],
    ids=repr,
)  # fmt: skip
def test_quotes_that_change_something_are_seen(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully, rows: str
) -> None:
    cut_at(monkeypatch, 200, 100)
    data = ("person_id,face_id\n" + "p,1\n" * 200 + rows + "p,1\n" * 60).encode()
    outcome = read(data, format="csv")
    assert outcome.told == row_by_row(data, format="csv").told
    assert outcome.refusal or any(entry.reason for entry in outcome.entries)
    assert outcome.by_column


@pytest.mark.parametrize("note", ["\\", "\\u0041", "\x01", "\x1f", "\t", "\x7f", "{}"], ids=repr)
def test_what_json_has_to_escape_is_carried_as_it_is(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully, note: str
) -> None:
    cut_at(monkeypatch, 200, 100)
    plain = "p,1,n\n" * 200
    data = f"person_id,face_id,note\n{plain}p,1,{note}\n{plain}".encode()
    outcome = read(data, format="csv")
    assert outcome.told == row_by_row(data, format="csv").told
    assert json.loads(outcome.entries[200].carried) == {"note": note}
    assert outcome.by_column > 200


PLAIN = {
    "two columns": "person_id,face_id\n" + "p,1\n" * 40,
    "CRLF": "person_id,face_id\r\n" + "p,1\r\n" * 40,
    "tabs": "person_id\tface_id\tnote\n" + "p\t1\tn\n" * 40,
    "one face a cell": "person_id,face_ids\n" + "p,1\n" * 40,
    "every cell quoted": '"person_id","face_id","note"\n' + '"p","1",""\n' * 40,
    "some cells quoted": '"person_id","face_id","note"\n' + '"p",1,"a note"\r\n' * 40,
    "label, note, time": "job_id,note,face_id,person_id,due_at\n" + "j,ü 🜨,1,p,2026-11-30\n" * 40,
}


@pytest.mark.parametrize("rows", PLAIN.values(), ids=PLAIN.keys())
def test_plain_rows_are_read_by_column(rows: str) -> None:
    outcome = read(rows.encode(), format="tsv" if "\t" in rows else "csv")
    assert len(outcome.entries) == 40
    # Not those of the first piece, and not those of the block in which it ends.
    assert outcome.by_column > 20


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ("person_id,face_id\n" + "p,1\n" * 40, {"person_id_pattern": "[a-z]+"}),
        ("person_id,face_id\n" + "p,1\n" * 40, {"face_id_pattern": "[0-9]{1,31}"}),
        ("person_id¦face_id\n" + "p¦1\n" * 40, {"delimiter": "¦"}),
        ("person_id\n" + "p\n" * 40, {"whole_persons": True}),
        (HEADERS[-1] + "j,s,1,p,1" + "," * 8 + "\n" * 1, {}),
    ],
    ids=["another person", "another face", "wide delimiter", "whole persons", "report"],
)
def test_what_has_no_columns_is_read_row_by_row(rows: str, options: dict[str, Any]) -> None:
    outcome = read(rows.encode(), format="csv", **options)
    assert outcome.entries
    assert not outcome.by_column


def test_one_bad_row_leaves_the_other_parts_to_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"p,{n}\n" for n in range(1000, 2000)]
    rows[500] = "p,x\n"
    data = ("person_id,face_id\n" + "".join(rows)).encode()
    cut_at(monkeypatch, 1_000, 70)
    outcome = read(data, format="csv")
    assert len(outcome.entries) == 1000
    # Nor those of the first block, which begins with the header.
    assert 1000 - 145 - 40 < outcome.by_column < 1000 - 140
    assert [entry.line for entry in outcome.entries if entry.reason] == [502]


def test_objects_that_would_be_huge_are_not_made_by_column(
    monkeypatch: pytest.MonkeyPatch, row_by_row: Carefully
) -> None:
    from worker.sources import columns

    data = ("person_id,face_id," + "n" * 50 + "\n" + "p,1,x\n" * 40).encode()
    assert read(data, format="csv").by_column
    monkeypatch.setattr(columns, "MOST_CARRIED_BYTES", 56)
    outcome = read(data, format="csv")
    assert not outcome.by_column
    assert outcome.told == row_by_row(data, format="csv").told


@quick
@given(
    st.lists(st.text(max_size=4) | st.from_regex("[A-Za-z0-9_-]{30,34}") | persons, min_size=1),
    st.integers(0, 3),
)
@example(["1" * 33], 0)
@example(["1" * 32], 0)
@example(["1", ""], 0)
def test_alphabets_and_lengths_are_the_documented_patterns(texts: list[str], skipped: int) -> None:
    options = SourceOptions()
    encodable = [text.encode(errors="replace").decode() for text in texts]
    some = encodable[skipped:] or encodable
    column = Texts.of(encodable).part(len(encodable) - len(some), len(encodable))
    for grammar in (
        IdGrammar.person(options.person_id_pattern),
        IdGrammar.face(options.face_id_pattern),
    ):
        assert accepts(grammar, column) == all(not grammar.defect(text) for text in some)


@quick
@given(st.lists(st.sampled_from([b"", b"a", b"\n", b"bcd\n", b"\n\n", b"e" * 9]), max_size=12), st.integers(1, 12))  # fmt: skip
def test_a_block_is_cut_into_lines_that_stay_whole(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    cut = list(ByteBlock(data, 5, 100).cut(size))
    assert b"".join(part.data for part in cut) == data
    line, offset = 5, 100
    for part in cut:
        assert (part.line, part.offset) == (line, offset)
        assert part.data.endswith(b"\n") or part is cut[-1]
        assert len(part.data) <= size or part.data.count(b"\n") <= 1
        line += part.data.count(b"\n")
        offset += len(part.data)


@quick
@given(st.lists(st.integers(0, 12), max_size=8), st.booleans(), st.integers(1, 12))
def test_a_line_is_too_long_beyond_the_cap_and_not_before(
    lengths: list[int],
    ends: bool,  # noqa: FBT001 (a drawn value)
    cap: int,
) -> None:
    data = b"\n".join(b"x" * length for length in lengths) + b"\n" * ends
    too_long = [n for n, length in enumerate(lengths, 1) if length > cap]

    def whole() -> list[ByteBlock]:
        return list(byte_blocks(iter([data]), Place("a.csv"), cap))

    if too_long:
        with pytest.raises(InputRefused, match=f"^a.csv:{too_long[0]}: the line is longer"):
            whole()
    else:
        assert b"".join(block.data for block in whole()) == data


def test_pieces_are_gathered_behind_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "FIRST_BYTES", 5)
    monkeypatch.setattr(text, "GATHERED_BYTES", 6)
    pieces = [b"ab", b"cd", b"ef", b"g", b"hij", b"kl", b"m"]
    assert list(gathered(iter(pieces))) == [b"ab", b"cd", b"ef", b"ghijkl", b"m"]


PROGRAM = """
import io, re, sys
from pathlib import Path
from worker.sources import open_sources
from worker.sources.interface import SourceOptions
(source,) = open_sources([sys.argv[1]], SourceOptions(), io.BytesIO())
rows = sum(map(len, source.chunks()))
loaded = [name for name in ("numpy", "pyarrow") if name in sys.modules]
# Not ru_maxrss, which begins with that of the process that started this one.
peak_kb = int(re.search("VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
print(rows, peak_kb // 1024, *loaded)
"""


def in_a_process(path: Path) -> list[str]:
    """Rows, peak memory in MB, and which of the heavy libraries were loaded."""
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    return child.stdout.split()


def test_small_sources_load_neither_numpy_nor_arrow(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_bytes(b"person_id,face_id\n" + b"person_1,31842550077981745\n" * 38_000)
    assert path.stat().st_size > 1_000_000
    rows, _, *loaded = in_a_process(path)
    assert (rows, loaded) == ("38000", [])


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int, str], Path]]:
    directory = tmp_path_factory.mktemp("long")

    def written(rows: int, name: str) -> Path:
        path = directory / name
        if name.endswith(".jsonl"):
            data = b'{"personId":"person_1","faceIds":["31842550077981745"]}\n' * rows
        else:
            data = b"person_id,face_id,note\n" + b"person_1,31842550077981745,a note\n" * rows
        path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
        return path

    return written  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["long.csv", "long.csv.gz", "long.jsonl"])
def test_memory_does_not_grow_with_the_rows(
    long_rows: Callable[[int, str], Path], name: str
) -> None:
    peaks = []
    for rows in (600_000, 2_400_000):
        counted, peak, *loaded = in_a_process(long_rows(rows, name))
        assert int(counted) == rows
        assert loaded == ["numpy", "pyarrow"]
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] + 16
    assert peaks[1] < 200
