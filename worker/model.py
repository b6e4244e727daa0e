"""The vocabulary of a purge: jobs, faces, calls, attempts, evidence, outcomes.

Every value is frozen. What is made anew for each call is a ``msgspec.Struct``: a frozen dataclass
takes ten times as long. IDs are opaque text from the first byte read to the signed body: nothing in
this package parses, trims, pads or normalises one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import repeat
from typing import NamedTuple, TypeAlias

import msgspec

from worker.texts import Texts


class Outcome(StrEnum):
    """What a run established about one face; exactly one word for every face of every job."""

    DELETED = "deleted"
    ABSENT = "absent"
    NO_PERSON = "no_person"
    PRESENT = "present"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNSENT = "unsent"
    HELD = "held"
    CONFLICT = "conflict"
    INVALID = "invalid"
    PERSON_EMPTY = "person_empty"
    PERSON_DELETED = "person_deleted"


WANTED = frozenset({Outcome.DELETED, Outcome.ABSENT, Outcome.PERSON_EMPTY, Outcome.PERSON_DELETED})
"""The outcomes a purge is run for."""

SENDABLE_AGAIN = frozenset(
    {Outcome.PRESENT, Outcome.NO_PERSON, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.UNSENT}
)
"""The outcomes whose lines form ``failures.csv``."""

UNFINISHED = frozenset({Outcome.UNKNOWN, Outcome.UNSENT})
"""A run is finished when no face has one of these."""


class Entry(NamedTuple):
    """One face of one record, as a source read it; a tuple, because there may be millions."""

    record: int
    """0-based number of the record within its source; entries of one record are adjacent."""
    line: int
    """1-based line of the (decompressed) source on which the record begins."""
    label: str
    """The job's label (``job_id``), or ``""`` where the record carries none."""
    person_id: str
    """Where ``reason`` refuses the person or the record's shape: the text as read, if it is
    printable and at most 200 characters long, otherwise ``""``."""
    face_id: str
    """``""`` where ``reason`` refuses the person or the record's shape; where it refuses the face,
    the text as read, if it is printable and at most 200 characters long, otherwise ``""``."""
    reason: str
    """``""`` for a face that may be sent, otherwise why it never will be."""
    column: str
    """The column or key at fault where ``reason`` is filled, or ``""``."""
    carried: str
    """JSON object of the record's other columns on its first entry, otherwise ``""``."""
    whole: bool = False
    """Whether the record explicitly asks for everything of its person; ``face_id`` is ``""`` then."""
    due_us: int | None = None
    """When the record is due, in microseconds since the epoch, UTC; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Adjacent records of a table with one face each, all of which may be sent, by column.

    It says what as many values of ``Entry`` would, at a hundredth of the cost.
    """

    record: int
    """0-based number of the first record within its source; the others follow it."""
    lines: Sequence[int]
    """1-based lines of the (decompressed) source, ascending; a ``range`` where none is left out."""
    person_ids: Texts
    face_ids: Texts
    labels: Texts | None = None
    """None where no record carries one."""
    carried: Texts | None = None
    """JSON object of each record's other columns; None where there are none."""
    dues_us: Sequence[int | None] | None = None
    """None where no record is due at any time."""

    def __len__(self) -> int:
        return len(self.lines)

    def entries(self) -> list[Entry]:
        """The same as entries."""
        count = len(self)
        return list(
            map(
                Entry,
                range(self.record, self.record + count),
                self.lines,
                self.labels or repeat("", count),
                self.person_ids,
                self.face_ids,
                repeat(""),
                repeat(""),
                self.carried or repeat("", count),
                repeat(False),
                self.dues_us or repeat(None, count),
            )
        )


Chunk: TypeAlias = list[Entry] | Stretch
"""What a source gives at a time."""


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What one source held, known once it was read to its end."""

    name: str
    format: str
    sha256: str
    """Hex digest of the raw bytes, before any decompression."""
    byte_count: int
    """Raw bytes read, before any decompression."""
    records: int
    entries: int
    blank_lines: int
    carried_columns: tuple[str, ...]
    """Names of the other columns, in order of first appearance."""


class Step(StrEnum):
    """What a call waits for next."""

    DELETE = "delete"
    """Its faces are to be deleted (DeleteFaces)."""
    LOOKUP = "lookup"
    """What the service has is to be established (GetPerson)."""
    VERIFY = "verify"
    """What was established is to be looked up once more (GetPerson)."""
    REMOVE = "remove"
    """The emptied person record is to be deleted (DeletePerson)."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """A unit of work about one person, claimed by one loop."""

    call_no: int
    person_id: str
    face_ids: tuple[str, ...]
    """The faces to be deleted (at most 20) or asked about; none where ``whole`` asks for all."""
    places: tuple[str, ...]
    """``source:line`` of the first row of each face: what logs may name instead of IDs."""
    step: Step = Step.DELETE
    whole: bool = False
    """Whether the input asks for everything of the person."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One attempt as it will leave: the bytes signed are the bytes sent."""

    operation: str
    """The service's action name, e.g. ``DeleteFaces``."""
    step: Step
    call_no: int
    person_id: str
    face_ids: tuple[str, ...]
    """Of a lookup: the faces it asks about; none asks about every face of the person."""
    body: bytes
    nonce: str


class Attempt(NamedTuple):
    """A request that is in the ledger and may leave."""

    seq: int
    call: Call
    request: Request


class Waiting(NamedTuple):
    """What a call waits for after an attempt."""

    step: Step
    not_before_us: int
    """Microseconds since the epoch, UTC; 0 means at once."""


class Kind(StrEnum):
    """What one attempt proved. The fold (``worker.fold``) turns these into outcomes."""

    LISTED = "listed"
    """A complete, well-formed good answer; ``Evidence.listed`` names the faces it says are gone."""
    SHOWN = "shown"
    """A complete lookup of the person; ``Evidence.listed`` names those of the faces asked about
    that the service has, or all of the person's where no face was named."""
    NO_PERSON = "no_person"
    """A well-formed answer of the service itself to a lookup: it knows no such person."""
    REMOVED = "removed"
    """A complete, well-formed good answer: the person record is gone."""
    REFUSED = "refused"
    """The service refused this request for good, and nothing was applied."""
    THROTTLED = "throttled"
    """Refused because of the quota: nothing was applied; everybody slows down."""
    AGAIN = "again"
    """Refused for a cause since corrected (clock, renewed credentials): nothing was applied."""
    FATAL = "fatal"
    """Refused for a cause that concerns the whole run: nothing was applied; the run stops."""
    SWAPPED = "swapped"
    """An answer about another person or an unasked face: it may have been applied; the run stops."""
    AMBIGUOUS = "ambiguous"
    """Sent, and no believable answer came: it may or may not have been applied."""
    NOT_SENT = "not_sent"
    """Not one byte of the request left this machine."""
    CLOSED = "closed"
    """Left open by a crash and closed by the next start: it may or may not have been sent."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ended. Append-only: never changed once recorded."""

    kind: Kind
    ended_us: int
    """Microseconds since the epoch, UTC."""
    sent_us: int | None = None
    """When the first byte was handed to the socket; None when nothing was sent or nobody knows."""
    http_status: int | None = None
    code: str = ""
    """The service's or gateway's code, or a word of ours in snake_case."""
    message: str = ""
    """One redacted line of at most 300 characters; never a signature or a token."""
    request_id: str = ""
    listed: tuple[str, ...] = ()
    retry_after_seconds: float | None = None
    """A throttle's hint, already capped; None when there was none or it was unreadable."""
    remedy: str = ""
    """For ``FATAL`` and ``SWAPPED``: what a person has to do before the run can go on."""


class Verb(StrEnum):
    """What a session of work on a run is for."""

    RUN = "run"
    RESUME = "resume"
    RETRY = "retry"
    """A new round: attempts are counted anew."""
    VERIFY = "verify"
    """Looks only; deletes nothing."""


class StopReason(StrEnum):
    """Why a session of a run ended."""

    FINISHED = "finished"
    """Nothing was left to claim."""
    SIGINT = "sigint"
    SIGTERM = "sigterm"
    SIGHUP = "sighup"
    """The terminal or the connection was closed, and nothing said to outlive that."""
    FATAL = "fatal"
    """A fatal or swapped answer; the session's ``detail`` says which and what to do."""
    SWAPPED = "swapped"
    """An answer about another person or an unasked face: to be explained before anything goes on."""
    DAMAGED = "damaged"
    """The ledger holds a call that is not what was planned."""
    BREAKER = "breaker"
    """More than half of the last 200 complete answers were definite refusals."""
    OUTAGE = "outage"
    """The service could not be used for longer than ``outage_limit_minutes``, or was a rehearsal's own
    and has ended."""
    HOLDS = "holds"
    """The exclusion list vanished, became unreadable, or lost an entry during the run."""
    LEDGER = "ledger"
    """The ledger could not be written."""
    LIMIT = "limit"
    """``max_delete`` was reached by what was found of whole persons."""
    HALT = "halt"
    """A condition of ``--halt`` was met by what was settled."""
    CANARY = "canary"
    """A stage of the canary is not as it should be; nothing beyond it was sent."""
    REQUEST = "request"
    """Somebody asked for it: a stop order, a stop file, ``--max-duration``, a closed window."""
    KILLED = "killed"
    """The session left no end of its own: the process died."""


RESULT_COLUMNS = (
    "job_id",
    "source",
    "line",
    "person_id",
    "face_id",
    "outcome",
    "code",
    "message",
    "request_id",
    "attempts",
    "first_sent_at",
    "finished_at",
    "duplicate_of",
)
"""The columns with which ``results.csv`` begins, by which a source knows a report of ours."""

REMEDY_COLUMN = "remedy"
"""What follows them in ``failures.csv``, before the columns that it carries."""
