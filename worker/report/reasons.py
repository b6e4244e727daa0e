"""A cause in words: one sentence on what happened, and what a person does about it next."""

from __future__ import annotations

from typing import Final

from worker.erasure import FACES_KEPT, NOT_REMOVED
from worker.fold import NOT_LISTED, REAPPEARED, STILL_LISTED
from worker.model import UNFINISHED, Outcome
from worker.report.causes import OTHER_CODES, Cause
from worker.report.remedies import Remedy, remedy_of_code

_OF_THIS_PROGRAM: Final = {
    (Outcome.PRESENT, STILL_LISTED): "the service still lists them after all attempts",
    (Outcome.PRESENT, REAPPEARED): "the service said that they are gone, and lists them: it did not"
    " delete them, or somebody adds them again",
    (Outcome.PRESENT, NOT_REMOVED): "the person's record is still there after all attempts",
    (
        Outcome.UNKNOWN,
        NOT_LISTED,
    ): "the service's good answer left them out, and no lookup has shown yet whether they are gone",
    (Outcome.UNKNOWN, STILL_LISTED): "the service still lists them, and they may be sent again",
    (Outcome.UNKNOWN, "no_end_recorded"): "the process ended before it had the answer",
    (Outcome.UNKNOWN, "swapped_answer"): "the answer spoke of another person or face",
    (Outcome.UNKNOWN, "cancelled"): "the run ended before the answer came",
    (Outcome.UNKNOWN, "person_empty"): "the person's record has still to be removed",
    (Outcome.CONFLICT, ""): "the same face is under two persons, and one of them must be wrong",
    (
        Outcome.CONFLICT,
        FACES_KEPT,
    ): "all that is left of the person are faces that must not be sent",
}

_BY_OUTCOME: Final = {
    Outcome.UNSENT: "the run ended before their turn",
    Outcome.UNKNOWN: "no complete answer has settled yet what became of them",
    Outcome.NO_PERSON: "the service says that it knows no such person",
    Outcome.PRESENT: "the service still has them",
    Outcome.REFUSED: "the service refused them for good",
}

# What "Common return codes" of Content Moderation says of the codes that refuse a request for good.
_REFUSED: Final = {
    "400": "the service finds something wrong with the request",
    "401": "the service does not allow this account to do it",
    "403": "the service forbids it to this key",
    "404": "the service does not find what was named",
    "480": "the service could not fetch the content",
    "589": "the service finds the content too large",
    "590": "the service finds the content in a wrong format",
    "592": "the service could not fetch the content in time",
    "594": "the service says that it has expired",
    "595": "the service could not read the content",
}

_POLICY = "AliyunYundunGreenWebFullAccess"


def reason(cause: Cause) -> str:
    """What happened, as a clause without a full stop."""
    outcome, code = Outcome(cause.outcome), cause.code
    if outcome is Outcome.INVALID:
        return code
    if known := _OF_THIS_PROGRAM.get((outcome, code)):
        return known
    if outcome is Outcome.REFUSED and code in _REFUSED:
        return _REFUSED[code]
    if outcome is Outcome.UNSENT and code:
        return "every attempt ended before it was accepted"
    return _BY_OUTCOME.get(outcome, "they are not in a wanted state")


def concerned(cause: Cause) -> str:
    """Whom it concerns: ``12 faces``, ``1 face and 2 persons``, or lines where neither can be sure."""
    if cause.outcome == Outcome.INVALID:
        return _lines(cause.lines)
    parts = [
        f"{count:,} {noun if count == 1 else noun + 's'}"
        for count, noun in ((cause.faces, "face"), (cause.persons, "person"))
        if count
    ]
    return " and ".join(parts) if parts else _lines(cause.lines)


def _lines(count: int) -> str:
    return f"{count:,} {'line' if count == 1 else 'lines'}"


def name(cause: Cause) -> str:
    """The outcome, and the code where there is one that a person may have to quote."""
    if cause.outcome == Outcome.INVALID or not cause.code:
        return cause.outcome
    return f"{cause.outcome} ({cause.code})"


def action(
    cause: Cause,
    directory: str,
    *,
    finished: bool = True,
    unexplained: bool = False,
    after_the_stop: str = "",
) -> str:
    """The next command or step; ``directory`` is the run's, fit for a shell.

    A new round begins where a run is ``finished``. What an ``unexplained`` answer keeps from being
    settled waits for a person. ``after_the_stop`` is how the run goes on where no plain resume does it.
    """
    if unexplained and cause.outcome in UNFINISHED:
        return (
            f"find out why an answer spoke of another person or face: {_ask_support(cause)}; once you"
            f" know, type: facepurge resume {directory} --swap-explained"
        )
    retry = f"type: facepurge retry {directory}"
    if not finished:
        retry = f"once facepurge resume has finished the run, {retry}"
    if cause.outcome in (Outcome.CONFLICT, Outcome.INVALID):
        return _mend(cause, directory)
    if cause.code == REAPPEARED:
        asked = f"{_ask_support(cause)}; " if cause.request_ids else ""
        return f"{asked}find out whether somebody adds them; then {retry}"
    match cause.remedy:
        case Remedy.RESUME:
            return after_the_stop or _resume(cause, directory)
        case Remedy.RETRY:
            return retry
        case Remedy.PERMISSION:
            return (
                f"give the RAM user or role the policy {_POLICY}, check that Content Moderation is"
                f" active and paid for, then {retry}"
            )
        case Remedy.DATA if cause.outcome == Outcome.NO_PERSON:
            return (
                "check account and region first, under a wrong one nobody is known; if they are"
                " right, the person is not in this library: check where the line comes from, or"
                " accept it with --treat-no-person-as-absent in the next run"
            )
        case Remedy.DATA:
            return (
                "check person and face in the input, and the region; mend them and run"
                f" {directory}/report/{_file(cause)} again as a new input"
            )
        case Remedy.SUPPORT:
            return _ask_support(cause)


def _resume(cause: Cause, directory: str) -> str:
    command = f"type: facepurge resume {directory}"
    if remedy_of_code(cause.code) is Remedy.PERMISSION:
        return f"mend key, rights or account, then {command}"
    if cause.outcome == Outcome.UNKNOWN and cause.request_ids:
        return f"{command}; if it stays so, {_ask_support(cause)}"
    return command


def _ask_support(cause: Cause) -> str:
    if cause.outcome == Outcome.UNSENT:
        return "ask the support of Alibaba Cloud"
    ids = ", ".join(cause.request_ids)
    quoting = f"request ID {ids}" if ids else f"code {cause.code or OTHER_CODES}"
    return f"ask the support of Alibaba Cloud, quoting {quoting}"


def _mend(cause: Cause, directory: str) -> str:
    if cause.code == FACES_KEPT:
        return "nothing; what the person's other lines say has to be settled first"
    file = f"{directory}/report/rejected.csv"
    if cause.outcome == Outcome.CONFLICT:
        return (
            f"find out which person is right, and run that line as a new input; both are in {file}"
        )
    return f"mend the lines, and run them as a new input; they are in {file}"


def _file(cause: Cause) -> str:
    """Lines of whole persons are in the results only."""
    return "failures.csv" if cause.faces else "results.csv"
