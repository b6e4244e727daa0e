"""Parquet: files, folders of parts, and everything that must not be taken for IDs."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import os
import random
import subprocess
import sys
import threading
from array import array
from mmap import mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.reading import all_entries
from worker.errors import InputRefused, UsageRefused
from worker.model import Entry, SourceSummary
from worker.sources import arrowjson, open_sources
from worker.sources.arrowrows import BatchReader
from worker.sources.interface import SourceOptions
from worker.texts import TooMuchText

FACES = ["31842550077981745", "007", "1", "99999999999999999999999999999999"]
PERSONS = ["anna", "b-2", "C_3", "anna"]
MB = 1024 * 1024


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def read(*paths: Path | str, **options: Any) -> list[Entry]:
    return read_with_summaries(*paths, **options)[0]


def read_with_summaries(
    *paths: Path | str, **options: Any
) -> tuple[list[Entry], list[SourceSummary]]:
    entries: list[Entry] = []
    summaries: list[SourceSummary] = []
    for source in open_sources([str(path) for path in paths], SourceOptions(**options), None):
        entries += all_entries(source)
        summaries.append(source.summary())
    return entries, summaries


def pairs(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.person_id, entry.face_id) for entry in entries]


TEXT_TYPES = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize("type_", TEXT_TYPES.values(), ids=TEXT_TYPES.keys())
@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_text_is_taken_as_it_is(tmp_path: Path, type_: Any, row_group_size: int) -> None:
    table = pa.table({"person_id": pa.array(PERSONS), "face_id": pa.array(FACES)})
    schema = pa.schema([("person_id", type_), ("face_id", type_)])
    path = write(tmp_path / "jobs.parquet", table.cast(schema), row_group_size=row_group_size)
    entries, (summary,) = read_with_summaries(path)
    assert pairs(entries) == list(zip(PERSONS, FACES, strict=True))
    assert [entry.line for entry in entries] == [1, 2, 3, 4]
    assert [entry.record for entry in entries] == [0, 1, 2, 3]
    assert (summary.format, summary.records, summary.entries) == ("parquet", 4, 4)
    assert summary.byte_count == path.stat().st_size


WHOLE_NUMBERS = {
    "int8": (pa.array([7], pa.int8()), "7"),
    "int64": (pa.array([31842550077981745]), "31842550077981745"),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    "decimal128": (pa.array([decimal.Decimal(10**31)], pa.decimal128(38, 0)), "1" + "0" * 31),
    "decimal256": (pa.array([decimal.Decimal(10**31)], pa.decimal256(60, 0)), "1" + "0" * 31),
}


@pytest.mark.parametrize(("values", "text"), WHOLE_NUMBERS.values(), ids=WHOLE_NUMBERS.keys())
def test_a_whole_number_is_taken_digit_by_digit(tmp_path: Path, values: Any, text: str) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_id": values})
    assert pairs(read(path)) == [("p", text)]


def test_a_negative_number_is_no_face(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_id": [-5]})
    (entry,) = read(path)
    assert (entry.column, "minus sign" in entry.reason) == ("face_id", True)


MISFITS = {
    "double": (pa.array([1.0]), "double, so a program has rounded"),
    "float": (pa.array([1.0], pa.float32()), "float, so a program has rounded"),
    "cents": (pa.array([decimal.Decimal("1.00")]), "not a whole one"),
    "thousands": (pa.array([decimal.Decimal(1000)], pa.decimal128(9, 0)), ""),
    "binary": (pa.array([b"1"]), "holds bytes"),
    "fixed binary": (pa.array([b"1"], pa.binary(1)), "holds bytes"),
    "boolean": (pa.array([True]), "bool, and IDs are text"),
    "timestamp": (pa.array([1], pa.timestamp("us")), "and IDs are text"),
    "structure": (pa.array([{"id": "1"}]), "and IDs are text"),
    "list under a single name": (pa.array([["1"]]), "belongs into a column named face_ids"),
}


@pytest.mark.parametrize(("values", "cause"), MISFITS.values(), ids=MISFITS.keys())
def test_a_column_of_another_type_refuses_the_file(tmp_path: Path, values: Any, cause: str) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_id": values})
    if not cause:
        assert pairs(read(path)) == [("p", "1000")]
        return
    with pytest.raises(InputRefused) as refused:
        read(path)
    assert cause in refused.value.cause
    assert refused.value.cause.startswith(f'{path}: the column "face_id" ')
    assert refused.value.remedy


def test_a_list_of_doubles_refuses_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_ids": [[1.0]]})
    with pytest.raises(InputRefused, match="so a program has rounded"):
        read(path)


LISTS = {
    "list": pa.list_(pa.string()),
    "large list": pa.large_list(pa.string()),
    "fixed size": pa.list_(pa.string(), 2),
    "of numbers": pa.list_(pa.uint64()),
    "of a dictionary": pa.list_(pa.dictionary(pa.int32(), pa.string())),
}


@pytest.mark.parametrize("type_", LISTS.values(), ids=LISTS.keys())
def test_a_list_names_several_faces(tmp_path: Path, type_: Any) -> None:
    values = pa.array([["1", "2"], ["3", "4"]]).cast(pa.list_(pa.string()))
    if pa.types.is_dictionary(type_.value_type):
        values = pa.array([["1", "2"], ["3", "4"]], type_)
    else:
        values = values.cast(type_)
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p", "q"], "face_ids": values})
    entries = read(path)
    assert pairs(entries) == [("p", "1"), ("p", "2"), ("q", "3"), ("q", "4")]
    assert [entry.record for entry in entries] == [0, 0, 1, 1]


def test_nothing_where_a_face_belongs_never_means_all_faces(tmp_path: Path) -> None:
    lists = pa.array([["1", None, ""], [], None, ["2"]], pa.list_(pa.string()))
    path = write(tmp_path / "jobs.parquet", {"person_id": ["a", "b", "c", "d"], "face_ids": lists})
    entries = read(path)
    assert [(entry.person_id, entry.face_id, entry.reason) for entry in entries] == [
        ("a", "1", ""),
        ("a", "", "face ID is null"),
        ("a", "", "face ID is empty"),
        ("b", "", "face_ids is an empty list, which never means all faces"),
        ("c", "", "face_ids is null, which never means all faces"),
        ("d", "2", ""),
    ]
    assert not any(entry.whole for entry in entries)


def test_null_and_empty_refuse_their_rows_only(tmp_path: Path) -> None:
    columns = {"person_id": ["p", None, "", "q", "r"], "face_id": ["1", "2", "3", None, ""]}
    entries = read(write(tmp_path / "jobs.parquet", columns))
    assert [entry.reason for entry in entries] == [
        "",
        "person ID is null",
        "person ID is empty",
        "face_id is null, which never means all faces",
        "face ID is empty",
    ]
    assert [entry.column for entry in entries] == [
        "", "person_id", "person_id", "face_id", "face_id",
    ]  # fmt: skip


def test_ids_are_never_trimmed_and_a_bad_one_refuses_itself(tmp_path: Path) -> None:
    faces = ["1", " 2", "3\n", "1.5E+3", "٣", "ALL", "12\0", "1" * 33]
    entries = read(write(tmp_path / "jobs.parquet", {"person_id": ["p"] * 8, "face_id": faces}))
    assert [bool(entry.reason) for entry in entries] == [False, *[True] * 7]


def test_batches_and_rows_are_judged_alike(tmp_path: Path) -> None:
    """What is good as a column is good row by row, and the other way round."""
    chance = random.Random(5)
    faces = [chance.choice(["1", "12", "007", "", " 1", "x", "1;2"]) for _ in range(2000)]
    persons = [chance.choice(["p", "q_1", "", "ü"]) for _ in faces]
    columns = {"person_id": persons, "face_id": faces, "job_id": faces, "note": persons}
    whole = read(write(tmp_path / "whole.parquet", columns, row_group_size=2000))
    alone = read(write(tmp_path / "alone.parquet", columns, row_group_size=1))
    table = tmp_path / "jobs.jsonl"
    table.write_text(
        "".join(
            json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False) + "\n"
            for values in zip(*columns.values(), strict=True)
        )
    )
    assert whole == alone
    assert [entry._replace(carried="") for entry in whole] == [
        entry._replace(carried="") for entry in read(table)
    ]
    assert [json.loads(e.carried) for e in whole] == [json.loads(e.carried) for e in read(table)]


def test_another_grammar_is_kept_to(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p", "q"], "face_id": ["f-1", "1"]})
    entries = read(path, face_id_pattern="f-[0-9]+")
    assert not entries[0].reason
    assert "face_id_pattern" in entries[1].reason


D = decimal.Decimal
CARRIED = {
    "text": (pa.array(['a "quoted"\n\\ ü=cmd()', None]), ['a "quoted"\n\\ ü=cmd()', None]),
    "dictionary": (pa.array(["x", None]).dictionary_encode(), ["x", None]),
    "numbers": (pa.array([2**63 - 1, None]), [2**63 - 1, None]),
    "truths": (pa.array([True, None]), [True, None]),
    "days": (pa.array([dt.date(2026, 11, 30), None]), ["2026-11-30", None]),
    "times": (pa.array([dt.time(1, 2, 3, 400), None]), ["01:02:03.0004", None]),
    "moments": (
        pa.array([1_790_000_000_123_456_000, None], pa.timestamp("ns")),
        ["2026-09-21T14:13:20.123456", None],
    ),
    "zoned moments": (
        pa.array([1_790_000_000_000_000, None], pa.timestamp("us", tz="Asia/Shanghai")),
        ["2026-09-21T14:13:20Z", None],
    ),
    "for ever": (
        pa.array([253_402_214_400_000_000, None], pa.timestamp("us")),
        ["9999-12-31T00:00:00", None],
    ),
    "not numbers": (
        pa.array([float("nan"), float("-inf")]),
        ["NaN", "-Infinity"],
    ),
    "nested": (
        pa.array([{"a": [1, None], "b": {"c": "x"}}, None]),
        [{"a": [1, None], "b": {"c": "x"}}, None],
    ),
    "map": (
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        [[{"key": "k", "value": 1}], None],
    ),
    "nothing": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize(("values", "told"), CARRIED.values(), ids=CARRIED.keys())
def test_other_columns_are_carried_exactly(tmp_path: Path, values: Any, told: list[Any]) -> None:
    columns = {"person_id": ["p", "q"], "face_id": ["1", "2"], 'the "note"': values}
    entries, (summary,) = read_with_summaries(write(tmp_path / "jobs.parquet", columns))
    assert [json.loads(entry.carried) for entry in entries] == [{'the "note"': v} for v in told]
    assert summary.carried_columns == ('the "note"',)


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    columns = {
        "person_id": ["p"],
        "face_id": ["1"],
        "price": [D("1.50")],
        "share": [0.1],
        "big": [1e300],
        "id": pa.array([2**64 - 1], pa.uint64()),
    }
    (entry,) = read(write(tmp_path / "jobs.parquet", columns))
    assert entry.carried == '{"price":1.50,"share":0.1,"big":1e+300,"id":18446744073709551615}'


def test_bytes_are_carried_nowhere(tmp_path: Path) -> None:
    columns = {"person_id": ["p"], "face_id": ["1"], "photo": [{"jpeg": b"\xff\xd8"}]}
    path = write(tmp_path / "jobs.parquet", columns)
    with pytest.raises(InputRefused, match='"photo" holds bytes') as refused:
        read(path)
    assert refused.value.remedy == "leave the column out"


DUES = {
    "text": (pa.array(["2026-11-30", None]), 1_796_083_200_000_000),
    "day": (pa.array([dt.date(2026, 11, 30), None]), 1_796_083_200_000_000),
    "moment": (
        pa.array([1_796_000_000_000_000_000, None], pa.timestamp("ns")),
        1_796_000_000_000_000,
    ),
    "zoned": (
        pa.array([1_796_000_000_000, None], pa.timestamp("ms", tz="+08:00")),
        1_796_000_000_000_000,
    ),
}


@pytest.mark.parametrize(("values", "due_us"), DUES.values(), ids=DUES.keys())
def test_due_times_may_be_times(tmp_path: Path, values: Any, due_us: int) -> None:
    columns = {"person_id": ["p", "q"], "face_id": ["1", "2"], "due_at": values}
    assert [e.due_us for e in read(write(tmp_path / "jobs.parquet", columns))] == [due_us, None]


def test_a_due_number_refuses_the_file_and_a_bad_due_text_its_row(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"person_id": ["p", "q"], "face_id": ["1", "2"]}
    with pytest.raises(InputRefused, match="due times are text or times"):
        read(write(tmp_path / "a.parquet", columns | {"due_at": [1, 2]}))
    entries = read(write(tmp_path / "b.parquet", columns | {"due_at": ["2026-11-31", None]}))
    assert [bool(entry.reason) for entry in entries] == [True, False]


def test_labels_and_foreign_names_and_fields_of_structures(tmp_path: Path) -> None:
    columns = {
        "who": [{"id": "p", "name": "x"}, {"id": "q", "name": "y"}],
        "img": ["1", "2"],
        "ticket": pa.array([5, None]),
    }
    path = write(tmp_path / "jobs.parquet", columns)
    named = {"person": "who.id", "face": "img", "job": "ticket"}
    entries = read(path, columns=named)
    assert pairs(entries) == [("p", "1"), ("q", "2")]
    assert [entry.label for entry in entries] == ["5", ""]
    assert json.loads(entries[0].carried) == {"who": {"id": "p", "name": "x"}}


def test_the_refusal_of_unknown_columns_prints_the_flag_to_add(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"customer_id": ["p"], "image": ["1"]})
    with pytest.raises(InputRefused) as refused:
        read(path)
    assert "customer_id" in refused.value.cause
    assert "--columns person=customer_id,face=image" in refused.value.remedy
    assert pairs(read(path, columns={"person": "customer_id", "face": "image"})) == [("p", "1")]


def test_a_table_in_one_column_is_no_matter_of_a_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id;face_id": ["p;1"]})
    with pytest.raises(InputRefused) as refused:
        read(path)
    assert "--delimiter" not in refused.value.remedy


def test_both_spellings_of_one_column_are_ambiguous(tmp_path: Path) -> None:
    path = write(
        tmp_path / "jobs.parquet", {"person_id": ["p"], "personId": ["q"], "face_id": ["1"]}
    )
    with pytest.raises(InputRefused, match="only one can be the person"):
        read(path)


def test_whole_persons_need_to_be_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p", None]})
    with pytest.raises(InputRefused, match="no column"):
        read(path)
    good, bad = read(path, whole_persons=True)
    assert (good.whole, good.face_id, bad.reason) == (True, "", "person ID is null")


def test_several_faces_in_one_text_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p", "q"], "face_ids": ["1;2", "3"]})
    assert pairs(read(path)) == [("p", "1"), ("p", "2"), ("q", "3")]


def test_a_report_written_again_by_another_program_is_no_source(tmp_path: Path) -> None:
    from worker.model import RESULT_COLUMNS

    path = write(tmp_path / "failures.parquet", {name: ["1"] for name in RESULT_COLUMNS})
    with pytest.raises(InputRefused, match="report of ours"):
        read(path)


# ------------------------------------------------------------------------------------- folders


def test_a_folder_of_parts_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for name, face in (("part-1.parquet", "2"), ("part-0.snappy.parquet", "1"), ("x.PQ", "3")):
        write(folder / name, {"person_id": ["p"], "face_id": [face]})
    for side in ("_SUCCESS", "_metadata", "_common_metadata", ".part-0.snappy.parquet.crc"):
        (folder / side).write_bytes(b"side")
    entries, summaries = read_with_summaries(f"{folder}/")
    assert [entry.face_id for entry in entries] == ["1", "2", "3"]
    assert [summary.name for summary in summaries] == [
        f"{folder}/part-0.snappy.parquet",
        f"{folder}/part-1.parquet",
        f"{folder}/x.PQ",
    ]


def test_what_the_folders_of_hive_say_is_carried_or_used(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    write(
        folder / "dt=2026-11-30" / "team=a%2Fb" / "0.parquet",
        {"person_id": ["p"], "face_id": ["1"]},
    )
    write(
        folder / "dt=__HIVE_DEFAULT_PARTITION__" / "team=c" / "0.parquet",
        {"person_id": ["q"], "face_id": ["2"]},
    )
    entries = read(folder)
    assert [json.loads(entry.carried) for entry in entries] == [
        {"dt": "2026-11-30", "team": "a/b"},
        {"dt": None, "team": "c"},
    ]
    entries = read(folder, columns={"job": "team"})
    assert [entry.label for entry in entries] == ["a/b", "c"]


def test_an_empty_part_is_none_of_our_business_and_only_empty_parts_are(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    empty = pa.table({"person_id": pa.array([], pa.string()), "face_id": pa.array([], pa.string())})
    write(folder / "0.parquet", {"person_id": ["p"], "face_id": ["1"]})
    write(folder / "1.parquet", empty)
    assert pairs(read(folder)) == [("p", "1")]
    write(folder / "0.parquet", empty)
    with pytest.raises(InputRefused, match="holds no jobs"):
        read(folder)
    with pytest.raises(InputRefused, match="holds no jobs"):
        read(folder / "0.parquet")


STRAYS = {
    "notes.txt": "which is none",
    "old/0.parquet": "no partition",
    "_delta_log/0.json": "Delta Lake",
    ".hoodie/0.commit": "Hudi",
    "_temporary/0/x.parquet": "has not finished",
}


@pytest.mark.parametrize(("stray", "cause"), STRAYS.items())
def test_a_folder_that_holds_more_is_refused(tmp_path: Path, stray: str, cause: str) -> None:
    folder = tmp_path / "parts"
    write(folder / "0.parquet", {"person_id": ["p"], "face_id": ["1"]})
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).write_bytes(b"x")
    with pytest.raises(UsageRefused, match=cause) as refused:
        read(folder)
    assert refused.value.cause.startswith(f"{folder}: ")


def test_any_other_directory_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("person_id,face_id\np,1\n")
    with pytest.raises(UsageRefused, match="it is a directory"):
        read(tmp_path)


def test_a_folder_and_one_of_its_parts_name_it_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "parts" / "0.parquet", {"person_id": ["p"], "face_id": ["1"]})
    with pytest.raises(UsageRefused, match="named twice"):
        read(tmp_path / "parts", path)


# ------------------------------------------------------------------------------------- damage

ROWS = 30_000


def big(path: Path, **options: Any) -> Path:
    chance = random.Random(9)
    columns = {
        "person_id": [f"person_{chance.randrange(10**9)}" for _ in range(ROWS)],
        "face_id": [str(chance.randrange(10**17)) for _ in range(ROWS)],
    }
    return write(path, columns, row_group_size=ROWS // 3, **options)


def middle_of(path: Path, group: int) -> int:
    """Where the face IDs of a row group are half over."""
    column = pq.ParquetFile(path).metadata.row_group(group).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    return int(start) + int(column.total_compressed_size) // 2


def test_a_page_with_another_checksum_refuses_the_run_and_names_the_row_group(
    tmp_path: Path,
) -> None:
    path = big(tmp_path / "jobs.parquet", write_page_checksum=True, compression="none")
    damaged = bytearray(path.read_bytes())
    damaged[middle_of(path, 1)] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputRefused, match="row group 2 of 3 cannot be read") as refused:
        read(path)
    assert "CRC" in refused.value.cause or "checksum" in refused.value.cause


def test_a_damaged_page_refuses_the_run(tmp_path: Path) -> None:
    path = big(tmp_path / "jobs.parquet", compression="zstd")
    damaged = bytearray(path.read_bytes())
    at = middle_of(path, 2)
    damaged[at : at + 64] = bytes(64)
    path.write_bytes(damaged)
    with pytest.raises(InputRefused, match="row group 3 of 3 cannot be read"):
        read(path)


CUTS = {
    "cut": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "followed by something": lambda data: data + b"\n",
    "without its middle": lambda data: data[: len(data) // 3] + data[2 * len(data) // 3 :],
    "another footer": lambda data: data[:-200] + bytes(192) + data[-8:],
    "magic only": lambda data: b"PAR1",
}


@pytest.mark.parametrize("change", CUTS.values(), ids=CUTS.keys())
def test_a_file_that_is_cut_is_refused(tmp_path: Path, change: Any) -> None:
    path = big(tmp_path / "jobs.parquet")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputRefused) as refused:
        read(path)
    assert "cannot be read" in refused.value.cause
    assert "again" in refused.value.remedy


def test_what_is_no_text_refuses_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "jobs.parquet",
        {"person_id": ["p"], "face_id": ["1"], "note": ["~~~~"]},
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    path.write_bytes(path.read_bytes().replace(b"~~~~", b"\xff\xfe~~"))
    with pytest.raises(InputRefused, match=r"row group 1 of 1 cannot be read .*UTF"):
        read(path)


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.parquet").write_bytes(b"PARE" + bytes(100) + b"PARE")
    with pytest.raises(InputRefused, match="encrypted"):
        read(tmp_path / "jobs.parquet")


OTHERS = {
    "nothing": (b"", "it is empty"),
    "a table": (b"person_id,face_id\np,1\n", "no Parquet file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a gzip file"),
}


@pytest.mark.parametrize(("data", "cause"), OTHERS.values(), ids=OTHERS.keys())
def test_what_only_is_named_parquet_is_refused(tmp_path: Path, data: bytes, cause: str) -> None:
    (tmp_path / "jobs.parquet").write_bytes(data)
    with pytest.raises(InputRefused, match=cause):
        read(tmp_path / "jobs.parquet")


def test_parquet_packed_as_a_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.parquet.gz").write_bytes(b"")
    with pytest.raises(UsageRefused, match="compressed as a whole"):
        read(tmp_path / "jobs.parquet.gz")


def test_parquet_by_another_name_is_read_where_the_format_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.csv", {"person_id": ["p"], "face_id": ["1"]})
    with pytest.raises(InputRefused, match="a Parquet file") as refused:
        read(path)
    assert "--format parquet" in refused.value.remedy
    assert pairs(read(path, format="parquet")) == [("p", "1")]


@pytest.mark.parametrize("options", [{}, {"format": "parquet"}])
def test_parquet_from_standard_input_is_read_from_a_copy(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_id": ["1"]})
    stdin = io.BytesIO(path.read_bytes())
    (source,) = open_sources(["-"], SourceOptions(**options), stdin)
    assert pairs(all_entries(source)) == [("p", "1")]
    assert source.summary().byte_count == path.stat().st_size
    assert not stdin.closed


def test_parquet_from_a_pipe_is_read_from_a_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": ["p"], "face_id": ["1"]})
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
    writer.start()
    assert pairs(read(pipe)) == [("p", "1")]
    writer.join()


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = big(tmp_path / "jobs.parquet")
    (source,) = open_sources([str(path)], SourceOptions(), None)
    chunks = source.chunks()
    next(chunks)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputRefused, match="changed while it was being read"):
        list(chunks)


# ------------------------------------------------------------------------------------- caps


def test_a_bomb_of_one_dictionary_entry_is_stopped_in_flat_memory(tmp_path: Path) -> None:
    """A text of 7 MB, written once, in each of 100 000 rows: 700 GB in a file of a few kilobytes."""
    rows = 100_000
    note = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * (7 * MB)])
    columns = {
        "person_id": ["p"] * rows,
        "face_id": ["1"] * rows,
        "note": note.cast(pa.dictionary(pa.int32(), pa.string())),
    }
    path = write(tmp_path / "jobs.parquet", columns, store_schema=False, compression="zstd")
    assert path.stat().st_size < MB
    code = (
        "import sys\n"
        "from worker.sources import open_sources\n"
        "from worker.sources.interface import SourceOptions\n"
        "from worker.errors import InputRefused\n"
        "try:\n"
        "    for s in open_sources([sys.argv[1]], SourceOptions(), None):\n"
        "        for chunk in s.chunks(): pass\n"
        "except InputRefused as refused:\n"
        "    print(refused.cause)\n"
        # Not ru_maxrss, into which Linux counts what the process that started it had.
        "status = open('/proc/self/status').read()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    cause, peak_mb = done.stdout.splitlines()
    assert "expands to more than 2000 times" in cause
    assert int(peak_mb) < 500


def test_the_caps_hold(tmp_path: Path) -> None:
    path = big(tmp_path / "jobs.parquet")
    with pytest.raises(InputRefused, match="expands to more than 1000 bytes"):
        read(path, max_expanded_bytes=1000)
    long = write(tmp_path / "long.parquet", {"person_id": ["p", "q"], "face_id": ["1", "2" * 5000]})
    with pytest.raises(InputRefused, match="longer than 4096 bytes") as refused:
        read(long, max_line_bytes=4096)
    assert f"{long}:2: " in refused.value.cause


def test_a_row_group_is_read_in_batches(tmp_path: Path) -> None:
    rows = 300_000
    columns = {"person_id": ["p"] * rows, "face_id": [str(i) for i in range(rows)]}
    path = write(tmp_path / "jobs.parquet", columns, row_group_size=rows)
    (source,) = open_sources([str(path)], SourceOptions(), None)
    lengths = [len(chunk) for chunk in source.chunks()]
    assert (sum(lengths), max(lengths) <= 65_536) == (rows, True)


def test_other_formats_do_without_arrow(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("person_id,face_id\np,1\n")
    code = (
        "import sys\n"
        "from worker.sources import open_sources\n"
        "from worker.sources.interface import SourceOptions\n"
        "(s,) = open_sources([sys.argv[1]], SourceOptions(), None)\n"
        "list(s.chunks())\n"
        "print([m for m in ('pyarrow', 's3fs', 'fsspec', 'oss2') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "jobs.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("where", ["footer", "row group"])
def test_too_little_memory_is_no_defect_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 4 failed")

    path = write(tmp_path / "jobs.parquet", {"person_id": PERSONS, "face_id": FACES})
    if where == "footer":
        monkeypatch.setattr(pq, "ParquetFile", failing)
    else:
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    with pytest.raises(MemoryError):
        read(path)


CARRIED = {
    "text": pa.array(["a", None, 'c"', "d"]),
    "list": pa.array([[1], None, [], [2, 3]]),
    "fixed": pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.int8(), 2)),
    "map": pa.array([[("k", 1)], [], None, [("l", 2), ("m", None)]], pa.map_("string", "int32")),
    "struct": pa.array([{"a": "1", "b": [1]}, None, {"a": None, "b": None}, {"a": "4", "b": []}]),
    "float": pa.array([1.5, None, float("nan"), 2.0]),
    "dictionary": pa.array(["u", "v", None, "u"]).dictionary_encode(),
    "time": pa.array([1, None, 3, 4], pa.timestamp("us", "UTC")),
}


@pytest.mark.parametrize("faces", [FACES, [["1", "2"], ["3"], ["4", None], ["5"]]])
def test_what_is_too_much_text_for_one_array_is_told_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: Any
) -> None:
    columns = {"person_id": PERSONS, "face_ids": pa.array(faces), "due_at": [None] * 4, **CARRIED}
    path = write(tmp_path / "jobs.parquet", columns)
    at_once = read(path)
    told = BatchReader.chunk
    sizes: list[int] = []

    def chunk(self: BatchReader, batch: pa.RecordBatch, first_record: int) -> Any:
        if batch.num_rows > 1:
            raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")
        sizes.append(batch.num_rows)
        return told(self, batch, first_record)

    monkeypatch.setattr(BatchReader, "chunk", chunk)
    assert read(path) == at_once
    assert sizes == [1] * 4


def test_a_row_that_is_too_much_text_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "jobs.parquet", {"person_id": PERSONS, "face_id": FACES})
    told = BatchReader.chunk

    def chunk(self: BatchReader, batch: pa.RecordBatch, first_record: int) -> Any:
        if first_record + batch.num_rows > 2:
            # A gigabyte that nobody reads, and so nobody has to have.
            parts = [None, pa.py_buffer(array("i", [0, 1 << 30])), pa.py_buffer(mmap(-1, 1 << 30))]
            texts = pa.Array.from_buffers(pa.string(), 1, parts)
            pa.concat_arrays([texts, texts])
        return told(self, batch, first_record)

    monkeypatch.setattr(BatchReader, "chunk", chunk)
    with pytest.raises(InputRefused, match=r"jobs\.parquet.*3.*more than 2 GB of text") as refused:
        read(path)
    assert "leave out columns" in refused.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes"),
        pa.ArrowNotImplementedError(
            "Nested data conversions not implemented for chunked array outputs"
        ),
    ],
    ids=["capacity", "nested"],
)
def test_a_row_group_of_too_much_text_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    path = write(tmp_path / "jobs.parquet", {"person_id": PERSONS, "face_id": FACES})
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    with pytest.raises(InputRefused, match="row group 1 of 1 holds more text") as refused:
        read(path)
    assert "smaller row groups" in refused.value.remedy


def test_more_text_than_an_array_holds_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def several(values: list[str | None], type_: Any) -> Any:
        return pa.chunked_array([values], type_)

    monkeypatch.setattr(pa, "array", several)
    with pytest.raises(TooMuchText):
        arrowjson._strings(["a"])
