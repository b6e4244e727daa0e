"""The totals of a generated manifest, counted row by row by code that knows nothing of how it was made."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.benchmarks.manifest import SHAPES, SUFFIXES, Shape, Totals, faces_of, write_manifest

ROWS = (1, 9, 10, 11, 45, 50, 51, 999, 20_001)


def _pairs(path: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    if shape == "parquet":
        for row in parquet.read_table(path).to_pylist():
            yield row["person_id"], row["face_id"]
    elif shape == "jsonl":
        for line in path.read_text().splitlines():
            record = json.loads(line)
            (face_id,) = record["faceIds"]
            yield record["personId"], face_id
    else:
        data = path.read_bytes()
        text = gzip.decompress(data) if shape == "gz" else data
        for cells in csv.DictReader(text.decode().splitlines()):
            yield cells["person_id"], cells["face_id"]


def _file(directory: Path, shape: Shape) -> Path:
    return directory / f"faces{SUFFIXES.get(shape, '.csv')}"


def _written(directory: Path, shape: Shape, rows: int, seed: int = 1) -> Totals:
    return write_manifest(_file(directory, shape), shape, rows, seed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", ROWS)
def test_totals_are_what_is_in_the_file(tmp_path: Path, shape: Shape, rows: int) -> None:
    totals = _written(tmp_path, shape, rows)
    pairs = list(_pairs(_file(tmp_path, shape), shape))
    assert len(pairs) == totals.rows == rows
    assert len(set(pairs)) == totals.pairs == rows - totals.repeats
    assert len({person for person, _ in pairs}) == totals.persons
    # A face under two persons would be set aside.
    assert len({face for _, face in pairs}) == totals.pairs


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("gz", "parquet")])
def test_lines_are_counted_as_sort_does(tmp_path: Path, shape: Shape) -> None:
    totals = _written(tmp_path, shape, 5_000)
    assert len(set(_file(tmp_path, shape).read_bytes().splitlines())) == totals.distinct_lines


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_is_the_same_bytes_and_another_seed_is_not(tmp_path: Path, shape: Shape) -> None:
    made = []
    for seed in (1, 1, 2):
        _written(tmp_path, shape, 2_000, seed)
        made.append(_file(tmp_path, shape).read_bytes())
    assert made[0] == made[1] != made[2]


def test_only_the_sorted_one_is_sorted_by_person(tmp_path: Path) -> None:
    persons: dict[Shape, list[str]] = {}
    for shape in SHAPES:
        _written(tmp_path, shape, 1_000)
        persons[shape] = [person for person, _ in _pairs(_file(tmp_path, shape), shape)]
    assert [shape for shape in SHAPES if persons[shape] == sorted(persons[shape])] == ["sorted"]


def test_the_faces_of_a_person_are_known_without_the_file(tmp_path: Path) -> None:
    totals = _written(tmp_path, "shuffled", 3_001)
    held: dict[str, set[str]] = {}
    for person, face in _pairs(_file(tmp_path, "shuffled"), "shuffled"):
        held.setdefault(person, set()).add(face)
    for person, faces in held.items():
        assert set(faces_of(int(person.removeprefix("person_")), totals.pairs)) == faces


def test_a_labelled_row_has_a_label_and_two_columns_of_its_own(tmp_path: Path) -> None:
    _written(tmp_path, "labelled", 500)
    with _file(tmp_path, "labelled").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["job_id"] for row in rows] == [f"job-{number:010d}" for number in range(500)]
    assert len({row["note"] for row in rows}) == 500
    assert len({row["region"] for row in rows}) == 7


def test_every_cell_of_the_quoted_one_is_quoted(tmp_path: Path) -> None:
    _written(tmp_path, "quoted", 50)
    for line in _file(tmp_path, "quoted").read_text().splitlines():
        assert all(cell[0] == cell[-1] == '"' for cell in line.split(","))
