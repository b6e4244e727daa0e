"""Every planted bug against the tests that are to catch it: ``make planted``.

Arguments are names of bugs or of parts; without any, all are hunted. Exits with 1 where a bug is
not caught, where its entry does not fit the tree, or where a named test fails without any bug.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from tests.planted.bug import Bug, all_bugs
from tests.planted.hunt import Hunted, complaint_without_bug, hunt
from tests.planted.tree import Tree, trees

PROCESSES = 2


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("only", nargs="*", help="names of bugs or parts")
    only = set(arguments.parse_args().only)
    parts = {
        part: [bug for bug in bugs if not only or only & {part, bug.name}]
        for part, bugs in all_bugs().items()
    }
    bugs = [bug for part in parts.values() for bug in part]
    if not bugs:
        arguments.error(f"no bug and no part is called {', '.join(sorted(only))}")
    with trees(PROCESSES) as copies:
        if complaint := complaint_without_bug(copies[0], bugs):
            say(complaint)
            return 1
        found = hunt_all(copies, bugs)
    for part, named in parts.items():
        for hunted in (found[bug.name] for bug in named):
            say(f"{part:<10} {hunted.bug.name:<44} {hunted.seconds:6.1f} s  {_fate(hunted)}")
    missed = sum(bool(hunted.complaint) for hunted in found.values())
    say(f"{len(bugs)} bugs, {len(bugs) - missed} caught, {missed} not")
    return 1 if missed else 0


def _fate(hunted: Hunted) -> str:
    return f"NOT CAUGHT: {hunted.complaint}" if hunted.complaint else "caught"


def hunt_all(copies: Sequence[Tree], bugs: Sequence[Bug]) -> dict[str, Hunted]:
    """What became of each bug, by name; one hunt at a time in each of ``copies``."""
    free: SimpleQueue[Tree] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def hunted(bug: Bug) -> Hunted:
        tree = free.get()
        try:
            return hunt(tree, bug)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(copies)) as pool:
        return {result.bug.name: result for result in pool.map(hunted, bugs)}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
