"""``facepurge retry``: a new round for what a finished run could not delete."""

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
facepurge retry runs/20261123T185054Z-3f9a1c
facepurge retry runs/20261123T185054Z-3f9a1c --confirm 12 --max-attempts 5"""


@verb("retry", examples=EXAMPLES)
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
    never touched; a run that is not finished is resumed first, unless its canary failed: then the
    stage is tried again, and the run goes on.
    """
    from contextlib import ExitStack  # noqa: PLC0415 (start-up: --help needs none of these)
    from pathlib import Path  # noqa: PLC0415

    from worker.cli import planning, reopening  # noqa: PLC0415
    from worker.cli.concluding import Work, conclude_run, report_run  # noqa: PLC0415
    from worker.cli.plan_directory import quoted  # noqa: PLC0415
    from worker.cli.preview import counted  # noqa: PLC0415
    from worker.cli.target import quota_of  # noqa: PLC0415
    from worker.errors import GateClosed  # noqa: PLC0415
    from worker.model import StopReason, Verb  # noqa: PLC0415

    with ExitStack() as ours:
        with known(NOTHING_SENT):
            run = ours.enter_context(reopening.reopened(Path(run_dir)))
            settings = reopening.settings_of(run.header, configuration(ctx))
            reopening.begin_telling(settings, verbose - quiet)
            # What a canary keeps back can be sent only once its stage is as it should be.
            kept_back = run.retried.calls and run.reasons[-1:] == [StopReason.CANARY]
            if run.left.calls and not kept_back:
                if reopening.only_looks(run.left):
                    raise GateClosed(
                        f"{run_dir}: a verification was broken off,"
                        f" {counted(run.left.calls, 'lookup')} still to be made, and a new round"
                        " begins where it ended",
                        f"first type: facepurge resume {quoted(run.run_dir)} (it deletes nothing)",
                    )
                raise GateClosed(
                    f"{run_dir}: the run is not finished, and a new round begins where it ended",
                    f"first type: facepurge resume {quoted(run.run_dir)}",
                )
            if run.retried.calls:
                planning.require_exclusion_list(settings)
                reopening.require_explanation(run.reasons, swap_explained=swap_explained)
                reopening.require_same_target(run.header, settings, same_account=same_account)
                ours.enter_context(quota_of(run.header, run.run_dir))
                what = "present, of no known person, or refused for a cause that can be mended"
                taken_up = run.retried
                if kept_back:
                    what += ", or kept back by the canary"
                    taken_up = run.left_and_retried
                reopening.obtain_consent(
                    run, taken_up, what, yes=yes, confirm=confirm, quiet=bool(quiet)
                )
        if not run.retried.calls:
            return report_run(
                run.run_dir,
                json=json,
                report_format=settings.report_format,
                work=Work(idle="nothing here can be tried again"),
            )
        return conclude_run(run.run_dir, settings, Verb.RETRY, json=json, quiet=quiet)
