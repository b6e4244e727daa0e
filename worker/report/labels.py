"""Labels over many records: each counts once, with the status of all of its records together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import apsw

from worker.report.files import ReportDirectory
from worker.report.statuses import STATUSES, Status

_NAME = "labels"
_IN_MEMORY = 20_000
_CACHE_KIB = 8 * 1024

# The table is scratch paper: nobody else reads it and it need not survive, so nothing is committed.
_SCRATCH = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE label (name TEXT PRIMARY KEY, kinds INTEGER NOT NULL) STRICT, WITHOUT ROWID;
BEGIN;
"""

# Add what further records of a label showed to what is known of it.
_MERGE = """
INSERT INTO label (name, kinds) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET kinds = kinds | excluded.kinds
"""

# How many labels there are for each combination of kinds.
_COUNT = "SELECT kinds, count(*) FROM label GROUP BY kinds"


class Labels:
    """Counts labels by status in flat memory; as a context it owns a scratch file.

    ``add`` and ``counts`` raise ``worker.errors.ReportFailed`` where the disk is full.
    """

    def __init__(self, directory: ReportDirectory) -> None:
        self._directory = directory
        self._recent: dict[str, int] = {}
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            with contextlib.suppress(apsw.Error):
                self._connection.close(True)
            self._directory.discard(_NAME)

    def add(self, records: Iterable[tuple[str, int]]) -> None:
        """Take further records: each a label and the ``Kinds`` of its faces."""
        recent = self._recent
        for label, kinds in records:
            recent[label] = recent.get(label, 0) | kinds
        if len(recent) >= _IN_MEMORY:
            self._spill()

    def counts(self) -> dict[Status, int]:
        """How many labels have each status."""
        counts = dict.fromkeys(Status, 0)
        if self._connection is None:
            for kinds in self._recent.values():
                counts[STATUSES[kinds]] += 1
            return counts
        connection = self._spill()
        with self._failing():
            for kinds, labels in connection.execute(_COUNT):
                counts[STATUSES[int(str(kinds))]] += int(str(labels))
        return counts

    def _spill(self) -> apsw.Connection:
        with self._failing():
            if self._connection is None:
                self._connection = apsw.Connection(self._directory.scratch_path(_NAME))
                self._connection.execute(_SCRATCH).fetchall()
            self._connection.executemany(_MERGE, sorted(self._recent.items()))
        self._recent.clear()
        return self._connection

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            full = isinstance(error, apsw.FullError | apsw.IOError)
            raise self._directory.failure("", str(error), full=full) from error
