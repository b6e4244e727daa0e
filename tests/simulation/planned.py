"""A drawn order becomes a ledger: the program's own plan over sources that need no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.simulation.orders import Order
from worker.holds import NO_HOLDS, Grammar, Hold, read_holds
from worker.ledger.draft import LedgerDraft
from worker.model import Entry, SourceSummary
from worker.plan import draw_up
from worker.settings import Settings


class _DrawnSource:
    """Implements ``worker.sources.interface.Source``."""

    def __init__(self, name: str, entries: Sequence[Entry]) -> None:
        self.name = name
        self._entries = entries

    def chunks(self) -> Iterator[list[Entry]]:
        yield list(self._entries)

    def summary(self) -> SourceSummary:
        count = len(self._entries)
        return SourceSummary(self.name, "csv", "0" * 64, 1, count, count, 0, ())


def write_holds(path: Path, holds: Iterable[Hold]) -> None:
    """The exclusion list as a file."""
    lines = [f"{person},{face}" if face else person for person, face in holds]
    path.write_text("".join(f"{line}\n" for line in lines))


def plan(order: Order, directory: Path) -> Settings:
    """Write the ledger of ``order`` into ``directory``; returns the settings of the run."""
    directory.mkdir()
    settings, holds = order.settings, NO_HOLDS
    if settings.exclude_from:
        path = directory / settings.exclude_from
        write_holds(path, sorted(order.holds))
        settings = msgspec.structs.replace(settings, exclude_from=str(path))
        holds = read_holds(path, Grammar(settings.person_id_pattern, settings.face_id_pattern))
    sources = [
        _DrawnSource(f"{number}.csv", entries) for number, entries in enumerate(order.sources)
    ]
    run_id = f"20261123T000000Z-00000{order.name}"
    with LedgerDraft(directory) as draft:
        figures = draw_up(sources, holds, draft, run_id, lambda _: None)
        draft.seal(
            {
                "run_id": run_id,
                "program_version": "0",
                "planned_us": 0,
                "account": "account",
                "endpoint": "https://green.cn-shanghai.aliyuncs.com",
                "rehearsal": False,
                "settings": msgspec.to_builtins(settings),
                "persons": figures.persons,
                "whole_persons": figures.whole_persons,
                "faces": figures.faces,
                "calls": figures.calls,
                "repeats": figures.repeats,
                "rows": figures.rows,
                "holds_sha256": holds.sha256,
            }
        )
    return settings
