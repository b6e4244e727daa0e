"""``facepurge run``: read, plan, confirm, delete, report."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    configuration,
    evidence_options,
    general_options,
    safety_options,
    sandbox_option,
    service_options,
    source_options,
)
from worker.cli.verb import verb

if TYPE_CHECKING:
    from pathlib import Path

    from worker.cli.planning import Plan
    from worker.settings import Settings

EXAMPLES = """\
facepurge run faces.csv --region cn-shanghai --dry-run
facepurge run faces.csv --region cn-shanghai --exclude-from holds.txt
facepurge run 'exports/*.csv.gz' --region cn-shanghai --confirm 120431
facepurge run persons.csv --region cn-shanghai --whole-persons --max-persons 12 --confirm 12
cat jobs.jsonl | facepurge run - --sandbox --yes"""


@verb("run", examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@source_options
@safety_options
@evidence_options
@service_options
@sandbox_option
@general_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    *,
    yes: bool,
    confirm: int | None,
    dry_run: bool,
    sandbox: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Delete the faces that SOURCE... names, and report what became of each.

    SOURCE is a file, a glob, or - for standard input: csv, tsv, jsonl or json, also compressed.
    Whoever is to be forgotten altogether is named as such: "faces": "all" in JSON, --whole-persons.
    Nothing is sent before all of it was read and checked, the plan is on disk, and you said yes.
    """
    from worker import telemetry  # noqa: PLC0415 (start-up: --help needs none of these)
    from worker.cli import consent, planning, preview, purge  # noqa: PLC0415
    from worker.cli.concluding import conclude_run  # noqa: PLC0415
    from worker.cli.run_directory import made_run_directory, new_run_id  # noqa: PLC0415
    from worker.model import Verb  # noqa: PLC0415

    with ExitStack() as ours:
        with known(NOTHING_SENT), consent.terminating():
            settings = planning.anchored(configuration(ctx).settings)
            stderr.begin(settings.log_format)
            telemetry.configure(settings.log_format, verbose - quiet, sys.stderr)
            address, note = purge.SANDBOX_NAME, ""
            if not sandbox:
                endpoint = purge.endpoint_of(settings)
                address, note = endpoint.url_base, endpoint.note
            run_id = new_run_id()
            if dry_run:
                return planning.dry_run(settings, sources, run_id, address, json=json, quiet=quiet)
            # Before a long manifest is read: whoever cannot sign has nothing to wait for.
            account = purge.SANDBOX_NAME if sandbox else purge.account_of(settings)
            if not sandbox:
                settings = purge.as_calibrated(settings, account, address)
            run_dir = planning.run_directory(settings, run_id)
            ours.enter_context(made_run_directory(run_dir))
            with planning.planned(settings, sources, run_id, run_dir, quiet=quiet) as plan:
                planning.refuse_invalid_rows(plan, settings, run_dir)
                planning.check_plan(plan.figures, settings)
                count, noun = consent.to_be_confirmed(plan.figures)
                consent.obtain(
                    [
                        *preview.plan_lines(plan.figures, settings, address, account),
                        *([f"  note      {note}"] if note else []),
                        *preview.rejection_lines(plan.figures),
                    ],
                    count,
                    noun,
                    yes=yes or sandbox,
                    confirm=confirm,
                    stdin_is_a_source="-" in sources,
                    quiet=quiet,
                )
                _seal(
                    plan,
                    settings,
                    run_dir,
                    run_id=run_id,
                    account=account,
                    address=address,
                    rehearsal=sandbox,
                )
        return conclude_run(run_dir, settings, Verb.RUN, json=json, quiet=quiet)


def _seal(
    plan: Plan,
    settings: Settings,
    run_dir: Path,
    *,
    run_id: str,
    account: str,
    address: str,
    rehearsal: bool,
) -> None:
    """Make the plan durable, and for a rehearsal the world that it begins with."""
    import msgspec  # noqa: PLC0415 (start-up)

    from worker import __version__  # noqa: PLC0415
    from worker.cli.run_directory import SANDBOX  # noqa: PLC0415
    from worker.clock import SystemClock  # noqa: PLC0415
    from worker.sandbox.state import write_state  # noqa: PLC0415

    if rehearsal:
        directory = run_dir / SANDBOX
        directory.mkdir(mode=0o700, exist_ok=True)
        write_state(directory / "state.json", plan.draft.world())
    figures = plan.figures
    plan.draft.seal(
        {
            "run_id": run_id,
            "program_version": __version__,
            "planned_us": SystemClock().now_us(),
            "account": account,
            "endpoint": address,
            "rehearsal": rehearsal,
            "settings": msgspec.to_builtins(settings),
            "persons": figures.persons,
            "whole_persons": figures.whole_persons,
            "faces": figures.faces,
            "calls": figures.calls,
            "repeats": figures.repeats,
            "rows": figures.rows,
            "holds_sha256": plan.holds.sha256,
        }
    )
