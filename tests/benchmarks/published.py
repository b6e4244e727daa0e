"""The table of the README, between two marks: ``python -m tests.benchmarks.published README.md RESULTS...``.

Written from files of results, never by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.benchmarks.results import read_results
from tests.benchmarks.table import markdown

BEGIN = "<!-- benchmarks: written by `make bench-readme` -->"
END = "<!-- end of benchmarks -->"
BLOCK = re.compile(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}", re.DOTALL)


def block_of(text: str) -> str:
    """What stands between the marks; raises ``ValueError`` where they are not there exactly once."""
    blocks: list[str] = BLOCK.findall(text)
    if len(blocks) != 1:
        raise ValueError(f"there are {len(blocks)} blocks between {BEGIN!r} and {END!r}, not one")
    return blocks[0]


def replaced(text: str, tables: list[str]) -> str:
    """``text`` with these tables in its block. Raises ``ValueError`` as ``block_of`` does."""
    block_of(text)
    inner = "\n\n".join(tables)
    return BLOCK.sub(lambda _: f"{BEGIN}\n\n{inner}\n\n{END}", text)


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit("published: name the document and one file of results at least")
    document, *results = map(Path, sys.argv[1:])
    tables = [markdown(read_results(path)) for path in results]
    document.write_text(replaced(document.read_text("utf-8"), tables), "utf-8")
    print(f"{document}: the tables of {', '.join(map(str, results))}")


if __name__ == "__main__":
    main()
