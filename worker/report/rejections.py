"""The list of refused rows of an input that was turned down before there was a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from worker.errors import InputRefused, ReportFailed
from worker.plan import Rejection
from worker.report.columns import TextColumn, delimited
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
    places = TextColumn([rejection.place for rejection in rejections])
    reasons = TextColumn([rejection.reason for rejection in rejections])
    return delimited(zip(places.harmless(), reasons.harmless(), strict=True))
