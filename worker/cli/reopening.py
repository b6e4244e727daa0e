"""A run that exists already: what it is, what is left of it, and whether it is the same run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from worker import telemetry
from worker.cli import consent, purge, stderr
from worker.cli.account import established
from worker.cli.bound_plan import require_begun
from worker.cli.plan_directory import require_own
from worker.cli.planning import anchored
from worker.cli.preview import counted
from worker.configuration import Configuration
from worker.errors import GateClosed, UsageRefused
from worker.green.codes import RETRYABLE_CODES
from worker.ledger.books import LedgerBooks, Left
from worker.ledger.commands import note_death
from worker.ledger.database import open_ledger, require_ledger
from worker.limits import check
from worker.locks import reading_lock, run_lock
from worker.model import StopReason
from worker.report.interface import RunHeader
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Reopened:
    """A run as its ledger tells it, before anything new is done."""

    run_dir: Path
    header: RunHeader
    left: Left
    """What a resume takes up."""
    retried: Left
    """What a new round takes up."""
    left_and_retried: Left
    """What a new round takes up that goes on with the rest as well."""
    reasons: Sequence[StopReason]
    """Why each session ended."""


@contextmanager
def reopened(run_dir: Path, *, to_read: bool = False) -> Iterator[Reopened]:
    """The run in ``run_dir``, locked; ``to_read`` it, also where nobody may write.

    Raises ``GateClosed`` where there is none, where it is a plan that was never begun, where it is
    somebody else's or may be written by others, or where another process works on it. A session that has
    left no end is noted as dead, unless this is ``to_read``.
    """
    require_ledger(run_dir)
    if not to_read:
        require_own(run_dir, "run")
    with reading_lock(run_dir) if to_read else run_lock(run_dir):
        connection = open_ledger(run_dir, read_only=True)
        books = LedgerBooks(connection)
        try:
            require_begun(run_dir, connection)
            if not to_read:
                note_death(run_dir)
            left, retried = books.left(), books.retried(RETRYABLE_CODES)
            both = left if retried.calls == 0 else retried
            if left.calls and retried.calls:
                both = books.left_and_retried(RETRYABLE_CODES)
            run = Reopened(
                run_dir,
                books.header(),
                left,
                retried,
                both,
                [session.stop_reason for session in books.sessions()],
            )
        finally:
            books.close()
        yield run


def settings_of(header: RunHeader, given: Configuration) -> Settings:
    """The run's own settings, with what was said about this session laid over them.

    Raises ``UsageRefused`` for what cannot be said.
    """
    stored = msgspec.convert(header.settings, Settings)
    default = Settings()
    said = {
        key: getattr(given.settings, key)
        for key, origin in given.origins.items()
        # A file that merely repeats the defaults, as the reference does, changes nothing: least of
        # all does it take the exclusion list away.
        if origin.startswith("--")
        or (origin != "default" and getattr(given.settings, key) != getattr(default, key))
    }
    # How logs look is about the terminal of this session, whatever another one had.
    said["log_format"] = given.settings.log_format
    # Who names a region now means it, and not the address that the run was planned with.
    if said.get("region", stored.region) != stored.region and "endpoint" not in said:
        said["endpoint"] = ""
    if said.get("endpoint", stored.endpoint) != stored.endpoint and "region" not in said:
        said["region"] = ""
    settings = anchored(msgspec.structs.replace(stored, **said))
    check(settings, given.origins)
    if header.rehearsal:
        for key in ("region", "endpoint"):
            if (flag := given.origins[key]).startswith("--"):
                raise UsageRefused(
                    f"{flag}: the run is a rehearsal and has its own server", "leave it out"
                )
        return settings
    return purge.as_calibrated(settings, header.account, header.endpoint)


def require_explanation(reasons: Sequence[StopReason], *, swap_explained: bool) -> None:
    """A swapped answer has stopped the run for a person to look at. Raises ``GateClosed``."""
    if StopReason.SWAPPED in reasons and not swap_explained:
        raise GateClosed(
            "an answer of the service spoke of another person or face, and the run was stopped so"
            " that nobody goes on before that is explained",
            "read report/failures.csv, ask Alibaba Cloud with its request IDs, and add"
            " --swap-explained once you know why",
        )


def require_same_target(
    header: RunHeader, settings: Settings, *, same_account: bool, what: str = "run"
) -> None:
    """A run belongs to its account and endpoint, and so does a plan, which is ``what`` says.

    Raises ``GateClosed`` naming the difference, and what ``worker.cli.account.established`` raises.
    """
    if header.rehearsal:
        return
    remedy = f"use the account and endpoint of the {what}, or plan anew from the original input"
    address = purge.endpoint_of(settings).url_base
    if address != header.endpoint:
        raise GateClosed(
            f"the {what} belongs to {header.endpoint}, and the settings now say {address}", remedy
        )
    account = established(settings)
    # Nobody's word makes one account of two: it counts only where a key stands for its account.
    another = account.is_another(header.account)
    if account.owns(header.account) or (same_account and not another):
        return
    if not another:
        remedy += "; if this is another key of the same account, add --same-account"
    raise GateClosed(
        f"the {what} belongs to {header.account}, and the credentials now are {account.name}",
        remedy,
    )


def obtain_consent(
    run: Reopened, left: Left, what: str, *, yes: bool, confirm: int | None, quiet: bool
) -> None:
    """The operator's word for ``left``; a run with whole persons is confirmed by persons.

    Raises ``GateClosed`` without it. Mere lookups need none.
    """
    noun: consent.Noun = "person" if run.header.whole_persons else "face"
    count = left.persons if run.header.whole_persons else left.faces
    line = f"  {counted(count, noun)} of run {run.header.run_id} {what}"
    if only_looks(left):
        line = (
            f"  {counted(left.calls, 'lookup')} of run {run.header.run_id} still to be made;"
            " nothing is deleted by them"
        )
    yes = yes or run.header.rehearsal
    at_once = not quiet or (consent.asks(yes=yes, confirm=confirm) and count > 0)
    with consent.shown([line], at_once=at_once):
        consent.obtain(
            count,
            noun,
            yes=yes,
            confirm=confirm,
            stdin_is_a_source=False,
            of_what="rest",
        )


def only_looks(left: Left) -> bool:
    """Whether all that is left is a verification that was broken off: it deletes nothing."""
    return left.calls > 0 and not left.persons


def begin_telling(settings: Settings, verbosity: int) -> None:
    """Logs as the settings say."""
    stderr.begin(settings.log_format)
    telemetry.configure(settings.log_format, verbosity, sys.stderr)
