"""Whom a plan is about: the account and the endpoint that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.cli import purge
from worker.cli.account import established
from worker.locks import quota_lock
from worker.report.interface import RunHeader
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Target:
    """Where the calls of a plan go, and whose faces they are about."""

    account: str
    endpoint: str
    """Scheme, host and port."""
    rehearsal: bool
    notes: tuple[str, ...] = ()
    """Sentences for the plan where something about it is in doubt."""


def target_of(settings: Settings, *, rehearsal: bool) -> Target:
    """The target that the settings and the credentials name; a rehearsal needs neither.

    Raises what ``purge.endpoint_of`` and ``worker.cli.account.established`` raise.
    """
    if rehearsal:
        return Target(purge.SANDBOX_NAME, purge.SANDBOX_NAME, rehearsal=True)
    endpoint = purge.endpoint_of(settings)
    account = established(settings)
    notes = tuple(note for note in (endpoint.note, account.note) if note)
    return Target(account.name, endpoint.url_base, rehearsal=False, notes=notes)


@contextmanager
def quota_of(target: Target | RunHeader, run_dir: Path) -> Iterator[None]:
    """The quota behind ``target``, for this process alone; a rehearsal has a quota of its own.

    Taken while the lock on ``run_dir`` is held, before anything is read or anybody asked, and kept
    to the end. Raises ``GateClosed`` naming the holder.
    """
    if target.rehearsal:
        yield
        return
    with quota_lock(target.account, target.endpoint, run_dir):
        yield


def address_of(settings: Settings, *, rehearsal: bool) -> str:
    """The endpoint alone; ``""`` where none is named yet. Raises what ``purge.endpoint_of`` does."""
    if rehearsal:
        return purge.SANDBOX_NAME
    named = settings.region or settings.endpoint
    return purge.endpoint_of(settings).url_base if named else ""
