"""``facepurge run``: read, plan, confirm, delete, report; of a plan that exists, the last three."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    belt_options,
    configuration,
    evidence_options,
    general_options,
    safety_options,
    same_account_option,
    sandbox_option,
    service_options,
    source_options,
)
from worker.cli.verb import verb

EXAMPLES = """\
facepurge run faces.csv --region cn-shanghai --dry-run
facepurge run faces.csv --region cn-shanghai --exclude-from holds.txt
facepurge run 'exports/*.csv.gz' --region cn-shanghai --confirm 120431
facepurge run plans/november --confirm 120431
facepurge run persons.csv --region cn-shanghai --whole-persons --max-persons 12 --confirm 12
cat jobs.jsonl | facepurge run - --sandbox --yes"""


@verb("run", examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@source_options
@safety_options
@same_account_option
@evidence_options
@belt_options
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
    same_account: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Delete the faces that SOURCE... names, and report what became of each.

    SOURCE is a file, a glob, or - for standard input: csv, tsv, jsonl, json (also compressed) or
    parquet; a folder of Parquet parts; and s3://BUCKET/KEY or oss://BUCKET/KEY with any of these.
    Whoever is to be forgotten altogether is named as such: "faces": "all" in JSON, --whole-persons.
    Nothing is sent before all of it was read and checked, the plan is on disk, and you said yes.

    SOURCE may also be the DIR of a facepurge plan -o DIR, alone. That plan is carried out as it is,
    provided that input, exclusion list, account, endpoint and settings are what they were.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker import telemetry  # noqa: PLC0415
    from worker.cli import (  # noqa: PLC0415
        belts,
        consent,
        plan_directory,
        planning,
        preview,
        purge,
        readiness,
    )
    from worker.cli.concluding import conclude_run  # noqa: PLC0415
    from worker.cli.planned_run import run_plan  # noqa: PLC0415
    from worker.cli.run_directory import made_run_directory, new_run_id  # noqa: PLC0415
    from worker.cli.sealing import seal  # noqa: PLC0415
    from worker.cli.target import address_of, quota_of, target_of  # noqa: PLC0415
    from worker.errors import UsageRefused  # noqa: PLC0415
    from worker.model import Verb  # noqa: PLC0415

    with known(NOTHING_SENT):
        given = configuration(ctx)
        stderr.begin(given.settings.log_format)
        telemetry.configure(given.settings.log_format, verbose - quiet, sys.stderr)
        is_plan = plan_directory.is_meant(sources)
        if same_account and not is_plan:
            raise UsageRefused(
                "--same-account: a run from its sources belongs to the account of today",
                "leave it out; it is for a plan (run DIR) and for resume",
            )
    if is_plan:
        return run_plan(
            Path(sources[0]),
            given,
            yes=yes,
            confirm=confirm,
            dry_run=dry_run,
            sandbox=sandbox,
            same_account=same_account,
            json=json,
            verbosity=verbose - quiet,
        )
    with ExitStack() as ours:
        with known(NOTHING_SENT):
            belts.require_window(given)
            settings = planning.anchored(given.settings)
            run_id = new_run_id()
            if dry_run:
                address = address_of(settings, rehearsal=sandbox)
                return planning.dry_run(settings, sources, run_id, address, json=json, quiet=quiet)
            # Before a long manifest is read: whoever cannot begin or sign has nothing to wait for.
            readiness.require_ready(settings)
            target = target_of(settings, rehearsal=sandbox)
            if not sandbox:
                settings = purge.as_calibrated(settings, target.account, target.endpoint)
            run_dir = planning.run_directory(settings, run_id)
            ours.enter_context(made_run_directory(run_dir))
            ours.enter_context(quota_of(target, run_dir))
            with planning.planned(settings, sources, run_id, run_dir, quiet=quiet) as plan:
                planning.refuse_invalid_rows(plan, settings, run_dir)
                lines = [
                    *preview.plan_lines(plan.figures, settings, target.endpoint, target.account),
                    *readiness.belt_lines(settings),
                    *planning.hold_lines(len(plan.holds.entries), settings),
                    *[f"  note      {note}" for note in target.notes],
                    *preview.rejection_lines(plan.figures),
                ]
                yes = yes or sandbox
                asks = consent.asks(yes=yes, confirm=confirm)
                with consent.shown(lines, at_once=asks or not quiet):
                    planning.check_plan(plan.figures, settings)
                    readiness.require_ready(settings)
                    count, noun = consent.to_be_confirmed(plan.figures)
                    consent.obtain(
                        count,
                        noun,
                        yes=yes,
                        confirm=confirm,
                        stdin_is_a_source="-" in sources,
                    )
                seal(plan, settings, target, run_dir=run_dir, run_id=run_id)
        return conclude_run(run_dir, settings, Verb.RUN, json=json, quiet=quiet)
