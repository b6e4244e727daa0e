"""``facepurge report``: the report again, from the ledger."""

from __future__ import annotations

import sys
from typing import Literal

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import json_option, log_options, report_format_option
from worker.cli.verb import verb

EXAMPLES = """\
facepurge report runs/20261123T185054Z-3f9a1c
facepurge report runs/20261123T185054Z-3f9a1c --json
facepurge report runs/20261123T185054Z-3f9a1c --report-format parquet"""


@verb("report", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@report_format_option
@json_option
@log_options
def report(
    run_dir: str,
    *,
    report_format: str | None,
    json: bool,
    verbose: bool,
    quiet: bool,
    log_format: str | None,
) -> int:
    """Write the report of the run in RUN_DIR again; the same ledger gives the same bytes.

    Sends nothing. What a killed process left in flight is reported as unknown. Without
    --report-format there is a results.parquet where the run was told to write one, and otherwise none.
    """
    import asyncio  # noqa: PLC0415 (start-up: --help needs none of these)
    from pathlib import Path  # noqa: PLC0415

    from worker import telemetry  # noqa: PLC0415
    from worker.cli.bound_plan import require_begun  # noqa: PLC0415
    from worker.cli.concluding import report_run  # noqa: PLC0415
    from worker.cli.plan_directory import quoted, require_own  # noqa: PLC0415
    from worker.cli.purge import close_left_behind  # noqa: PLC0415
    from worker.ledger.commands import note_death  # noqa: PLC0415
    from worker.ledger.database import open_ledger, require_ledger  # noqa: PLC0415
    from worker.locks import run_lock  # noqa: PLC0415

    form: Literal["console", "json"] = "json" if log_format == "json" else "console"
    stderr.begin(form)
    telemetry.configure(form, verbose - quiet, sys.stderr)
    directory = Path(run_dir)
    with known(NOTHING_SENT):
        require_ledger(directory)
        require_own(directory, "run")
    again = f"to write the report type: facepurge report {quoted(directory)}"
    with known(f"{NOTHING_SENT}; {again}"), run_lock(directory):
        connection = open_ledger(directory, read_only=True)
        try:
            require_begun(directory, connection)
        finally:
            connection.close()
        note_death(directory)
        asyncio.run(close_left_behind(directory))
        return report_run(directory, json=json, report_format=report_format)
