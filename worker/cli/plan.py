"""``facepurge plan``: everything up to the first call."""

from __future__ import annotations

import sys

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    belt_options,
    configuration,
    evidence_options,
    general_options,
    output_option,
    plan_safety_options,
    sandbox_option,
    service_options,
    source_options,
)
from worker.cli.verb import verb

EXAMPLES = """\
facepurge plan faces.csv
facepurge plan a.csv b.jsonl.gz --exclude-from holds.txt
facepurge plan faces.csv --rate 5 --json
facepurge plan 'exports/*.csv' --region cn-shanghai --exclude-from holds.txt -o plans/november
facepurge plan faces.csv --sandbox -o rehearsal"""


@verb("plan", examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@output_option
@source_options
@plan_safety_options
@evidence_options
@belt_options
@service_options
@sandbox_option
@general_options
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    *,
    output: str | None,
    sandbox: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Read and check SOURCE..., and say what a run would send and how long it would take.

    Sends nothing. Ends with the code that the run would be refused with. With -o DIR the plan is kept,
    and facepurge run DIR carries out exactly that: what was planned is what runs. Such a plan belongs
    to an account and an endpoint; without -o neither is needed.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker import telemetry  # noqa: PLC0415
    from worker.cli import belts, plan_directory, planning  # noqa: PLC0415
    from worker.cli.run_directory import new_run_id  # noqa: PLC0415
    from worker.cli.sealing import make_plan  # noqa: PLC0415
    from worker.cli.target import address_of  # noqa: PLC0415

    with known(NOTHING_SENT):
        given = configuration(ctx)
        settings = given.settings
        stderr.begin(settings.log_format)
        telemetry.configure(settings.log_format, verbose - quiet, sys.stderr)
        plan_directory.refuse_plans(sources)
        belts.require_window(given)
        if output is not None:
            return make_plan(
                given, sources, Path(output), rehearsal=sandbox, json=json, quiet=quiet
            )
        address = address_of(settings, rehearsal=sandbox)
        return planning.dry_run(settings, sources, new_run_id(), address, json=json, quiet=quiet)
