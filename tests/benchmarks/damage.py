"""How often good IDs are taken for damaged ones, and damaged ones for good.

``python -m tests.benchmarks.damage [COLUMNS]`` draws so many columns (default 400) of each
kind in ``tests/core/id_columns.py`` and of several lengths, and prints the share that is refused
and the share that is warned of; then the same of columns that went through a double, JavaScript, a
spreadsheet, or lost their zeros. Then how long a million rows take to be looked at.
"""

from __future__ import annotations

import random
import sys
import time

from tests.core.id_columns import (
    UNHARMED,
    Maker,
    as_double,
    as_javascript,
    as_spreadsheet,
    digits,
    padded,
    snowflakes,
    without_zeros,
)
from worker.damage import IdWatch
from worker.model import Entry

ROWS = (10, 20, 50, 1_000)

DAMAGED = {
    "17 digits, double": (digits(17), as_double),
    "17 digits, JavaScript": (digits(17), as_javascript),
    "17 digits, spreadsheet": (digits(17), as_spreadsheet),
    "18 digits, double": (digits(18), as_double),
    "18 digits, JavaScript": (digits(18), as_javascript),
    "19 digits, double": (digits(19), as_double),
    "19 digits, JavaScript": (digits(19), as_javascript),
    "19 digits, spreadsheet": (digits(19), as_spreadsheet),
    "16 digits, spreadsheet": (digits(16), as_spreadsheet),
    "snowflake idle, double": (snowflakes(0), as_double),
    "snowflake busy, double": (snowflakes(1), as_double),
    "13 digits, zeros lost": (padded(13), without_zeros),
    "17 digits, zeros lost": (padded(17), without_zeros),
}


def said_of(ids: list[str]) -> tuple[bool, bool]:
    """Whether the column is refused, and whether it is warned of."""
    watch = IdWatch(frozenset())
    entries = [Entry(n, n + 2, "", f"p{n}", face_id, "", "", "") for n, face_id in enumerate(ids)]
    found = [*watch.look("a.csv", entries), *watch.end(), *watch.conclude()]
    return any(f.certain for f in found), any(not f.certain for f in found)


def shares(make: Maker, spoil: object, columns: int, rows: int, seed: str) -> str:
    refused = warned = 0
    for number in range(columns):
        ids = make(random.Random(f"{seed} {rows} {number}"), rows)
        verdict = said_of([spoil(text) for text in ids] if callable(spoil) else ids)
        refused += verdict[0]
        warned += verdict[1]
    return f"{100 * refused / columns:6.1f} {100 * warned / columns:6.1f}"


def main() -> None:
    columns = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    sys.stdout.write(f"{'% refused, % warned of; rows:':30}")
    sys.stdout.write("".join(f"{rows:>16,}" for rows in ROWS) + "\n")
    kinds: dict[str, tuple[Maker, object]] = {name: (make, None) for name, make in UNHARMED.items()}
    for name, (make, spoil) in {**kinds, **DAMAGED}.items():
        told = [
            # A thousand rows take a hundred times as long as ten, and a tenth of the columns do.
            shares(make, spoil, columns if rows < 1_000 else max(1, columns // 10), rows, name)
            for rows in ROWS
        ]
        sys.stdout.write(f"{name:30}" + "".join(f"{text:>16}" for text in told) + "\n")
    chance = random.Random(1)
    entries = [
        Entry(n, n + 2, "", f"person_{n // 5}", str(chance.randrange(10**16, 10**17)), "", "", "")
        for n in range(1_000_000)
    ]
    watch = IdWatch(frozenset())
    begin = time.process_time()
    for start in range(0, len(entries), 7_000):
        list(watch.look("a.csv", entries[start : start + 7_000]))
    list(watch.end())
    list(watch.conclude())
    sys.stdout.write(
        f"1,000,000 rows are looked at in {time.process_time() - begin:.2f} s of CPU\n"
    )


if __name__ == "__main__":
    main()
