"""The fold: from all evidence about one face to its outcome.

Pure. It depends neither on the order nor on the repetition of what it is given, and no further
evidence of the kinds known here turns ``deleted`` into something else.

==================================================  =========
what the attempts that named the face showed        outcome
==================================================  =========
one good answer listed it                           deleted
else: one that may have been applied (ambiguous,    unknown
closed after a crash, still open, swapped, or a
good answer that omits it)
else: one definite refusal                          refused
else: nothing, or only attempts that applied        unsent
nothing (throttled, not sent, sent again, fatal)
==================================================  =========
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from worker.model import Evidence, Kind, Outcome

MAY_HAVE_BEEN_APPLIED = frozenset({Kind.AMBIGUOUS, Kind.CLOSED, Kind.SWAPPED})
NOT_LISTED = "not_listed"
"""Our code for a face that a complete, good answer did not name among the deleted."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One attempt with its end, as the ledger holds them."""

    attempt_seq: int
    face_ids: tuple[str, ...]
    opened_us: int
    ending_seq: int | None
    """None while nobody knows how it ended."""
    ending: Evidence | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one face stands."""

    outcome: Outcome
    code: str
    attempts: int
    """Attempts that left, or may have left, this machine with this face in them."""
    first_sent_us: int | None
    decided_by: int | None
    """``ending_seq`` of the deciding evidence; None where there is none."""


def may_have_left(ending: Evidence | None) -> bool:
    """Whether a byte of the attempt may have left this machine.

    What is fatal before there is an answer (no credential, no trust in the server's certificate)
    has no time of sending.
    """
    if ending is None:
        return True
    if ending.kind is Kind.FATAL:
        return ending.sent_us is not None
    return ending.kind is not Kind.NOT_SENT


def _rank(trace: Trace, face_id: str) -> tuple[int, Outcome, str]:
    """How strongly one attempt speaks (higher wins), for which outcome, with which code."""
    ending = trace.ending
    if ending is None:
        return 2, Outcome.UNKNOWN, "no_end_recorded"
    if ending.kind is Kind.LISTED:
        if face_id in ending.listed:
            return 3, Outcome.DELETED, ending.code
        return 2, Outcome.UNKNOWN, NOT_LISTED
    if ending.kind in MAY_HAVE_BEEN_APPLIED:
        return 2, Outcome.UNKNOWN, ending.code
    if ending.kind is Kind.REFUSED:
        return 1, Outcome.REFUSED, ending.code
    return 0, Outcome.UNSENT, ending.code


def fold(face_id: str, traces: Iterable[Trace]) -> Standing:
    """The standing of ``face_id`` after ``traces``, in whatever order they come."""
    standing = Standing(Outcome.UNSENT, "", 0, None, None)
    best = (-1, 0)
    sent: dict[int, int] = {}
    for trace in traces:
        if face_id not in trace.face_ids:
            continue
        if may_have_left(trace.ending):
            sent_us = trace.ending.sent_us if trace.ending is not None else None
            sent[trace.attempt_seq] = trace.opened_us if sent_us is None else sent_us
        strength, outcome, code = _rank(trace, face_id)
        # Among equally strong evidence the latest is the one to read about in the report.
        rank = (strength, trace.ending_seq or trace.attempt_seq)
        if rank > best:
            best = rank
            standing = Standing(outcome, code, 0, None, trace.ending_seq)
    return Standing(
        standing.outcome,
        standing.code,
        len(sent),
        min(sent.values(), default=None),
        standing.decided_by,
    )
