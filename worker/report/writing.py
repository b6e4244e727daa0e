"""The report of a run, from its books: every file of it, and the conclusion they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.report.aim import Aim
from worker.report.batches import batches
from worker.report.conclusion import Conclusion, conclude
from worker.report.files import ReportDirectory, UnkeptReport
from worker.report.interface import Books
from worker.report.jobs import Jobs
from worker.report.labels import Labels
from worker.report.statuses import kinds_of_outcomes
from worker.report.summary import FORMAT_NAME, FORMAT_VERSION, Summary, json_document, summarise
from worker.report.tables import Tables
from worker.report.tally import Counting

RESULTS = "results.csv"
JOBS = "results.jsonl"
FAILURES = "failures.csv"
REJECTED = "rejected.csv"
SUMMARY = "summary.json"
INDEX = "index.json"
NAMES = (RESULTS, JOBS, FAILURES, REJECTED, SUMMARY, INDEX)


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was made."""

    directory: Path
    conclusion: Conclusion
    summary: Summary
    """What ``summary.json`` holds; also the object that ``--json`` prints."""


def write_report(books: Books, directory: Path) -> Report:
    """Write the report of a run into ``directory``, which is ``RUN_DIR/report``.

    One pass over the lines with flat memory. The same books give the same bytes. The files get
    their names only when all of them are complete and synced.

    Raises ``worker.errors.ReportFailed`` where a file cannot be written; what was there before is
    then still there. What ``books`` raises passes through.
    """
    return _write(books, ReportDirectory(directory, NAMES))


def unkept_report(books: Books) -> Report:
    """What the report of a run would say, where there is no room to keep it; its directory is gone.

    Raises ``OSError`` and ``worker.errors.ReportFailed`` where temporary files have no room either.
    """
    return _write(books, UnkeptReport())


def _write(books: Books, directory: ReportDirectory) -> Report:
    header = books.header()
    aim = Aim.of(header.settings, books.sessions())
    kind_of = kinds_of_outcomes(aim.wanted)
    with directory as folder:
        results = folder.file(RESULTS)
        jobs = folder.file(JOBS)
        failures = folder.file(FAILURES)
        rejected = folder.file(REJECTED)
        carried = (name for source in books.sources() for name in source.carried_columns)
        tables = Tables(results, failures, rejected, carried, aim)
        counting = Counting(aim)
        with Labels(folder) as labels, Jobs(jobs, folder.scratch, kind_of) as writer:
            for batch in batches(books.lines()):
                tables.add(batch)
                counting.add(batch)
                with folder.failing(JOBS):
                    finished = writer.add(batch)
                counting.add_jobs(finished)
                labels.add(finished)
            with folder.failing(JOBS):
                finished = writer.end()
            counting.add_jobs(finished)
            labels.add(finished)
            tally = counting.tally(labels.counts(), results.rows)
        conclusion = conclude(books, tally, aim)
        summary = summarise(books, conclusion)
        document = folder.file(SUMMARY)
        document.write(json_document(summary), 1)
        entries = [file.seal() for file in (results, jobs, failures, rejected, document)]
        index = folder.file(INDEX)
        index.write(
            json_document(
                {
                    "format": FORMAT_NAME,
                    "version": FORMAT_VERSION,
                    "run_id": header.run_id,
                    "rehearsal": header.rehearsal,
                    "files": entries,
                }
            ),
            1,
        )
        index.seal()
        folder.publish()
    return Report(directory.path, conclusion, summary)
