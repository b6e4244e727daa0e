"""A run drafted from chunks, and all that its ledger says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.core.rig import RUN_ID
from tests.ledger.audit import rows as select
from worker.deadlines import Schedule
from worker.holds import Hold, Holds
from worker.ledger.database import open_ledger
from worker.ledger.draft import LedgerDraft
from worker.ledger.rowmap import RowMap
from worker.ledger.unrolling import unrolled
from worker.model import Chunk, SourceSummary
from worker.plan import PlanFigures

TABLES = ("row", "repeat", "call", "face", "due", "named", "tally", "frontier")


def drafted(
    run_dir: Path,
    sources: Sequence[Sequence[Chunk]],
    holds: frozenset[Hold] = frozenset(),
    faces_per_call: int = 2,
) -> tuple[PlanFigures, dict[str, list[Any]]]:
    """The figures, and all that the ledger says, by what says it."""
    run_dir.mkdir()
    with LedgerDraft(run_dir) as draft:
        for source_no, source in enumerate(sources):
            for chunk in source:
                draft.add(source_no, chunk)
            summary = SourceSummary(f"s{source_no}", "csv", "", 1, 1, 1, 0, ())
            draft.add_source(source_no, summary)
        draft.add_holds(Holds(holds, "x"))
        figures = draft.arrange(RUN_ID, faces_per_call, Schedule(0, 1.0))
        world = sorted((person_id, sorted(faces)) for person_id, faces in draft.world())
        draft.seal({"run_id": RUN_ID, "rows": figures.rows, "calls": figures.calls})
    connection = open_ledger(run_dir)
    with unrolled(connection):
        said: dict[str, list[Any]] = {
            table: select(connection, f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 (ours)
            for table in TABLES
        }
    said["amendments"] = list(RowMap(connection).amendments())
    connection.close()
    return figures, {**said, "world": world}
