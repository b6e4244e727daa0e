"""``facepurge unpause``: let a paused run go on."""

from __future__ import annotations

import click

from worker.cli.ending import NO_ORDER
from worker.cli.options import json_option
from worker.cli.verb import verb

EXAMPLES = """\
facepurge unpause runs/20261123T185054Z-3f9a1c"""


@verb("unpause", examples=EXAMPLES, refused=NO_ORDER)
@click.argument("run_dir", metavar="RUN_DIR")
@json_option
def unpause(run_dir: str, *, json: bool) -> int:
    """Lift the order to pause from the run at work in RUN_DIR.

    What else pauses it, like a pause file or a window, still does, and is named.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker.cli.steering import steer  # noqa: PLC0415
    from worker.orders import Ask  # noqa: PLC0415

    return steer(Path(run_dir), Ask.UNPAUSE, json=json)
