"""``facepurge retry``: a new round for what a finished run could not delete."""

from __future__ import annotations

import click

from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    attempts_option,
    config_option,
    configuration,
    confirmation_options,
    json_option,
    log_options,
    max_delete_option,
    same_run_options,
    service_options,
)
from worker.cli.verb import verb

EXAMPLES = """\
facepurge retry runs/20261123T185054Z-3f9a1c
facepurge retry runs/20261123T185054Z-3f9a1c --confirm 12 --max-attempts 5"""


@verb("retry", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@confirmation_options
@max_delete_option
@same_run_options
@attempts_option
@service_options
@config_option
@log_options
@json_option
@click.pass_context
def retry(
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
    """Try again what ended present, no_person, or refused for a cause that can be mended.

    A new round in the same ledger, with all attempts counted anew. Faces with any other outcome are
    never touched; a run that is not finished is resumed first.
    """
    from contextlib import ExitStack  # noqa: PLC0415 (start-up: --help needs none of these)
    from pathlib import Path  # noqa: PLC0415

    from worker.cli import consent, reopening  # noqa: PLC0415
    from worker.cli.concluding import conclude_run, report_run  # noqa: PLC0415
    from worker.errors import GateClosed  # noqa: PLC0415
    from worker.model import Verb  # noqa: PLC0415

    with ExitStack() as ours:
        with known(NOTHING_SENT), consent.terminating():
            run = ours.enter_context(reopening.reopened(Path(run_dir)))
            settings = reopening.settings_of(run.header, configuration(ctx))
            reopening.begin_telling(settings, verbose - quiet)
            if run.left.calls:
                raise GateClosed(
                    f"{run_dir}: the run is not finished, and a new round begins where it ended",
                    f"first type: facepurge resume {run_dir}",
                )
            if run.retried.calls:
                reopening.require_explanation(run.reasons, swap_explained=swap_explained)
                reopening.require_same_target(run.header, settings, same_account=same_account)
                what = "present, of no known person, or refused for a cause that can be mended"
                reopening.obtain_consent(
                    run, run.retried, what, yes=yes, confirm=confirm, quiet=bool(quiet)
                )
        if not run.retried.calls:
            return report_run(run.run_dir, json=json)
        return conclude_run(run.run_dir, settings, Verb.RETRY, json=json, quiet=quiet)
