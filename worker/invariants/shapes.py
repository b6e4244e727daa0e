"""Whether the ledger can be read at all: every record whole, every reference resolved.

What is wrong here would make the rest meaningless, so nothing else is judged then.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import apsw

from worker.invariants.violation import Findings
from worker.ledger.database import query
from worker.model import Kind, Outcome, Step, Verb

FATES = ("", "whole", "held", "conflict", "invalid")
OPERATIONS = ("DeleteFaces", "GetPerson", "DeletePerson")


class _Rule(NamedTuple):
    invariant: str
    sentence: str
    places: str
    """A query for the places where it is broken."""


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _unknown(invariant: str, noun: str, words: type[StrEnum] | Iterable[str], places: str) -> _Rule:
    return _Rule(
        invariant, f"the ledger knows no such {noun}", f"{places} NOT IN ({_words(words)})"
    )


def _no_texts(invariant: str, noun: str, table: str, column: str) -> _Rule:
    return _Rule(
        invariant,
        f"{column} is not a list of texts",
        f"SELECT '{noun} ' || seq FROM {table} WHERE NOT json_valid({column})"  # noqa: S608 # nosec B608 (our own names)
        f" OR json_type({column}) <> 'array'"
        f" OR EXISTS (SELECT 1 FROM json_each({column}) WHERE type <> 'text')",
    )


RULES = (
    _no_texts("D1", "attempt", "attempt", "face_ids"),
    _no_texts("T5", "ending", "ending", "listed"),
    _unknown("T5", "kind of evidence", Kind, "SELECT 'ending ' || seq FROM ending WHERE kind"),
    _unknown("D1", "step", Step, "SELECT 'attempt ' || seq FROM attempt WHERE step"),
    _unknown(
        "D1", "operation", OPERATIONS, "SELECT 'attempt ' || seq FROM attempt WHERE operation"
    ),
    _unknown("T4", "outcome", Outcome, "SELECT 'call ' || call_no FROM face WHERE outcome"),
    _unknown("T4", "fate", FATES, "SELECT 'row ' || row_no FROM row WHERE fate"),
    _unknown("T5", "verb", Verb, "SELECT 'session ' || session_no FROM session WHERE verb"),
    _Rule(
        "D1",
        "it belongs to no call that was begun",
        "SELECT 'attempt ' || seq FROM attempt a LEFT JOIN main.call c USING (call_no)"
        " WHERE c.call_no IS NULL",
    ),
    _Rule(
        "T5",
        "it belongs to no attempt",
        "SELECT 'ending ' || e.seq FROM ending e LEFT JOIN attempt a ON a.seq = e.attempt_seq"
        " WHERE a.seq IS NULL",
    ),
    _Rule(
        "T5",
        "it has more than one end",
        "SELECT 'attempt ' || attempt_seq FROM ending GROUP BY attempt_seq HAVING COUNT(*) > 1",
    ),
    _Rule(
        "T5",
        "two records have the same number",
        "SELECT 'attempt ' || a.seq FROM attempt a JOIN ending e ON e.seq = a.seq",
    ),
    _Rule(
        "T5",
        "it ended before it began",
        "SELECT 'attempt ' || a.seq FROM attempt a JOIN ending e ON e.attempt_seq = a.seq"
        " WHERE e.seq < a.seq",
    ),
    _Rule(
        "T4",
        "a face belongs to no row of a source",
        "SELECT 'call ' || f.call_no FROM face f LEFT JOIN row r ON r.row_no = f.first_row"
        " LEFT JOIN source s ON s.source_no = r.source_no WHERE s.source_no IS NULL",
    ),
    _Rule(
        "T4",
        "a face belongs to no call",
        "SELECT 'face ' || f.face_no FROM face f LEFT JOIN call c USING (call_no)"
        " WHERE c.call_no IS NULL",
    ),
    _Rule(
        "T4",
        "it has no face",
        "SELECT 'call ' || c.call_no FROM call c"
        " WHERE NOT EXISTS (SELECT 1 FROM face f WHERE f.call_no = c.call_no)",
    ),
)


def check_shapes(connection: apsw.Connection, findings: Findings) -> bool:
    """Whether everything else can be judged."""
    good = True
    for rule in RULES:
        for (place,) in query(connection, rule.places):
            good = False
            findings.add(rule.invariant, place, rule.sentence)
    return good
