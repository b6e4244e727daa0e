"""How fast rows become a durable plan, and in how much memory.

``python tests/benchmarks/bench_plan.py [ROWS]`` plans a million shuffled rows, and as many rows of
one repeated pair, each in a process of its own, and prints rows per second, the ratio to a plain
Python dict of sets over the same rows in the same process, and the peak memory the operating
system saw. The dict of sets is neither durable nor in any order.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.draft import LedgerDraft
from worker.model import Entry, SourceSummary
from worker.plan import FACES_PER_CALL

CHUNK_ROWS = 50_000
CASES = ("shuffled", "repeated")


def entries(case: str, rows: int) -> Iterator[list[Entry]]:
    """Chunks as a source gives them, made while they are taken: five faces a person, a tenth repeated."""
    chance = random.Random(11)
    persons = max(1, rows * 9 // 50)
    for start in range(0, rows, CHUNK_ROWS):
        chunk = []
        for row in range(start, min(rows, start + CHUNK_ROWS)):
            number = chance.randrange(persons) if case == "shuffled" else 0
            face = chance.randrange(25) if case == "shuffled" else 0
            person_id, face_id = f"person_{number:09d}", f"{31842550077981745 + 25 * number + face}"
            chunk.append(Entry(row, row + 2, "", person_id, face_id, "", "", ""))
        yield chunk


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures_of(case: str, rows: int) -> dict[str, float]:
    """Plan, then the yardstick; only the time spent in the draft counts, not making the rows."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch)
        before_mb = _peak_mb()
        seconds = 0.0
        with LedgerDraft(run_dir) as draft:
            for chunk in entries(case, rows):
                begin = time.perf_counter()
                draft.add_entries(0, chunk)
                seconds += time.perf_counter() - begin
            begin = time.perf_counter()
            draft.add_source(0, SourceSummary("big.csv", "csv", "0" * 64, 1, rows, rows, 0, ()))
            plan = draft.arrange("bench", FACES_PER_CALL)
            draft.seal({"run_id": "bench"})
            seconds += time.perf_counter() - begin
        plan_mb = _peak_mb() - before_mb
        begin = time.perf_counter()
        open_ledger(run_dir).close()
        opening = time.perf_counter() - begin
        size_mb = (run_dir / FILE_NAME).stat().st_size / 1e6

    yardstick = 0.0
    persons: dict[str, set[str]] = {}
    for chunk in entries(case, rows):
        begin = time.perf_counter()
        for entry in chunk:
            persons.setdefault(entry.person_id, set()).add(entry.face_id)
        yardstick += time.perf_counter() - begin
    assert plan.persons == plan.calls == len(persons)
    assert plan.faces == sum(map(len, persons.values())) == rows - plan.repeats
    return {
        "seconds": seconds,
        "yardstick_seconds": yardstick,
        "plan_mb": plan_mb,
        "both_mb": _peak_mb() - before_mb,
        "calls": plan.calls,
        "faces": plan.faces,
        "opening_seconds": opening,
        "size_mb": size_mb,
    }


def main() -> None:
    if len(sys.argv) > 2:
        sys.stdout.write(json.dumps(figures_of(sys.argv[1], int(sys.argv[2]))))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for case in CASES:
        command = [sys.executable, __file__, case, str(rows)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        told = json.loads(output)
        sys.stdout.write(
            f"{case:9} {rows:,} rows: {rows / told['seconds']:,.0f} rows/s to a durable plan of"
            f" {told['calls']:,.0f} calls, {told['seconds'] / told['yardstick_seconds']:.1f} times a"
            f" dict of sets; {told['plan_mb']:.0f} MB above the start, {told['size_mb']:.0f} MB on"
            f" disk, opened and checked in {told['opening_seconds']:.2f} s\n"
        )


if __name__ == "__main__":
    main()
