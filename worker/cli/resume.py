"""``facepurge resume``: go on with a run that is not finished."""

from __future__ import annotations

import click

from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    attempts_option,
    belt_options,
    config_option,
    configuration,
    confirmation_options,
    json_option,
    log_options,
    max_delete_option,
    report_format_option,
    same_run_options,
    service_options,
)
from worker.cli.verb import verb

EXAMPLES = """\
facepurge resume runs/20261123T185054Z-3f9a1c
facepurge resume runs/20261123T185054Z-3f9a1c --confirm 4711 --rate 5"""


@verb("resume", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@confirmation_options
@max_delete_option
@same_run_options
@attempts_option
@belt_options
@service_options
@config_option
@report_format_option
@log_options
@json_option
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    run_dir: str,
    *,
    yes: bool,
    confirm: int | None,
    same_account: bool,
    swap_explained: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Settle what the run in RUN_DIR left unknown or unsent, and nothing else.

    What may have been applied is looked up first, and sent again only if the service still has it.
    The settings are those of the run; flags, environment and --config change them, but never the
    account or the endpoint.
    """
    from contextlib import ExitStack  # noqa: PLC0415 (start-up: --help needs none of these)
    from pathlib import Path  # noqa: PLC0415

    from worker.cli import planning, reopening  # noqa: PLC0415
    from worker.cli.concluding import conclude_run  # noqa: PLC0415
    from worker.cli.target import quota_of  # noqa: PLC0415
    from worker.model import Verb  # noqa: PLC0415

    with ExitStack() as ours:
        with known(NOTHING_SENT):
            run = ours.enter_context(reopening.reopened(Path(run_dir)))
            settings = reopening.settings_of(run.header, configuration(ctx))
            reopening.begin_telling(settings, verbose - quiet)
            if run.left.calls:
                planning.require_exclusion_list(settings)
                reopening.require_explanation(run.reasons, swap_explained=swap_explained)
                reopening.require_same_target(run.header, settings, same_account=same_account)
                ours.enter_context(quota_of(run.header, run.run_dir))
                what = "not gone for certain yet"
                reopening.obtain_consent(
                    run, run.left, what, yes=yes, confirm=confirm, quiet=bool(quiet)
                )
        return conclude_run(run.run_dir, settings, Verb.RESUME, json=json, quiet=quiet)
