"""What memory does not hold is planned as if it did, and nothing goes amiss on the way unseen."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.ledger.drafted import drafted
from worker.ledger import draft, grouping
from worker.ledger.grouping import PartedCollation
from worker.model import Chunk, Entry, Stretch
from worker.texts import Texts

HELD = frozenset({("p3", ""), ("p7", "70"), ("p8", "80"), ("alone", "1")})
CONTESTED = [("p3", "33"), ("q3", "33"), ("q8", "80"), ("p8", "80")]
FACES_PER_CALL = 3


def source(seed: int, *, due: bool) -> list[Chunk]:
    """Stretches and entries in turns: repeats, contested faces, whole persons, persons with many."""
    chance = random.Random(seed)
    # Faces that are held under one person, and named under another.
    chunks: list[Chunk] = [
        [
            Entry(number, number + 2, "", person, face, "", "", "")
            for number, (person, face) in enumerate(CONTESTED)
        ]
    ]
    for number in range(1, 40):
        persons = [f"p{min(chance.randrange(400), chance.randrange(400))}" for _ in range(50)]
        # Most faces are of one person only; some are named by whoever comes.
        faces = [
            f"0{chance.randrange(30)}"
            if chance.random() < 0.03
            else f"{person[1:]}{chance.randrange(7)}"
            for person in persons
        ]
        record, line = number * 60, number * 100 + 2
        dues = [chance.choice([None, chance.randrange(10**6)]) for _ in persons] if due else None
        lines = [line + place + place // 7 for place in range(50)]
        chunks.append(Stretch(record, lines, Texts.of(persons), Texts.of(faces), None, None, dues))
        person = f"p{chance.randrange(400)}"
        for place in range(10):
            whole = place == 9 and number % 4 == 0
            face = "" if whole else f"{person[1:]}{place % 8}"
            at = record + 50 + place
            chunks.append([Entry(at, line + 80 + place, "", person, face, "", "", "", whole=whole)])
    return chunks


@pytest.mark.parametrize("due", [False, True], ids=["in input order", "by due time"])
def test_many_parts_come_to_the_plan_that_is_made_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, due: bool
) -> None:
    sources = [source(seed, due=due) for seed in range(2)]
    in_memory, said = drafted(tmp_path / "in memory", sources, HELD, FACES_PER_CALL)
    monkeypatch.setattr(draft, "ROWS_IN_MEMORY", 100)
    monkeypatch.setattr(grouping, "ROWS_AT_ONCE", 400)
    monkeypatch.setattr(grouping, "ROWS_GROUPED_AT_ONCE", 10)
    monkeypatch.setattr(grouping, "ROWS_PER_PART_OF_ORDER", 64)
    monkeypatch.setattr(grouping, "AMENDMENTS_PER_BLOCK", 16)
    monkeypatch.setattr(grouping, "CALLS_PER_BLOCK", 7)
    in_parts, said_in_parts = drafted(tmp_path / "in parts", sources, HELD, FACES_PER_CALL)
    assert in_parts == in_memory
    for name, rows in said.items():
        assert said_in_parts[name] == rows, name
    # Everything that can become of a row is among them.
    assert min(in_memory.repeats, in_memory.conflicts, in_memory.held) > 10
    assert min(in_memory.whole_persons, in_memory.oversized_persons) > 5
    assert bool(said["due"]) is due


def without_one(persons: pa.RecordBatch) -> pa.RecordBatch:
    return persons.slice(1)


def with_one_twice(persons: pa.RecordBatch) -> pa.RecordBatch:
    return pa.concat_batches([persons, persons.slice(0, 1)])


def with_another(column: str, change: Callable[[Any], Any]) -> Callable[..., pa.RecordBatch]:
    def changed(persons: pa.RecordBatch) -> pa.RecordBatch:
        first, *others = persons[column].to_pylist()
        index = persons.schema.get_field_index(column)
        values = pa.array([change(first), *others], persons.schema.field(column).type)
        return persons.set_column(index, persons.schema.field(column), values)

    return changed


@pytest.mark.parametrize(
    "amiss",
    [
        without_one,
        with_one_twice,
        with_another("person_id", lambda person: f"{person}0"),
        with_another("face_ids", lambda faces: [f"{faces[0]}0", *faces[1:]]),
        with_another("face_ids", lambda faces: [faces[0].lstrip("0"), *faces[1:]]),
        with_another("face_ids", lambda faces: faces[::-1]),
        with_another("row_nos", lambda numbers: numbers[::-1]),
    ],
    ids=["lost", "doubled", "person", "face", "leading zero", "faces swapped", "rows swapped"],
)
def test_what_went_amiss_on_the_way_is_never_planned(
    tmp_path: Path, amiss: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> None:
    collation = PartedCollation(tmp_path / "parts")
    persons = [f"p{number // 3}" for number in range(60)]
    faces = [f"0{number}" for number in range(60)]
    stretch = Stretch(0, range(2, 62), Texts.of(persons), Texts.of(faces))
    collation.add_stretch(0, 0, 0, stretch)
    collated = collation.collate(frozenset(), FACES_PER_CALL)
    (file,) = tmp_path.glob("parts/persons.*")
    with pa.OSFile(str(file), "rb") as stored:
        batch = pa.concat_batches(list(pa.ipc.open_stream(stored)))
    file.unlink()  # it may still be mapped
    with pa.ipc.new_stream(pa.OSFile(str(file), "wb"), batch.schema) as writer:
        writer.write_batch(amiss(batch))
    with pytest.raises(RuntimeError, match=r"^of 60 rows .* or other ones$"):
        list(collated.blocks())
