"""Files of parts while rows are grouped on disk: no more open than are written, and private."""

from __future__ import annotations

import errno
import os
import resource
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Any

import apsw
import pyarrow as pa
import pytest

from worker.errors import GateClosed
from worker.holds import Holds
from worker.ledger import batchfiles, draft, duefile, grouping, rowmap
from worker.ledger.collation import Readable
from worker.ledger.columns import integers, strings
from worker.ledger.database import FILE_NAME, PARTS_NAME
from worker.ledger.draft import LedgerDraft
from worker.ledger.grouping import PARTS, PartedCollation
from worker.model import Entry, SourceSummary, Stretch
from worker.plan import PlanFigures
from worker.texts import Texts


def readable(count: int) -> list[Readable]:
    return [Readable(n, n, 0, n + 2, f"person-{n}", f"{n}", None) for n in range(count)]


def opened_in(directory: Path) -> list[Path]:
    found: list[Path] = []
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(descriptor.readlink())
    return [path for path in found if path.is_relative_to(directory)]


def test_what_was_written_is_closed_before_it_is_read(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    collation = PartedCollation(parts)
    collation.add(readable(20 * PARTS))
    collated = collation.collate(frozenset(), 20)
    assert opened_in(parts) == []
    assert sum(block.faces for block in collated.blocks()) == 20 * PARTS
    assert opened_in(parts) == []


@pytest.fixture
def few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
def test_too_few_open_files_is_a_sentence_with_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "ROWS_IN_MEMORY", 10)
    entries = [Entry(n, n + 2, "", f"p-{n}", f"{n}", "", "", "") for n in range(1000)]
    with LedgerDraft(tmp_path) as planned:
        planned.add(0, entries)
        with pytest.raises(GateClosed) as refused:
            planned.arrange("run", 20)
    assert f"({os.strerror(errno.EMFILE)}); nothing was sent" in refused.value.cause
    assert "ulimit -n" in refused.value.remedy
    assert not (tmp_path / PARTS_NAME).exists()


def test_a_column_that_is_too_short_is_not_read_beside_others() -> None:
    with pytest.raises(RuntimeError, match="2 values for 3 rows"):
        strings(Texts.of(["1", "2"]), 3)
    with pytest.raises(RuntimeError, match="2 values for 3 rows"):
        integers(range(2), 3)


def test_none_of_them_outlives_the_plan_that_was_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "ROWS_IN_MEMORY", 10)
    monkeypatch.setattr(draft, "discard_draft", lambda _: None)  # as a process does that is killed
    entries = [Entry(n, n + 2, "", f"p-{n}", f"{n}", "", "", "") for n in range(100)]
    with LedgerDraft(tmp_path) as planned:
        planned.add(0, entries)
        planned.arrange("run", 20)
        assert (tmp_path / PARTS_NAME).exists()
        planned.seal({"run_id": "run"})
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_suspects_are_compared_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same memory as anything else, and no conflict is overlooked or made up for it."""
    monkeypatch.setattr(grouping, "ROWS_GROUPED_AT_ONCE", 10)
    tables: list[int] = []
    several = PartedCollation(tmp_path / "parts")
    rows = [
        Readable(n, n, 0, n + 2, f"person-{n}", f"{n // 2 if n < 400 else n}", None)
        for n in range(600)
    ]
    several.add([*rows, *(row._replace(row_no=600 + row.row_no) for row in rows)])
    clashes = grouping._Collated._clashes

    def counted(pairs: pa.RecordBatch) -> Any:
        tables.append(len(pairs))
        return clashes(pairs)

    monkeypatch.setattr(grouping._Collated, "_clashes", staticmethod(counted))
    collated = several.collate(frozenset(), 20)
    assert sum(tables) == 400
    assert max(tables) < 40
    for _ in (*collated.amendments(), *collated.blocks()):
        pass
    assert collated.figures().conflicts == 800
    assert collated.figures().faces == 200


def one_person(count: int) -> list[Entry]:
    """As a wrong column gives it, behind others and with each pair twice."""
    others = [Entry(n, n + 2, "", f"p-{n}", f"{n}", "", "", "") for n in range(30)]
    same = [Entry(30 + n, 32 + n, "", "shop", f"9{n // 2}", "", "", "") for n in range(2 * count)]
    return [*others, *same]


def arranged(
    directory: Path, entries: list[Entry], *, allow_oversized: bool, held: str = ""
) -> PlanFigures:
    directory.mkdir()
    with LedgerDraft(directory, allow_oversized=allow_oversized) as planned:
        for start in range(0, len(entries), 50):
            planned.add(0, entries[start : start + 50])
        planned.add_source(0, SourceSummary("faces.csv", "csv", "", 1, 1, 1, 0, ()))
        planned.add_holds(Holds(frozenset({(held, "")} if held else ()), "x"))
        return planned.arrange("run", 20)


@pytest.fixture
def at_most_100_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one person, grouped by the dozen."""
    monkeypatch.setattr(draft, "ROWS_IN_MEMORY", 10)
    monkeypatch.setattr(draft, "MOST_FACES", 100)
    monkeypatch.setattr(grouping, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(grouping, "ROWS_GROUPED_AT_ONCE", 50)


@pytest.mark.usefixtures("at_most_100_faces")
def test_one_person_with_all_faces_is_refused_before_memory_has_to_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Watched(grouping._Grouped):
        def __init__(self, rows: pa.RecordBatch) -> None:
            sizes.append(len(rows))
            super().__init__(rows)

    monkeypatch.setattr(grouping, "_Grouped", Watched)
    with pytest.raises(GateClosed) as refused:
        arranged(tmp_path / "wrong", one_person(5_000), allow_oversized=False)
    assert refused.value.cause.startswith(
        "faces.csv:32: the person in this line has more than 100 "
    )
    assert "20 are documented" in refused.value.cause
    assert "--allow-oversized-persons" in refused.value.remedy
    assert max(sizes) < 400
    assert list((tmp_path / "wrong").iterdir()) == []
    allowed = arranged(tmp_path / "allowed", one_person(5_000), allow_oversized=True)
    assert (allowed.oversized_persons, allowed.largest_person_faces) == (1, 5_000)


@pytest.mark.usefixtures("at_most_100_faces")
def test_only_distinct_faces_that_would_be_sent_make_a_person_too_big_for_memory(
    tmp_path: Path,
) -> None:
    just = arranged(tmp_path / "just", one_person(100), allow_oversized=False)
    assert (just.oversized_persons, just.largest_person_faces, just.repeats) == (1, 100, 100)
    held = arranged(tmp_path / "held", one_person(5_000), allow_oversized=False, held="shop")
    assert (held.oversized_persons, held.held) == (0, 10_000)


def test_due_times_take_no_memory_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "ROWS_AT_ONCE", 5_000)
    monkeypatch.setattr(grouping, "ROWS_PER_PART_OF_ORDER", 4_096)
    monkeypatch.setattr(duefile, "ROWS_READ_AT_ONCE", 5_000)
    monkeypatch.setattr(duefile, "MOST_SAMPLED", 10_000)
    rows, size = 100_000, 5_000
    collation = PartedCollation(tmp_path / "parts")
    tracemalloc.start()
    for first in range(0, rows, size):
        # Every second row repeats the first of its person, and every tenth is due whenever.
        numbers = range(first, first + size)
        stretch = Stretch(
            first,
            range(first + 2, first + size + 2),
            Texts.of(f"p{n // 4}" for n in numbers),
            Texts.of(f"{n if n % 2 else n // 4 * 4}" for n in numbers),
            None,
            None,
            [None if n % 10 == 0 else 10**6 - n for n in numbers],
        )
        collation.add_stretch(first, first, 0, stretch)
    noted, _ = tracemalloc.get_traced_memory()
    collated = collation.collate(frozenset(), 20)
    for _ in (*collated.amendments(), *collated.blocks()):
        pass
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    said = sum(due.due_us == 10**6 - due.row_no for due in collated.dues())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said == rows * 9 // 10
    assert noted < 2_500_000  # 40 bytes a row are 4 million
    assert peak - before < 4_000_000  # the amendments alone are 5 million


@pytest.mark.parametrize("by_column", [True, False], ids=["by column", "row by row"])
def test_long_rows_are_split_and_joined_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_column: bool
) -> None:
    """Arrow keeps no more than 2 GB of texts in one array."""
    monkeypatch.setattr(grouping, "BYTES_AT_ONCE", 50_000)
    monkeypatch.setattr(batchfiles, "BYTES_JOINED", 50_000)
    joined: list[int] = []
    join = batchfiles.joined

    def watched(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        joined.append(sum(batch.nbytes for batch in batches))
        return join(batches)

    for module in (grouping, batchfiles):
        monkeypatch.setattr(module, "joined", watched)
    collation = PartedCollation(tmp_path / "parts")
    # One pair after the other, again and again: what is known of them stays short.
    rows = [
        Readable(n, n, 0, n + 2, f"{n % 7}" + "x" * 2_000, f"{n % 7}", None) for n in range(4_000)
    ]
    if by_column:
        for start in range(0, len(rows), 10):
            some = rows[start : start + 10]
            persons = Texts.of(row.person_id for row in some)
            faces = Texts.of(row.face_id for row in some)
            stretch = Stretch(start, range(start + 2, start + 12), persons, faces)
            collation.add_stretch(start, start, 0, stretch)
    else:
        collation.add(rows)
    collated = collation.collate(frozenset(), 20)
    assert sum(block.faces for block in collated.blocks()) == 7
    assert collated.figures().repeats == 4_000 - 7
    assert max(joined) < 150_000


def too_much_for_arrow() -> pa.RecordBatch:
    """Two batches of a gigabyte that nobody reads, and so nobody has to have."""
    offsets = pa.py_buffer(array("i", [0, 1 << 30]))
    texts = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(mmap(-1, 1 << 30))])
    batch = pa.record_batch([texts], ["person_id"])
    return pa.concat_batches([batch, batch])


def too_much_for_texts() -> Texts:
    class Long(str):
        __slots__ = ()

        def encode(self, *_: str) -> Any:
            return range(1 << 30)

    return Texts.of([Long(), Long()])


@pytest.mark.parametrize("too_much", [too_much_for_arrow, too_much_for_texts])
def test_more_text_than_belongs_together_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_much: Callable[[], object]
) -> None:
    monkeypatch.setattr(LedgerDraft, "_line_up", lambda *_: too_much())
    with pytest.raises(GateClosed) as refused:
        arranged(tmp_path / "run", one_person(3), allow_oversized=True)
    assert refused.value.cause.startswith(f"{tmp_path / 'run'}/")
    assert "take more than a gigabyte); nothing was sent" in refused.value.cause
    assert "--columns" in refused.value.remedy
    assert list((tmp_path / "run").iterdir()) == []


def test_a_row_that_is_too_long_for_the_ledger_is_a_sentence(tmp_path: Path) -> None:
    row = Entry(0, 2, "", "p", "1", "", "", "".join(map(chr, range(40, 20_000))))
    with LedgerDraft(tmp_path) as planned:
        planned._connection.limit(apsw.SQLITE_LIMIT_LENGTH, 1_000)
        planned.add(0, [row])
        with pytest.raises(GateClosed, match="take more than a gigabyte"):
            planned.arrange("run", 20)


def test_long_rows_that_come_by_column_are_several_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowmap, "BYTES_PER_BLOCK", 1_000)
    carried = ["x" * 300] * 20 + ["y" * 3_000, "z"]
    ids = Texts.of(f"{n}" for n in range(22))
    with LedgerDraft(tmp_path) as planned:
        stretch = Stretch(0, range(2, 24), ids, ids, None, Texts.of(carried))
        planned.add(0, stretch)
        planned.add(0, stretch)
        planned.arrange("run", 20)
        rows = list(rowmap.RowMap(planned._connection).rows())
        sizes = planned._connection.execute("SELECT MAX(rows), COUNT(*) FROM row_block").fetchone()
    assert [row.carried for row in rows] == carried * 2
    assert [row.face_id for row in rows] == [f"{n}" for n in range(22)] * 2
    assert sizes is not None
    assert sizes[0] < 4
