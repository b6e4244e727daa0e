"""``facepurge plan``: everything up to the first call."""

from __future__ import annotations

import sys

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    configuration,
    general_options,
    plan_safety_options,
    service_options,
    source_options,
)
from worker.cli.verb import verb

EXAMPLES = """\
facepurge plan faces.csv
facepurge plan a.csv b.jsonl.gz --exclude-from holds.txt
facepurge plan faces.csv --rate 5 --json"""


@verb("plan", examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@source_options
@plan_safety_options
@service_options
@general_options
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    *,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Read and check SOURCE..., and say what a run would send and how long it would take.

    Sends nothing and needs no credentials. Ends with the code that the run would be refused with.
    """
    from worker import telemetry  # noqa: PLC0415 (start-up: --help needs none of these)
    from worker.cli import consent, planning, purge  # noqa: PLC0415
    from worker.cli.run_directory import new_run_id  # noqa: PLC0415

    with known(NOTHING_SENT), consent.terminating():
        settings = configuration(ctx).settings
        stderr.begin(settings.log_format)
        telemetry.configure(settings.log_format, verbose - quiet, sys.stderr)
        address = ""
        if settings.region or settings.endpoint:
            address = purge.endpoint_of(settings).url_base
        return planning.dry_run(settings, sources, new_run_id(), address, json=json, quiet=quiet)
