"""How many attempts become durable in a second, one at a time and twenty, against bare apsw.

``python -m tests.benchmarks.bench_ledger [--seconds N]``. What waits while one commit is synced shares the
next one, so that the disk is asked as rarely as there are calls in flight.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

from tests.benchmarks.comparison import Contestant, compare
from tests.benchmarks.measurement import Ended
from tests.benchmarks.sitting import Sitting, parser

QUESTION: Final = "How many records a second does the ledger make durable?"
ROUNDS: Final = 3
"""A disk is shared with everybody, and what another process syncs is waited for here."""

SECONDS: Final = {"quick": 0.3}

NAMES: Final = {"apsw": "bare apsw", "ledger": "ledger", "watched": "ledger, watched 50 times/s"}


def told(ended: Ended) -> Mapping[str, float]:
    figures: dict[str, float] = json.loads(ended.out)
    return figures


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, help="of each measurement")
    options.set_defaults(rounds=ROUNDS)
    given = options.parse_args()
    seconds = given.seconds or SECONDS.get(given.scale, 1.0)
    with Sitting("ledger", QUESTION, given.json) as sitting:
        for at_once in (1, 20):
            command = [sys.executable, "-m", "tests.benchmarks.attempts"]
            contestants = [
                Contestant(name, [*command, who, str(at_once), str(seconds)], told)
                for who, name in NAMES.items()
            ]
            sitting.add(
                compare(
                    f"commits of {at_once}",
                    contestants,
                    baseline=NAMES["apsw"],
                    figure="records_per_second",
                    rounds=given.rounds,
                )
            )


if __name__ == "__main__":
    main()
