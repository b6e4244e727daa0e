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
from worker.cli.planning import anchored
from worker.cli.preview import counted
from worker.configuration import Configuration
from worker.errors import GateClosed
from worker.green.codes import RETRYABLE_CODES
from worker.ledger.books import LedgerBooks, Left
from worker.ledger.database import open_ledger, require_ledger
from worker.limits import check
from worker.locks import run_lock
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
    reasons: Sequence[StopReason]
    """Why each session ended."""


@contextmanager
def reopened(run_dir: Path) -> Iterator[Reopened]:
    """The run in ``run_dir``, locked.

    Raises ``GateClosed`` where there is none, or another process works on it.
    """
    require_ledger(run_dir)
    with run_lock(run_dir):
        books = LedgerBooks(open_ledger(run_dir, read_only=True))
        try:
            run = Reopened(
                run_dir,
                books.header(),
                books.left(),
                books.retried(RETRYABLE_CODES),
                [session.stop_reason for session in books.sessions()],
            )
        finally:
            books.close()
        yield run


def settings_of(header: RunHeader, given: Configuration) -> Settings:
    """The run's own settings, with what was said about this session laid over them."""
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
    settings = anchored(msgspec.structs.replace(stored, **said))
    check(settings, given.origins)
    if header.rehearsal:
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


def require_same_target(header: RunHeader, settings: Settings, *, same_account: bool) -> None:
    """A run belongs to its account and endpoint. Raises ``GateClosed`` naming the difference."""
    if header.rehearsal:
        return
    remedy = "use the account and endpoint of the run, or plan a new run from the original input"
    address = purge.endpoint_of(settings).url_base
    if address != header.endpoint:
        raise GateClosed(
            f"the run belongs to {header.endpoint}, and the settings now say {address}", remedy
        )
    account = purge.account_of(settings)
    if account != header.account and not same_account:
        raise GateClosed(
            f"the run belongs to {header.account}, and the credentials now are {account}",
            f"{remedy}; if this is another key of the same account, add --same-account",
        )


def obtain_consent(
    run: Reopened, left: Left, what: str, *, yes: bool, confirm: int | None, quiet: bool
) -> None:
    """The operator's word for ``left``; a run with whole persons is confirmed by persons.

    Raises ``GateClosed`` without it.
    """
    noun: consent.Noun = "person" if run.header.whole_persons else "face"
    count = left.persons if run.header.whole_persons else left.faces
    consent.obtain(
        [f"  {counted(count, noun)} of run {run.header.run_id} {what}"],
        count,
        noun,
        yes=yes or run.header.rehearsal,
        confirm=confirm,
        stdin_is_a_source=False,
        quiet=quiet,
    )


def begin_telling(settings: Settings, verbosity: int) -> None:
    """Logs as the settings say."""
    stderr.begin(settings.log_format)
    telemetry.configure(settings.log_format, verbosity, sys.stderr)
