from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.report.cells import harmless
from worker.report.columns import TextColumn, delimited, quoted


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
    assert list(TextColumn(["x", shown]).exact()) == ["x", quoted(shown)]
    assert list(TextColumn([cell, "x", cell]).harmless()) == [quoted(shown), "x", quoted(shown)]


CHARACTERS = st.characters(exclude_categories=["Cs"])


@given(st.lists(st.tuples(st.text(CHARACTERS), st.text(',"\r\n =-\\a\u2028')), min_size=1))
def test_columns_are_written_like_their_cells_one_by_one(rows: list[tuple[str, str]]) -> None:
    columns = [TextColumn(column) for column in zip(*rows, strict=True)]
    assert delimited(zip(*[x.exact() for x in columns], strict=True)).decode() == minimal(rows)
    shown = [[harmless(cell) for cell in row] for row in rows]
    assert delimited(zip(*[x.harmless() for x in columns], strict=True)).decode() == minimal(shown)
    texts = zip(*[column.in_json() for column in columns], strict=True)
    assert [tuple(json.loads(f'"{text}"') for text in row) for row in texts] == rows


def minimal(rows: Iterable[Iterable[str]]) -> str:
    """CSV as the standard library writes it, row by row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # quotes each of these two, in every version
    lines = []
    for row in rows:
        text.seek(0)
        text.truncate()
        writer.writerow(row)
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def test_no_rows_are_no_lines() -> None:
    assert delimited([]) == b""


@given(st.text())
def test_no_cell_begins_a_formula_breaks_a_line_or_changes_when_shown_again(cell: str) -> None:
    shown = harmless(cell)
    assert shown in ("-", f"-:{shown[2:]}") or not shown.lstrip().startswith(
        ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    )
    assert shown.splitlines() in ([shown], [])
    assert harmless(shown) == shown
