"""The plan as a person reads it before saying yes, and as a program reads it."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta

from worker.deadlines import EPOCH, Forecast
from worker.plan import SHOWN_REJECTIONS, PlanFigures
from worker.settings import DOCUMENTED_FACES_PER_PERSON, DOCUMENTED_RATE_PER_SECOND, Settings


def counted(number: int, noun: str) -> str:
    """``1 face``, ``2,000 faces``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rejection_lines(figures: PlanFigures) -> list[str]:
    """The first refused rows, then how many there are for each reason."""
    lines = [f"  {rejection.place}: {rejection.reason}" for rejection in figures.rejections]
    more = figures.invalid + figures.conflicts - len(figures.rejections)
    if more > 0:
        lines.append(f"  ... and {more:,} more than the first {SHOWN_REJECTIONS}")
        lines += [f"  {count:>9,} x {reason}" for reason, count in figures.invalid_by_reason]
        if figures.conflicts:
            lines.append(f"  {figures.conflicts:>9,} x the same face is under another person too")
    return lines


def plan_lines(figures: PlanFigures, settings: Settings, endpoint: str, account: str) -> list[str]:
    """The plan as a person reads it before confirming."""
    rate = settings.rate_per_second - settings.reserve_per_second
    duration = timedelta(seconds=round(figures.duration_seconds(rate)))
    about = "at least" if figures.whole_persons else "about"
    repeats = counted(figures.repeats, "repeat")
    empty = counted(figures.blank_lines, "empty line")
    aside = figures.held + figures.conflicts + figures.invalid
    reasons = (
        f"{figures.held:,} held, {figures.conflicts:,} in conflict, {figures.invalid:,} refused"
    )
    lines = [
        f"  persons   {figures.persons:>12,}",
        *_whole_person_lines(figures, settings),
        f"  calls     {figures.calls:>12,}   {about} {duration} at {rate:g} calls/s",
        f"  rows      {figures.rows:>12,}   of {counted(figures.records, 'record')}, {repeats}, {empty}",
        f"  set aside {aside:>12,}   {reasons}",
    ]
    if figures.oversized_persons:
        lines.append(
            f"  oversized {figures.oversized_persons:>12,}   persons above"
            f" {DOCUMENTED_FACES_PER_PERSON} faces, the largest with"
            f" {figures.largest_person_faces:,}"
        )
    lines += _due_lines(figures.forecast)
    if endpoint:
        lines.append(f"  endpoint  {endpoint}")
    if account:
        lines.append(f"  account   {account}")
    lines += _late_lines(figures.forecast)
    lines += [f"  warning   {warning}" for warning in figures.warnings]
    return lines


def _whole_person_lines(figures: PlanFigures, settings: Settings) -> list[str]:
    """The faces of the plan, and before them the persons whose faces are not in it."""
    if not figures.whole_persons:
        return [f"  faces     {figures.faces:>12,}"]
    gone = "all faces and then the record go" if settings.delete_person else "all faces go"
    lines = [
        f"  whole     {figures.whole_persons:>12,}   persons of whom {gone}; how many is not known yet",
        f"  faces     {figures.faces:>12,}   named in the input, beside those that will be found",
    ]
    if settings.max_delete:
        lines.append(
            f"  at most   {settings.max_delete:>12,}   faces are deleted, named and found;"
            " beyond it the run stops"
        )
    return lines


def _due_lines(forecast: Forecast | None) -> list[str]:
    """Who is due, when that is done with, and what does not make it."""
    if forecast is None:
        return []
    last = _moment(forecast.last_due_call_us)
    lines = [f"  due       {forecast.persons:>12,}   persons go first, the last at {last}"]
    if forecast.late_jobs:
        past = f", {forecast.past_due_jobs:,} past due already" if forecast.past_due_jobs else ""
        of = counted(forecast.late_persons, "person")
        lines.append(f"  late      {forecast.late_jobs:>12,}   jobs of {of} cannot make it{past}")
    if forecast.latest_start_us is None:
        return lines
    start = f"a start by {_moment(forecast.latest_start_us)}"
    rate = forecast.schedule.rate_per_second
    if forecast.late_persons == forecast.past_due_persons:
        what = "the rest, with" if forecast.past_due_jobs else "with"
        return [*lines, f"  in time   {what} {start} at {rate:g} calls/s"]
    needed = math.ceil(forecast.needed_rate_per_second * 100) / 100
    documented = (
        f"; {DOCUMENTED_RATE_PER_SECOND:g} are documented"
        if needed > DOCUMENTED_RATE_PER_SECOND
        else ""
    )
    whom = "for the rest, " if forecast.past_due_jobs else ""
    return [
        *lines,
        f"  needed    {whom}{needed:,.2f} calls/s from now on{documented}",
        f"  or        {start} at {rate:g} calls/s",
    ]


def _late_lines(forecast: Forecast | None) -> list[str]:
    """The first jobs that cannot make it, and how many more there are."""
    if forecast is None or not forecast.first_late:
        return []
    lines = [
        f"  {job.place}: was due {_moment(job.due_us)}"
        if job.due_us < forecast.schedule.start_us
        else f"  {job.place}: due {_moment(job.due_us)}, would be sent {_moment(job.sent_us)}"
        for job in forecast.first_late
    ]
    more = forecast.late_jobs - len(forecast.first_late)
    return lines + ([f"  ... and {counted(more, 'more job')} late"] if more else [])


def _moment(us: int) -> str:
    """To the second, UTC; years that no calendar has are cut to its ends."""
    seconds = min(max(us // 1_000_000, -62_135_596_800), 253_402_300_799)
    moment = EPOCH + timedelta(seconds=seconds)
    return f"{moment.replace(tzinfo=None).isoformat(sep=' ', timespec='seconds')} UTC"


def plan_document(figures: PlanFigures, rate: float, endpoint: str) -> dict[str, object]:
    """The plan for ``--json``."""
    document: dict[str, object] = dict(asdict(figures))
    document["forecast"] = _forecast_document(figures.forecast)
    document["invalid_by_reason"] = dict(figures.invalid_by_reason)
    document["rate_per_second"] = rate
    document["duration_seconds"] = round(figures.duration_seconds(rate), 1)
    document["endpoint"] = endpoint
    return document


def _forecast_document(forecast: Forecast | None) -> dict[str, object] | None:
    if forecast is None:
        return None
    start = forecast.latest_start_us
    return {
        "start_at": _instant(forecast.schedule.start_us),
        "rate_per_second": forecast.schedule.rate_per_second,
        "persons": forecast.persons,
        "late_persons": forecast.late_persons,
        "past_due_persons": forecast.past_due_persons,
        "late_jobs": forecast.late_jobs,
        "past_due_jobs": forecast.past_due_jobs,
        "first_late": [
            {
                "place": job.place,
                "due_at": _instant(job.due_us),
                "sent_at": _instant(job.sent_us),
            }
            for job in forecast.first_late
        ],
        "last_due_call_at": _instant(forecast.last_due_call_us),
        "needed_rate_per_second": round(forecast.needed_rate_per_second, 6),
        "latest_start_at": None if start is None else _instant(start),
    }


def _instant(us: int) -> str:
    """UTC, ISO 8601, as reports write times."""
    return _moment(us).removesuffix(" UTC").replace(" ", "T") + "Z"
