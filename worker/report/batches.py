"""Lines of the books, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from worker.report.interface import Line

_LINES = 2000
_CARRIED_CHARACTERS = 1024 * 1024


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """``lines`` in lists that stay small, also where records carry much."""
    batch: list[Line] = []
    room = _CARRIED_CHARACTERS
    weight = 0
    for line in lines:
        # The first line of a record brings what all of its lines carry into the tables.
        if line.carried:
            weight = len(line.carried)
        elif batch and batch[-1].record_no != line.record_no:
            weight = 0
        batch.append(line)
        room -= weight
        if len(batch) >= _LINES or room <= 0:
            yield batch
            batch = []
            room = _CARRIED_CHARACTERS
    if batch:
        yield batch
