"""How long a command takes to start, and a small run to make its first call, against a bare interpreter.

``python -m tests.benchmarks.bench_start``. The first call is timed from before the process is made to the
arrival of its first bytes at a server of this bench, which shares the machine's clock.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.agreeable_service import KEYS, AgreeableService
from tests.benchmarks.comparison import Contestant, compare
from tests.benchmarks.measurement import Ended
from tests.benchmarks.sitting import Sitting, parser

QUESTION: Final = "How long does the program take to start, and to make its first call?"

ROUNDS: Final = 11
"""A start is short and everything disturbs it."""

BARE: Final = "bare interpreter"
PERSONS: Final = 3


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=ROUNDS)
    given = options.parse_args()
    program = (sys.executable, "-m", "worker")
    bare = Contestant(BARE, (sys.executable, "-c", "pass"))
    with Sitting("start", QUESTION, given.json) as sitting:
        sitting.add(
            compare(
                "to say something",
                [
                    bare,
                    Contestant("facepurge --help", (*program, "--help")),
                    Contestant("facepurge --version", (*program, "--version")),
                ],
                baseline=BARE,
                rounds=given.rounds,
                to_reach="--help in 0.2 s",
            )
        )
        with tempfile.TemporaryDirectory() as scratch, AgreeableService() as service:
            directory = Path(scratch)
            source, run_dir = directory / "faces.csv", directory / "run"
            rows = "".join(f"person{n},1005863964{n:07d}\n" for n in range(PERSONS))
            source.write_text(f"person_id,face_id\n{rows}")

            def forget() -> None:
                shutil.rmtree(run_dir, ignore_errors=True)
                service.forget()

            def first_call(ended: Ended) -> Mapping[str, float]:
                return {"seconds_to_first_call": service.arrived(1) - ended.began_seconds}

            def whole(ended: Ended) -> Mapping[str, float]:
                return {"seconds_to_first_call": ended.measurement.wall_seconds}

            command = (*program, "run", source, "--confirm", str(PERSONS), "--quiet")
            sitting.add(
                compare(
                    f"to the first call of a confirmed run of {PERSONS} persons",
                    [
                        Contestant(BARE, bare.command, whole),
                        Contestant(
                            "facepurge run",
                            (*command, "--endpoint", service.url, "--run-dir", run_dir),
                            first_call,
                            forget,
                            {**KEYS, "XDG_STATE_HOME": scratch},
                        ),
                    ],
                    baseline=BARE,
                    figure="seconds_to_first_call",
                    rounds=given.rounds,
                    to_reach="1 s",
                )
            )


if __name__ == "__main__":
    main()
