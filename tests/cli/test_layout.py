"""What the display looks like: every width and height, and terminals that know ASCII only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.cli.displayed import BUSY, NOW
from worker.cli.layout import NARROWEST, WIDEST, rendered
from worker.cli.progress import Progress
from worker.cli.troubles import Trouble

WAITING = "waiting   throttled (the service asks for a slower pace)"


def test_a_wide_terminal() -> None:
    assert rendered(BUSY, 120, NOW) == [
        "━" * 69 + "─" * 43 + "  61.7 %",
        "faces     1,234,567 of 2,000,000 · ETA 23:00 (in 1 h 30 min)",
        WAITING,
        "outcomes  deleted 1,230,000 · refused 4,567 · unsent 765,433",
        "rate      19.8 calls/s · mean 19.7 · 98 % of the 19.8/s allowed for deletions",
        "calls     312,412 in 17 h 20 min · 12 in flight · 41 repeats · 3 throttles",
        "answers   p50 84 ms · p95 210 ms · p99 1.2 s",
        "lanes     deletions 19.4/s · lookups 0.4/s backoff",
        "trouble   refused 400             ×12  21:29:40  in.csv:1234",
        "          ambiguous read timeout   ×4  31 Dec 08:05  in.csv:99",
    ]


def test_eighty_columns_say_the_same_with_a_shorter_bar() -> None:
    assert rendered(BUSY, 80, NOW) == [
        "━" * 44 + "─" * 28 + "  61.7 %",
        *rendered(BUSY, 120, NOW)[1:],
    ]


def test_forty_columns() -> None:
    assert rendered(BUSY, 40, NOW) == [
        "━" * 19 + "─" * 13 + "  61.7 %",
        "1,234,567 of 2,000,000 faces",
        "ETA 23:00 (in 1 h 30 min)",
        "waiting: throttled",
        "deleted 1,230,000 · refused 4,567",
        "unsent 765,433",
        "19.8 calls/s · mean 19.7",
        "98 % of the 19.8/s allowed for deletions",
        "312,412 calls in 17 h 20 min",
        "12 in flight · 41 repeats · 3 throttles",
        "p50 84 ms · p95 210 ms · p99 1.2 s",
        "deletions 19.4/s · lookups 0.4/s backoff",
        "refused 400 ×12 21:29:40  in.csv:1234",
        "ambiguous read timeout ×4 31 Dec 08:05",
    ]


TROUBLED = replace(
    BUSY,
    why="the window 22:00-06:00 is closed until Friday",
    troubles=[
        Trouble(f"ambiguous {'x' * n}", 10**n, NOW.timestamp(), f"出口/{'é' * n}.csv:{n}")
        for n in range(30)
    ],
)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("progress", [BUSY, TROUBLED, replace(BUSY, waiting="", lanes=())])
@pytest.mark.parametrize("columns", [1, 19, 20, 23, 39, 40, 59, 60, 64, 80, 120, 121, 300])
def test_no_line_is_wider_than_the_terminal(
    progress: Progress, columns: int, *, ascii_only: bool
) -> None:
    lines = rendered(progress, columns, NOW, ascii_only=ascii_only)
    assert max(map(cell_len, lines)) <= min(max(columns, NARROWEST), WIDEST)
    if ascii_only:
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
@pytest.mark.parametrize("rows", range(-1, 20))
def test_no_terminal_is_too_low(columns: int, rows: int) -> None:
    lines = rendered(TROUBLED, columns, NOW, rows=rows)
    assert 1 <= len(lines) <= max(1, rows)
    assert "61.7 %" in lines[0]


def test_what_matters_least_goes_first() -> None:
    whole = rendered(BUSY, 120, NOW)
    without = [
        # The second kind of trouble goes before the calls, the first one stays for long.
        [7],
        [6, 7],
        [6, 7, 9],
        [5, 6, 7, 9],
        [4, 5, 6, 7, 9],
        [3, 4, 5, 6, 7, 9],
    ]
    for gone in without:
        kept = [line for number, line in enumerate(whole) if number not in gone]
        assert rendered(BUSY, 120, NOW, rows=len(kept)) == kept
    assert rendered(BUSY, 120, NOW, rows=3) == [
        "61.7 % · throttled · ETA 23:00 (in 1 h 30 min) · 19.8/s · 1,234,567 of 2,000,000"
    ]


def test_a_hundred_percent_means_all_of_them() -> None:
    nearly = replace(BUSY, faces_done=1_999_999)
    assert rendered(nearly, 80, NOW)[0].endswith("  99.9 %")
    done = replace(BUSY, faces_done=2_000_000, waiting="", troubles=())
    assert rendered(done, 80, NOW)[:2] == [
        "━" * 72 + " 100.0 %",
        "faces     2,000,000 of 2,000,000 · all settled",
    ]
    assert "waiting" not in "\n".join(rendered(done, 80, NOW))
    assert rendered(replace(done, faces_done=0, faces_total=0), 80, NOW)[0].endswith(" 100.0 %")


@pytest.mark.parametrize(
    "word", ["quota", "throttled", "backoff", "paused", "hold", "answers", "lookups"]
)
def test_every_reason_to_wait_is_explained_where_there_is_room(word: str) -> None:
    waits = replace(BUSY, waiting=word)
    assert rendered(waits, 80, NOW)[2].startswith(f"waiting   {word} (")
    assert f"waiting: {word}" in rendered(waits, 40, NOW)


def test_whoever_paused_it_is_named_on_narrow_terminals_too() -> None:
    paused = replace(BUSY, waiting="paused", why="the file /run/pause exists, and \x1b[2J")
    assert r"waiting   paused (the file /run/pause exists, and \x1b[2J)" in rendered(
        paused, 80, NOW
    )
    narrow = "\n".join(rendered(paused, 30, NOW))
    assert "paused (the file\n/run/pause exists" in narrow
    assert "ETA not known while paused" in narrow


def test_the_lines_do_not_jump_while_nothing_is_waited_for() -> None:
    free = rendered(replace(BUSY, waiting=""), 80, NOW)
    assert free[2] == "waiting   for nothing"
    assert len(free) == len(rendered(BUSY, 80, NOW))
    stopping = replace(BUSY, waiting="", why="the run is being stopped")
    assert rendered(stopping, 80, NOW)[2] == "waiting   the run is being stopped"


def test_many_kinds_of_trouble_are_cut_to_the_first() -> None:
    lines = rendered(TROUBLED, 120, NOW)
    assert lines[-1] == "          and 26 more kinds in the log"
    assert len([line for line in lines if "ambiguous" in line]) == 4


def test_a_long_place_is_known_by_its_end() -> None:
    place = f"/data/{'exports/' * 20}november.csv:12"
    far = replace(BUSY, troubles=[Trouble("refused 400", 1, NOW.timestamp(), place)])
    line = rendered(far, 80, NOW)[-1]
    assert cell_len(line) == 80
    assert line.startswith("trouble   refused 400  ×1  21:30:00  …")
    assert line.endswith("exports/november.csv:12")
    assert "~" in rendered(far, 80, NOW, ascii_only=True)[-1]


def test_latencies_are_told_in_the_unit_that_suits_them() -> None:
    assert BUSY.latency is not None
    slow = replace(BUSY, latency=BUSY.latency._replace(p50=0.0004, p99=61.2))
    assert "answers   p50 0 ms · p95 210 ms · p99 61 s" in rendered(slow, 80, NOW)


def test_a_verification_shows_how_far_it_is() -> None:
    looking = replace(BUSY, faces_done=2_000_000, lookups_answered=1_500, lookups_left=4_500)
    wide = rendered(looking, 80, NOW)
    assert wide[0].endswith("  25.0 %")
    assert "lookups   1,500 of 6,000 answered" in wide
    assert any(line.startswith("waiting   throttled") for line in wide)
    assert "1,500 of 6,000 lookups answered" in rendered(looking, 40, NOW)
    assert not any(line.startswith("lookups ") for line in rendered(BUSY, 80, NOW))
