"""Labels over many records: each counts once, with the status of all of its records together."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from worker.report.files import ReportDirectory
from worker.report.statuses import STATUSES, Status

_IN_MEMORY = 50_000
_PARTS = 1024
"""A hundred million labels leave a hundred thousand for each part."""

_decode = msgspec.msgpack.Decoder(dict[str, int]).decode


class Labels:
    """Counts labels by status in flat memory; as a context it owns a scratch file.

    Those beyond memory are written out in parts by their hash, so that all that is known of a label
    is in one part, and the parts are counted one after the other.

    ``add`` and ``counts`` raise ``worker.errors.ReportFailed`` where the disk is full.
    """

    def __init__(self, directory: ReportDirectory) -> None:
        self._directory = directory
        self._recent: dict[str, int] = {}
        self._descriptor = -1
        self._ends = array("q", [0])
        """Of the pieces in the scratch file: one for each part, over and over again."""
        self._scratch = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scratch.close()

    def add(self, records: Iterable[tuple[str, int]]) -> None:
        """Take further records: each a label and the ``Kinds`` of its faces."""
        recent = self._recent
        known = recent.get
        for label, kinds in records:
            recent[label] = known(label, 0) | kinds
        if len(recent) >= _IN_MEMORY:
            with self._directory.failing(""):
                self._spill()

    def counts(self) -> dict[Status, int]:
        """How many labels have each status."""
        if self._descriptor < 0:
            return _counts(self._recent.values())
        counts = dict.fromkeys(Status, 0)
        with self._directory.failing(""):
            self._spill()
            for part in range(_PARTS):
                for status, labels in _counts(self._read(part).values()).items():
                    counts[status] += labels
        return counts

    def _spill(self) -> None:
        if self._descriptor < 0:
            scratch = self._scratch.enter_context(self._directory.scratch())
            self._descriptor = scratch.fileno()
        parts: list[dict[str, int]] = [{} for _ in range(_PARTS)]
        for label, kinds in self._recent.items():
            parts[hash(label) % _PARTS][label] = kinds
        self._recent.clear()
        pieces = [msgspec.msgpack.encode(part) for part in parts]
        end = self._ends[-1]
        for piece in pieces:
            end += len(piece)
            self._ends.append(end)
        rest = memoryview(b"".join(pieces))
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _read(self, part: int) -> dict[str, int]:
        """All labels of a part, and what is known of each."""
        labels: dict[str, int] = {}
        known = labels.get
        ends = self._ends
        for piece in range(part, len(ends) - 1, _PARTS):
            begin, end = ends[piece], ends[piece + 1]
            for label, kinds in _decode(os.pread(self._descriptor, end - begin, begin)).items():
                labels[label] = known(label, 0) | kinds
        return labels


def _counts(known: Iterable[int]) -> dict[Status, int]:
    counts = dict.fromkeys(Status, 0)
    for kinds in known:
        counts[STATUSES[kinds]] += 1
    return counts
