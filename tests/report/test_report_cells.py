from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.report.cells import harmless, harmless_column


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("plain, with a comma", "plain, with a comma"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+49 170", "'+49 170"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\xa0=1", "'\xa0=1"),
        ("＝1", "'＝1"),
        ("\t=1", r"'\t=1"),
        ("\rx", r"'\rx"),
        ("-", "-"),
        ("-:17", "-:17"),
        ("-:17\n", r"'-:17\n"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("two\nlines", r"two\nlines"),
        ("\u202egpj", r"\u202egpj"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("<b>人\xa0</b>", "<b>人\xa0</b>"),
        ("", ""),
    ],
)
def test_what_a_cell_becomes(cell: str, shown: str) -> None:
    assert harmless(cell) == shown
    assert list(harmless_column([cell, "x", cell])) == [shown, "x", shown]


@given(st.lists(st.text()))
def test_a_column_is_its_cells_one_by_one(cells: list[str]) -> None:
    assert list(harmless_column(cells)) == [harmless(cell) for cell in cells]


@given(st.text())
def test_no_cell_begins_a_formula_breaks_a_line_or_changes_when_shown_again(cell: str) -> None:
    shown = harmless(cell)
    assert shown in ("-", f"-:{shown[2:]}") or not shown.lstrip().startswith(
        ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    )
    assert shown.splitlines() in ([shown], [])
    assert harmless(shown) == shown
