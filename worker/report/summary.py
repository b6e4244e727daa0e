"""``summary.json``: the whole run in figures, a function of the books only."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import msgspec

from worker.model import Outcome
from worker.report import reasons
from worker.report.causes import Cause
from worker.report.conclusion import Conclusion
from worker.report.interface import Books, RunHeader, Session, Verification
from worker.report.rates import Rate, measure
from worker.report.times import iso_utc

FORMAT_NAME = "facepurge-report"
FORMAT_VERSION = 1

Summary = Mapping[str, object]


def summarise(books: Books, conclusion: Conclusion) -> Summary:
    """The content of ``summary.json``, ready for a JSON encoder; its keys are in reading order."""
    header = books.header()
    tally = conclusion.tally
    sessions = books.sessions()
    figures = sorted(books.call_figures(), key=lambda operation: operation.operation)
    limit = _configured_rate(header)
    rates = {x.operation: measure(books.sent_times_us(x.operation), limit) for x in figures}
    return {
        "run_id": header.run_id,
        "rehearsal": header.rehearsal,
        "exit_code": conclusion.exit_code,
        "stop_reason": conclusion.stop_reason,
        "stop_detail": conclusion.detail,
        "books_balance": conclusion.books_balance,
        "versions": {"program": header.program_version, "report_format": FORMAT_VERSION},
        "account": header.account,
        "endpoint": header.endpoint,
        "planned_at": iso_utc(header.planned_us),
        "started_at": iso_utc(sessions[0].started_us) if sessions else None,
        "ended_at": _utc(sessions[-1].ended_us) if sessions else None,
        "sessions": [_session(session) for session in sessions],
        "plan": {
            "rows": header.rows,
            "persons": header.persons,
            "whole_persons": header.whole_persons,
            "faces": header.faces,
            "calls": header.calls,
            "repeats": header.repeats,
        },
        "found_faces": conclusion.found_lines,
        "outcomes": tally.lines,
        "distinct_faces": tally.faces,
        "whole_persons": tally.whole_persons,
        "reappeared": {"faces": tally.reappeared, "whole_persons": tally.refilled},
        "remedies": tally.remedies,
        "causes": [_cause(cause) for cause in tally.causes],
        "verification": _verification(conclusion.verification),
        "jobs": tally.jobs,
        "labels": tally.labels,
        "calls": {
            operation.operation: {
                "attempts": operation.attempts,
                "sent": operation.sent,
                "retries": operation.retries,
                "throttles": operation.throttles,
            }
            for operation in figures
        },
        "max_calls_in_any_second": {name: rate.max_in_any_second for name, rate in rates.items()},
        **_pace(books, rates, limit),
        "waits_seconds": _waits(sessions),
        "inputs": [
            {
                "name": source.name,
                "format": source.format,
                "sha256": source.sha256,
                "bytes": source.byte_count,
                "records": source.records,
                "entries": source.entries,
                "blank_lines": source.blank_lines,
                "carried_columns": source.carried_columns,
            }
            for source in books.sources()
        ],
        "holds_sha256": header.holds_sha256,
        "settings": {name: header.settings[name] for name in sorted(header.settings)},
    }


def json_document(document: Mapping[str, object]) -> bytes:
    """``document`` as indented JSON that ends with a line break."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _configured_rate(header: RunHeader) -> float:
    rate = header.settings.get("rate_per_second")
    return float(rate) if isinstance(rate, int | float) else 0.0


def _pace(books: Books, rates: Mapping[str, Rate], limit: float) -> dict[str, float | None]:
    """Over all operations together: they may overlap, so their figures do not simply add up."""
    if len(rates) == 1:
        (rate,) = rates.values()
    else:
        rate = measure(heapq.merge(*(books.sent_times_us(name) for name in rates)), limit)
    return {
        "mean_rate": None if rate.per_second is None else round(rate.per_second, 3),
        "busy_seconds": round(rate.busy_seconds, 3),
    }


def _waits(sessions: Sequence[Session]) -> dict[str, float]:
    total: dict[str, float] = {}
    for session in sessions:
        for reason, seconds in session.waits_seconds.items():
            total[reason] = total.get(reason, 0.0) + seconds
    return {reason: round(total[reason], 3) for reason in sorted(total)}


def _session(session: Session) -> dict[str, str | None]:
    return {
        "verb": session.verb,
        "started_at": iso_utc(session.started_us),
        "ended_at": _utc(session.ended_us),
        "stop_reason": session.stop_reason,
    }


def _cause(cause: Cause) -> dict[str, object]:
    """``code`` of an invalid row is its reason already."""
    return {
        "outcome": cause.outcome,
        "code": "" if cause.outcome == Outcome.INVALID else cause.code,
        "reason": reasons.reason(cause),
        "remedy": cause.remedy,
        "lines": cause.lines,
        "faces": cause.faces,
        "whole_persons": cause.persons,
        "first_places": cause.places,
        "first_request_ids": cause.request_ids,
    }


def _verification(verification: Verification) -> dict[str, int] | None:
    """In calls; None where none was asked for."""
    if not verification.asked:
        return None
    return {"asked": verification.asked, "answered": verification.answered}


def _utc(epoch_us: int | None) -> str | None:
    return None if epoch_us is None else iso_utc(epoch_us)
