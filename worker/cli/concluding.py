"""From a durable plan to the last line: the work, the report, the exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

from worker.cli import stderr, stdout
from worker.cli.consent import terminating
from worker.cli.ending import known
from worker.cli.purge import carry_out
from worker.cli.run_directory import REPORT
from worker.errors import LedgerFailed
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.model import StopReason, Verb
from worker.pipeline import Stop
from worker.report.closing import last_line, summary_lines
from worker.report.summary import json_document
from worker.report.writing import Report, write_report
from worker.settings import Settings


def conclude_run(run_dir: Path, settings: Settings, verb: Verb, *, json: bool, quiet: bool) -> int:
    """Carry out what ``verb`` is about, write its report, and say how it ended.

    The caller holds the run's lock.
    """
    with known(f"what was done is in the ledger; to go on type: facepurge resume {run_dir}"):
        stop = asyncio.run(carry_out(run_dir, settings, verb, quiet=quiet))
        if stop.reason is StopReason.LEDGER:
            raise LedgerFailed(stop.detail, stop.remedy)
    return report_run(run_dir, json=json, stop=stop)


def report_run(run_dir: Path, *, json: bool, stop: Stop | None = None) -> int:
    """Write the report from the ledger and say what it amounts to; the run is locked."""
    again = f"what was done is in the ledger; to see it type: facepurge report {run_dir}"
    with known(again), terminating():
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            report = write_report(books, run_dir / REPORT)
        finally:
            books.close()
    _say(report, run_dir, json=json, stop=stop)
    return report.conclusion.exit_code


def _say(report: Report, run_dir: Path, *, json: bool, stop: Stop | None) -> None:
    if json:
        stdout.write(json_document(report.summary).decode().rstrip("\n"))
    else:
        stdout.write("\n".join(summary_lines(report.conclusion, str(run_dir))))
    if stop is not None and stop.remedy:
        stderr.write(f"  remedy: {stop.remedy}", level="error")
    stderr.write(last_line(report.conclusion, str(run_dir)))
