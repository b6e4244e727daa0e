"""The plan as a person reads it before saying yes, and as a program reads it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from worker.plan import SHOWN_REJECTIONS, PlanFigures
from worker.settings import DOCUMENTED_FACES_PER_PERSON, Settings


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
    rate = settings.rate_per_second
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
    if endpoint:
        lines.append(f"  endpoint  {endpoint}")
    if account:
        lines.append(f"  account   {account}")
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


def plan_document(figures: PlanFigures, rate: float, endpoint: str) -> dict[str, object]:
    """The plan for ``--json``."""
    document: dict[str, object] = dict(asdict(figures))
    document["invalid_by_reason"] = dict(figures.invalid_by_reason)
    document["rate_per_second"] = rate
    document["duration_seconds"] = round(figures.duration_seconds(rate), 1)
    document["endpoint"] = endpoint
    return document
