"""Steering a run at work from another terminal: the order goes in, and what came of it comes out."""

from __future__ import annotations

import os
import pwd
import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw
import msgspec

from worker.cli import stderr, stdout
from worker.cli.ending import known
from worker.cli.refusal import document_of_refusal
from worker.cli.standing import State, look
from worker.clock import SystemClock
from worker.errors import FacepurgeError, GateClosed
from worker.ledger.commands import give, session_goes_on, taken, withdraw
from worker.ledger.database import open_beside, require_ledger
from worker.locks import holder_of_run
from worker.orders import Ask, Order, Taken

WAIT_SECONDS: Final = 5.0
"""As long an order waits to be taken before its giver is told that it was not."""
_LOOK_SECONDS: Final = 0.05

_NEXT: Final = {
    Ask.PAUSE: "to go on type: facepurge unpause",
    Ask.UNPAUSE: "to watch it type: facepurge status --watch",
    Ask.RATE: "to watch it type: facepurge status --watch",
    Ask.STOP: "once it has ended, to go on type: facepurge resume",
}


def steer(run_dir: Path, ask: Ask, rate_per_second: float | None = None, *, json: bool) -> int:
    """Give one order to the run at work in ``run_dir`` and say what it did; returns 0.

    Raises ``GateClosed`` where nobody is at work, where the run refuses, and where it does not take
    the order in time.
    """
    status = f"facepurge status {shlex.quote(str(run_dir))}"
    with (
        known(f"the order was not taken; to see how the run is type: {status}"),
        document_of_refusal(asked=json),
    ):
        _require_somebody_at_work(run_dir)
        order = Order(ask, SystemClock().now_us(), _giver(), rate_per_second)
        connection = open_beside(run_dir, read_only=False)
        try:
            outcome = _given(connection, run_dir, order)
        except apsw.Error as error:
            raise GateClosed(
                f"{run_dir}: the order could not be written to the ledger ({error})",
                "a Ctrl-C at the run's own terminal, or SIGTERM to its process, stops it as well",
            ) from error
        finally:
            connection.close()
        if outcome.refused:
            raise GateClosed(f"{run_dir}: {outcome.said}", outcome.remedy)
    _say(run_dir, order, outcome, json=json)
    return 0


def _require_somebody_at_work(run_dir: Path) -> None:
    holder = holder_of_run(run_dir)
    try:
        require_ledger(run_dir)
    except GateClosed:
        if holder:
            raise GateClosed(
                f"{run_dir}: {holder} is still planning this run, and makes no calls",
                "wait until it does; to give it up, press Ctrl-C there or send SIGTERM",
            ) from None
        raise
    if holder:
        return
    standing = look(run_dir)
    directory = shlex.quote(str(run_dir))
    cause, remedy = {
        State.PLANNED: ("the run was planned and never begun", f"begin it with: {standing.begin}"),
        State.FINISHED: ("the run is finished", f"what it did is in {directory}/report"),
        State.DIED: (
            "the process that worked on this run has died",
            f"go on with: facepurge resume {directory}",
        ),
    }.get(
        standing.state,
        ("nobody works on this run at present", f"go on with: facepurge resume {directory}"),
    )
    raise GateClosed(f"{run_dir}: {cause}, so there is nothing to steer", remedy)


def _giver() -> str:
    """The real user, not what the environment says."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return f"{name}@{os.uname().nodename}, process {os.getpid()}"


def _given(connection: apsw.Connection, run_dir: Path, order: Order) -> Taken:
    """What became of ``order``, within ``WAIT_SECONDS``."""
    directory = shlex.quote(str(run_dir))
    seq = give(connection, order)
    if seq is None:
        raise GateClosed(
            f"{run_dir}: {holder_of_run(run_dir) or 'the process'} makes no calls at the moment: it"
            " is starting, or writing the report",
            f"look at: facepurge status {directory}; then give the order again; to end it now, press"
            " Ctrl-C there or send it SIGTERM",
        )
    try:
        return _awaited(connection, run_dir, seq) or _taken_back(connection, run_dir, seq)
    except FacepurgeError:
        raise
    except BaseException:  # a Ctrl-C: who waits no longer does not want it any more
        with suppress(apsw.Error):
            withdraw(connection, seq, SystemClock().now_us())
        raise


def _awaited(connection: apsw.Connection, run_dir: Path, seq: int) -> Taken | None:
    """What became of an order within ``WAIT_SECONDS``; None where nothing did."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        # In this order: the last thing that a session does is to say that it has ended.
        goes_on = session_goes_on(connection, seq)
        if outcome := taken(connection, seq):
            return outcome
        if not goes_on:
            raise GateClosed(
                f"{run_dir}: the run ended before it took the order",
                f"look at: facepurge status {shlex.quote(str(run_dir))}",
            )
        time.sleep(_LOOK_SECONDS)
    return None


def _taken_back(connection: apsw.Connection, run_dir: Path, seq: int) -> Taken:
    """What became of an order that was not taken in time: withdrawn, if the run lets it be."""
    directory = shlex.quote(str(run_dir))
    holder = holder_of_run(run_dir)
    if not holder:
        raise GateClosed(
            f"{run_dir}: the process died before it took the order",
            f"go on with: facepurge resume {directory}",
        )
    open_end = f"the order may still be taken; to see it type: facepurge status {directory}"
    late = f"{run_dir}: {holder} has not taken the order within {WAIT_SECONDS:g} seconds"
    remedy = (
        "a process that was stopped with Ctrl-Z, or that waits for its disk, takes no orders: see to"
        " that, then give it again"
    )
    with known(open_end):
        try:
            withdrawn = withdraw(connection, seq, SystemClock().now_us())
        except apsw.Error as error:
            raise GateClosed(
                f"{late}, and it could not be withdrawn ({error})", f"wait and look; {remedy}"
            ) from error
        if not withdrawn:
            if outcome := _awaited(connection, run_dir, seq):
                return outcome
            raise GateClosed(f"{late}, but has begun to", "wait and look: it waits for its disk")
    raise GateClosed(f"{late}; it was withdrawn, and will not be taken", remedy)


def _say(run_dir: Path, order: Order, outcome: Taken, *, json: bool) -> None:
    if json:
        document = {
            "order": order.ask,
            "rate_per_second": order.rate_per_second,
            "given_by": order.given_by,
            "refused": False,
            "said": outcome.said,
        }
        stdout.write(msgspec.json.encode(document).decode())
    else:
        stdout.write(outcome.said)
    stderr.write(f"the order was taken; {_NEXT[order.ask]} {shlex.quote(str(run_dir))}")
