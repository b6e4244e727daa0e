"""How fast a manifest becomes a durable plan, and in how much memory, against ``sort -u`` on the same file.

``python -m tests.benchmarks.bench_plan`` plans 10 million shuffled rows and a million of each other shape;
``--scale large`` plans 100 million. ``facepurge plan FILE -o DIR`` is started as a user does; it has to end
with 0 and to count what the generator wrote. Afterwards the largest plan is begun, killed, and resumed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.agreeable_service import AgreeableService
from tests.benchmarks.comparison import Comparison, Contestant, compare
from tests.benchmarks.interruption import interrupted
from tests.benchmarks.manifest import SHAPES, Shape, faces_of, totals_of
from tests.benchmarks.measurement import MB, measure
from tests.benchmarks.planning import Planning, without
from tests.benchmarks.sitting import Sitting, parser

QUESTION: Final = "How long does it take to plan a manifest, and how much memory?"

ROWS: Final = {"quick": 100_000, "small": 10_000_000, "large": 100_000_000}
SHAPE_ROWS: Final = {"quick": 10_000, "small": 1_000_000, "large": 1_000_000}

SORT_PROGRAMS: Final = ("sort", "gzip", "sh")
DISK_BYTES_PER_ROW: Final = 400
"""Manifest, a copy of it that is sorted, and the plan with what sorts it."""

TO_REACH: Final = {
    1_000_000: "",
    10_000_000: "3 times sort -u, 1,000 MB",
    100_000_000: "1,500 MB",
}
SMALL_BUDGET_SECONDS: Final = 110.0
SHAPE_BUDGET_SECONDS: Final = 8.0
LARGE_BUDGET_SECONDS: Final = 1200.0


def refusal_of(planning: Planning) -> str:
    """Why the program does not read this shape; ``""`` where it does."""
    contestant = planning.facepurge()
    contestant.prepare()
    ended = measure(contestant.command, environment=contestant.environment)
    said = [line for line in ended.err.splitlines() if line.startswith("facepurge:")]
    return said[0].replace(f"{planning.directory}/", "") if ended.exit_code == 2 and said else ""


def of_shape(
    directory: Path, shape: Shape, rows: int, rounds: int, budget_seconds: float
) -> Comparison:
    """The program against ``sort -u``, or against DuckDB where lines are not what is stored."""
    planning = Planning.of(directory, shape, rows)
    lacking = without(SORT_PROGRAMS)
    yardstick = planning.duckdb() if shape == "parquet" else planning.sort()
    contestants, skipped = [yardstick], dict[str, str]()
    if shape == "parquet" and (refusal := refusal_of(planning)):
        skipped["facepurge plan"] = refusal
    else:
        contestants.append(planning.facepurge())
    if lacking and shape != "parquet":
        contestants.remove(yardstick)
        skipped[yardstick.name] = lacking
    return compare(
        planning.title,
        contestants,
        baseline=yardstick.name,
        rounds=rounds,
        budget_seconds=budget_seconds,
        skipped=skipped,
    )


def of_all_yardsticks(
    planning: Planning, rounds: int, budget_seconds: float, *, with_dict: bool
) -> Comparison:
    """Everybody over the same shuffled manifest."""
    sorts = [planning.sort(), planning.sort("-S", "512M")]
    others: list[Contestant] = [planning.facepurge(), planning.duckdb()]
    skipped: Mapping[str, str] = {}
    if with_dict:
        others.append(planning.dict_of_sets())
    if lacking := without(SORT_PROGRAMS):
        skipped = {contestant.name: lacking for contestant in sorts}
        sorts = []
    return compare(
        planning.title,
        [*sorts, *others],
        baseline=planning.sort().name,
        rounds=rounds,
        budget_seconds=budget_seconds,
        to_reach=TO_REACH.get(planning.totals.rows, ""),
        skipped=skipped,
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, help="of the largest manifest")
    options.add_argument("--shape-rows", type=int, help="of each other shape")
    options.add_argument("--directory", type=Path, help="with room; default: where TMPDIR leads")
    given = options.parse_args()
    is_large = given.scale == "large"
    rows = given.rows or ROWS[given.scale]
    shape_rows = given.shape_rows or SHAPE_ROWS[given.scale]
    pairs = totals_of("shuffled", rows).pairs
    with (
        tempfile.TemporaryDirectory(dir=given.directory) as scratch,
        Sitting("plan", QUESTION, given.json) as sitting,
        AgreeableService(lambda person_id: faces_of(int(person_id[7:]), pairs)) as service,
    ):
        directory = Path(scratch)
        if (room := shutil.disk_usage(directory).free) < rows * DISK_BYTES_PER_ROW:
            raise SystemExit(
                f"bench_plan: {rows:,} rows need {rows * DISK_BYTES_PER_ROW / MB:,.0f} MB under"
                f" {directory.parent}, and there are {room / MB:,.0f}; name a directory with room"
                " (--directory DIR, or TMPDIR), or fewer rows (--rows N)"
            )
        if not is_large:
            for shape in SHAPES:
                of_this = directory / shape
                sitting.add(
                    of_shape(of_this, shape, shape_rows, given.rounds, SHAPE_BUDGET_SECONDS)
                )
                shutil.rmtree(of_this)
        planning = Planning.of(directory / "largest", "shuffled", rows, service.url)
        budget_seconds = LARGE_BUDGET_SECONDS if is_large else SMALL_BUDGET_SECONDS
        sitting.add(
            of_all_yardsticks(planning, given.rounds, budget_seconds, with_dict=not is_large)
        )
        sitting.add(interrupted(planning, service))


if __name__ == "__main__":
    main()
