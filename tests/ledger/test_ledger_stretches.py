"""Rows by column: a stretch of a table is nothing else than its entries, only faster to add."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rig import draft_run
from tests.ledger.audit import rows as select
from tests.ledger.drafted import drafted
from worker.holds import Hold
from worker.ledger import draft, rowmap
from worker.ledger.database import open_ledger
from worker.model import Chunk, Entry, Stretch
from worker.texts import Texts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
PERSONS = ["ann", "Ann", "bén"]
FACES = ["1", "01", "31842550077981745", "脸"]


@st.composite
def stretches(draw: st.DrawFn, record: int, line: int) -> Stretch:
    """The columns as a reader gives them: parts of larger buffers, lines with gaps or without."""
    count = draw(st.integers(1, 12))
    skipped = draw(st.integers(0, 2))

    def column(values: Sequence[str]) -> Texts:
        before = ["before"] * skipped
        return Texts.of([*before, *values, "behind"]).part(skipped, skipped + len(values))

    def some(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    lines: Sequence[int] = range(line, line + count)
    if draw(st.booleans()):
        steps = some(st.integers(1, 3))
        lines = [line + sum(steps[:number]) for number in range(count)]
    labels = draw(st.none() | st.just(TEXTS | st.just("")))
    carried = draw(st.none() | st.just(TEXTS))
    dues = draw(st.none() | st.just(st.none() | st.integers(0, 9)))
    return Stretch(
        record,
        lines,
        column(some(st.sampled_from(PERSONS))),
        column(some(st.sampled_from(FACES))),
        None if labels is None else column(some(labels)),
        None if carried is None else column(some(carried)),
        None if dues is None else some(dues),
    )


@st.composite
def chunks(draw: st.DrawFn) -> list[Chunk]:
    """What one source gives: stretches, and between them rows that are no such."""
    given: list[Chunk] = []
    record, line = 0, 2
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            stretch = draw(stretches(record, line))
            given.append(stretch)
            record, line = record + len(stretch), stretch.lines[-1] + 1
        else:
            bad = draw(st.booleans())
            entry = Entry(record, line, "", "ann", "", "bad" if bad else "", "", "", whole=not bad)
            given.append([entry])
            record, line = record + 1, line + 1
    return given


@settings(max_examples=30, deadline=None)
@given(
    st.lists(chunks(), min_size=1, max_size=2),
    st.frozensets(st.tuples(st.sampled_from(PERSONS), st.sampled_from(["", *FACES])), max_size=1),
)
def test_a_stretch_is_the_same_as_its_entries_wherever_they_are_collated(
    sources: list[list[Chunk]], holds: frozenset[Hold]
) -> None:
    one_by_one: list[list[Chunk]] = [
        [chunk.entries() if isinstance(chunk, Stretch) else chunk for chunk in source]
        for source in sources
    ]
    with TemporaryDirectory() as scratch:
        as_stretches = drafted(Path(scratch, "one"), sources, holds)
        assert drafted(Path(scratch, "one by one"), one_by_one, holds) == as_stretches
        with patch.object(draft, "ROWS_IN_MEMORY", 3):
            assert drafted(Path(scratch, "on disk"), sources, holds) == as_stretches
            assert drafted(Path(scratch, "entries on disk"), one_by_one, holds) == as_stretches
    entries = [entry for source in one_by_one for chunk in source for entry in chunk_of(chunk)]
    assert [row[5:7] for row in as_stretches[1]["row"]] == [
        (entry.person_id, entry.face_id) for entry in entries
    ]


def chunk_of(chunk: Chunk) -> list[Entry]:
    assert isinstance(chunk, list)
    return chunk


def test_a_stretch_larger_than_a_block_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowmap, "ROWS_PER_BLOCK", 7)
    persons = [f"p{number // 3}" for number in range(50)]
    stretch = Stretch(
        0, range(2, 52), Texts.of(persons), Texts.of(str(number) for number in range(50))
    )
    _, said = drafted(tmp_path / "run", [[stretch]])
    assert [row[:4] for row in said["row"]] == [(n, n, 0, n + 2) for n in range(50)]
    connection = open_ledger(tmp_path / "run")
    blocks = select(connection, "SELECT first_row, rows FROM row_block ORDER BY 1")
    connection.close()
    assert blocks == [*((first, 7) for first in range(0, 49, 7)), (49, 1)]


def test_entries_that_carry_much_fill_a_block_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory holds few of them at a time."""
    monkeypatch.setattr(rowmap, "CHARACTERS_PER_BLOCK", 100)
    entries = [Entry(n, n + 2, "", "p", str(n), "", "", "x" * 40) for n in range(9)]
    draft_run(tmp_path / "run", [entries])
    connection = open_ledger(tmp_path / "run")
    assert select(connection, "SELECT rows FROM row_block ORDER BY first_row") == [(3,)] * 3
    connection.close()
