"""Real runs in the test's own loop: the pipeline, the client and a sandbox with its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from tests.core.rig import Silence, client_of, draft_run
from tests.e2e.service import NO_QUOTA
from worker.cli.purge import lanes_of, rules_of
from worker.clock import SystemClock
from worker.holds import NO_HOLDS, Holds
from worker.invariants.checking import check
from worker.invariants.interface import Server
from worker.invariants.timeline import planned_terms
from worker.invariants.violation import Violation
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, facts_seal, query, seal
from worker.ledger.journal import Ledger
from worker.ledger.writer import ThreadWriter
from worker.model import Entry, StopReason, Verb
from worker.pacing import Pacers
from worker.pipeline import Pipeline
from worker.report.writing import write_report
from worker.sandbox.journal import Line
from worker.sandbox.options import SandboxOptions
from worker.sandbox.server import Sandbox
from worker.sandbox.testimony import server_side
from worker.settings import Settings

SETTINGS = Settings(
    absence_interval_seconds=0.02,
    max_attempts=2,
    rate_per_second=500.0,
    raised_quota=True,
    concurrency=8,
    read_timeout_seconds=0.3,
    total_timeout_seconds=0.6,
)

Holdings = Mapping[str, Sequence[str]]


def entries(*wanted: tuple[str, str]) -> list[Entry]:
    """One record a pair; an empty face asks for everything of the person, ``!`` is invalid."""
    return [
        Entry(
            number,
            number + 2,
            "",
            person,
            face.removesuffix("!"),
            "not a face" if face.endswith("!") else "",
            "face_id" if face.endswith("!") else "",
            "",
            not face,
        )
        for number, (person, face) in enumerate(wanted)
    ]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A run that has been carried out, with the server's side of it."""

    run_dir: Path
    holdings: Holdings
    lines: Sequence[Line]
    complete: bool = True

    @property
    def server(self) -> Server:
        return server_side(self.lines, holdings=self.holdings.items(), complete=self.complete)


def plan(
    run_dir: Path,
    wanted: Sequence[tuple[str, str]],
    *,
    settings: Settings = SETTINGS,
    holds: Holds = NO_HOLDS,
) -> None:
    facts = {"settings": msgspec.to_builtins(settings), "planned_us": SystemClock().now_us()}
    draft_run(run_dir, [entries(*wanted)], holds=holds, facts=facts)


async def work(run_dir: Path, url: str, verb: Verb, settings: Settings = SETTINGS) -> None:
    """One session over the planned run, and its report."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        ledger = Ledger(_connected(run_dir), ThreadWriter, rules=rules_of(settings))
        stack.push_async_callback(ledger.close)
        await ledger.close_open_attempts(clock.now_us())
        pacers = Pacers(settings.rate_per_second, outage_limit_seconds=60, shared=False)
        client = await stack.enter_async_context(client_of(url, pacers, settings))
        pipeline = Pipeline(
            ledger,
            client,
            lanes_of(pacers, verb),
            clock,
            Silence(),
            holds=None,
            concurrency=settings.concurrency,
            grace_seconds=30.0,
        )
        await ledger.begin_session(verb, clock.now_us(), verify=settings.verify)
        stop = await pipeline.run()
        await ledger.close_open_attempts(clock.now_us())
        await ledger.end_session(clock.now_us(), stop.reason, stop.detail, {})
        assert stop.reason in (StopReason.FINISHED, StopReason.SWAPPED, StopReason.FATAL), stop
    report(run_dir)


def report(run_dir: Path) -> None:
    with opened(run_dir) as connection:
        write_report(LedgerBooks(connection), run_dir / "report")


def sandbox(holdings: Holdings, **options: object) -> Sandbox:
    return Sandbox(SandboxOptions(**{"state": holdings, "quota": NO_QUOTA, **options}))  # type: ignore[arg-type]


def _connected(run_dir: Path) -> apsw.Connection:
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@contextmanager
def opened(run_dir: Path) -> Iterator[apsw.Connection]:
    """The ledger for reading and changing, whatever is wrong with it."""
    connection = _connected(run_dir)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def violations(
    run_dir: Path,
    *,
    server: Server | None = None,
    with_report: bool = True,
    finished: bool = False,
    pairs: Sequence[tuple[str, str]] | None = None,
    same_settings: bool = True,
) -> list[Violation]:
    with opened(run_dir) as connection:
        return check(
            connection,
            pairs=pairs,
            server=server,
            report=run_dir / "report" if with_report else None,
            finished=finished,
            later=planned_terms(connection) if same_settings else None,
        )


def reseal(connection: apsw.Connection) -> None:
    """Make tally and seals fit whatever was changed: only the change itself is left to be found."""
    connection.execute("DELETE FROM tally")
    connection.execute("INSERT INTO tally SELECT outcome, COUNT(*) FROM face GROUP BY outcome")
    (run_id,) = query(connection, "SELECT value FROM run WHERE key = 'run_id'").fetchone()
    for call_no, person_id in query(connection, "SELECT call_no, person_id FROM call").fetchall():
        faces = query(
            connection, "SELECT face_id FROM face WHERE call_no = ? ORDER BY face_no", (call_no,)
        )
        ids = [face_id for (face_id,) in faces]
        sealed = seal(msgspec.json.decode(run_id), call_no, person_id, ids)
        connection.execute("UPDATE call SET seal = ? WHERE call_no = ?", (sealed, call_no))
    connection.execute("UPDATE run SET value = ? WHERE key = 'seal'", (facts_seal(connection),))
