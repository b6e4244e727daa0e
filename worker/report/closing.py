"""The last words of a run: a short summary for stdout, and the last line on stderr.

The last line always says what happened, why it stopped, and the next command to type.
"""

from __future__ import annotations

import shlex

from worker.model import Outcome, StopReason
from worker.report.cells import visible
from worker.report.conclusion import Conclusion

_WHY = {
    StopReason.SIGINT: "it was interrupted (SIGINT)",
    StopReason.SIGTERM: "it was told to terminate (SIGTERM)",
    StopReason.FATAL: "an answer concerned the whole run",
    StopReason.SWAPPED: "an answer spoke of another person or face",
    StopReason.DAMAGED: "the ledger is not what was planned",
    StopReason.BREAKER: "too many of the last calls were refused",
    StopReason.OUTAGE: "the service could not be used for too long",
    StopReason.HOLDS: "the exclusion list cannot be trusted any more",
    StopReason.LEDGER: "the ledger could not be written",
    StopReason.KILLED: "the process died",
}

_MEANING = {
    Outcome.DELETED: "the service confirmed it",
    Outcome.ABSENT: "not there any more",
    Outcome.NO_PERSON: "the service knows no such person",
    Outcome.PRESENT: "still there",
    Outcome.REFUSED: "refused by the service",
    Outcome.UNKNOWN: "not established yet",
    Outcome.UNSENT: "not sent yet",
    Outcome.HELD: "on the exclusion list",
    Outcome.CONFLICT: "same face under two persons",
    Outcome.INVALID: "row not usable",
    Outcome.PERSON_EMPTY: "nothing (more) found",
    Outcome.PERSON_DELETED: "person removed",
}


def summary_lines(conclusion: Conclusion, run_dir: str) -> tuple[str, ...]:
    """The result for stdout: aligned lines without colour, the outcomes that occur only."""
    shown = [outcome for outcome in Outcome if conclusion.lines[outcome]]
    counts = {outcome: f"{conclusion.lines[outcome]:,}" for outcome in shown}
    name_width = max((len(outcome) for outcome in shown), default=0)
    count_width = max(map(len, counts.values()), default=0)
    title = "rehearsal, nothing real was deleted" if conclusion.rehearsal else "purge"
    return (
        f"{title}: {_plural(conclusion.rows, 'line')}, {_plural(conclusion.calls_sent, 'call')} sent",
        *(
            f"  {outcome:<{name_width}}  {counts[outcome]:>{count_width}}  {_MEANING[outcome]}"
            for outcome in shown
        ),
        f"books: {_balance(conclusion)}",
        f"report: {visible(run_dir)}/report",
    )


def last_line(conclusion: Conclusion, run_dir: str) -> str:
    """What happened, why it stopped, and what to type next, in one line."""
    parts = [_what_happened(conclusion), _why_it_stopped(conclusion), _next(conclusion, run_dir)]
    prefix = "rehearsal: " if conclusion.rehearsal else ""
    return visible(prefix + "; ".join(parts))


def _what_happened(conclusion: Conclusion) -> str:
    if not conclusion.calls_sent:
        return "nothing was sent"
    deleted = conclusion.faces[Outcome.DELETED]
    other = conclusion.faces[Outcome.ABSENT]
    also = f", {other:,} found absent" if other else ""
    return f"{_plural(deleted, 'face')} deleted{also}"


def _why_it_stopped(conclusion: Conclusion) -> str:
    reason = conclusion.stop_reason
    if reason is None:
        return "the run was planned and never begun"
    if reason is not StopReason.FINISHED:
        return f"stopped: {conclusion.detail.rstrip('.') or _WHY[reason]}"
    left = [
        f"{conclusion.lines[outcome]:,} {outcome}"
        for outcome in Outcome
        if conclusion.lines[outcome] and outcome not in (Outcome.DELETED, Outcome.ABSENT)
    ]
    return "finished" + (f" with {', '.join(left)}" if left else ", every face is gone")


def _next(conclusion: Conclusion, run_dir: str) -> str:
    directory = shlex.quote(run_dir)
    if not conclusion.books_balance:
        return (
            f"the books do not balance ({_balance(conclusion)}): keep {directory} as it is, this"
            f" is a defect of the program; to count again type: facepurge report {directory}"
        )
    if conclusion.stop_reason is StopReason.SWAPPED:
        return f"to see what came type: less {directory}/report/failures.csv"
    if conclusion.reappeared:
        return (
            f"{_plural(conclusion.reappeared, 'deleted face')} there again: find out who adds"
            f" them; type: less {directory}/report/failures.csv"
        )
    if conclusion.lines[Outcome.UNSENT]:
        return f"to go on type: facepurge resume {directory}"
    if conclusion.unfinished:
        return (
            "whether the unknown ones are gone was not established: look them up before anything"
            f" is sent again; to see them type: less {directory}/report/failures.csv"
        )
    if conclusion.failed > _rejected(conclusion):
        return f"to see why type: less {directory}/report/failures.csv"
    if conclusion.failed:
        return f"to see why type: less {directory}/report/rejected.csv"
    return f"to see the report type: less {directory}/report/summary.json"


def _rejected(conclusion: Conclusion) -> int:
    return conclusion.lines[Outcome.CONFLICT] + conclusion.lines[Outcome.INVALID]


def _balance(conclusion: Conclusion) -> str:
    lines = sum(conclusion.lines.values())
    if conclusion.books_balance:
        return f"balanced ({lines:,} of {conclusion.rows:,} lines)"
    return f"{_plural(lines, 'line')} counted where {conclusion.rows:,} were read"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
