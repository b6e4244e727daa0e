"""``facepurge status``: how a run is, without disturbing it."""

from __future__ import annotations

import click

from worker.cli.options import json_option
from worker.cli.verb import verb

EXAMPLES = """\
facepurge status runs/20261123T185054Z-3f9a1c
facepurge status runs/20261123T185054Z-3f9a1c --watch
facepurge status runs/20261123T185054Z-3f9a1c --json"""


@verb("status", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@click.option(
    "--watch",
    is_flag=True,
    help="Go on until the run ends: redrawn on a terminal, otherwise a line for each change.",
)
@json_option
def status(run_dir: str, *, watch: bool, json: bool) -> int:
    """Say how the run in RUN_DIR is: state, counts, rate, when it ends, and why it waits.

    Reads a few rows of the ledger, also while the run is at work, and changes nothing.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker.cli import watching  # noqa: PLC0415

    if watch:
        return watching.watch(Path(run_dir), json=json)
    return watching.tell(Path(run_dir), json=json)
