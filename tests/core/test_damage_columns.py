"""What columns show of their IDs is what the same rows show one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.id_columns import Maker, as_double, as_spreadsheet, digits, padded, without_zeros
from worker import damage
from worker.damage import Finding, IdWatch
from worker.digit_columns import ColumnDigits, rows_but_for_zeros
from worker.digits import DigitIds, ListedDigits
from worker.holds import Hold
from worker.model import Chunk, Stretch
from worker.texts import Texts
from worker.widths import Widths

quick = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

texts = st.sampled_from(
    ["", "0", "00", "7", "07", "42", "0042", "ann", "0ann", "9x", "x9", "²", "٤", "0٤", "1é", "\n", "1\n2", "31842550077981744", "0031842550077981744", "12345678901234567000", "/", ":"]
) | st.from_regex("[0-9]{1,20}", fullmatch=True)  # fmt: skip


def stretch_of(rows: Sequence[tuple[str, str]], first_line: int, skipped: int = 0) -> Stretch:
    """The rows by column, behind ``skipped`` others in the same buffers."""
    other = [("9" * n, "0" * n) for n in range(skipped)]
    persons, faces = (Texts.of(row[i] for row in (*other, *rows)) for i in (0, 1))
    count = skipped + len(rows)
    return Stretch(
        record=0,
        lines=range(first_line, first_line + len(rows)),
        person_ids=persons.part(skipped, count),
        face_ids=faces.part(skipped, count),
    )


def findings(chunks: Sequence[Chunk], holds: frozenset[Hold]) -> tuple[list[Finding], list[Widths]]:
    """What is said, and what was counted."""
    watch = IdWatch(holds)
    said = [finding for chunk in chunks for finding in watch.look("a.csv", chunk)]
    said += watch.end()
    said += watch.conclude()
    return said, [column.widths for column in watch._read]


def assert_same(stretches: Sequence[Stretch], holds: frozenset[Hold] = frozenset()) -> int:
    """How many findings both ways have."""
    by_column = findings(stretches, holds)
    assert by_column == findings([stretch.entries() for stretch in stretches], holds)
    return len(by_column[0])


@quick
@given(
    st.lists(st.lists(st.tuples(texts, texts), min_size=1, max_size=30), min_size=1, max_size=4),
    st.frozensets(st.tuples(texts, texts), max_size=4),
    st.integers(2, 9),
    st.integers(0, 3),
)
def test_columns_show_what_entries_show(
    chunks: list[list[tuple[str, str]]], holds: frozenset[Hold], rows: int, skipped: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "WINDOW_ROWS", rows)
        patch.setattr(damage, "WINDOW_IDS", 4)
        line = 2
        stretches = []
        for chunk in chunks:
            stretches.append(stretch_of(chunk, line, skipped))
            line += len(chunk)
        assert_same(stretches, holds)


@quick
@given(st.lists(texts, min_size=1, max_size=30), st.integers(0, 3))
def test_digits_of_a_column_are_those_of_its_texts(ids: list[str], skipped: int) -> None:
    lines = range(5, 5 + len(ids))
    column = Texts.of(["0"] * skipped + ids).part(skipped, skipped + len(ids))
    by_column: DigitIds = ColumnDigits.among(column, lines)
    listed: DigitIds = ListedDigits.among(ids, lines)
    assert len(by_column) == len(listed)
    assert by_column.lengths() == listed.lengths()
    assert by_column.zero_led() == listed.zero_led()
    for length in listed.lengths():
        assert list(by_column.lines_of(length)) == list(listed.lines_of(length))
    for start in range(len(listed) + 1):
        for stop in range(start, len(listed) + 1):
            assert list(by_column.pairs(start, stop)) == list(listed.pairs(start, stop))


@quick
@given(st.lists(texts, min_size=1, max_size=20), st.frozensets(texts, max_size=4))
def test_rows_that_zeros_may_hide_are_found(ids: list[str], wanted: frozenset[str]) -> None:
    bare = {text.lstrip("0") for text in wanted}
    assert rows_but_for_zeros(Texts.of(ids), wanted) == [
        row for row, text in enumerate(ids) if text.lstrip("0") in bare
    ]


@pytest.mark.parametrize("kind", ["double", "spreadsheet", "zeros lost", "good"])
def test_damaged_columns_are_found_as_they_are_row_by_row(kind: str) -> None:
    kinds: dict[str, tuple[Maker, Callable[[str], str]]] = {
        "double": (digits(17), as_double),
        "spreadsheet": (digits(18), as_spreadsheet),
        "zeros lost": (padded(13), without_zeros),
        "good": (digits(17), str),
    }
    make, spoil = kinds[kind]
    ids = [spoil(text) for text in make(random.Random(3), 30_000)]
    for rows in (
        [(f"p{n}", text) for n, text in enumerate(ids)],
        [(text, "1") for text in ids],
    ):
        stretches = [stretch_of(rows[:20_000], 2), stretch_of(rows[20_000:], 20_002)]
        assert assert_same(stretches) == (0 if kind == "good" else 1)


def test_damage_amid_a_long_stretch_is_found() -> None:
    ids = digits(17)(random.Random(4), 100_000)
    ids[50_000:60_000] = [as_double(text) for text in ids[50_000:60_000]]
    rows = [(f"p{n}", text) for n, text in enumerate(ids)]
    assert assert_same([stretch_of(rows, 2)]) == 1


def test_a_hold_is_compared_with_every_row_of_a_stretch() -> None:
    rows = [(f"p{n}", str(n)) for n in range(5_000)]
    rows[2_500] = ("0042", "7")
    (finding,) = findings([stretch_of(rows, 2)], frozenset({("42", ""), ("p1", "x")}))[0]
    assert finding.certain
    assert finding.cause.startswith("a.csv:2502: the exclusion list has this person")
