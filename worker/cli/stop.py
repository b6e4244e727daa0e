"""``facepurge stop``: end a run at work in good order, from another terminal."""

from __future__ import annotations

import click

from worker.cli.ending import NO_ORDER
from worker.cli.options import json_option
from worker.cli.verb import verb

EXAMPLES = """\
facepurge stop runs/20261123T185054Z-3f9a1c
facepurge resume runs/20261123T185054Z-3f9a1c"""


@verb("stop", examples=EXAMPLES, refused=NO_ORDER)
@click.argument("run_dir", metavar="RUN_DIR")
@json_option
def stop(run_dir: str, *, json: bool) -> int:
    """Let the run at work in RUN_DIR end as SIGTERM would, but with exit code 10.

    No further call begins, those in flight are finished and recorded, and the report is written.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker.cli.steering import steer  # noqa: PLC0415
    from worker.orders import Ask  # noqa: PLC0415

    return steer(Path(run_dir), Ask.STOP, json=json)
