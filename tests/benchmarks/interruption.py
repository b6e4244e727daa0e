"""A plan that is begun, killed, resumed and stopped: nothing is counted twice, and nothing is lost."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace

from tests.benchmarks.agreeable_service import AgreeableService
from tests.benchmarks.comparison import Comparison, Series, WrongAnswer
from tests.benchmarks.first_calls import Interrupted, interrupt
from tests.benchmarks.measurement import measure
from tests.benchmarks.planning import Planning

CALLS = 60
"""Before each interruption: three seconds of them."""
STOPPED = 143


def interrupted(planning: Planning, service: AgreeableService) -> Comparison:
    """Run the plan, kill it, resume it, stop it; the totals are the generator's then.

    Raises ``WrongAnswer`` where they are not, or where the books know of another number of deleted
    faces than the service.
    """

    def begin(verb: str, signal_number: int) -> Interrupted:
        return interrupt(
            [sys.executable, "-m", "worker", verb, planning.plan_dir, "--yes", "--quiet"],
            service,
            planning.environment,
            after_calls=CALLS,
            signal_number=signal_number,
        )

    killed, resumed = begin("run", signal.SIGKILL), begin("resume", signal.SIGTERM)
    if (killed.code, resumed.code) != (-signal.SIGKILL, STOPPED):
        raise WrongAnswer(f"run ended with {killed.code} and resume with {resumed.code}")
    looked = measure(
        [sys.executable, "-m", "worker", "status", planning.plan_dir, "--json"],
        environment=planning.environment,
    )
    outcomes = json.loads(looked.out)["outcomes"]
    if sum(outcomes.values()) != planning.totals.pairs:
        raise WrongAnswer(f"{outcomes} are not the {planning.totals.pairs} faces of the generator")
    # What was in flight at the end may have been deleted without the program having heard of it.
    sure = outcomes["deleted"] + outcomes.get("absent", 0)
    if not sure <= service.faces_deleted <= sure + outcomes.get("unknown", 0):
        raise WrongAnswer(f"{outcomes}, and the service deleted {service.faces_deleted}")
    told = {"faces": float(planning.totals.pairs), "faces_deleted": float(service.faces_deleted)}
    return Comparison(
        f"the same plan, its first call after exec; killed after {CALLS} calls, then resumed",
        "wall_seconds",
        "run",
        (
            Series("run", (killed.measurement,)),
            Series("resume", (replace(resumed.measurement, told=told),)),
        ),
        "a resume within 1 s",
    )
