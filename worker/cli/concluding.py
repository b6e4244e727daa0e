"""From a durable plan to the last line: the work, the report, the exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from worker.cli import stderr, stdout
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.plan_directory import quoted
from worker.cli.preview import counted
from worker.cli.purge import carry_out
from worker.cli.run_directory import REPORT
from worker.errors import FacepurgeError, GateClosed, LedgerFailed, ReportFailed
from worker.interruption import alarmed, first_signal
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.ledger.facts import is_mere_plan
from worker.model import Outcome, StopReason, Verb
from worker.pipeline import Stop
from worker.report.closing import last_line, summary_lines, unwritten, why_stopped
from worker.report.conclusion import Conclusion, exit_code_of
from worker.report.summary import Summary, json_document
from worker.report.writing import unkept_report, write_report
from worker.settings import Settings
from worker.telemetry import get_log

LEAST_REPORT_SECONDS: Final = 5.0
"""For the report after a signal, also where the calls in flight have taken all of the grace period."""

_MANY_LINES: Final = 50_000
"""So many take seconds to write: somebody may wonder what it is doing."""

_NOT_KNOWN: Final = "how many faces were deleted cannot be read from the ledger"


@dataclass(frozen=True, slots=True)
class Work:
    """What this call of the program has done of the run before it reports; as it is: nothing."""

    stop: Stop | None = None
    """How it ended."""
    attempts_before: int | None = None
    """The number of the last attempt before it; None where it makes none."""
    idle: str = ""
    """Why it has sent nothing, in a clause, for where that is so."""
    seconds: float | None = None
    """What is left for the report."""

    def last_line(
        self, books: LedgerBooks, conclusion: Conclusion, run_dir: Path, *, is_written: bool
    ) -> str:
        before = self.attempts_before
        is_idle = before is None or not books.has_sent_since(before)
        return last_line(
            conclusion,
            str(run_dir),
            is_written=is_written,
            idle=self.idle if is_idle and conclusion.stop_reason else None,
        )

    def say_remedy(self) -> None:
        if self.stop is not None and self.stop.remedy:
            stderr.write(f"  remedy: {self.stop.remedy}", level="error")


class _OutOfTime(BaseException):
    """After a signal, what was left of the grace period is over; nobody who expects errors keeps it."""


def conclude_run(run_dir: Path, settings: Settings, verb: Verb, *, json: bool, quiet: bool) -> int:
    """Carry out what ``verb`` is about, write its report, and say how it ended.

    After a signal the report gets what is left of ``grace_seconds``, or ``LEAST_REPORT_SECONDS``; then
    it is left to ``facepurge report``. The caller holds the run's lock.
    """
    sessions, attempts = _sessions(run_dir), _last_attempt(run_dir)
    with known(lambda: _note(run_dir, verb, sessions)):
        stop = asyncio.run(carry_out(run_dir, settings, verb, quiet=quiet))
        if stop.reason is StopReason.LEDGER:
            raise LedgerFailed(stop.detail, stop.remedy)
        seconds = None
        if signalled := first_signal():
            seconds = max(settings.grace_seconds - signalled[1], LEAST_REPORT_SECONDS)
        is_done = verb is Verb.RESUME and stop.reason is StopReason.FINISHED
        idle = "nothing was left to do" if is_done else ""
        work = Work(stop, attempts, idle, seconds)
        return report_run(run_dir, json=json, report_format=settings.report_format, work=work)


def _sessions(run_dir: Path) -> int | None:
    """How many sessions the run has had, this one included once it has begun; None for who knows."""
    try:
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            return len(books.sessions())
        finally:
            books.close()
    except (FacepurgeError, apsw.Error):
        return None


def _last_attempt(run_dir: Path) -> int:
    """The number of the last attempt of the run so far; that of none where nobody can tell."""
    try:
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            return books.last_attempt()
        finally:
            books.close()
    except (FacepurgeError, apsw.Error):
        return 0


def _note(run_dir: Path, verb: Verb, sessions_before: int | None) -> str:
    """What is known where an error has ended it; no call was made before a session has begun."""
    if sessions_before is not None and _sessions(run_dir) == sessions_before:
        return f"{NOTHING_SENT}; {_again(run_dir, Verb.RESUME if verb is Verb.RUN else verb)}"
    return f"{_so_far(run_dir)}; {_again(run_dir, Verb.RESUME)}"


def _again(run_dir: Path, verb: Verb) -> str:
    """What to type next; a plan that was refused before its first session is a plan as it was."""
    try:
        connection = open_ledger(run_dir, read_only=True, checked=True)
        try:
            if is_mere_plan(connection):
                return f"to carry the plan out type: facepurge run {quoted(run_dir)}"
        finally:
            connection.close()
    except (FacepurgeError, apsw.Error):
        pass  # whoever resumes it is told what is wrong
    return f"to go on type: facepurge {verb} {quoted(run_dir)}"


def _so_far(run_dir: Path) -> str:
    """How many faces are deleted by what the ledger says, where an error leaves no report to say it."""
    try:
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            if not books.has_sent_since(0):
                return NOTHING_SENT
            rehearsal = "rehearsal: " if books.header().rehearsal else ""
            deleted = counted(books.tally().get(Outcome.DELETED, 0), "face")
            return f"{rehearsal}{deleted} deleted so far"
        finally:
            books.close()
    except (FacepurgeError, apsw.Error):
        return _NOT_KNOWN


def report_run(
    run_dir: Path, *, json: bool, report_format: str | None = None, work: Work = Work()
) -> int:
    """Write the report from the ledger and say what it amounts to; the run is locked.

    ``report_format`` is the setting of that name; None: as the run was told.
    """
    with (
        known(lambda: f"{_so_far(run_dir)}; {unwritten(quoted(run_dir))}"),
        _failing_after(work, run_dir),
    ):
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            header = books.header()
            rows = header.rows + books.found_lines()
            if rows >= _MANY_LINES:
                get_log().info("writing the report", lines=rows)
            with _within(work.seconds):
                asked = report_format or header.settings["report_format"]
                report = write_report(books, run_dir / REPORT, with_parquet=asked == "parquet")
            conclusion = report.conclusion
            last = work.last_line(books, conclusion, run_dir, is_written=True)
        except _OutOfTime:
            return _say_out_of_time(run_dir, work)
        except ReportFailed as failed:
            _say_unwritten(failed, books, run_dir, json=json, work=work)
            raise
        finally:
            books.close()
    with known(last):
        _say(report.summary, summary_lines(conclusion, str(run_dir)), json=json)
        work.say_remedy()
        stderr.write(last)
        return conclusion.exit_code


@contextmanager
def _failing_after(work: Work, run_dir: Path) -> Iterator[None]:
    """A ledger that turns out damaged has failed: the code of a refusal says that nothing was sent."""
    try:
        yield
    except GateClosed as damaged:
        if work.attempts_before is None or not _has_sent_since(run_dir, work.attempts_before):
            raise
        raise LedgerFailed(damaged.cause, damaged.remedy) from damaged


def _has_sent_since(run_dir: Path, attempt_seq: int) -> bool:
    """Whether anything may have left after that attempt; also where nobody can tell."""
    try:
        books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
        try:
            return books.has_sent_since(attempt_seq)
        finally:
            books.close()
    except (FacepurgeError, apsw.Error):
        return True


def _within(seconds: float | None) -> AbstractContextManager[None]:
    return nullcontext() if seconds is None else alarmed(seconds, _OutOfTime)


def _say(summary: Summary, lines: Sequence[str], *, json: bool) -> None:
    stdout.write(json_document(summary).decode().rstrip("\n") if json else "\n".join(lines))


def _say_unwritten(
    failed: ReportFailed, books: LedgerBooks, run_dir: Path, *, json: bool, work: Work
) -> None:
    """All that the ledger knows, if there is time; the error says the rest, and then the last line."""
    try:
        with _within(work.seconds):
            report = unkept_report(books)
    except (OSError, ReportFailed, _OutOfTime):
        work.say_remedy()
        return
    conclusion = report.conclusion
    _say(
        {**report.summary, "exit_code": failed.exit_code},
        summary_lines(conclusion, str(run_dir), is_written=False),
        json=json,
    )
    work.say_remedy()
    failed.add_note(work.last_line(books, conclusion, run_dir, is_written=False))


def _say_out_of_time(run_dir: Path, work: Work) -> int:
    stop, signalled = work.stop, first_signal()
    assert stop is not None  # there is no such haste
    assert signalled is not None  # without these
    work.say_remedy()
    is_finished = stop.reason is StopReason.FINISHED
    why = "finished" if is_finished else why_stopped(stop.reason, stop.detail)
    stderr.write(
        f"{_so_far(run_dir)}; {why}; {signalled[0].name} has left no time for more:"
        f" {unwritten(quoted(run_dir))}"
    )
    return exit_code_of(stop.reason) or 128 + signalled[0]
