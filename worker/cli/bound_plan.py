"""A plan in a directory of its own: made by ``plan -o DIR``, carried out by ``run DIR``.

It is the ledger of a run that was sealed before anybody said yes. What it is bound to is compared
while the lock on its directory is held, and the lock is held on through the run: nobody can put
another plan in its place in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import apsw
import msgspec

from worker import __version__
from worker.cli import stderr
from worker.cli.binding import Binding, Comparison, compare
from worker.cli.plan_directory import AGAIN, quoted, require_plan
from worker.cli.plan_label import at, expires_us
from worker.cli.planning import schedule_of
from worker.cli.purge import rules_of
from worker.errors import GateClosed, InputRefused
from worker.holds import Grammar, Hold, read_holds
from worker.ledger import dues, facts
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.locks import run_lock
from worker.model import SourceSummary
from worker.plan import PlanFigures
from worker.report.interface import RunHeader
from worker.settings import Settings
from worker.telemetry import get_log

CLOCKS_APART_US: Final = 5 * 60 * 1_000_000
"""How far in the future a plan may have been made: two machines may share its directory."""

PROGRESS_INTERVAL_SECONDS: Final = 5.0

SHOWN_DIFFERENCES: Final = 20


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """A plan as its ledger tells it, locked and never begun."""

    directory: Path
    header: RunHeader
    settings: Settings
    binding: Binding
    sources: Sequence[SourceSummary]
    holds: frozenset[Hold]
    """The exclusion list as the plan knows it."""
    ledger: tuple[int, int]
    """Device and inode of the ledger that was read."""

    def require_valid(self, settings: Settings, now_us: int) -> None:
        """Raise ``GateClosed`` for a plan that is too old, or of another program or time."""
        if self.header.program_version != __version__:
            raise GateClosed(
                f"{self.directory}: the plan was made by version {self.header.program_version}, and"
                f" this is version {__version__}",
                f"use that version, or {AGAIN}",
            )
        made = at(self.header.planned_us)
        if self.header.planned_us > now_us + CLOCKS_APART_US:
            raise GateClosed(
                f"{self.directory}: the plan was made at {made}, and here it is {at(now_us)} only",
                f"set the clock of the machine that is wrong, or {AGAIN}",
            )
        if now_us >= expires_us(self.header.planned_us, settings):
            raise GateClosed(
                f"{self.directory}: the plan has expired: it was made at {made}, was valid for"
                f" {settings.plan_ttl_hours:g} hours, and now it is {at(now_us)}",
                f"{AGAIN} (--plan-ttl HOURS keeps it valid for longer)",
            )

    def require_same_input(self, *, quiet: bool) -> Comparison:
        """Read the input again; raise ``GateClosed`` for any difference from what was planned."""
        comparison = compare(self.binding, self.sources, _ComparingProgress(quiet=quiet))
        require_none(self.directory, comparison.differences)
        return comparison

    def require_untouched(self, comparison: Comparison) -> None:
        """What was compared is still what lies there: somebody may have thought for an hour.

        Raises ``GateClosed``.
        """
        require_none(self.directory, comparison.changed_since())
        if _ledger_of(self.directory) != self.ledger:
            raise GateClosed(
                f"{self.directory}: another plan was put in the place of the one that was shown",
                f"look at it first: facepurge run {quoted(self.directory)} --dry-run",
            )

    def new_holds(self, settings: Settings) -> frozenset[Hold]:
        """Entries of the exclusion list that the plan does not know yet.

        Raises ``GateClosed`` where the list has lost entries, or cannot be read any more.
        """
        if not settings.exclude_from:
            return frozenset()
        path = Path(settings.exclude_from)
        grammar = Grammar(settings.person_id_pattern, settings.face_id_pattern)
        try:
            current = read_holds(path, grammar).entries
        except InputRefused as refused:
            raise GateClosed(
                f"{refused.cause}; the plan knows it with {_entries(len(self.holds))}",
                f"put the list back as it was, or longer; or {AGAIN}",
            ) from refused
        if removed := len(self.holds - current):
            raise GateClosed(
                f"{path}: {_entries(removed)} of the exclusion list disappeared since the plan;"
                " holds may only grow",
                f"put {'it' if removed == 1 else 'them'} back; or, if the shorter list is right,"
                f" {AGAIN}",
            )
        return current - self.holds

    @contextmanager
    def queue(
        self, settings: Settings, additions: frozenset[Hold], *, lasting: bool
    ) -> Iterator[PlanFigures]:
        """The plan in numbers, with ``additions`` taken out of it; they come from the ledger.

        What the block settles on is kept where it ends well and ``lasting`` is said: the additions,
        and ``settings`` as those of the run. Otherwise the plan stays as it was.
        """
        planned = self.binding.figures
        touches = lasting or bool(additions)
        connection = open_ledger(self.directory, read_only=not touches, checked=True)
        try:
            if touches:
                connection.execute("BEGIN IMMEDIATE")
            if additions:
                asyncio.run(_hold(connection, settings, additions))
            forecast = None
            if planned.forecast is not None:
                # Who begins later is done later than the plan said.
                forecast = dues.forecast(connection, schedule_of(settings))
            yield replace(
                planned,
                **facts.queued(connection)._asdict(),
                held=planned.held + facts.rows_held_since(connection),
                forecast=forecast,
            )
            if lasting:
                facts.settle(connection, msgspec.to_builtins(settings))
                connection.execute("COMMIT")
        except apsw.Error as error:
            raise GateClosed(
                f"{self.directory}: the plan cannot be read or written ({error})",
                "check the owner, the permissions and the free space of its directory",
            ) from error
        finally:
            connection.close()


async def _hold(
    connection: apsw.Connection, settings: Settings, additions: frozenset[Hold]
) -> None:
    ledger = Ledger(connection, facts.PendingWriter, rules=rules_of(settings))
    await ledger.hold(additions)


class _ComparingProgress:
    """Says on stderr every few seconds how much of the input was read again."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, read_bytes: int) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._last >= PROGRESS_INTERVAL_SECONDS:
            self._last = now
            get_log().info("comparing", mebibytes=read_bytes >> 20)


@contextmanager
def opened(directory: Path) -> Iterator[BoundPlan]:
    """The plan in ``directory``, locked; raises ``GateClosed`` where there is none to be run."""
    require_plan(directory)
    with run_lock(directory):
        ledger = _ledger_of(directory)
        connection = open_ledger(directory, read_only=True)
        try:
            books = LedgerBooks(connection)
            header = books.header()
            begun_us = facts.begun_us(connection)
            bound = facts.bound_to(connection)
            sources, holds = books.sources(), books.holds()
        finally:
            connection.close()
        resume = f"go on with it: facepurge resume {quoted(directory)}"
        if begun_us is not None:
            raise GateClosed(
                f"{directory}: this was begun at {at(begun_us)}, and a plan is begun only once",
                resume,
            )
        if bound is None:
            raise GateClosed(
                f"{directory}: this is a run that was planned and confirmed in one go, no plan",
                resume,
            )
        settings, binding = _understood(directory, header, bound)
        yield BoundPlan(directory, header, settings, binding, sources, holds, ledger)


def _understood(directory: Path, header: RunHeader, bound: object) -> tuple[Settings, Binding]:
    try:
        return msgspec.convert(header.settings, Settings), msgspec.convert(bound, Binding)
    except msgspec.ValidationError as error:
        raise GateClosed(
            f"{directory}: the plan was made by version {header.program_version}, whose settings"
            f" this version ({__version__}) does not know ({error})",
            f"use that version, or {AGAIN}",
        ) from error


def require_none(
    directory: Path,
    differences: Sequence[str],
    remedy: str = "bring back what the plan has read, and run it then",
) -> None:
    """Raise ``GateClosed`` for the first of ``differences``, after all of them were said."""
    if not differences:
        return
    more = len(differences) - 1
    if more:
        lines = [f"  {difference}" for difference in differences[:SHOWN_DIFFERENCES]]
        if len(differences) > SHOWN_DIFFERENCES:
            lines.append(f"  ... and {len(differences) - SHOWN_DIFFERENCES:,} more")
        stderr.write("differences from the plan", *lines, level="error")
    counted = f", and {more:,} more {'difference' if more == 1 else 'differences'}" if more else ""
    raise GateClosed(
        f"{directory}: this is not what was planned: {differences[0]}{counted}",
        f"{remedy}; or {AGAIN}",
    )


def require_begun(directory: Path, connection: apsw.Connection) -> None:
    """A mere plan has nothing to go on with; raises ``GateClosed`` with what to type instead."""
    if facts.is_mere_plan(connection):
        raise GateClosed(
            f"{directory}: this is a plan, and it was never begun",
            f"carry it out: facepurge run {quoted(directory)}",
        )


def _ledger_of(directory: Path) -> tuple[int, int]:
    try:
        status = (directory / FILE_NAME).lstat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
