"""From sources to a plan that a person can judge: what ``run`` and ``plan`` have in common."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from worker.cli import stderr, stdout
from worker.cli.ending import NOTHING_SENT
from worker.cli.preview import counted, plan_document, plan_lines, rejection_lines
from worker.cli.run_directory import REPORT, make_run_directory
from worker.errors import GateClosed, InputRefused, UsageRefused
from worker.holds import NO_HOLDS, Grammar, Holds, read_holds
from worker.ledger.draft import LedgerDraft
from worker.plan import PlanFigures, draw_up
from worker.report.rejections import write_rejections
from worker.settings import DOCUMENTED_FACES_PER_PERSON, Settings
from worker.sources import open_sources
from worker.sources.interface import SourceOptions
from worker.telemetry import get_log

PROGRESS_INTERVAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that is complete and not yet durable."""

    draft: LedgerDraft
    figures: PlanFigures
    holds: Holds


class _ReadingProgress:
    """Says on stderr every few seconds how many rows were read."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, rows: int) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._last >= PROGRESS_INTERVAL_SECONDS:
            self._last = now
            get_log().info("reading", rows=rows)


@contextmanager
def planned(
    settings: Settings, specs: Sequence[str], run_id: str, directory: Path, *, quiet: bool
) -> Iterator[Plan]:
    """Read and arrange everything in ``directory``; the draft is gone afterwards unless sealed.

    Raises ``InputRefused`` for a source or an exclusion list that cannot be trusted as a whole.
    """
    options = SourceOptions(
        format=settings.format,
        columns=settings.columns,
        delimiter=settings.delimiter,
        whole_persons=settings.whole_persons,
        person_id_pattern=settings.person_id_pattern,
        face_id_pattern=settings.face_id_pattern,
        max_line_bytes=settings.max_line_bytes,
        max_expanded_bytes=settings.max_expanded_bytes,
        max_expansion_ratio=settings.max_expansion_ratio,
    )
    holds = NO_HOLDS
    if settings.exclude_from:
        grammar = Grammar(settings.person_id_pattern, settings.face_id_pattern)
        holds = read_holds(Path(settings.exclude_from), grammar)
    sources = open_sources(specs, options, sys.stdin.buffer)
    with LedgerDraft(directory) as draft:
        progress = _ReadingProgress(quiet=quiet)
        yield Plan(draft, draw_up(sources, holds, draft, run_id, progress), holds)


def refuse_invalid_rows(plan: Plan, settings: Settings, directory: Path) -> None:
    """Stop here when rows were refused and nobody said ``--skip-invalid``.

    Raises ``InputRefused``; all refused rows are then in ``rejected.csv`` under ``directory``.
    """
    figures = plan.figures
    if not figures.invalid or settings.skip_invalid:
        return
    if not directory.exists():
        make_run_directory(directory)
    stderr.write("rows refused", *rejection_lines(figures), level="error")
    path = write_rejections(plan.draft.rejections(), directory / REPORT)
    raise InputRefused(
        f"the input has {counted(figures.invalid, 'row')} that cannot be sent as"
        f" {'it is' if figures.invalid == 1 else 'they are'}; all of them are in {path}",
        "mend them in the input, or leave them out with --skip-invalid",
    )


def check_plan(figures: PlanFigures, settings: Settings) -> None:
    """Refuse a plan that is bigger than somebody allowed, or not what the flags are about.

    Whole persons need a ceiling, because nobody can know beforehand how many faces they have.
    Raises ``GateClosed``, and ``UsageRefused`` for ``delete_person`` without a whole person.
    """
    if settings.delete_person and not figures.whole_persons:
        raise UsageRefused(
            "--delete-person would do nothing: the plan has no person of whom everything is to go,"
            " and the record of any other person is kept",
            "leave out --delete-person (delete_person), or ask for everything of each person:"
            ' "faces": "all" in JSON, --whole-persons for a table without a face column',
        )
    if settings.max_delete and figures.faces > settings.max_delete:
        raise GateClosed(
            f"the plan has {counted(figures.faces, 'face')}, and --max-delete allows"
            f" {settings.max_delete:,}",
            "check the input; raise --max-delete if the number is right",
        )
    if settings.max_persons and figures.persons > settings.max_persons:
        raise GateClosed(
            f"the plan has {counted(figures.persons, 'person')}, and --max-persons allows"
            f" {settings.max_persons:,}",
            "check the input; raise --max-persons if the number is right",
        )
    if figures.whole_persons and not settings.max_persons:
        raise GateClosed(
            f"everything of {counted(figures.whole_persons, 'person')} is to be deleted, and how many"
            " faces that is nobody knows before; so such a plan needs a ceiling",
            f"look at the plan; if its number of persons is right, add --max-persons"
            f" {figures.persons}",
        )
    if figures.oversized_persons and not settings.allow_oversized_persons:
        raise GateClosed(
            f"{counted(figures.oversized_persons, 'person')} would have more than the documented"
            f" {DOCUMENTED_FACES_PER_PERSON} faces (up to {figures.largest_person_faces:,}): a"
            " wrong column as person ID looks like this",
            "check --columns; give --allow-oversized-persons if the account really has such"
            " persons",
        )


def dry_run_exit_code(figures: PlanFigures) -> int:
    """What the run could end with at best: 4 when the plan holds what can never be deleted."""
    return 4 if figures.conflicts or figures.invalid else 0


def run_directory(settings: Settings, run_id: str) -> Path:
    """Where the run will live."""
    return Path(settings.run_dir) if settings.run_dir else Path("runs") / run_id


def dry_run(
    settings: Settings,
    specs: Sequence[str],
    run_id: str,
    address: str,
    *,
    json: bool,
    quiet: bool,
) -> int:
    """Plan, tell, and forget the plan; returns the 2, 3 or 4 that the run would."""
    with (
        tempfile.TemporaryDirectory(prefix="facepurge-plan-") as scratch,
        planned(settings, specs, run_id, Path(scratch), quiet=quiet) as plan,
    ):
        figures = plan.figures
        if json:
            document = plan_document(figures, settings.rate_per_second, address)
            stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode())
        else:
            lines = plan_lines(figures, settings, address, settings.account_id)
            stdout.write("\n".join(["plan", *lines]))
        refuse_invalid_rows(plan, settings, run_directory(settings, run_id))
        stderr.write(*rejection_lines(figures))
        check_plan(figures, settings)
        stderr.write(f"{NOTHING_SENT}; this was a dry run")
        return dry_run_exit_code(figures)


def anchored(settings: Settings) -> Settings:
    """The settings with absolute paths, so that a resume from another place finds the same files."""
    return msgspec.structs.replace(
        settings,
        **{
            key: os.path.abspath(path)  # noqa: PTH100 (resolving links would follow one that moves)
            for key in ("exclude_from", "ca_file")
            if (path := getattr(settings, key))
        },
    )
