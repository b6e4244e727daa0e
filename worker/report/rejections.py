"""The list of refused rows of an input that was turned down before there was a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from worker.errors import InputRefused, ReportFailed
from worker.plan import Rejection
from worker.report.cells import harmless_column
from worker.report.files import ReportDirectory

REJECTIONS = "rejected.csv"
_ROWS_AT_ONCE = 5_000


def write_rejections(rejections: Iterable[Rejection], directory: Path) -> Path:
    """Write every place and reason; names no IDs, the places lead to them.

    Raises ``InputRefused`` when the list cannot be written: the input is refused all the same.
    """
    try:
        with ReportDirectory(directory, (REJECTIONS,)) as folder:
            _write(rejections, folder)
    except ReportFailed as error:
        raise InputRefused(
            f"{error.cause.partition('; the ledger')[0]}, and the input has rows that cannot be"
            " sent as they are",
            "choose another place with --run-dir DIR, and start again",
        ) from error
    return directory / REJECTIONS


def _write(rejections: Iterable[Rejection], folder: ReportDirectory) -> None:
    file = folder.file(REJECTIONS)
    file.write(b"place,reason\n")
    pending: list[Rejection] = []
    for rejection in rejections:
        pending.append(rejection)
        if len(pending) == _ROWS_AT_ONCE:
            file.write(_encoded(pending), len(pending))
            pending.clear()
    file.write(_encoded(pending), len(pending))
    file.seal()
    folder.publish()


def _encoded(rejections: list[Rejection]) -> bytes:
    text = io.StringIO(newline="")
    places = harmless_column([rejection.place for rejection in rejections])
    reasons = harmless_column([rejection.reason for rejection in rejections])
    csv.writer(text, lineterminator="\n").writerows(zip(places, reasons, strict=True))
    return text.getvalue().encode()
