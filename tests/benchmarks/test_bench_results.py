"""What a campaign writes: JSON that is read back, and tables that a person reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from tests.benchmarks.campaign import TARGETS
from tests.benchmarks.comparison import Comparison, Series
from tests.benchmarks.machine import this_machine
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.published import BEGIN, END, block_of, replaced
from tests.benchmarks.registry import ENTRIES, module_of
from tests.benchmarks.results import Bench, Results, read_bench, read_results, write
from tests.benchmarks.sitting import Scale, typed
from tests.benchmarks.table import HEADINGS, aligned, markdown

ROOT = Path(__file__).parents[2]

COMPARISON = Comparison(
    "10 rows",
    "wall_seconds",
    "sort -u",
    (
        Series("sort -u", (Measurement(1.0, 0.5, 12.0), Measurement(2.0, 0.5, 12.0))),
        Series(
            "facepurge plan",
            (
                Measurement(3.0, 2.5, 80.0, {"plan_mb": 7.0}),
                Measurement(6.0, 2.5, 90.0, {"plan_mb": 7.0}),
            ),
        ),
        Series("a | b", (Measurement(0.1, 0.1, 600.0, {}, "out of memory"),)),
    ),
    "3 times",
    {"Python dict of sets": "not asked"},
)
BENCH = Bench("plan", "How long?", "python -m tests.benchmarks.bench_plan", 9.0, (COMPARISON,))


def _results(*benches: Bench) -> Results:
    return Results("2026-11-26T05:00:00+00:00", "make bench", 120.0, 0.25, this_machine(), benches)


def test_every_measurement_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write(path, _results(BENCH))
    assert read_results(path) == _results(BENCH)
    document = json.loads(path.read_text())
    assert {"date", "command", "seconds", "load", "machine", "benches"} == set(document)
    assert {"cores", "memory_mb", "system", "python", "packages", "sqlite"} == set(
        document["machine"]
    )
    assert {"aiohttp", "duckdb", "facepurge"} < set(document["machine"]["packages"])
    (bench,) = document["benches"]
    (comparison,) = bench["comparisons"]
    assert comparison["series"][1] == {
        "contestant": "facepurge plan",
        "measurements": [
            {
                "wall_seconds": wall_seconds,
                "cpu_seconds": 2.5,
                "peak_mb": peak_mb,
                "told": {"plan_mb": 7.0},
                "failure": "",
            }
            for wall_seconds, peak_mb in ((3.0, 80.0), (6.0, 90.0))
        ],
    }


def test_a_file_of_something_else_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"name": "plan"}')
    with pytest.raises(msgspec.ValidationError):
        read_bench(path)


def test_the_table_on_a_terminal_is_aligned() -> None:
    lines = aligned(COMPARISON).splitlines()
    assert lines == [
        "10 rows (to reach: 3 times)",
        "  contestant           median (least..most)  ratio  CPU s            peak MB  runs",
        "  sort -u               1.50 (1.00..2.00) s      1  0.500               12.0     2",
        "  facepurge plan        4.50 (3.00..6.00) s   3.00   2.50  85.0 (80.0..90.0)     2",
        "    plan MB 7.00",
        "  a | b                              failed                                      0",
        "    out of memory",
        "  Python dict of sets               skipped                                      0",
        "    not asked",
    ]


def test_the_table_in_a_document_has_a_row_for_each_contestant() -> None:
    text = markdown(_results(BENCH))
    head, table = text.split("\n\n")
    assert head.startswith(
        "Measured on 2026-11-26 with `make bench`, in 2 minutes, load 0.2 before: "
    )
    rows = [re.split(r" ?(?<!\\)\| ?", row) for row in table.splitlines()]
    assert {len(row) for row in rows} == {11}
    assert [row[3] for row in rows[2:]] == [
        "sort -u",
        "facepurge plan",
        r"a \| b",
        "Python dict of sets",
    ]
    assert rows[3][4:10] == [
        "4.50 (3.00..6.00) s", "3.00", "2.50", "85.0 (80.0..90.0)", "2", "plan MB 7.00",
    ]  # fmt: skip


def test_the_block_of_a_document_is_replaced_and_nothing_else() -> None:
    text = f"# before\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    new = replaced(text, ["| one |", "| two |"])
    assert new == f"# before\n\n{BEGIN}\n\n| one |\n\n| two |\n\n{END}\n\nafter\n"
    assert replaced(new, ["| one |", "| two |"]) == new
    for broken in ("no block", text + text):
        with pytest.raises(ValueError, match="not one"):
            replaced(broken, [])


def test_the_readme_shows_every_bench_with_date_and_command() -> None:
    block = block_of((ROOT / "README.md").read_text("utf-8"))
    tables = block.strip().split("\n\n")
    heads, bodies = tables[::2], tables[1::2]
    assert len(heads) == len(bodies) > 0
    for head, body in zip(heads, bodies, strict=True):
        assert re.match(r"Measured on \d{4}-\d\d-\d\d with `make bench[^`]*`, in \d+ minutes", head)
        rows = [re.split(r" ?(?<!\\)\| ?", row)[1:-1] for row in body.splitlines()]
        assert rows[0] == ["bench", "work", *HEADINGS, "also"]
        assert {len(row) for row in rows} == {len(rows[0])}
        command = head.split("`")[1].partition(" ROUNDS=")[0]
        scales = [scale for scale in get_args(Scale) if TARGETS[scale] == command]
        assert len(scales) == 1, command
        expected = {entry.name for entry in ENTRIES if scales[0] in entry.scales}
        assert {row[0] for row in rows[2:]} == expected


def test_results_are_published_by_a_command(tmp_path: Path) -> None:
    document, results = tmp_path / "README.md", tmp_path / "small.json"
    document.write_text(f"{BEGIN}\n{END}\n")
    write(results, _results(BENCH))
    command = [sys.executable, "-m", "tests.benchmarks.published", str(document), str(results)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert block_of(document.read_text()).strip() == markdown(_results(BENCH))


def test_a_command_line_is_told_without_where_its_results_went() -> None:
    assert typed("m", ["--rows", "10", "--json", "a b", "--x"]) == "python -m m --rows 10 --x"


def test_every_bench_is_registered() -> None:
    files = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")}
    assert {entry.name for entry in ENTRIES} == files


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_every_bench_takes_what_it_is_given(name: str) -> None:
    command = [sys.executable, "-m", module_of(name), "--help"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "--json" in told


def test_a_campaign_collects_what_its_benches_measured(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks.campaign", "--json", str(path)]
    command += ["--rounds", "2", "--only", "start"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    results = read_results(path)
    assert results.command == "make bench ONLY='start' ROUNDS=2"
    (bench,) = results.benches
    assert bench.name == "start"
    assert [len(c.of("bare interpreter").measurements) for c in bench.comparisons] == [2, 2]
    assert markdown(results) in done.stdout


def test_a_bench_that_does_not_exist_is_refused() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.campaign",
        "--json",
        "x",
        "--only",
        "nothing",
    ]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such bench: nothing; there are" in done.stderr


def test_a_plan_is_measured_from_generator_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    sizes = ["--rows", "2000", "--shape-rows", "500", "--rounds", "1"]
    command = [sys.executable, "-m", "tests.benchmarks.bench_plan", *sizes, "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *shapes, largest, resumed = read_bench(path).comparisons
    assert len(shapes) == 7
    assert largest.title.startswith("2,000 rows, shuffled")
    for comparison in (*shapes, largest):
        ours = [s for s in comparison.series if s.contestant == "facepurge plan"]
        assert ours or "facepurge plan" in comparison.skipped
        assert all(s.spread("plan_mb") and s.spread("peak_mb") for s in ours)
    assert resumed.of("resume").measurements[0].told["faces"] == 1_800
