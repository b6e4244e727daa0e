"""``facepurge verify``: look up again what a run says is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    config_option,
    configuration,
    json_option,
    log_options,
    looking_belt_options,
    report_format_option,
    same_run_options,
    service_options,
)
from worker.cli.verb import verb

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = """\
facepurge verify runs/20261123T185054Z-3f9a1c
facepurge verify runs/20261123T185054Z-3f9a1c --self"""


@verb("verify", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@click.option(
    "--self",
    "self_",
    is_flag=True,
    help="Check ledger and report against each other and against the invariants; no network.",
)
@same_run_options
@looking_belt_options
@service_options
@config_option
@report_format_option
@log_options
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    run_dir: str,
    *,
    self_: bool,
    same_account: bool,
    swap_explained: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Look up every person of the run in RUN_DIR once more, and record what is there now.

    Deletes nothing. Ends with 6 when a face is there that should be gone.
    """
    from contextlib import ExitStack  # noqa: PLC0415 (start-up: --help needs none of these)
    from pathlib import Path  # noqa: PLC0415

    from worker.cli import reopening  # noqa: PLC0415
    from worker.cli.concluding import conclude_run  # noqa: PLC0415
    from worker.cli.target import quota_of  # noqa: PLC0415
    from worker.model import Verb  # noqa: PLC0415

    with ExitStack() as ours:
        with known(NOTHING_SENT):
            run = ours.enter_context(reopening.reopened(Path(run_dir), to_read=self_))
            settings = reopening.settings_of(run.header, configuration(ctx))
            reopening.begin_telling(settings, verbose - quiet)
            if not self_:
                reopening.require_explanation(run.reasons, swap_explained=swap_explained)
                reopening.require_same_target(run.header, settings, same_account=same_account)
                ours.enter_context(quota_of(run.header, run.run_dir))
        if self_:
            return _self_check(run.run_dir, json=json)
        return conclude_run(run.run_dir, settings, Verb.VERIFY, json=json, quiet=quiet)


def _self_check(run_dir: Path, *, json: bool) -> int:
    with known(NOTHING_SENT):
        from worker.cli.self_check import self_check  # noqa: PLC0415 (start-up)

        return self_check(run_dir, json=json)
