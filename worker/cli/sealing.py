"""From a plan that is complete to one that is durable: what a run begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import apsw
import msgspec

from worker import __version__
from worker.cli import consent, planning, readiness, stderr
from worker.cli.binding import bound
from worker.cli.ending import NOTHING_SENT
from worker.cli.plan_label import Label, expires_us, tell
from worker.cli.planning import Plan
from worker.cli.preview import plan_lines, rejection_lines
from worker.cli.purge import as_calibrated
from worker.cli.run_directory import SANDBOX, made_run_directory, new_run_id
from worker.cli.target import Target, target_of
from worker.clock import SystemClock
from worker.configuration import Configuration
from worker.errors import GateClosed, UsageRefused
from worker.ledger.database import FILE_NAME
from worker.ledger.draft import no_room_remedy
from worker.ledger.facts import BOUND
from worker.sandbox.state import write_state
from worker.settings import Settings

NO_FACTS: Final[Mapping[str, object]] = MappingProxyType({})


def seal(
    plan: Plan,
    settings: Settings,
    target: Target,
    *,
    run_dir: Path,
    run_id: str,
    facts: Mapping[str, object] = NO_FACTS,
    flag: str = "--run-dir DIR",
) -> int:
    """Make the plan durable, and for a rehearsal the world that it begins with.

    ``facts`` are added to those that every run records; ``flag`` names another place. Returns when
    that was, in microseconds since the epoch. Raises ``GateClosed`` when the disk refuses.
    """
    figures = plan.figures
    planned_us = SystemClock().now_us()
    with _world_of(plan, run_dir, flag) if target.rehearsal else nullcontext():
        plan.draft.seal(
            {
                "run_id": run_id,
                "program_version": __version__,
                "planned_us": planned_us,
                "account": target.account,
                "endpoint": target.endpoint,
                "rehearsal": target.rehearsal,
                "settings": msgspec.to_builtins(settings),
                "persons": figures.persons,
                "whole_persons": figures.whole_persons,
                "faces": figures.faces,
                "calls": figures.calls,
                "repeats": figures.repeats,
                "rows": figures.rows,
                "holds_sha256": plan.holds.sha256,
                **facts,
            }
        )
    return planned_us


@contextmanager
def _world_of(plan: Plan, run_dir: Path, flag: str) -> Iterator[None]:
    """The world of a rehearsal, which is gone again where the plan cannot be sealed."""
    directory = run_dir / SANDBOX
    state = directory / "state.json"
    try:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            write_state(state, plan.draft.world())
        except (OSError, apsw.Error) as error:
            raise GateClosed(
                f"{state}: the rehearsal's library could not be written ({error}); nothing was sent",
                no_room_remedy(flag),
            ) from error
        yield
    except BaseException:
        if not (run_dir / FILE_NAME).exists():
            with suppress(OSError):
                state.unlink(missing_ok=True)
                directory.rmdir()
        raise


def make_plan(
    given: Configuration,
    specs: Sequence[str],
    directory: Path,
    *,
    rehearsal: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Everything up to the confirmation, sealed in ``directory`` for ``run DIR``; the exit code.

    Raises what ``planning.planned``, ``refuse_invalid_rows`` and ``check_plan`` raise, and what
    ``target_of`` raises.
    """
    if str(directory) == "-":
        raise UsageRefused(
            "-o: a plan is a directory, and - is standard input to the run that would name it",
            "name a directory, like plans/november",
        )
    settings = msgspec.structs.replace(planning.anchored(given.settings), run_dir=str(directory))
    # Before a long manifest is read: a plan belongs to an account.
    target = target_of(settings, rehearsal=rehearsal)
    if not rehearsal:
        settings = as_calibrated(settings, target.account, target.endpoint)
    run_id = new_run_id()
    with (
        made_run_directory(directory, "-o"),
        planning.planned(settings, specs, run_id, directory, quiet=quiet, flag="-o DIR") as plan,
    ):
        figures = plan.figures
        planning.refuse_invalid_rows(plan, settings, directory)
        shown = plan_lines(figures, settings, target.endpoint, target.account)
        with consent.shown(shown, at_once=False):
            planning.check_plan(figures, settings)
        binding = bound(specs, plan.sources, given, figures)
        facts = {BOUND: msgspec.to_builtins(binding)}
        planned_us = seal(
            plan, settings, target, run_dir=directory, run_id=run_id, facts=facts, flag="-o DIR"
        )
    label = Label(
        directory,
        run_id,
        planned_us,
        expires_us(planned_us, settings),
        binding.streams,
        len(plan.holds.entries),
    )
    lines = [
        *readiness.belt_lines(settings),
        *planning.hold_lines(label.holds, settings),
        *[f"  note      {note}" for note in target.notes],
    ]
    tell(label, figures, settings, target, *lines, json=json)
    stderr.write(*rejection_lines(figures))
    stderr.write(
        f"{NOTHING_SENT}; the plan is in {directory}; to carry it out type: {label.command}"
    )
    return planning.dry_run_exit_code(figures)
