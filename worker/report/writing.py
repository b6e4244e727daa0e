"""The report of a run, from its books: every file of it, and the conclusion they amount to."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from worker.report.aim import Aim
from worker.report.batches import batches
from worker.report.carried import CarriedColumns
from worker.report.conclusion import Conclusion, conclude
from worker.report.files import ReportDirectory, UnkeptReport
from worker.report.interface import Books, RunHeader
from worker.report.jobs import Jobs
from worker.report.labels import Labels
from worker.report.page import Page
from worker.report.parquet import ParquetTable
from worker.report.statuses import kinds_of_outcomes
from worker.report.summary import FORMAT_NAME, FORMAT_VERSION, Summary, json_document, summarise
from worker.report.tables import Tables
from worker.report.tally import Counting, Tally

RESULTS = "results.csv"
JOBS = "results.jsonl"
FAILURES = "failures.csv"
REJECTED = "rejected.csv"
SUMMARY = "summary.json"
INDEX = "index.json"
NAMES = (RESULTS, JOBS, FAILURES, REJECTED, SUMMARY, INDEX)
PARQUET = "results.parquet"
"""Beside the others where somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was made."""

    directory: Path
    conclusion: Conclusion
    summary: Summary
    """What ``summary.json`` holds; also the object that ``--json`` prints."""


def write_report(books: Books, directory: Path, *, with_parquet: bool = False) -> Report:
    """Write the report of a run into ``directory``, which is ``RUN_DIR/report``.

    One pass over the lines with flat memory. The same books give the same bytes. The files get
    their names only when all of them are complete and synced; a ``results.parquet`` of an earlier
    report goes where this one has none.

    Raises ``worker.errors.ReportFailed`` where a file cannot be written; what was there before is
    then still there. What ``books`` raises passes through.
    """
    return _write(books, ReportDirectory(directory, (*NAMES, PARQUET)), with_parquet=with_parquet)


def unkept_report(books: Books) -> Report:
    """What the report of a run would say, where there is no room to keep it; its directory is gone.

    Raises ``OSError`` and ``worker.errors.ReportFailed`` where temporary files have no room either.
    """
    return _write(books, UnkeptReport(), with_parquet=False)


def _write(books: Books, directory: ReportDirectory, *, with_parquet: bool) -> Report:
    header = books.header()
    aim = Aim.of(header.settings, books.sessions())
    with directory as folder:
        tally = _write_lines(books, aim, folder, with_parquet=with_parquet)
        conclusion = conclude(books, tally, aim)
        summary = summarise(books, conclusion)
        folder.file(SUMMARY).write(json_document(summary), 1)
        document = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "run_id": header.run_id,
            "rehearsal": header.rehearsal,
            "files": folder.seal(),
        }
        index = folder.file(INDEX)
        index.write(json_document(document), 1)
        index.seal()
        folder.publish()
    return Report(directory.path, conclusion, summary)


def _write_lines(books: Books, aim: Aim, folder: ReportDirectory, *, with_parquet: bool) -> Tally:
    """The files with the lines and the jobs, and what is counted on the way."""
    results = folder.file(RESULTS)
    job_file = folder.file(JOBS)
    failures = folder.file(FAILURES)
    rejected = folder.file(REJECTED)
    carried = CarriedColumns(name for source in books.sources() for name in source.carried_columns)
    tables = Tables(results, failures, rejected, carried.headers, aim)
    parquet = None
    if with_parquet:
        parquet = ParquetTable(folder.file(PARQUET), carried.headers, _metadata(books.header()))
    counting = Counting(aim)
    with (
        parquet or nullcontext(),
        Labels(folder) as labels,
        Jobs(job_file, folder.scratch, kinds_of_outcomes(aim.wanted)) as jobs,
    ):
        record = None
        for batch in batches(books.lines()):
            page = Page.of(batch, record)
            record = batch.record_nos[-1]
            cells = carried.of(batch, page.starts)
            tables.add(page, cells)
            if parquet is not None:
                parquet.add(batch, cells)
            counting.add(batch)
            with folder.failing(JOBS):
                finished = jobs.add(page)
            counting.add_jobs(finished)
            labels.add(finished)
        with folder.failing(JOBS):
            finished = jobs.end()
        counting.add_jobs(finished)
        labels.add(finished)
        return counting.tally(labels.counts(), results.rows)


def _metadata(header: RunHeader) -> dict[str, str]:
    return {
        "facepurge.format": FORMAT_NAME,
        "facepurge.version": str(FORMAT_VERSION),
        "facepurge.run_id": header.run_id,
        "facepurge.rehearsal": "true" if header.rehearsal else "false",
    }
