"""``facepurge pause``: hold a run at work from another terminal."""

from __future__ import annotations

import click

from worker.cli.ending import NO_ORDER
from worker.cli.options import json_option
from worker.cli.verb import verb

EXAMPLES = """\
facepurge pause runs/20261123T185054Z-3f9a1c
facepurge unpause runs/20261123T185054Z-3f9a1c"""


@verb("pause", examples=EXAMPLES, refused=NO_ORDER)
@click.argument("run_dir", metavar="RUN_DIR")
@json_option
def pause(run_dir: str, *, json: bool) -> int:
    """Let the run at work in RUN_DIR begin no further call until it is unpaused.

    Calls in flight are finished and recorded; nothing is left unclear. The process stays, and so
    does its lock on the account.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker.cli.steering import steer  # noqa: PLC0415
    from worker.orders import Ask  # noqa: PLC0415

    return steer(Path(run_dir), Ask.PAUSE, json=json)
