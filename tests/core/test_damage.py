"""IDs that a program rounded or cut are found by the column; IDs that only look odd are left alone."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.id_columns import (
    UNHARMED,
    Maker,
    as_double,
    as_javascript,
    as_spreadsheet,
    digits,
    numbers_below,
    padded,
    snowflakes,
    without_zeros,
)
from worker.damage import MAX_CHANCE, Finding, IdWatch
from worker.holds import Hold
from worker.model import Entry
from worker.rounding import chance_of_at_least

SAMPLE = "31842550077981745"
"""The service's own sample of a face ID."""

SPREADSHEET = "have only zeros behind their 15th digit"
DOUBLE = "are numbers that a double can hold"
JAVASCRIPT = "are written as JavaScript writes a double"


def entries(
    faces: Sequence[str], persons: Sequence[str] | None = None, first_line: int = 2
) -> list[Entry]:
    return [
        Entry(n, n + first_line, "", persons[n] if persons else f"p{n}", face, "", "", "")
        for n, face in enumerate(faces)
    ]


def found(
    *sources: Sequence[Entry], holds: frozenset[Hold] = frozenset(), chunk: int = 7_000
) -> list[Finding]:
    """What is said of sources a.csv, b.csv and so on, read in chunks."""
    watch = IdWatch(holds)
    findings: list[Finding] = []
    for name, rows in zip(("a.csv", "b.csv", "c.csv"), sources, strict=False):
        for start in range(0, len(rows), chunk):
            findings += watch.look(name, list(rows[start : start + chunk]))
        findings += watch.end()
    findings += watch.conclude()
    for finding in findings:
        # Places only: an ID of at least five digits would show.
        assert not set(re.findall("[0-9]{5,}", finding.cause)) & {
            text for rows in sources for entry in rows for text in (entry.face_id, entry.person_id)
        }
    return findings


def drawn(make: Maker, rows: int, seed: int = 0) -> list[str]:
    return make(random.Random(seed), rows)


def test_the_services_sample_becomes_another_face_in_a_double() -> None:
    assert as_double(SAMPLE) == "31842550077981744"
    assert as_spreadsheet(SAMPLE) == "31842550077981700"
    assert as_javascript("1234567890123456789") == "1234567890123456800"
    assert as_double("1234567890123456789") == "1234567890123456768"


@pytest.mark.parametrize("rows", [1, 10, 60, 300, 2_000])
@pytest.mark.parametrize("name", UNHARMED)
def test_ids_as_accounts_have_them_are_never_refused(name: str, rows: int) -> None:
    for seed in range(3):
        ids = drawn(UNHARMED[name], rows, seed)
        warned_of = [finding.cause for finding in found(entries(ids))]
        warned_of += [finding.cause for finding in found(entries([""] * rows, ids))]
        # Numbers of a counter can look like padded ones that lost their zeros: a warning at most.
        assert not [cause for cause in warned_of if name != "of some counter" or "10^" in cause]


@pytest.mark.parametrize(
    ("width", "spoil", "sentence"),
    [
        (16, as_spreadsheet, SPREADSHEET),
        (17, as_spreadsheet, SPREADSHEET),
        (19, as_spreadsheet, SPREADSHEET),
        (17, as_double, DOUBLE),
        (18, as_double, DOUBLE),
        (19, as_double, DOUBLE),
        (17, as_javascript, f"{JAVASCRIPT}|{DOUBLE}"),
        (18, as_javascript, JAVASCRIPT),
        (19, as_javascript, JAVASCRIPT),
    ],
)
@pytest.mark.parametrize("rows", [40, 3_000])
@pytest.mark.parametrize("kind", ["face", "person"])
def test_rounded_ids_are_refused_with_places_and_odds(
    width: int, spoil: Callable[[str], str], sentence: str, rows: int, kind: str
) -> None:
    ids = [spoil(text) for text in drawn(digits(width), rows)]
    column = entries(ids) if kind == "face" else entries([""] * rows, ids)
    (finding,) = found(column)
    assert finding.certain
    said = re.fullmatch(
        rf"a\.csv: ([0-9]+) of ([0-9]+) long {kind} IDs that were compared \(a\.csv:[0-9]+, "
        rf"a\.csv:[0-9]+, a\.csv:[0-9]+\) (?:{sentence}).*; by chance it would be so less than once"
        r" in 10\^([0-9]+) times",
        finding.cause,
    )
    assert said
    hits, compared, zeros = map(int, said.groups())
    assert compared / 2 <= hits <= compared
    assert zeros >= -math.log10(MAX_CHANCE)


def test_a_few_ids_are_no_proof_and_some_more_are() -> None:
    ids = [as_double(text) for text in drawn(digits(17), 60)]
    assert found(entries(ids[:3])) == []
    refused = [n for n in range(3, 60) if found(entries(ids[:n]))]
    assert refused
    assert refused == list(range(refused[0], 60))
    assert refused[0] <= 20


def test_one_id_in_many_rows_is_one_id() -> None:
    double = as_double(SAMPLE)
    assert found(entries([str(n) for n in range(1_000)], [double] * 1_000)) == []
    assert found(entries([double, as_double("91842550077981745")] * 5_000), chunk=100) == []


def test_a_stretch_of_rounded_ids_among_good_ones_is_found() -> None:
    ids = drawn(digits(17), 40_000)
    ids[20_000:34_000] = [as_double(text) for text in ids[20_000:34_000]]
    (finding,) = found(entries(ids))
    # The first chunk with rounded ones begins with row 14,000.
    line = int(re.findall(r"a\.csv:([0-9]+)", finding.cause)[0])
    assert 14_002 <= line < 34_002
    assert finding.certain


@pytest.mark.parametrize("chunk", [1, 7, 200, 7_000])
def test_it_does_not_matter_how_rows_are_cut_into_chunks(chunk: int) -> None:
    good = drawn(digits(17), 600)
    assert found(entries(good), chunk=chunk) == []
    (finding,) = found(entries([as_double(text) for text in good]), chunk=chunk)
    assert finding.certain


def test_ids_of_which_two_thirds_are_rounded_are_refused() -> None:
    ids = drawn(digits(18), 900)
    mixed = [text if n % 3 == 0 else as_double(text) for n, text in enumerate(ids)]
    (finding,) = found(entries(mixed))
    assert finding.certain


def test_what_rounding_leaves_as_it_is_cannot_be_told() -> None:
    idle = drawn(snowflakes(0), 1_000)
    assert [as_double(text) for text in idle] == idle
    short = drawn(digits(15), 1_000)
    assert [as_double(text) for text in short] == short
    assert found(entries(short)) == []


def test_refused_rows_are_not_looked_at() -> None:
    rows = [
        entry._replace(reason="face ID has an exponent")
        for entry in entries([as_double(text) for text in drawn(digits(17), 300)])
    ]
    assert found(rows) == []


def test_ids_that_are_no_numbers_say_nothing() -> None:
    hexadecimal = [f"{int(text):x}" for text in drawn(digits(19), 300)]
    assert found(entries([""] * 300, hexadecimal)) == []
    assert found(entries(["1" * 600 + text for text in drawn(digits(17), 50)])) == []
    assert found(entries([f"{n}\n{as_double(SAMPLE)}" for n in range(300)])) == []


@pytest.mark.parametrize("width", [10, 13, 17])
def test_widths_that_lost_zeros_leave_are_warned_of(width: int) -> None:
    for seed in range(5):
        ids = [without_zeros(text) for text in drawn(padded(width), 1_000, seed)]
        (finding,) = found(entries(ids))
        assert not finding.certain
        assert finding.cause.startswith(f"a.csv: face IDs have {width} digits, ")
        assert "make sure that they never had any" in finding.cause


@pytest.mark.parametrize("limit", [3 * 10**9, 5 * 10**12, 12 * 10**12])
def test_natural_numbers_are_not_taken_for_cut_ones(limit: int) -> None:
    for seed in range(5):
        assert found(entries(drawn(numbers_below(limit), 1_000, seed))) == []


def test_a_few_short_ids_in_a_padded_column_are_named() -> None:
    ids = drawn(padded(13), 5_000)
    shortened = [n for n, text in enumerate(ids) if text.startswith("0")][100:102]
    for n in shortened:
        ids[n] = without_zeros(ids[n])
    (finding,) = found(entries(ids))
    assert not finding.certain
    first, second = (f"a.csv:{n + 2}" for n in shortened)
    assert f"but 2 are shorter ({first}, {second})" in finding.cause
    assert found(entries(drawn(padded(13), 5_000))) == []


def test_zeros_that_another_source_has_are_missed_for_certain() -> None:
    whole, cut = drawn(padded(13), 400, 1), drawn(padded(13), 400, 2)
    stripped = [without_zeros(text) for text in cut]
    for sources in ((whole, stripped), (stripped, whole)):
        (finding,) = found(*map(entries, sources))
        assert finding.certain
        source, other = ("b.csv", "a.csv") if sources[1] is stripped else ("a.csv", "b.csv")
        assert finding.cause.startswith(f"{source}: face IDs have 13 digits, ")
        assert f"in {other} they are filled up with zeros to 13 digits" in finding.cause
    assert found(entries(whole), entries(cut)) == []
    # Other IDs of another width are other IDs.
    assert found(entries(whole), entries(drawn(numbers_below(3 * 10**9), 400))) == []
    # Twenty IDs without a zero in front are not enough to be certain.
    assert not any(f.certain for f in found(entries(whole), entries(stripped[:20])))


@pytest.mark.parametrize(
    ("hold", "row", "what"),
    [
        (("0042", ""), ("42", "7"), "person"),
        (("42", ""), ("0042", "7"), "person"),
        (("ann", "0042"), ("ann", "42"), "face"),
        (("ann", "42"), ("ann", "0042"), "face"),
        (("007", "0042"), ("7", "42"), "face"),
    ],
)
def test_a_hold_that_would_meet_but_for_zeros_stops_everything(
    hold: Hold, row: tuple[str, str], what: str
) -> None:
    rows = entries(["9", row[1]], ["ben", row[0]])
    (finding,) = found(rows, holds=frozenset({hold, ("ben", "8")}))
    assert finding.certain
    assert finding.cause.startswith(
        f"a.csv:3: the exclusion list has this {what} with more or fewer"
    )
    # Where the input has what the list says, both spellings are known and mean two.
    both = entries([row[1], hold[1] or "5"], [row[0], hold[0]])
    assert found(both, holds=frozenset({hold})) == []
    assert found(rows, holds=frozenset({("0ann", ""), ("ben", "9")})) == []


def test_standard_input_has_a_name() -> None:
    watch = IdWatch(frozenset({("042", "")}))
    findings = [*watch.look("-", entries(["1"], ["42"])), *watch.end(), *watch.conclude()]
    assert findings[0].cause.startswith("standard input:2: ")


@given(st.lists(st.floats(0, 1), max_size=7), st.integers(0, 7))
def test_odds_are_those_of_every_way_it_can_happen(chances: list[float], hits: int) -> None:
    hits = min(hits, len(chances))
    expected = sum(
        math.prod(p if hit else 1 - p for p, hit in zip(chances, way, strict=True))
        for way in itertools.product([False, True], repeat=len(chances))
        if sum(way) >= hits
    )
    assert chance_of_at_least(hits, chances) == pytest.approx(expected, abs=1e-12)
