"""The plan: what would be sent, worked out before anything is.

Rows of all sources are merged by person, repeated pairs are dropped, faces that appear under two
persons are set aside, and each person becomes one call (more only above the service's documented
maximum of 20 faces per person). Who is due comes first, the earliest before all others; where
nothing else decides, the order is that of first appearance. A person of whom everything is
to go is one call more, behind those of the faces that are named for the same person: what it will
find nobody knows yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from worker.damage import REMEDY, Finding, IdWatch
from worker.deadlines import Forecast, Schedule
from worker.errors import InputRefused
from worker.holds import Holds
from worker.model import Chunk, SourceSummary
from worker.sources.interface import Source

FACES_PER_CALL = 20
"""The documented maximum of faces of one person, hence the natural size of one call."""

SHOWN_REJECTIONS = 20


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that will not be sent as it is."""

    place: str
    """``source:line`` or ``source:line:column``."""
    reason: str


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """The plan in numbers."""

    rows: int
    """Faces read plus records without a readable face."""
    records: int
    blank_lines: int
    persons: int
    """Distinct persons with something to send: named faces, everything, or both."""
    whole_persons: int
    """Those of whom everything is to go; how many faces that is, is not known before the run."""
    faces: int
    """Distinct (person, face) pairs to send: the faces that the input names."""
    calls: int
    """At least: a whole person counts 1, and takes more."""
    repeats: int
    """Rows whose pair, or whose whole person, had appeared before."""
    held: int
    """Rows on the exclusion list."""
    conflicts: int
    """Rows whose face appears under more than one person."""
    invalid: int
    """Rows refused."""
    invalid_by_reason: tuple[tuple[str, int], ...]
    """Most frequent first."""
    rejections: tuple[Rejection, ...]
    """The first rows refused or in conflict, in input order."""
    oversized_persons: int
    """Persons with more named faces than the service documents as possible."""
    largest_person_faces: int
    forecast: Forecast | None = None
    """What becomes of the due times; None where there are none, or where nobody asked."""
    warnings: tuple[str, ...] = ()
    """What the IDs as a whole look like, for a person to judge."""

    def duration_seconds(self, rate_per_second: float) -> float:
        """How long the calls take at ``rate_per_second`` when none has to be repeated.

        A lower bound where there are whole persons.
        """
        return self.calls / rate_per_second


class Draft(Protocol):
    """Where a plan is put together; the ledger provides it."""

    def add(self, source_no: int, chunk: Chunk) -> None: ...

    def add_source(self, source_no: int, summary: SourceSummary) -> None: ...

    def add_holds(self, holds: Holds) -> None: ...

    def arrange(
        self, run_id: str, faces_per_call: int, schedule: Schedule | None = None
    ) -> PlanFigures:
        """Group, drop repeats, set conflicts aside, and put the calls into their order.

        With a ``schedule`` the figures say what becomes of the due times, if there are any.
        """
        ...

    def rejections(self) -> Iterator[Rejection]:
        """Every row refused or in conflict, in input order."""
        ...


def draw_up(
    sources: Sequence[Source],
    holds: Holds,
    draft: Draft,
    run_id: str,
    progress: Callable[[int], None],
    *,
    schedule: Callable[[], Schedule] | None = None,
    accept_ids: bool = False,
) -> PlanFigures:
    """Read all of ``sources`` into ``draft`` and arrange the calls.

    ``progress`` is told the number of rows read so far; ``schedule`` is asked when all of them were
    read, which may take a while; ``accept_ids`` says that somebody knows the IDs to be right,
    however they look. Raises ``worker.errors.InputRefused`` from a source that
    cannot be trusted as a whole, or whose IDs are damaged; the draft is worthless then.
    """
    rows = 0
    watch = IdWatch(holds.entries)
    warnings: list[str] = []

    def judge(findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.certain and not accept_ids:
                raise InputRefused(finding.cause, REMEDY)
            warnings.append(finding.cause)

    for source_no, source in enumerate(sources):
        for chunk in source.chunks():
            draft.add(source_no, chunk)
            judge(watch.look(source.name, chunk))
            rows += len(chunk)
            progress(rows)
        judge(watch.end())
        draft.add_source(source_no, source.summary())
    judge(watch.conclude())
    draft.add_holds(holds)
    figures = draft.arrange(run_id, FACES_PER_CALL, schedule() if schedule else None)
    return replace(figures, warnings=tuple(warnings))
