"""A run's standing in words, and as a document for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.cli.pauses import way_on
from worker.cli.progress import duration_text, moment_text
from worker.cli.standing import AT_WORK, Planning, Standing, State
from worker.ledger.books import Given
from worker.model import Outcome, StopReason
from worker.orders import Ask
from worker.report.cells import visible
from worker.report.continuation import Continuation
from worker.report.interface import Session
from worker.report.times import iso_utc

SESSIONS_SHOWN: Final = 5

_PLANNING: Final = "planning, or waiting for confirmation"
_BETWEEN: Final = "a process is starting, or writing the report"


def lines(standing: Standing | Planning) -> list[str]:
    """Everything, a fact a line."""
    if isinstance(standing, Planning):
        facts = [("state", _PLANNING), ("process", standing.holder)]
    else:
        facts = list(_facts(standing))
    return [f"{label:<10}{visible(text)}" for label, text in facts]


def _facts(standing: Standing) -> Iterator[tuple[str, str]]:
    pulse = standing.pulse
    rehearsal = ", a rehearsal" * standing.header.rehearsal
    yield "run", f"{standing.header.run_id}{rehearsal}"
    yield "state", _state_text(standing)
    yield "faces", f"{_share(standing)} settled"
    counts = [f"{outcome} {count:,}" for outcome, count in _outcomes(standing).items()]
    if counts:
        yield "outcomes", ", ".join(counts)
    if pulse and standing.state in AT_WORK:
        yield "rate", _rate_text(standing)
        yield (
            "calls",
            f"{pulse.calls_sent:,} sent in this session, {pulse.calls_in_flight:,} in flight",
        )
        if pulse.waiting:
            yield "waiting", pulse.waiting + (f" by {pulse.paused_by}" if pulse.paused_by else "")
        if standing.ends_us is not None:
            yield "ends", _end_text(standing, standing.ends_us)
    if standing.holder:
        yield "process", standing.holder + _what_it_does(standing)
    for session in standing.sessions[-SESSIONS_SHOWN:]:
        yield "session", _session_text(standing, session)
    for given in standing.orders:
        yield "order", _order_text(standing, given)


def _now() -> datetime:
    return datetime.now().astimezone()


def _state_text(standing: Standing) -> str:
    text = str(standing.state)
    if standing.state is State.STOPPED and standing.stop_reason is not None:
        detail = standing.sessions[-1].detail.rstrip(".")
        text += f" ({standing.stop_reason})" + (f": {detail}" if detail else "")
    return text


def _what_it_does(standing: Standing) -> str:
    if standing.silent_seconds:
        silent = duration_text(timedelta(seconds=standing.silent_seconds))
        return f"; it has said nothing for {silent}: it was stopped, or waits for its disk"
    return "; it is starting, or writing the report" if _is_between(standing) else ""


def _is_between(standing: Standing) -> bool:
    """Whether a process has the run and makes no calls: before its session, or after it."""
    return bool(standing.holder) and standing.state not in AT_WORK


def _share(standing: Standing) -> str:
    done, total = standing.faces_done, standing.faces_total
    # Cut, so that 100 % means all of them.
    percent = int(1000 * done / total) / 10 if total else 100.0
    return f"{done:,} of {total:,} ({percent:.1f} %)"


def _outcomes(standing: Standing) -> dict[str, int]:
    return {x.value: standing.outcomes[x] for x in Outcome if standing.outcomes.get(x)}


def _rate_text(standing: Standing) -> str:
    pulse = standing.pulse
    assert pulse is not None
    text = (
        f"{pulse.rate_now_per_second:.1f} calls/s now, {pulse.mean_rate_per_second:.1f} in the mean,"
        f" {pulse.rate_configured_per_second:g} for each operation set"
    )
    if pulse.rate_allowed_per_second < pulse.rate_configured_per_second:
        text += f", {pulse.rate_allowed_per_second:g} at present"
    return text


def _end_text(standing: Standing, ends_us: int) -> str:
    end = datetime.fromtimestamp(ends_us / 1e6, UTC).astimezone()
    left = timedelta(microseconds=max(0, ends_us - standing.looked_us))
    return f"about {moment_text(end, _now())} (in {duration_text(left)})"


def _session_text(standing: Standing, session: Session) -> str:
    text = f"{session.verb} since {iso_utc(session.started_us)}"
    if session.ended_us is not None:
        text += f" until {iso_utc(session.ended_us)}"
    reason = _why_it_ended(standing, session)
    return text if reason is None else f"{text}: {reason}"


def _why_it_ended(standing: Standing, session: Session) -> StopReason | None:
    """None for the session at work."""
    at_work = standing.state in AT_WORK and session is standing.sessions[-1]
    return None if at_work else session.stop_reason


def _order_text(standing: Standing, given: Given) -> str:
    order, taken = given.order, given.taken
    rate = f" {order.rate_per_second:g}" if order.ask is Ask.RATE else ""
    if taken is not None:
        became = f"{'refused: ' * taken.refused}{taken.said}"
    elif given.is_withdrawn:
        became = "withdrawn before it was taken"
    else:
        at_work = standing.state in AT_WORK and given.session_no == len(standing.sessions)
        became = "not taken yet" if at_work else "not taken"
    return f"{iso_utc(order.given_us)} {order.ask}{rate} by {order.given_by}: {became}"


def brief(standing: Standing | Planning) -> str:
    """The most important of it, in one line."""
    if isinstance(standing, Planning):
        return visible(f"{_PLANNING}: {standing.holder}")
    parts = [f"{_state_text(standing)}: {_share(standing)} faces settled"]
    if standing.pulse and standing.state in AT_WORK:
        parts.append(f"{standing.pulse.rate_now_per_second:.1f} calls/s")
        if standing.pulse.waiting:
            parts.append(f"waiting: {standing.pulse.waiting}")
    if _is_between(standing):
        parts.append(_BETWEEN)
    if standing.ends_us is not None:
        end = datetime.fromtimestamp(standing.ends_us / 1e6, UTC).astimezone()
        parts.append(f"ends about {moment_text(end, _now())}")
    return visible(", ".join(parts))


def last_line(standing: Standing | Planning) -> str:
    """What has happened so far, and the next command to type."""
    directory = shlex.quote(standing.run_dir)
    if isinstance(standing, Planning):
        watch = f"to watch it type: facepurge status --watch {directory}"
        return visible(f"{_PLANNING} at its own terminal; nothing was sent; {watch}")
    deleted = standing.outcomes.get(Outcome.DELETED, 0)
    done = f"{deleted:,} {'face' if deleted == 1 else 'faces'} deleted"
    if standing.header.rehearsal:
        done = f"rehearsal: {done}"
    resume = f"to go on type: facepurge resume {directory}"
    paused_by = standing.pulse.paused_by if standing.pulse else ""
    if _is_between(standing):
        if standing.state is State.PLANNED:
            done = "planned, and nothing was sent"
        return visible(
            f"{done}; {_BETWEEN}; to watch it type: facepurge status --watch {directory}"
        )
    said = {
        State.PLANNED: f"planned, and nothing was sent; to begin type: {standing.begin}",
        State.RUNNING: f"{done} so far; to hold it type: facepurge pause {directory}",
        State.PAUSED: f"{done} so far; paused; {way_on(paused_by, directory)}",
        State.DRAINING: f"{done} so far; stopping; once it has ended, {resume}",
        State.DIED: f"{done}; the process died; {resume}",
        State.STOPPED: f"{done}; stopped ({standing.stop_reason}); {after_the_stop(standing) or resume}",
        State.FINISHED: f"{done}; finished; to see it all type: less {directory}/report/summary.json",
    }
    return visible(said[standing.state])


def after_the_stop(standing: Standing) -> str:
    """How a stopped run goes on where that is no plain resume, otherwise ``""``."""
    directory = shlex.quote(standing.run_dir)
    file = "results.csv" if standing.header.whole_persons else "failures.csv"
    left = standing.outcomes
    known = Continuation(
        directory,
        f"{directory}/report/{file}",
        is_unsettled=bool(left.get(Outcome.UNKNOWN)),
        is_retried=any(map(left.get, (Outcome.PRESENT, Outcome.NO_PERSON, Outcome.REFUSED))),
    )
    return known.after(standing.stop_reason)


# As a document


def document(standing: Standing | Planning) -> dict[str, object]:
    """For programs; times are UTC ISO 8601, numbers of faces are of distinct ones.

    What is not known yet of a run that is being planned is null or empty.
    """
    if isinstance(standing, Planning):
        return {
            "run_id": None,
            "run_dir": standing.run_dir,
            "rehearsal": None,
            "state": State.PLANNING,
            "stop_reason": None,
            "stop_detail": "",
            "faces": None,
            "outcomes": {},
            "waiting": "",
            "paused_by": "",
            "rate": None,
            "calls_sent": None,
            "calls_in_flight": None,
            "ends_at": None,
            "process": standing.holder,
            "silent_seconds": 0.0,
            "orders": [],
            "sessions": [],
        }
    pulse = standing.pulse if standing.state in AT_WORK else None
    return {
        "run_id": standing.header.run_id,
        "run_dir": standing.run_dir,
        "rehearsal": standing.header.rehearsal,
        "state": standing.state,
        "stop_reason": standing.stop_reason,
        "stop_detail": standing.sessions[-1].detail if standing.sessions else "",
        "faces": {"done": standing.faces_done, "total": standing.faces_total},
        "outcomes": _outcomes(standing),
        "waiting": pulse.waiting if pulse else "",
        "paused_by": pulse.paused_by if pulse else "",
        "rate": None
        if pulse is None
        else {
            "now": pulse.rate_now_per_second,
            "mean": pulse.mean_rate_per_second,
            "configured": pulse.rate_configured_per_second,
            "allowed": pulse.rate_allowed_per_second,
        },
        "calls_sent": pulse.calls_sent if pulse else None,
        "calls_in_flight": pulse.calls_in_flight if pulse else None,
        "ends_at": None if standing.ends_us is None else iso_utc(standing.ends_us),
        "process": standing.holder,
        "silent_seconds": round(standing.silent_seconds, 1),
        "orders": [_order(given) for given in standing.orders],
        "sessions": [
            {
                "verb": session.verb,
                "started_at": iso_utc(session.started_us),
                "ended_at": None if session.ended_us is None else iso_utc(session.ended_us),
                "stop_reason": _why_it_ended(standing, session),
            }
            for session in standing.sessions
        ],
    }


def _order(given: Given) -> dict[str, object]:
    order, taken = given.order, given.taken
    return {
        "order": order.ask,
        "rate_per_second": order.rate_per_second,
        "given_at": iso_utc(order.given_us),
        "given_by": order.given_by,
        "session": given.session_no,
        "withdrawn": given.is_withdrawn,
        "taken_at": None if taken is None else iso_utc(taken.taken_us),
        "refused": None if taken is None else taken.refused,
        "said": "" if taken is None else taken.said,
    }
