"""What the report needs to know; the ledger provides it, the report never asks for more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from worker.model import SourceSummary, StopReason, Verb


class Line(NamedTuple):
    """One face of one job, in input order; a tuple, because there may be millions."""

    record_no: int
    """0-based number of the record over all sources; lines of one record are adjacent."""
    label: str
    """The job's label; ``<source>:<line>`` where the input gave none."""
    source: str
    line: int
    person_id: str
    face_id: str
    """``""`` for a record without a readable face, and for the line of a whole person itself."""
    outcome: str
    """A value of ``worker.model.Outcome``."""
    code: str
    message: str
    request_id: str
    attempts: int
    first_sent_us: int | None
    """Microseconds since the epoch, UTC."""
    finished_us: int | None
    duplicate_of: str
    """``<source>:<line>`` of the first row with the same person and face, or ``""``."""
    carried: str
    """JSON object of the record's other columns on its first line, otherwise ``""``."""


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What was fixed when the plan became durable."""

    run_id: str
    program_version: str
    planned_us: int
    account: str
    endpoint: str
    rehearsal: bool
    settings: Mapping[str, object]
    """Every effective setting; there are no secrets among them."""
    persons: int
    faces: int
    """Distinct (person, face) pairs to be sent."""
    calls: int
    repeats: int
    """Rows whose pair had appeared before."""
    rows: int
    """Faces read, whole persons, and records without a readable face."""
    holds_sha256: str
    """Digest of the exclusion list at plan time, or ``""``."""
    whole_persons: int
    """Distinct persons of whom everything was asked to go."""


@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of work on a run."""

    verb: Verb
    started_us: int
    ended_us: int | None
    """None when the process died."""
    stop_reason: StopReason
    detail: str
    """One sentence with cause and remedy, or ``""``; names no IDs."""
    waits_seconds: Mapping[str, float]
    """Where the time went: wall seconds per reason (``quota``, ``throttled``, ``backoff``, ``answers``...)."""


@dataclass(frozen=True, slots=True)
class CallFigures:
    """Counts over all attempts of one operation."""

    operation: str
    attempts: int
    sent: int
    """Attempts that left this machine, or may have."""
    retries: int
    """Changes sent that had been sent before, for one face at least; lookups that brought nothing."""
    throttles: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked up once more after it was settled, in calls (one for most persons)."""

    asked: int
    answered: int
    """Calls of these that a complete lookup has answered."""


class Books(Protocol):
    """The ledger and the row map of one run, opened for reading."""

    def header(self) -> RunHeader: ...

    def sources(self) -> Sequence[SourceSummary]: ...

    def sessions(self) -> Sequence[Session]: ...

    def lines(self) -> Iterator[Line]:
        """Every line in input order, streamed: memory does not grow with their number."""
        ...

    def found_lines(self) -> int:
        """Lines beyond those of the input's rows: faces that were found for whole persons."""
        ...

    def verification(self) -> Verification: ...

    def has_waiting_calls(self) -> bool:
        """Whether something is still to be done, be it about a face that keeps its outcome so far."""
        ...

    def call_figures(self) -> Sequence[CallFigures]: ...

    def sent_times_us(self, operation: str) -> Iterator[int]:
        """When each attempt that left was handed to the socket, ascending."""
        ...
