"""Lines of the books, a few thousand at a time, turned into columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from operator import ne
from typing import NamedTuple

from worker.report.interface import Line

_LINES = 1000
"""Few enough for the processor's cache: with ten thousand, turning lines into columns takes thrice as
long."""
_CARRIED_CHARACTERS = 1024 * 1024


class Batch(NamedTuple):
    """Adjacent lines as columns of equal length: the fields of ``Line``, in its order."""

    record_nos: Sequence[int]
    labels: Sequence[str]
    sources: Sequence[str]
    lines: Sequence[int]
    person_ids: Sequence[str]
    face_ids: Sequence[str]
    outcomes: Sequence[str]
    codes: Sequence[str]
    messages: Sequence[str]
    request_ids: Sequence[str]
    attempts: Sequence[int]
    first_sent_us: Sequence[int | None]
    finished_us: Sequence[int | None]
    duplicates_of: Sequence[str]
    carried: Sequence[str]

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Batch:
        """The columns of ``lines``, of which there is at least one."""
        return cls(*zip(*lines, strict=True))

    def starts(self, record_before: int | None) -> list[int]:
        """Where records begin; ``record_before`` is that of the line before the first, if any."""
        numbers = self.record_nos
        inner = compress(range(1, len(numbers)), map(ne, numbers, numbers[1:]))
        return [*inner] if numbers[0] == record_before else [0, *inner]


def batches(lines: Iterable[Line]) -> Iterator[Batch]:
    """``lines`` in batches that stay small, also where records carry much."""
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
            yield Batch.of(batch)
            batch = []
            room = _CARRIED_CHARACTERS
    if batch:
        yield Batch.of(batch)
