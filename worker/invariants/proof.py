"""What the evidence about one face, or about a whole person, proves: read from the design anew.

``deleted``
    a complete good answer lists the face, and no later lookup does
``absent``
    after the last attempt, and after the last lookup that lists the face, complete lookups do not:
    one after a good answer that omits it, otherwise two
``no_person``
    after the same, two complete answers that there is no such person

Lookups prove something together only where they are an interval apart. An end that is not written
down yet proves nothing, and keeps nothing from being proved: it counts when it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.invariants.evidence import Attempt
from worker.model import Kind, Outcome, Step


@dataclass(frozen=True, slots=True)
class Story:
    """The attempts with an end that concern one face, in ledger order."""

    face_id: str
    deletes: tuple[Attempt, ...]
    lookups: tuple[Attempt, ...]
    """Complete ones that asked about it."""

    def before(self, seq: int) -> Story:
        """What was known when a number of the ledger was drawn."""
        return Story(
            self.face_id,
            tuple(a for a in self.deletes if a.end_seq < seq),
            tuple(a for a in self.lookups if a.end_seq < seq),
        )

    @property
    def showings(self) -> list[Attempt]:
        """Lookups that list the face."""
        return [a for a in self.lookups if a.kind is Kind.SHOWN and a.lists(self.face_id)]

    @property
    def weighty(self) -> list[Attempt]:
        return [a for a in self.deletes if a.weighs]


class Dossier:
    """Attempts sorted by the faces that they concern, so that no face has to look at all of them."""

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self._of_all: list[Attempt] = []
        self._of_face: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            if attempt.ending is None or not (attempt.deletes or attempt.is_complete_lookup):
                continue
            if attempt.looks and not attempt.face_ids:
                self._of_all.append(attempt)
            for face_id in dict.fromkeys(attempt.face_ids):
                self._of_face.setdefault(face_id, []).append(attempt)

    def story(self, face_id: str) -> Story:
        """What concerns one face; in ledger order if ``attempts`` were."""
        named = self._of_face.get(face_id, [])
        attempts = named if not self._of_all else sorted([*self._of_all, *named], key=_seq)
        return Story(
            face_id,
            tuple(a for a in attempts if a.deletes),
            tuple(a for a in attempts if not a.deletes),
        )


def _seq(attempt: Attempt) -> int:
    return attempt.seq


def established(story: Story, interval_us: float) -> Outcome | None:
    """Whether the face is proved to be gone, or its person not to be known."""
    showings = story.showings
    shown_seq = showings[-1].seq if showings else 0
    if any(a.lists(story.face_id) and a.end_seq > shown_seq for a in story.deletes):
        return Outcome.DELETED
    touched = [*(a for a in story.deletes if a.may_have_left), *showings]
    if not touched:
        return None
    last = max(touched, key=lambda a: a.end_seq)
    after = [a for a in story.lookups if a.seq > last.end_seq]
    wanted = 1 if last.deletes and last.kind is Kind.LISTED else 2
    if apart([a for a in after if a.kind is Kind.SHOWN], interval_us) >= wanted:
        return Outcome.ABSENT
    if apart([a for a in after if a.kind is Kind.NO_PERSON], interval_us) >= 2:
        return Outcome.NO_PERSON
    return None


def emptiness(attempts: Iterable[Attempt], interval_us: float) -> Kind | None:
    """What ``attempts`` of a whole person's call prove about the person.

    ``SHOWN``: nothing is listed any more. ``NO_PERSON``: the service knows nobody. None: neither.
    """
    ended = [a for a in attempts if a.ending is not None]
    changes = [a for a in ended if not a.looks and a.weighs]
    lookups = [a for a in ended if a.is_complete_lookup and not a.face_ids]
    touched = [*changes, *(a for a in lookups if a.ending is not None and a.ending.listed)]
    last = max(touched, key=lambda a: a.end_seq, default=None)
    since = 0 if last is None else last.end_seq
    after = [a for a in lookups if a.seq > since]
    wanted = 1 if last is not None and last.deletes and last.kind is Kind.LISTED else 2
    empty = [a for a in after if a.kind is Kind.SHOWN]
    # Somebody else may have removed the record of a person who was empty before.
    emptied_seq = max((a.end_seq for a in empty), default=0)
    unknown = [a for a in after if a.kind is Kind.NO_PERSON and a.seq > emptied_seq]
    if apart(unknown, interval_us) >= 2:
        return Kind.NO_PERSON
    return Kind.SHOWN if apart(empty, interval_us) >= wanted else None


def apart(lookups: Sequence[Attempt], interval_us: float) -> int:
    """How many of ``lookups``, in ledger order, left an interval after the last one had ended.

    Where the clock was set back, how long it really was is not known: that lookup does not count
    beside the one before it.
    """
    count = 0
    last: Attempt | None = None
    for lookup in lookups:
        if last is None:
            count, last = 1, lookup
            continue
        assert last.ending is not None
        pause_us = lookup.departed_us - last.ending.ended_us
        if lookup.departed_us < last.departed_us:
            last = lookup
        elif pause_us >= interval_us:
            count, last = count + 1, lookup
    return count


def removed(attempts: Iterable[Attempt]) -> Attempt | None:
    """The good answer to the last change of a person, where that was the removal of the record."""
    changes = [a for a in attempts if a.ending is not None and not a.looks and a.weighs]
    last = max(changes, key=lambda a: a.seq, default=None)
    return last if last is not None and last.step is Step.REMOVE else None
