"""The last words of a run: a short summary for stdout, and the last line on stderr.

The last line always says what happened, why it stopped, and the next command to type.
"""

from __future__ import annotations

import shlex

from worker.model import WANTED, Outcome, StopReason, Verb
from worker.report.causes import PLACES_KEPT
from worker.report.cells import visible
from worker.report.conclusion import Conclusion, Remains
from worker.report.continuation import Continuation
from worker.report.reasons import action, concerned, name, reason
from worker.report.remedies import Remedy
from worker.report.tally import Tally

MOST_CAUSES_SHOWN = 8

_WHY = {
    StopReason.SIGINT: "it was interrupted (SIGINT)",
    StopReason.SIGTERM: "it was told to terminate (SIGTERM)",
    StopReason.SIGHUP: "its terminal or connection was closed (SIGHUP)",
    StopReason.FATAL: "an answer concerned the whole run",
    StopReason.SWAPPED: "an answer spoke of another person or face",
    StopReason.DAMAGED: "the ledger is not what was planned",
    StopReason.BREAKER: "too many of the last calls were refused",
    StopReason.OUTAGE: "the service could not be used for too long",
    StopReason.HOLDS: "the exclusion list cannot be trusted any more",
    StopReason.LEDGER: "the ledger could not be written",
    StopReason.LIMIT: "more faces were found than --max-delete allows",
    StopReason.HALT: "too many faces were not as wanted",
    StopReason.CANARY: "a stage of the canary failed",
    StopReason.REQUEST: "somebody asked for it",
    StopReason.KILLED: "the process died",
}

_MEANING = {
    Outcome.DELETED: "the service confirmed it",
    Outcome.ABSENT: "not there any more",
    Outcome.NO_PERSON: "the service knows no such person",
    Outcome.PRESENT: "still there, or there again",
    Outcome.REFUSED: "refused by the service",
    Outcome.UNKNOWN: "not established yet",
    Outcome.UNSENT: "not sent yet",
    Outcome.HELD: "on the exclusion list",
    Outcome.CONFLICT: "same face under two persons",
    Outcome.INVALID: "row not usable",
    Outcome.PERSON_EMPTY: "nothing (more) found",
    Outcome.PERSON_DELETED: "person removed",
}


def summary_lines(
    conclusion: Conclusion, run_dir: str, *, is_written: bool = True
) -> tuple[str, ...]:
    """The result for stdout: aligned lines without colour, the outcomes that occur only.

    ``is_written``: whether the report is there.
    """
    lines = conclusion.tally.lines
    shown = [outcome for outcome in Outcome if lines[outcome]]
    counts = {outcome: f"{lines[outcome]:,}" for outcome in shown}
    name_width = max((len(outcome) for outcome in shown), default=0)
    count_width = max(map(len, counts.values()), default=0)
    title = "rehearsal, nothing real was deleted" if conclusion.rehearsal else "purge"
    verified = [f"verification: {_lookups(conclusion)}"] if conclusion.verification.asked else []
    return (
        f"{title}: {_plural(conclusion.rows, 'line')}, {_plural(conclusion.calls_sent, 'call')} sent",
        *(
            f"  {outcome:<{name_width}}  {counts[outcome]:>{count_width}}  {_MEANING[outcome]}"
            for outcome in shown
        ),
        *(visible(line) for line in _cause_lines(conclusion, shlex.quote(run_dir))),
        *verified,
        f"books: {_balance(conclusion)}",
        f"report: {visible(run_dir)}/report" if is_written else "report: not written",
    )


def _cause_lines(conclusion: Conclusion, directory: str) -> list[str]:
    """For each cause whom it concerns, why, the first places, and what to do; most lines first."""
    causes = conclusion.tally.causes
    # A new round is also what a failed canary is tried again by.
    may_retry = not conclusion.unfinished or conclusion.stop_reason is StopReason.CANARY
    unexplained = conclusion.stop_reason is StopReason.SWAPPED
    after_the_stop = _after_the_stop(conclusion, directory)
    lines = ["causes"] if causes else []
    for cause in causes[:MOST_CAUSES_SHOWN]:
        lines += [
            f"  {name(cause)}, {concerned(cause)}: {reason(cause)}",
            f"    {'first at' if cause.lines > PLACES_KEPT else 'at'} {', '.join(cause.places)}",
            "    next: "
            + action(
                cause,
                directory,
                finished=may_retry,
                unexplained=unexplained,
                after_the_stop=after_the_stop,
            ),
        ]
    more = len(causes) - MOST_CAUSES_SHOWN
    if more > 0:
        lines.append(f"  and {_plural(more, 'more cause')}, in {directory}/report/summary.json")
    return lines


def last_line(
    conclusion: Conclusion, run_dir: str, *, is_written: bool = True, idle: str | None = None
) -> str:
    """What happened, why it stopped, and what to type next, in one line.

    ``is_written``: whether the report is there. ``idle``: of a call of the program that has sent
    nothing itself, why, in a clause or ``""``; None where it is the one that the run speaks of.
    """
    directory = shlex.quote(run_dir)
    parts = [
        _what_happened(conclusion) if idle is None else _what_had_happened(conclusion, idle),
        *_what_remains(conclusion.remains),
        _why_it_stopped(conclusion),
        _next(conclusion, directory) if is_written else unwritten(directory),
    ]
    prefix = "rehearsal: " if conclusion.rehearsal else ""
    return visible(prefix + "; ".join(parts))


def unwritten(directory: str) -> str:
    """Where the report is, and what to type; ``directory`` is the run's, fit for a shell."""
    return f"the report is not written; to write it type: facepurge report {directory}"


def why_stopped(reason: StopReason, detail: str) -> str:
    """Why a session ended that did not finish, in a clause; ``detail`` is its own sentence or ``""``."""
    return f"stopped: {detail.rstrip('.') or _WHY[reason]}"


def _what_had_happened(conclusion: Conclusion, idle: str) -> str:
    why = f", {idle}" if idle else ""
    if not conclusion.calls_sent:
        return f"nothing was sent{why}"
    verification = conclusion.verification
    looked = f", verification: {_lookups(conclusion)}" if verification.asked else ""
    return f"nothing was sent now{why}; in all {_gone(conclusion.tally)}{looked}"


def _what_happened(conclusion: Conclusion) -> str:
    if not conclusion.calls_sent:
        return "nothing was sent"
    gone = _gone(conclusion.tally)
    if conclusion.verb is Verb.VERIFY:
        return f"nothing was deleted by this verification ({_lookups(conclusion)}), in all {gone}"
    if conclusion.verification.asked:
        return f"{gone}, verification: {_lookups(conclusion)}"
    return gone


def _gone(tally: Tally) -> str:
    """Distinct faces and persons: a call that only looked has deleted none."""
    absent = tally.faces[Outcome.ABSENT]
    empty = tally.whole_persons[Outcome.PERSON_EMPTY]
    removed = tally.whole_persons[Outcome.PERSON_DELETED]
    parts = [f"{_plural(tally.faces[Outcome.DELETED], 'face')} deleted"]
    if absent:
        parts.append(f"{absent:,} found absent")
    if empty:
        parts.append(f"{_plural(empty, 'person')} empty")
    if removed:
        parts.append(f"{_plural(removed, 'person')} removed")
    return ", ".join(parts)


def _what_remains(remains: Remains) -> list[str]:
    """What has to be heard, whatever else there is to say."""
    faces_again, persons_again = remains.faces_again, remains.persons_again
    faces_still, persons_still = remains.faces_still, remains.persons_still
    parts = []
    if faces_again:
        parts.append(f"{_plural(faces_again, 'face')} listed although said to be gone")
    if persons_again:
        have = "has" if persons_again == 1 else "have"
        parts.append(f"{_plural(persons_again, 'person')} {have} faces although said to be empty")
    if faces_still:
        parts.append(f"{_plural(faces_still, 'face')} still there")
    if persons_still:
        parts.append(f"{_plural(persons_still, 'person')} still with faces")
    return parts


def _why_it_stopped(conclusion: Conclusion) -> str:
    reason = conclusion.stop_reason
    if reason is None:
        return "the run was planned and never begun"
    if reason is not StopReason.FINISHED:
        return why_stopped(reason, conclusion.detail)
    left = [
        f"{count:,} {outcome}"
        for outcome, count in conclusion.tally.lines.items()
        if count and outcome not in WANTED
    ]
    if unanswered := _unanswered(conclusion):
        left.append(f"{_plural(unanswered, 'person')} not verified")
    if conclusion.waits:
        return f"ended with {', '.join(left) or 'a round that is not over'}"
    return "finished" + (f" with {', '.join(left)}" if left else ", every face is gone")


def _next(conclusion: Conclusion, directory: str) -> str:
    """``directory`` is fit for a shell."""
    if not conclusion.books_balance:
        return (
            f"the books do not balance ({_balance(conclusion)}): keep {directory} as it is, this"
            f" is a defect of the program; to count again type: facepurge report {directory}"
        )
    if after_the_stop := _after_the_stop(conclusion, directory):
        return after_the_stop
    if conclusion.waits:
        return f"to go on type: facepurge resume {directory}"
    return _next_after_the_end(conclusion, directory)


def _after_the_stop(conclusion: Conclusion, directory: str) -> str:
    """How the run goes on where that is no plain resume, otherwise ``""``."""
    lines, remedies = conclusion.tally.lines, conclusion.tally.remedies
    known = Continuation(
        directory,
        _failing(conclusion, directory),
        is_unsettled=bool(lines[Outcome.UNKNOWN] or _unanswered(conclusion)),
        is_retried=bool(
            lines[Outcome.PRESENT] or lines[Outcome.NO_PERSON] or remedies[Remedy.PERMISSION]
        ),
    )
    return known.after(conclusion.stop_reason)


def _next_after_the_end(conclusion: Conclusion, directory: str) -> str:
    """Nothing is open any more; what is left would be a new round, or is for a person to look at."""
    tally, remains = conclusion.tally, conclusion.remains
    failing = _failing(conclusion, directory)
    retry = f"facepurge retry {directory}"
    if remains.faces_again or remains.persons_again:
        which = f"grep reappeared {directory}/report/results.csv"
        return (
            "the service did not do what it said, or somebody adds faces: ask its support and whoever"
            f" adds them (to see which: {which}), then type: {retry}"
        )
    if tally.remedies[Remedy.RETRY]:
        return f"to try again type: {retry}"
    if tally.remedies[Remedy.PERMISSION]:
        return f"mend key, rights or account ({failing} has the codes), then type: {retry}"
    if tally.lines[Outcome.NO_PERSON] and Outcome.NO_PERSON not in conclusion.wanted:
        return (
            "check account and region first, under a wrong one nobody is known; to see who is not"
            f" type: less {failing}"
        )
    if conclusion.failed > _rejected(conclusion):
        return f"to see why type: less {failing}"
    if conclusion.failed:
        return f"to see why type: less {directory}/report/rejected.csv"
    return f"to see the report type: less {directory}/report/summary.json"


def _failing(conclusion: Conclusion, directory: str) -> str:
    """The file that has what is not in a wanted state; of whole persons only the results have it."""
    name = "failures.csv" if conclusion.tally.failures else "results.csv"
    return f"{directory}/report/{name}"


def _rejected(conclusion: Conclusion) -> int:
    lines = conclusion.tally.lines
    return lines[Outcome.CONFLICT] + lines[Outcome.INVALID]


def _unanswered(conclusion: Conclusion) -> int:
    return conclusion.verification.asked - conclusion.verification.answered


def _lookups(conclusion: Conclusion) -> str:
    verification = conclusion.verification
    return f"{verification.answered:,} of {verification.asked:,} lookups answered"


def _balance(conclusion: Conclusion) -> str:
    lines = sum(conclusion.tally.lines.values())
    if conclusion.books_balance:
        return f"balanced ({lines:,} of {conclusion.rows:,} lines)"
    return f"{_plural(lines, 'line')} counted where {conclusion.rows:,} were read or found"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
