"""From sources to a plan that a person can judge: what ``run`` and ``plan`` have in common."""

from __future__ import annotations

import codecs
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from worker.cli import stderr, stdout
from worker.cli.apart import apart, enough_memory
from worker.cli.ending import NOTHING_SENT
from worker.cli.preview import counted, plan_document, plan_lines, rejection_lines
from worker.cli.readiness import belt_lines
from worker.cli.room import require_room
from worker.cli.run_directory import REPORT, make_run_directory
from worker.cli.scratch import scratch
from worker.clock import SystemClock
from worker.deadlines import Schedule
from worker.errors import GateClosed, InputRefused, UsageRefused
from worker.holds import NO_HOLDS, Grammar, Holds, read_holds
from worker.ledger.draft import OVERSIZED_REMEDY, LedgerDraft, discard_draft
from worker.plan import PlanFigures, draw_up
from worker.report.rejections import write_rejections
from worker.settings import DOCUMENTED_FACES_PER_PERSON, Settings
from worker.sources import open_sources, paths_of
from worker.sources.interface import SourceOptions
from worker.sources.remote import is_remote
from worker.telemetry import get_log

PROGRESS_INTERVAL_SECONDS = 5.0

BIG_BYTES = 4 * 1024 * 1024
"""Sources beyond this are planned in a process of their own, which gives its memory back."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that is complete and not yet durable."""

    draft: LedgerDraft
    figures: PlanFigures
    holds: Holds
    sources: tuple[str, ...]
    """Their names, in order."""


class _ReadingProgress:
    """Says on stderr every few seconds how many rows were read."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._of = os.getpid()
        self._last = time.monotonic()

    def __call__(self, rows: int) -> None:
        if os.getpid() != self._of and os.getppid() != self._of:
            os._exit(1)  # whoever waits for this process is gone
        now = time.monotonic()
        if not self._quiet and now - self._last >= PROGRESS_INTERVAL_SECONDS:
            self._last = now
            get_log().info("reading", rows=rows)


@contextmanager
def planned(
    settings: Settings,
    specs: Sequence[str],
    run_id: str,
    directory: Path,
    *,
    quiet: bool,
    flag: str = "--run-dir DIR",
) -> Iterator[Plan]:
    """Read and arrange everything in ``directory``; the draft is gone afterwards unless sealed.

    ``flag`` names another place, for where there is no room in this one.
    Raises ``InputRefused`` for a source or an exclusion list that cannot be trusted as a whole, and
    ``GateClosed`` where there has to be such a list, and where memory does not suffice, also for what
    is done with the plan in this block.
    """
    with (
        enough_memory(),
        _planned(settings, specs, run_id, directory, quiet=quiet, flag=flag) as plan,
    ):
        yield plan


@contextmanager
def _planned(
    settings: Settings,
    specs: Sequence[str],
    run_id: str,
    directory: Path,
    *,
    quiet: bool,
    flag: str,
) -> Iterator[Plan]:
    require_exclusion_list(settings)
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
    # A process may be started without a standard input, and Python has none then.
    stdin = sys.stdin.buffer if sys.stdin else None
    sources = open_sources(specs, options, stdin)

    require_room(paths_of(specs), directory, flag)
    progress = _ReadingProgress(quiet=quiet)

    def figures_of(draft: LedgerDraft) -> PlanFigures:
        return draw_up(
            sources,
            holds,
            draft,
            run_id,
            progress,
            schedule=lambda: schedule_of(settings),
            accept_ids=settings.accept_ids,
        )

    def new_draft() -> LedgerDraft:
        return LedgerDraft(directory, flag=flag, allow_oversized=settings.allow_oversized_persons)

    with ExitStack() as stack:
        if is_big(specs):
            figures = _drawn_up_apart(figures_of, new_draft, directory)
            draft = stack.enter_context(LedgerDraft.left(directory, figures, flag=flag))
        else:
            draft = stack.enter_context(new_draft())
            figures = figures_of(draft)
        if quiet:
            # Nobody may be shown the plan, in which they stand otherwise.
            stderr.write(*(f"warning: {text}" for text in figures.warnings), level="warning")
        yield Plan(draft, figures, holds, tuple(source.name for source in sources))


def is_big(specs: Sequence[str]) -> bool:
    """Whether planning may take memory that a run should not keep, and can be done by a fork.

    Whoever has asked a store has threads and connections, which no other process can go on with.
    """
    size = 0
    for path in paths_of(specs):
        if is_remote(path):
            return False
        try:
            status = Path(path).stat()
        except OSError:
            continue  # standard input; whoever opens anything else says what is wrong with it
        size += status.st_size if stat.S_ISREG(status.st_mode) else BIG_BYTES + 1
    return size > BIG_BYTES


def _drawn_up_apart(
    figures_of: Callable[[LedgerDraft], PlanFigures],
    new_draft: Callable[[], LedgerDraft],
    directory: Path,
) -> PlanFigures:
    def work() -> bytes:
        with new_draft() as draft:
            figures = figures_of(draft)
            draft.leave()
            return msgspec.json.encode(figures)

    try:
        return msgspec.json.decode(apart(work), type=PlanFigures)
    except BaseException:
        # That process may have been killed; whatever it was, nobody takes this over.
        discard_draft(directory)
        raise


def schedule_of(settings: Settings) -> Schedule:
    """When the calls would be made if the run started now, at the rate that is left to it."""
    rate = settings.rate_per_second - settings.reserve_per_second
    return Schedule(SystemClock().now_us(), rate)


def require_exclusion_list(settings: Settings) -> None:
    """Where nothing may run without a list of legal holds, there is one that somebody wrote.

    A list without an entry is one as long as it says so itself, in a comment: an empty file is what
    an export leaves that went wrong. Raises ``GateClosed``.
    """
    if not settings.require_excludes:
        return
    if not settings.exclude_from:
        raise GateClosed(
            "no exclusion list is named, and --require-excludes (require_excludes) wants one",
            "name the list of legal holds with --exclude-from FILE (exclude_from)",
        )
    path = Path(settings.exclude_from)
    if _is_blank(path):
        raise GateClosed(
            f"{path}: the exclusion list is an empty file, and --require-excludes"
            " (require_excludes) wants one that somebody wrote",
            "export the list again; if there really are no holds, say so in it with a comment,"
            " like `# no holds, 2026-11-26, legal department`",
        )


def _is_blank(path: Path) -> bool:
    try:
        return not path.read_bytes().removeprefix(codecs.BOM_UTF8).strip()
    except OSError:
        return False  # whoever reads it next says why it cannot be


def hold_lines(entries: int, settings: Settings) -> list[str]:
    """How many legal holds stand behind the plan, where there is a list of them."""
    if not settings.exclude_from:
        return []
    nobody = "" if entries else "; it holds nobody"
    noun = "entry" if entries == 1 else "entries"
    return [f"  holds     {entries:>12,}   {noun} of {settings.exclude_from}{nobody}"]


def refuse_invalid_rows(
    plan: Plan, settings: Settings, directory: Path, *, always_kept: bool = True
) -> None:
    """Stop here when rows were refused and nobody said ``--skip-invalid``.

    Raises ``InputRefused``; all refused rows are then in ``rejected.csv`` under ``directory``. Unless
    they are ``always_kept``, only where they are too many to be shown.
    """
    figures = plan.figures
    if not figures.invalid or settings.skip_invalid:
        return
    stderr.write("rows refused", *rejection_lines(figures), level="error")
    where = "above"
    if always_kept or figures.invalid + figures.conflicts > len(figures.rejections):
        if not directory.exists():
            make_run_directory(directory)
        where = f"in {write_rejections(plan.draft.rejections(), directory / REPORT)}"
    raise InputRefused(
        f"the input has {counted(figures.invalid, 'row')} that cannot be sent as"
        f" {'it is' if figures.invalid == 1 else 'they are'}; all of them are {where}",
        "mend them in the input, or leave them out with --skip-invalid",
    )


def check_plan(figures: PlanFigures, settings: Settings) -> None:
    """Refuse a plan that is bigger than somebody allowed, or not what the flags are about.

    Raises ``GateClosed``, and ``UsageRefused`` for ``delete_person`` without a whole person.
    """
    check_ceilings(figures, settings)
    if settings.delete_person and not figures.whole_persons:
        raise UsageRefused(
            "--delete-person would do nothing: the plan has no person of whom everything is to go,"
            " and the record of any other person is kept",
            "leave out --delete-person (delete_person), or ask for everything of each person:"
            ' "faces": "all" in JSON, --whole-persons for a table without a face column',
        )
    if figures.oversized_persons and not settings.allow_oversized_persons:
        raise GateClosed(
            f"{counted(figures.oversized_persons, 'person')} would have more than the documented"
            f" {DOCUMENTED_FACES_PER_PERSON} faces (up to {figures.largest_person_faces:,}): a"
            " wrong column as person ID looks like this",
            OVERSIZED_REMEDY,
        )


def check_ceilings(figures: PlanFigures, settings: Settings) -> None:
    """Refuse a plan that is bigger than somebody allowed.

    Whole persons need a ceiling, because nobody can know beforehand how many faces they have.
    Raises ``GateClosed``.
    """
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
        scratch() as directory,
        planned(settings, specs, run_id, directory, quiet=quiet, flag="TMPDIR") as plan,
    ):
        figures = plan.figures
        if json:
            document = plan_document(figures, schedule_of(settings).rate_per_second, address)
            stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode())
        else:
            lines = plan_lines(figures, settings, address, settings.account_id)
            lines += belt_lines(settings)
            stdout.write("\n".join(["plan", *lines]))
        kept = run_directory(settings, run_id)
        refuse_invalid_rows(plan, settings, kept, always_kept=bool(settings.run_dir))
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
            for key in ("exclude_from", "ca_file", "stop_file", "pause_file")
            if (path := getattr(settings, key))
        },
    )
