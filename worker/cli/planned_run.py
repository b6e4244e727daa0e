"""A plan that is carried out: compared, shown from its ledger, confirmed, and done."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from worker.cli import consent, planning, readiness, reopening, stderr
from worker.cli.belts import require_window
from worker.cli.bound_plan import BoundPlan, opened, require_none
from worker.cli.concluding import conclude_run
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.plan_label import Label, expires_us, tell
from worker.cli.preview import plan_lines, rejection_lines
from worker.cli.purge import as_calibrated
from worker.cli.target import Target, quota_of
from worker.cli.terms import terms
from worker.clock import SystemClock
from worker.configuration import Configuration
from worker.errors import RunStopped, UsageRefused
from worker.limits import check
from worker.model import Verb
from worker.plan import PlanFigures
from worker.settings import Settings


def run_plan(
    directory: Path,
    given: Configuration,
    *,
    yes: bool,
    confirm: int | None,
    dry_run: bool,
    sandbox: bool,
    same_account: bool,
    json: bool,
    verbosity: int,
) -> int:
    """Carry out the plan in ``directory``, if all that it is bound to is as it was; the exit code.

    ``verbosity`` is below 0 where little is to be said. Raises ``GateClosed`` for any difference.
    """
    quiet = verbosity < 0
    clock = SystemClock()
    with ExitStack() as ours:
        with known(NOTHING_SENT):
            plan = ours.enter_context(opened(directory))
            plan.require_valid(plan.settings, clock.now_us())
            settings = _settings(plan, given, sandbox=sandbox)
            reopening.begin_telling(settings, verbosity)
            plan.require_valid(settings, clock.now_us())
            planning.require_exclusion_list(settings)
            note = _require_same_target(plan, settings, same_account=same_account, dry_run=dry_run)
            if not dry_run:
                ours.enter_context(quota_of(plan.header, directory))
            comparison = plan.require_same_input(quiet=quiet)
            additions = plan.new_holds(settings)
            label = Label(
                directory,
                plan.header.run_id,
                plan.header.planned_us,
                expires_us(plan.header.planned_us, settings),
                plan.binding.streams,
                len(plan.holds) + len(additions),
            )
            with plan.queue(settings, additions, lasting=not dry_run) as figures:
                lines = _lines(plan, label, figures, settings, note)
                target = Target(plan.header.account, plan.header.endpoint, plan.header.rehearsal)
                if dry_run:
                    tell(label, figures, settings, target, *lines, json=json)
                    stderr.write(*rejection_lines(figures))
                    planning.check_ceilings(figures, settings)
                    stderr.write(
                        f"{NOTHING_SENT}; this was a dry run; to carry it out type: {label.command}"
                    )
                    return planning.dry_run_exit_code(figures)
                told = [
                    *plan_lines(figures, settings, target.endpoint, target.account),
                    *lines,
                    *label.lines(),
                    *rejection_lines(figures),
                ]
                yes = yes or plan.header.rehearsal
                asks = consent.asks(yes=yes, confirm=confirm)
                with consent.shown(told, at_once=asks or not quiet):
                    planning.check_ceilings(figures, settings)
                    readiness.require_ready(settings)
                    count, noun = consent.to_be_confirmed(figures)
                    consent.obtain(
                        count,
                        noun,
                        yes=yes,
                        confirm=confirm,
                        stdin_is_a_source=False,
                    )
                plan.require_valid(settings, clock.now_us())
                plan.require_untouched(comparison)
        return conclude_run(directory, settings, Verb.RUN, json=json, quiet=quiet)


def _settings(plan: BoundPlan, given: Configuration, *, sandbox: bool) -> Settings:
    """What was planned, with what was said about this session; raises ``GateClosed`` for the rest."""
    if given.origins["run_dir"].startswith("--"):
        raise UsageRefused(
            f"--run-dir: the run of a plan lives where the plan does, in {plan.directory}",
            "leave out --run-dir; to have it elsewhere, make the plan there: facepurge plan"
            " SOURCE... -o DIR",
        )
    said = terms(plan.settings, plan.binding.typed, given)
    require_none(
        plan.directory,
        [*_rehearsed(plan, given, sandbox=sandbox), *said.differences],
        "leave out what differs",
    )
    check(said.settings, given.origins)
    require_window(Configuration(said.settings, given.origins))
    if plan.header.rehearsal:
        return said.settings
    return as_calibrated(said.settings, plan.header.account, plan.header.endpoint)


def _rehearsed(plan: BoundPlan, given: Configuration, *, sandbox: bool) -> list[str]:
    if sandbox and not plan.header.rehearsal:
        return [f"--sandbox: the plan is about {plan.header.endpoint} and not a rehearsal"]
    if not plan.header.rehearsal:
        return []
    return [
        f"{flag}: the plan is a rehearsal and has its own server"
        for key in ("region", "endpoint")
        if (flag := given.origins[key]).startswith("--")
    ]


def _require_same_target(
    plan: BoundPlan, settings: Settings, *, same_account: bool, dry_run: bool
) -> str:
    """Raise ``GateClosed`` for another account or endpoint.

    Who reads a plan need not be who may carry it out: a dry run without any credentials gets a
    sentence instead.
    """
    try:
        reopening.require_same_target(plan.header, settings, same_account=same_account, what="plan")
    except RunStopped as stopped:
        if not dry_run:
            raise
        return f"whose account this would be was not compared: {stopped.cause}"
    return ""


def _lines(
    plan: BoundPlan, label: Label, figures: PlanFigures, settings: Settings, note: str
) -> list[str]:
    """What the plan does not say of itself, between its figures and its label."""
    lines = [*readiness.belt_lines(settings), *planning.hold_lines(label.holds, settings)]
    since = figures.held - plan.binding.figures.held
    if since:
        lines.append(f"  held      {since:>12,}   rows of them since the plan: the list has grown")
    return [*lines, *([f"  note      {note}"] if note else [])]
