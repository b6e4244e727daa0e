"""Judges a run that was struck and then went on: its report and ledger against the server's truth."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from tests.e2e.judge import Report, judge
from tests.e2e.service import Pair, Service, library
from worker.ledger.database import open_ledger, query
from worker.model import Kind
from worker.sandbox.journal import Entry

DELETE = "DeleteFaces"


class Violation(NamedTuple):
    """Something that must never be."""

    kind: Literal["false", "lost", "twice", "open", "other"]
    """A claim that a face is gone which the service does not bear out; a face without such a claim
    at the end; a face sent again without cause; more attempts left open than were in flight;
    anything else."""
    what: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as the ledger has it."""

    seq: int
    operation: str
    person_id: str
    face_ids: frozenset[str]
    nonce: str
    end_seq: int
    """0 while it has no end."""
    kind: str
    listed: frozenset[str]


def attempts_of(run_dir: Path) -> list[Attempt]:
    """All attempts in the ledger of ``run_dir``, in their order."""
    connection = open_ledger(run_dir, read_only=True)
    try:
        rows = query(
            connection,
            "SELECT a.seq, a.operation, c.person_id, a.face_ids, a.nonce, IFNULL(e.seq, 0),"
            " IFNULL(e.kind, ''), IFNULL(e.listed, '[]')"
            " FROM attempt a JOIN call c USING (call_no)"
            " LEFT JOIN ending e ON e.attempt_seq = a.seq ORDER BY a.seq",
        ).fetchall()
    finally:
        connection.close()
    return [
        Attempt(
            seq,
            operation,
            person_id,
            frozenset(json.loads(face_ids)),
            nonce,
            end_seq,
            kind,
            frozenset(json.loads(listed)),
        )
        for seq, operation, person_id, face_ids, nonce, end_seq, kind, listed in rows
    ]


def closed_after_crash(run_dir: Path) -> int:
    """Attempts of which a dead process had recorded no end."""
    return sum(attempt.kind == Kind.CLOSED for attempt in attempts_of(run_dir))


def judge_completed(run_dir: Path, pairs: Sequence[Pair], service: Service) -> list[Violation]:
    """Everything that is wrong with a run that says it is finished and every face is gone."""
    try:
        report = Report(run_dir)
    except (OSError, ValueError) as error:
        return [Violation("other", f"the report cannot be read ({type(error).__name__})")]
    left = {(person, face) for person, face in pairs if face in service.world.faces(person)}
    deleted, absent = report.of("deleted"), report.of("absent")
    attempts = attempts_of(run_dir)
    return [
        *[Violation("false", "called deleted")]
        * len((deleted - service.deleted) | (deleted & left)),
        *[Violation("false", "called absent")] * len(absent & left),
        *[Violation("lost", "neither deleted nor absent")] * len({*pairs} - deleted - absent),
        *sent_again(attempts, service.entries),
        *_contradictions(run_dir, pairs, service),
    ]


def _contradictions(run_dir: Path, pairs: Sequence[Pair], service: Service) -> Iterator[Violation]:
    """What the judge of all end-to-end tests finds, with the checker of the invariants in it."""
    try:
        judge(run_dir, pairs, service.journal.lines, holdings=library(list(pairs)))
    except AssertionError as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        for line in str(error).splitlines() or [f"not so: {place.line}"]:
            yield Violation("other", line)


def sent_again(attempts: Sequence[Attempt], entries: Sequence[Entry]) -> Iterator[Violation]:
    """D1 and R3: every arrival has its record. T2a: after an attempt that was served, and whose
    answer does not say so, only a lookup that lists a face allows another attempt."""
    by_nonce = {attempt.nonce: attempt for attempt in attempts}
    served: dict[Pair, list[Attempt]] = {}
    for entry in entries:
        attempt = by_nonce.get(entry.nonce)
        if attempt is None:
            yield Violation("other", "a request without an attempt record")
        elif entry.served and entry.operation == DELETE:
            for face_id in entry.face_ids:
                served.setdefault((entry.person_id, face_id), []).append(attempt)
    for (person_id, face_id), times in served.items():
        # In the order of the ledger: a network may deliver the first after the second.
        times.sort(key=lambda attempt: attempt.seq)
        for one, next_one in pairwise(times):
            if not any(
                look.kind == Kind.SHOWN
                and face_id in look.listed
                and look.person_id == person_id
                and one.end_seq < look.seq < look.end_seq < next_one.seq
                for look in attempts
            ):
                yield Violation("twice", f"the first attempt ended {one.kind or 'nowhere'}")
