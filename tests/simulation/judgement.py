"""The end of a simulation: the checker of invariants, and what only a simulation can know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import apsw
import msgspec

from tests.simulation.departures import Departures, by_bucket, most_in_any_second
from tests.simulation.history import Pair
from tests.simulation.orders import Order
from tests.simulation.patience import Patience
from tests.simulation.scenario import Scenario
from tests.simulation.server import Server
from tests.simulation.violations import Violations
from worker.invariants.checking import examine
from worker.invariants.timeline import planned_terms
from worker.ledger.books import LedgerBooks
from worker.model import WANTED, Kind, Outcome, StopReason
from worker.report.interface import Line
from worker.report.writing import write_report
from worker.sandbox.journal import Entry, Late
from worker.sandbox.journal import Line as LogLine
from worker.sandbox.testimony import server_side

ALLOWED_IN_A_SECOND = 20
STEADY_SECONDS = 0.005
"""Jitter on the way that the pace has to bear."""

ELSEWHEN_US = 10**15
"""Added to the service's clock where the worker's own was off, so that nobody compares them."""

GONE = frozenset({Outcome.DELETED, Outcome.ABSENT})
ENDED_BY_ITSELF = frozenset({StopReason.FINISHED, StopReason.KILLED})

ATTEMPTS = """
SELECT a.seq, a.nonce, e.kind, e.code, e.sent_us
FROM attempt a LEFT JOIN ending e ON e.attempt_seq = a.seq ORDER BY a.seq
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """One run of a simulation after its last life."""

    order: Order
    directory: Path
    reader: apsw.Connection
    departures: Departures
    patience: Patience


class Result(Protocol):
    """Where the figures of a simulation go."""

    outcomes: Counter[str]
    exit_codes: Counter[int]


@dataclass(frozen=True, slots=True)
class Truth:
    """What really was and happened."""

    scenario: Scenario
    server: Server
    added: Mapping[Pair, float]
    """Faces that others added, which may be there again."""


def judge(end: Ended, truth: Truth, violations: Violations, result: Result) -> None:
    """Report every breach in one run; its figures go into ``result``."""
    judging = _Judge(end, violations)
    judging.attempts()
    judging.lines(truth)
    judging.invariants(truth)
    result.outcomes.update(line.outcome for line in judging.book)
    result.exit_codes.update(judging.exit_codes)


class _Judge:
    def __init__(self, end: Ended, violations: Violations) -> None:
        self._end = end
        self._violations = violations
        self.exit_codes: list[int] = []
        books = LedgerBooks(end.reader)
        self.book = list(books.lines())
        self._report = self._write(books) if end.departures.is_sampled else None

    def _breach(self, rule: str, what: str) -> None:
        self._violations.report(rule, f"run {self._end.order.name}: {what}")

    def attempts(self) -> None:
        """R3: an attempt is called sent if, and only if, it left."""
        departed = {x.nonce for x in self._end.departures.sent}
        rows: list[Any] = self._end.reader.execute(ATTEMPTS).fetchall()
        for seq, nonce, kind, code, sent_us in rows:
            left = nonce in departed
            called_sent = kind != Kind.NOT_SENT and not (kind == Kind.FATAL and sent_us is None)
            nobody_knows = kind in (None, Kind.CLOSED) or code == "cancelled"
            if left and not called_sent:
                self._breach("R3", f"attempt {seq} left and is called {kind}")
            elif not left and called_sent and not nobody_knows:
                self._breach("R3", f"attempt {seq} is {kind} and never left")
        if departed - {nonce for _, nonce, *_ in rows}:
            self._breach("D1", "a request left without an attempt record")

    def lines(self, truth: Truth) -> None:
        """T4: the rows of the input in their order; and nobody is called gone who is there."""
        entries = self._end.order.entries
        own = [x for x in self.book if not (entries[x.record_no].whole and x.face_id)]
        if [(x.person_id, x.face_id) for x in own] != [(x.person_id, x.face_id) for x in entries]:
            self._breach("T4", "the lines are not the rows of the input")
        for line in self.book:
            pair = (line.person_id, line.face_id)
            there = truth.server.library.held(line.person_id) or ()
            if line.outcome in GONE and line.face_id in there and pair not in truth.added:
                self._breach("T1", f"{pair} is called {line.outcome} and is there")

    def invariants(self, truth: Truth) -> None:
        """Everything that ``worker.invariants`` knows, with the service's side where it is true."""
        end, server = self._end, truth.server
        lines = _told_to(end.order.name, server, elsewhen=end.patience.clock_was_off)
        examination = examine(
            end.reader,
            pairs=[(x.person_id, x.face_id) for x in end.order.entries],
            # A lookup that lags behind tells of another moment than its own.
            server=None
            if server.seen["lagging-lookup"]
            else server_side(lines, holdings=truth.scenario.persons.items()),
            report=self._report,
            finished=True,
            later=planned_terms(end.reader),
        )
        for violation in examination.violations:
            if violation.invariant != "R1" or not end.patience.clock_was_off:
                self._breach(violation.invariant, f"{violation.place}: {violation.sentence}")

    def _write(self, books: LedgerBooks) -> Path:
        """The report, with the exit code held against what the lines say."""
        directory = self._end.directory / "report"
        conclusion = write_report(books, directory).conclusion
        self.exit_codes.append(conclusion.exit_code)
        if not conclusion.books_balance:
            self._breach("T4", "the books do not balance")
        good = self._is_good(self.book) and self._end.patience.stops[-1] in ENDED_BY_ITSELF
        if good != (conclusion.exit_code == 0):
            outcomes = dict(Counter(x.outcome for x in self.book))
            self._breach("exit", f"exit code {conclusion.exit_code} for {outcomes}")
        return directory

    def _is_good(self, book: Sequence[Line]) -> bool:
        wanted = WANTED | {Outcome.HELD}
        if self._end.order.settings.treat_no_person_as_absent:
            wanted |= {Outcome.NO_PERSON}
        return all(x.outcome in wanted for x in book)


def _told_to(run: str, server: Server, *, elsewhen: bool) -> Iterator[LogLine]:
    """The service's log as it concerns one run: what others did is only a change of the world."""
    for line in server.journal.lines:
        if isinstance(line, Entry) and server.sender_of.get(line.sequence) == run:
            yield msgspec.structs.replace(line, at_us=line.at_us + ELSEWHEN_US * elsewhen)
        elif isinstance(line, Entry):
            if line.deleted or line.added or line.person:
                yield Late(
                    sequence=0,
                    seconds=line.seconds,
                    person_id=line.person_id,
                    deleted=line.deleted,
                    added=line.added,
                    person=line.person,
                )
        else:
            yield line


def judge_pace(ended: Sequence[Ended], truth: Truth, violations: Violations) -> None:
    """R1: at the senders always, and at the service where the network leaves the spacing alone."""
    for end in ended:
        sent = [(x.operation, x.at_seconds) for x in end.departures.sent]
        _judge_pace(end, "departures", sent, violations)
    if len(ended) > 1 or truth.scenario.paths.jitter_seconds > STEADY_SECONDS:
        return
    arrived = [(x.operation, x.at_seconds) for x in truth.server.history.arrivals if x.prompt]
    _judge_pace(ended[0], "arrivals", arrived, violations)


def _judge_pace(
    end: Ended, noun: str, times: Sequence[tuple[str, float]], violations: Violations
) -> None:
    for bucket, seconds in by_bucket(times, shared=end.order.settings.shared_quota).items():
        most = most_in_any_second(seconds)
        if most > ALLOWED_IN_A_SECOND:
            what = f"run {end.order.name}: {most} {noun} ({bucket or 'any'}) within a second"
            violations.report("R1", what)
