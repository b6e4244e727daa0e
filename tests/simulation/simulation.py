"""One simulation: a seed in, everything that happened and everything that must not have out."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import apsw

from tests.simulation.claims import Claims
from tests.simulation.departures import Departures
from tests.simulation.event_log import EventLog
from tests.simulation.judgement import Ended, Truth, judge, judge_pace
from tests.simulation.keys import KeyHolder
from tests.simulation.network import Network
from tests.simulation.others import Others
from tests.simulation.patience import Patience
from tests.simulation.planned import plan
from tests.simulation.process import Surroundings
from tests.simulation.scenario import Scenario, draw_scenario
from tests.simulation.server import Server
from tests.simulation.simulated_loop import now_seconds, run_simulated
from tests.simulation.violations import Violation, Violations
from tests.simulation.warrant import Warrant
from worker.ledger.database import FILE_NAME

LONGEST_SECONDS = 48 * 3600.0
"""Of virtual time; whoever is not done by then never will be."""

MEMORY = Path("/dev/shm")  # noqa: S108 (private directories are made in it)


@dataclass
class Simulated:
    """What one simulation came to."""

    seed: int
    digest: str = ""
    """Of the event log."""
    virtual_seconds: float = 0.0
    requests: int = 0
    """That left the program."""
    lives: int = 0
    events: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """What went wrong, by kind."""
    outcomes: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    exit_codes: Counter[int] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)


def scratch_directory() -> Path:
    """A private directory, in memory where the machine has such a place."""
    return Path(
        tempfile.mkdtemp(prefix="facepurge-simulation-", dir=MEMORY if MEMORY.is_dir() else None)
    )


def simulate(seed: int, directory: Path, tell: Callable[[str], None] | None = None) -> Simulated:
    """Run the simulation of ``seed`` in a new folder of ``directory``, which is removed again."""
    scenario = draw_scenario(Random(f"{seed} scenario"))
    folder = directory / str(seed)
    folder.mkdir()
    try:
        return run_simulated(_simulate(seed, scenario, folder, tell))
    finally:
        shutil.rmtree(folder)


async def _simulate(
    seed: int, scenario: Scenario, directory: Path, tell: Callable[[str], None] | None
) -> Simulated:
    began_seconds = now_seconds()
    log, violations, seen = EventLog(tell), Violations(), Counter[str]()
    keys = KeyHolder()
    server = Server(
        scenario.persons,
        lag_seconds=scenario.lag_seconds,
        facts=scenario.facts,
        quota=scenario.quota,
        keys=keys.keyring,
        log=log,
    )
    network = Network(server, scenario.paths, scenario.weather, Random(f"{seed} network"))
    others = Others(server, keys, Random(f"{seed} others"), seen, log)
    nonces: set[str] = set()
    ended: list[Ended] = []
    with ExitStack() as stack:
        patient: list[Patience] = []
        for order in scenario.orders:
            folder = directory / order.name
            settings = plan(order, folder)
            reader = apsw.Connection(str(folder / FILE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
            reader.pragma("query_only", value=True)
            stack.callback(reader.close)
            warrant = Warrant(order.name, order.entries, order.holds, server.history, violations)
            departures = Departures(reader, warrant, nonces, log, violations)
            claims = Claims(order.name, reader, server.history, violations)
            at = Surroundings(
                order.name, folder, network, keys, log, claims, departures, warrant, seen
            )
            patience = Patience(
                order,
                settings,
                at,
                reader,
                known_unknown_person=scenario.facts.unknown_person,
                violations=violations,
                random=Random(f"{seed} {order.name}"),
            )
            patient.append(patience)
            ended.append(Ended(order, folder, reader, departures, patience))
        others.begin(scenario.happenings)
        try:
            async with asyncio.timeout(LONGEST_SECONDS), asyncio.TaskGroup() as group:
                for patience in patient:
                    group.create_task(patience.carry())
        except TimeoutError:
            violations.report("L1", "a run hangs")
        except BaseExceptionGroup as errors:
            violations.report("raised", _leaves(errors))
        simulated = Simulated(seed)
        truth = Truth(scenario, server, others.added)
        for end in ended:
            judge(end, truth, violations, simulated)
        judge_pace(ended, truth, violations)
    simulated.digest = log.digest
    simulated.events = log.lines
    simulated.virtual_seconds = now_seconds() - began_seconds
    simulated.requests = network.requests
    simulated.lives = sum(patience.lives for patience in patient)
    simulated.stops.update(str(stop) for patience in patient for stop in patience.stops)
    simulated.seen = seen + network.seen + server.seen
    if len(scenario.orders) > 1:
        simulated.seen["second-worker"] += 1
    simulated.violations = violations.found
    return simulated


def _leaves(error: BaseException) -> str:
    """Types and places, which are the same in every process."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_leaves(x) for x in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(x.filename).name}:{x.lineno}" for x in reversed(frames[-6:]))
    return f"{type(error).__name__}: {error} at {where}"
