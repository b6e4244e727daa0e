"""Histories of one person, told event by event as a ledger would hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from worker.fold import Rules, Trace
from worker.model import Evidence, Kind, Step

INTERVAL_US = Rules().absence_interval_us
TAKES_US = 1_000
"""From the sending of a request to its answer."""

FACE, OTHER = "31842550077981745", "031842550077981745"
"""Two faces, although they are one number."""


@dataclass(frozen=True)
class Event:
    """One attempt; ``kind`` None leaves it without an end."""

    step: Step
    kind: Kind | None
    face_ids: tuple[str, ...] = (FACE,)
    listed: tuple[str, ...] = ()
    code: str = ""
    after_us: int = INTERVAL_US
    """How long after the end of the one before it was opened and sent."""
    sent: bool = True
    """Whether it is known when it was sent."""

    def about(self, *face_ids: str) -> Event:
        return replace(self, face_ids=face_ids)

    def after(self, microseconds: int) -> Event:
        return replace(self, after_us=microseconds)

    def coded(self, code: str) -> Event:
        return replace(self, code=code)


def attempt(kind: Kind | None, *listed: str, code: str = "") -> Event:
    """To delete FACE."""
    return Event(Step.DELETE, kind, listed=listed, code=code or (kind or ""))


def lookup(kind: Kind, *listed: str, step: Step = Step.LOOKUP) -> Event:
    """That asks about FACE."""
    return Event(step, kind, listed=listed, code=str(kind))


DELETED = attempt(Kind.LISTED, FACE)
OMITTED = attempt(Kind.LISTED)
AMBIGUOUS = attempt(Kind.AMBIGUOUS)
CLOSED = attempt(Kind.CLOSED)
SWAPPED = attempt(Kind.SWAPPED)
OPEN = attempt(None)
REFUSED = attempt(Kind.REFUSED, code="400")
NOT_FOUND = attempt(Kind.REFUSED, code="404")
FORBIDDEN = attempt(Kind.REFUSED, code="403")
"""A cause that can be mended, where the rules say so."""
THROTTLED = attempt(Kind.THROTTLED)
AGAIN = attempt(Kind.AGAIN)
NOT_SENT = replace(attempt(Kind.NOT_SENT), sent=False)
FATAL = attempt(Kind.FATAL)
FATAL_BEFORE = replace(FATAL, sent=False)
"""Fatal before anything left: no credential, no trust in the server."""

SHOWN = lookup(Kind.SHOWN, FACE)
MISSING = lookup(Kind.SHOWN)
NOBODY = lookup(Kind.NO_PERSON)
UNCLEAR = lookup(Kind.AMBIGUOUS)
OPEN_LOOKUP = Event(Step.LOOKUP, None)


def told(*events: Event) -> list[Trace]:
    """One after another, numbered from one counter: the first has 1, and its end has 2."""
    starts = accumulate((e.after_us for e in events), lambda now, wait: now + TAKES_US + wait)
    return [
        Trace(
            2 * number + 1,
            event.step,
            event.face_ids,
            start_us,
            None if event.kind is None else 2 * number + 2,
            None
            if event.kind is None
            else Evidence(
                event.kind,
                start_us + TAKES_US,
                start_us if event.sent else None,
                code=event.code,
                listed=event.listed,
            ),
        )
        for number, (event, start_us) in enumerate(zip(events, starts, strict=True))
    ]


def end_of(traces: Sequence[Trace], number: int) -> int | None:
    """``ending_seq`` of the event with that index."""
    return traces[number].ending_seq


def last_seq(traces: Iterable[Trace]) -> int:
    """The highest number any record has: what comes after it is later than all of it."""
    return max((x.ending_seq or x.attempt_seq for x in traces), default=0)
