"""``facepurge verify --self``: the checker over a run directory, without the network."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import apsw

from worker.cli import stderr, stdout
from worker.cli.ending import known
from worker.cli.preview import counted
from worker.cli.run_directory import REPORT, SANDBOX
from worker.errors import GateClosed
from worker.invariants.checking import Examination, examine
from worker.invariants.interface import Server
from worker.invariants.violation import INVARIANTS
from worker.ledger.books import LedgerBooks
from worker.ledger.database import open_ledger
from worker.report.summary import json_document
from worker.sandbox.child import LOG_NAME
from worker.sandbox.journal import read_log
from worker.sandbox.testimony import read_holdings, server_side

VIOLATED = 3
SHOWN = 20

REMEDY = (
    "keep the run directory as it is, resume nothing, and have a copy of it looked into: either"
    " somebody has changed these files, or the program has a defect"
)


@known("nothing was sent, and nothing was changed")
def self_check(run_dir: Path, *, json: bool) -> int:
    """Check ledger and report of ``run_dir``, and say what was found; the run is locked.

    Returns 0, or 3 where an invariant does not hold. Raises ``GateClosed`` where the ledger cannot
    be read, and ``ReportFailed`` where there is no room to write the report again beside it.
    """
    connection = open_ledger(run_dir, read_only=True, checked=True)
    try:
        run_id = LedgerBooks(connection).header().run_id
        found = examine(connection, server=_server(run_dir), report=run_dir / REPORT)
    except apsw.Error as error:
        raise GateClosed(
            f"{run_dir}: the ledger cannot be read ({error})",
            "restore the run directory from a copy",
        ) from error
    finally:
        connection.close()
    code = VIOLATED if found.counts else 0
    not_known = list(_not_known(found, shlex.quote(str(run_dir))))
    if json:
        document = {
            "run_id": run_id,
            "exit_code": code,
            "violations": [asdict(violation) for violation in found.violations],
            "violations_per_invariant": dict(sorted(found.counts.items())),
            "checked": {
                "rows": found.rows,
                "persons": found.persons,
                "calls": found.calls,
                "faces": found.faces,
                "attempts": dict(sorted(found.attempts.items())),
                "requests": found.requests,
                "report": found.report.word,
                "report_lines": found.report.lines,
            },
            "not_known": not_known,
        }
        stdout.write(json_document(document).decode().rstrip("\n"))
    else:
        stdout.write("\n".join(_lines(found, not_known)))
    if code:
        stderr.write(f"  remedy: {REMEDY}", level="error")
        count = counted(sum(found.counts.values()), "violation")
        stderr.write(f"nothing was sent; self-check: {count} found")
    else:
        stderr.write("nothing was sent; self-check: no violation found")
    return code


def _server(run_dir: Path) -> Server | None:
    """A rehearsal's server has left its log and what it began with."""
    log, state = run_dir / SANDBOX / LOG_NAME, run_dir / SANDBOX / "state.json"
    if not (log.is_file() and state.is_file()):
        return None
    return server_side(read_log(log), holdings=read_holdings(state))


def _lines(found: Examination, not_known: list[str]) -> Iterator[str]:
    operations = ", ".join(f"{count:,} {name}" for name, count in sorted(found.attempts.items()))
    yield "checked"
    yield (
        f"  rows      {found.rows:>10,}   {found.persons:,} persons, {found.calls:,} calls,"
        f" {found.faces:,} faces"
    )
    yield f"  attempts  {sum(found.attempts.values()):>10,}   {operations or 'none'}"
    yield f"  lines     {found.report.lines:>10,}   the report is {found.report.word}"
    if found.requests:
        yield f"  requests  {found.requests:>10,}   in the log of the rehearsal's server"
    for sentence in not_known:
        yield f"not known: {sentence}"
    if not found.counts:
        yield "no violation found"
        return
    for violation in found.violations[:SHOWN]:
        yield str(violation)
    for invariant, count in sorted(found.counts.items()):
        yield f"violated {counted(count, 'time')}: {invariant}, {INVARIANTS[invariant]}"


def _not_known(found: Examination, run_dir: str) -> Iterator[str]:
    if not found.requests:
        yield (
            "what the service really did, and when its side saw each call; to ask it what it still"
            f" has type: facepurge verify {run_dir}"
        )
    yield "whether another run has used the same nonces, and when each hold was added"
    if found.sessions_with_unknown_settings:
        yield (
            f"the settings of {found.sessions_with_unknown_settings:,} later sessions: their rate,"
            " intervals and attempts are judged only where the settings cannot matter"
        )
    if found.report.word == "old":
        yield (
            "whether the report is right: the ledger has gone on since; to write it again type:"
            f" facepurge report {run_dir}"
        )
    if found.report.word == "absent":
        yield f"the report, which is not there; to write it type: facepurge report {run_dir}"
