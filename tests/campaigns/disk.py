"""The disk sweep: ENOSPC and EIO at the ledger's writes and syncs, full outputs, and what follows.

``make disk`` fails sampled ledger writes and syncs of a run (``POINTS``, ``SEED``), for once or for
good. After the first of them no request may begin, whatever the disk does later; once there is
room, the run goes on and must end in the truth. It also fills the disk under the report at each of
its writes, and gives every verb ``/dev/full`` to write its result to.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from tests.campaigns.deaths import existing
from tests.campaigns.fate import OF_THE_LEDGER, Deed, Fate, Place
from tests.campaigns.judgement import Violation, judge_completed
from tests.campaigns.lanes import Ended, Job, Lane, Trial, in_lanes
from tests.campaigns.table import Table, held, say

JOB = Job(60)
FEW = Job(5)

LEDGER = Fate(places=OF_THE_LEDGER, deeds=(Deed.WRITE, Deed.SYNC))
REPORT = Fate(
    places=(Place.REPORT,),
    deeds=(Deed.WRITE, Deed.SYNC, Deed.RENAME),
    stroke="ENOSPC",
    lasting=True,
)

TELLING_SECONDS = 0.05
"""Between the failure in the writer's thread and the last loop's hearing of it."""

NOTHING_SENT = "nothing was sent"
FULL = Path("/dev/full")
FULL_IS_THERE = FULL.exists()

VERBS = (
    ("report", "r"),
    ("report", "r", "--json"),
    ("resume", "r", "--yes"),
    ("plan", "a.csv"),
    ("--help",),
    ("--version",),
)
"""What may be asked of a finished run and its input."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One disk that failed, and what became of the run."""

    struck: str
    """Deed and place, or ``""`` where the point was not reached."""
    code: int
    late_requests: int
    """Requests begun after the failure, before their loops could hear of it."""
    late_seconds: float
    """Between the failure and the beginning of the last of them; 0 without one."""
    violations: tuple[Violation, ...]
    kept: str
    """Where the directory of a violated run is, or ``""``."""


async def fail(lane: Lane, fate: Fate, *, job: Job) -> Failure:
    """Run the job on a disk under ``fate``, make room, go on, and judge."""
    async with lane.trial(job) as one:
        ended = await one.launch(*one.run, fate=fate)
        struck = ended.trace.struck
        violations = _wrong_end(one, ended)
        late: list[float] = []
        # A checkpoint only copies what is durable in the log already: SQLite does without it.
        if struck is not None and not (struck.place is Place.LEDGER and ended.code == 0):
            begun = ended.trace.requests_seconds
            late = [seconds - struck.seconds for seconds in begun if seconds > struck.seconds]
            if max(late, default=0.0) > TELLING_SECONDS or len(one.service.entries) > len(begun):
                said = f"a request {max(late, default=0.0) * 1000:.0f} ms after a failed {struck}"
                violations.append(Violation("other", said))
        if ended.code != 0:
            violations += await _went_on(one, *one.continuation)
        violations += judge_completed(one.run_dir, one.pairs, one.service)
        return Failure(
            str(struck or ""),
            ended.code,
            len(late),
            max(late, default=0.0),
            tuple(violations),
            one.keep(violations),
        )


def _wrong_end(one: Trial, ended: Ended) -> list[Violation]:
    """7 when the ledger fails; 1 or 3 before there is one, or before it was used; 0 where SQLite
    could do without what failed, and then the run is judged as any other."""
    match ended.code:
        case 0:
            right = True
        case 1 | 3:
            said_so = ended.last_line == NOTHING_SENT
            right = not one.service.entries and (said_so or one.planned)
        case 7:
            right = one.planned
        case _:
            right = False
    if right:
        return []
    said = f"exit code {ended.code} after {ended.trace.struck}: {ended.last_line}"
    return [Violation("other", said)]


async def _went_on(one: Trial, *arguments: str) -> list[Violation]:
    """Whether the program, with room on the disk again, ends with 0."""
    ended = await one.launch(*arguments)
    if ended.code == 0:
        return []
    said = f"{arguments[0]} after making room: exit code {ended.code}: {ended.last_line}"
    return [Violation("other", said)]


async def fill_under_report(lane: Lane, fate: Fate, *, job: Job) -> Failure:
    """Fill the disk under the first report of a run, then under a new one over it."""
    async with lane.trial(job) as one:
        first = await one.launch(*one.run, fate=fate)
        violations = _not_reported(first)
        whole = _files(one)
        if first.trace.struck is not None:
            violations += await _went_on(one, "report", "r")
        files = _files(one)
        violations += _halves(whole, files)
        again = await one.launch("report", "r", fate=fate)
        violations += _not_reported(again)
        violations += _halves(files, _files(one))
        violations += await _went_on(one, "report", "r")
        violations += judge_completed(one.run_dir, one.pairs, one.service)
        struck = str(first.trace.struck or "")
        return Failure(struck, first.code, 0, 0.0, tuple(violations), one.keep(violations))


def _not_reported(ended: Ended) -> list[Violation]:
    """1 where the report could not be written, 0 where it could."""
    if ended.code == (0 if ended.trace.struck is None else 1):
        return []
    return [Violation("other", f"exit code {ended.code} after {ended.trace.struck}")]


def _files(one: Trial) -> dict[str, bytes]:
    directory = one.run_dir / "report"
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _halves(before: dict[str, bytes], after: dict[str, bytes]) -> list[Violation]:
    """D6; the ledger has not changed, so old and new are the same bytes."""
    return [
        Violation("other", f"report/{name} was not whole, or has gone")
        for name, data in before.items()
        if after.get(name) != data
    ]


async def write_to_full(lane: Lane, arguments: tuple[str, ...] | None, *, job: Job) -> Failure:
    """Give a verb a full disk as standard output; ``None`` is the run itself."""
    async with lane.trial(job) as one:
        if arguments is None:
            ended = await one.execute(*one.run, stdout=FULL)
        else:
            await one.launch(*one.run)
            if arguments[0] == "plan":
                arguments = (*arguments, "--endpoint", one.service.url)
            ended = await one.execute(*arguments, stdout=FULL)
        violations = judge_completed(one.run_dir, one.pairs, one.service)
        name = "run" if arguments is None else arguments[0]
        if ended.code != 1:
            violations.append(Violation("other", f"{name} > /dev/full: exit code {ended.code}"))
        return Failure(name, ended.code, 0, 0.0, tuple(violations), one.keep(violations))


def shown(
    table: Table, name: str, failures: Sequence[Failure], there_are: int, began: float
) -> bool:
    """Show the line of a stage; False where something was violated."""
    failed = [failure for failure in failures if failure.struck]
    table.line(
        name,
        len(failures),
        len(failed),
        there_are,
        sum(failure.late_requests for failure in failed),
        f"{max((failure.late_seconds for failure in failed), default=0.0) * 1000:.1f} ms",
        sum(len(failure.violations) for failure in failures),
        f"{time.monotonic() - began:.0f}",
    )
    ends = Counter(f"{failure.struck} -> {failure.code}" for failure in failed)
    say("    " + ", ".join(f"{count} {end}" for end, count in ends.most_common()))
    return held(failures)


async def sample(job: Job, points: int, seed: int) -> tuple[list[Failure], int]:
    """Fail at some of the ledger's writes and syncs; the failures, and how many points there are."""
    chance = random.Random(seed)
    there_are = await existing(LEDGER, job)
    fates = [
        msgspec.structs.replace(
            LEDGER,
            point=point,
            stroke="ENOSPC" if number % 2 else "EIO",
            lasting=number % 4 < 2,
        )
        for number, point in enumerate(
            chance.sample(range(1, there_are + 1), min(points, there_are))
        )
    ]
    return await in_lanes(fates, partial(fail, job=job)), there_are


async def sweep_report(job: Job) -> tuple[list[Failure], int]:
    """Fill the disk at every write under the report; the failures, and how many points there are."""
    there_are = await existing(REPORT, job)
    fates = [msgspec.structs.replace(REPORT, point=n) for n in range(1, there_are + 1)]
    return await in_lanes(fates, partial(fill_under_report, job=job)), there_are


async def campaign(points: int, seed: int) -> bool:
    """All stages; False where anything was violated."""
    say(f"seed {seed}; to repeat it: make disk POINTS={points} SEED={seed}")
    say(
        "begun after: requests whose loops could not have heard yet that the writer has failed;"
        f" later than {TELLING_SECONDS * 1000:.0f} ms is a violation"
    )
    table = Table(
        ("points", "reached", "existing", "begun after", "latest", "violations", "seconds"),
    )
    began = time.monotonic()
    good = shown(
        table, "60 calls, ledger writes and syncs", *await sample(JOB, points, seed), began
    )
    began = time.monotonic()
    good &= shown(table, "5 calls, the report's disk fills", *await sweep_report(FEW), began)
    if not FULL_IS_THERE:
        say("/dev/full is not there, so nothing was written to it")
        return good
    began = time.monotonic()
    failures = await in_lanes((None, *VERBS), partial(write_to_full, job=FEW))
    return shown(table, "stdout is /dev/full", failures, len(failures), began) and good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200, help="sampled of the ledger's")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    given = parser.parse_args()
    seed: int = given.seed or random.SystemRandom().randrange(1, 1_000_000)
    return 0 if asyncio.run(campaign(given.points, seed)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
