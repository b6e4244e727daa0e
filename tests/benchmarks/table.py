"""Measurements as a table: aligned for a terminal, Markdown for a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks.comparison import Comparison, Series
from tests.benchmarks.results import Bench, Results
from tests.benchmarks.spread import Spread

HEADINGS = ("contestant", "median (least..most)", "ratio", "CPU s", "peak MB", "runs")


def _shown(spread: Spread | None) -> str:
    return "" if spread is None else str(spread)


def unit_of(figure: str) -> str:
    """``wall_seconds`` is shown as ``s``, ``calls_per_second`` as ``calls/s``."""
    return (
        figure.removeprefix("wall_")
        .replace("_per_second", "/s")
        .replace("_mb", "_MB")
        .replace("seconds", "s")
        .replace("_", " ")
    )


def _cells(comparison: Comparison, series: Series) -> list[str]:
    if series.failure:
        return [series.contestant, "failed", "", "", "", "0"]
    is_baseline = series.contestant == comparison.baseline
    return [
        series.contestant,
        f"{_shown(series.spread(comparison.figure))} {unit_of(comparison.figure)}",
        "1" if is_baseline else _shown(comparison.ratio(series.contestant)),
        _shown(series.spread("cpu_seconds")),
        _shown(series.spread("peak_mb")),
        str(sum(not measurement.failure for measurement in series.measurements)),
    ]


def _also(comparison: Comparison, series: Series) -> str:
    """Why it failed; otherwise what else was told."""
    names = dict.fromkeys(name for m in series.measurements for name in m.told)
    told = {name: series.spread(name) for name in names if name != comparison.figure}
    notes = [f"{unit_of(name)} {spread}" for name, spread in told.items() if spread]
    return series.failure or "; ".join(notes)


def aligned(comparison: Comparison) -> str:
    """For a terminal; a further line for what else a contestant told, or why it did not take part."""
    table, notes = [list(HEADINGS)], [""]
    for series in comparison.series:
        table.append(_cells(comparison, series))
        notes.append(_also(comparison, series))
    for name, why in comparison.skipped.items():
        table.append([name, "skipped", "", "", "", "0"])
        notes.append(why)
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    goal = f" (to reach: {comparison.to_reach})" if comparison.to_reach else ""
    lines = [f"{comparison.title}{goal}"]
    for row, note in zip(table, notes, strict=True):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
        if note:
            lines.append(f"    {note}")
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """One table of everything, with where and how it was measured above it."""
    day = results.date.partition("T")[0]
    took = f"in {results.seconds / 60:.0f} minutes, load {results.load:.1f} before"
    lines = [
        f"Measured on {day} with `{results.command}`, {took}: {results.machine.sentence}.",
        "",
        _line(["bench", "work", *HEADINGS, "also"]),
        "|" + "---|" * (len(HEADINGS) + 3),
    ]
    for bench in results.benches:
        lines += _bench_rows(bench)
    return "\n".join(lines)


def _bench_rows(bench: Bench) -> Iterator[str]:
    for comparison in bench.comparisons:
        goal = f"; to reach: {comparison.to_reach}" if comparison.to_reach else ""
        work = comparison.title + goal
        for series in comparison.series:
            yield _line([bench.name, work, *_cells(comparison, series), _also(comparison, series)])
            work = ""
        for name, why in comparison.skipped.items():
            yield _line([bench.name, work, name, "skipped", "", "", "", "0", why])
            work = ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
