"""How long ``facepurge status`` takes, and a resume to its first call, on a large ledger of which 97 % is done.

``python -m tests.benchmarks.bench_status`` has a million calls in it, ``--scale large`` ten million; both are
as fast on a thousand, if they only read what they need.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks import half_done
from tests.benchmarks.agreeable_service import KEYS, AgreeableService
from tests.benchmarks.comparison import Comparison, Contestant, Series, WrongAnswer, compare
from tests.benchmarks.first_calls import interrupt
from tests.benchmarks.measurement import MB, Ended, Measurement, measure
from tests.benchmarks.sitting import Sitting, parser

QUESTION: Final = "How long do status and resume take where most of a large run is done?"

FEW_CALLS: Final = 1_000
CALLS: Final = {"quick": 20_000, "small": 1_000_000, "large": 10_000_000}
SHARE_DONE: Final = 0.97
BARE: Final = "bare interpreter"
PROGRAM: Final = (sys.executable, "-m", "worker")
ROUNDS: Final = 5


def status_of(run_dir: Path, calls: int) -> Contestant:
    done = int(calls * SHARE_DONE)

    def check(ended: Ended) -> Mapping[str, float]:
        outcomes = json.loads(ended.out)["outcomes"]
        if (outcomes["deleted"], outcomes["unsent"]) != (done, calls - done):
            raise WrongAnswer(f"{outcomes}, and {done} of {calls} are done")
        return {"run_mb": sum(path.stat().st_size for path in run_dir.iterdir()) / MB}

    return Contestant(f"{calls:,} calls", (*PROGRAM, "status", run_dir, "--json"), check)


def resumed(
    run_dir: Path, service: AgreeableService, environment: Mapping[str, str]
) -> Measurement:
    """To the first call of a resume, which is killed then; the next one settles what it left open."""
    command = (*PROGRAM, "resume", run_dir, "--yes", "--quiet")
    return interrupt(
        command, service, environment, after_calls=1, signal_number=signal.SIGKILL
    ).measurement


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--calls", type=int, help="of the large ledger")
    options.add_argument("--directory", type=Path, help="with room; default: where TMPDIR leads")
    options.set_defaults(rounds=ROUNDS)
    given = options.parse_args()
    sizes = (FEW_CALLS, given.calls or CALLS[given.scale])
    bare = Contestant(BARE, (sys.executable, "-c", "pass"))
    with (
        tempfile.TemporaryDirectory(dir=given.directory) as scratch,
        Sitting("status", QUESTION, given.json) as sitting,
        AgreeableService() as service,
    ):
        environment = {**KEYS, "XDG_STATE_HOME": scratch, "TMPDIR": scratch}
        run_dirs = {calls: Path(scratch, f"calls{calls}") for calls in sizes}
        for calls, run_dir in run_dirs.items():
            half_done.make(run_dir, calls, int(calls * SHARE_DONE), service.url, environment)
        statuses = [status_of(run_dir, calls) for calls, run_dir in run_dirs.items()]
        sitting.add(
            compare(
                f"facepurge status, {SHARE_DONE:.0%} done",
                [bare, *statuses],
                baseline=BARE,
                rounds=given.rounds,
                to_reach="0.3 s at ten million calls, as at a few",
            )
        )
        bases: list[Measurement] = []
        taken: dict[str, list[Measurement]] = {f"{calls:,} calls": [] for calls in sizes}
        for _ in range(given.rounds):
            bases.append(measure(bare.command).measurement)
            for calls, run_dir in run_dirs.items():
                taken[f"{calls:,} calls"].append(resumed(run_dir, service, environment))
        sitting.add(
            Comparison(
                f"facepurge resume to its first call, {SHARE_DONE:.0%} done",
                "wall_seconds",
                BARE,
                (
                    Series(BARE, tuple(bases)),
                    *(Series(name, tuple(measured)) for name, measured in taken.items()),
                ),
                "1 s at ten million calls",
            )
        )


if __name__ == "__main__":
    main()
