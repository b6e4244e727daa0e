"""``facepurge rate``: make a run at work slower or faster, from another terminal."""

from __future__ import annotations

import click

from worker.cli.ending import NO_ORDER
from worker.cli.options import json_option
from worker.cli.parameters import Rate
from worker.cli.verb import verb

EXAMPLES = """\
facepurge rate runs/20261123T185054Z-3f9a1c 5
facepurge rate runs/20261123T185054Z-3f9a1c 19.8"""


@verb("rate", examples=EXAMPLES, refused=NO_ORDER)
@click.argument("run_dir", metavar="RUN_DIR")
@click.argument("rate", metavar="N", type=Rate())
@json_option
def rate(run_dir: str, rate: float, *, json: bool) -> int:
    """Set the run at work in RUN_DIR to N calls per second for each operation, from the next call on.

    As for --rate, more than 20 needs a run that was started or resumed with --raised-quota. Above 19.8
    nothing is left for jitter on the way: expect a throttle now and then. The rate is this session's: a
    resume begins with the run's own again.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker.cli.steering import steer  # noqa: PLC0415
    from worker.orders import Ask  # noqa: PLC0415

    # Whether more than 20 are allowed, the run itself knows best.
    return steer(Path(run_dir), Ask.RATE, rate, json=json)
