"""What a run may send, worked out from its input and from what lookups were really shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.simulation.history import History, Pair
from tests.simulation.violations import Violations
from worker.holds import Hold
from worker.model import Entry

MOST_FACES = 20


class Warrant:
    """Checks S1 and S2 of each request of one run."""

    def __init__(
        self,
        run: str,
        entries: Iterable[Entry],
        holds: Iterable[Hold],
        history: History,
        violations: Violations,
    ) -> None:
        self.run = run
        self._history = history
        self._violations = violations
        self._persons: defaultdict[str, set[str]] = defaultdict(set)
        self.named: set[Pair] = set()
        self.whole: set[str] = set()
        for entry in entries:
            if entry.reason:
                continue
            if entry.whole:
                self.whole.add(entry.person_id)
            else:
                self.named.add((entry.person_id, entry.face_id))
                self._persons[entry.face_id].add(entry.person_id)
        self._held = set(holds)

    def hold(self, hold: Hold) -> None:
        """From now on no attempt may be opened for it."""
        self._held.add(hold)

    def check(self, operation: str, person_id: str, face_ids: Sequence[str]) -> None:
        """S1: a request that leaves names nothing that the input does not cover."""
        if operation == "GetPerson":
            if person_id not in self.whole and not any(p == person_id for p, _ in self.named):
                self._report("S1", "a lookup of a person whom the input does not name")
            return
        if operation == "DeletePerson":
            if person_id not in self.whole:
                self._report("S1", "a person is removed of whom not everything was to go")
            return
        if not 0 < len(face_ids) <= MOST_FACES or len(set(face_ids)) < len(face_ids):
            self._report("S1", f"a request for {len(face_ids)} faces")
        for face_id in face_ids:
            if len(self._persons[face_id] | {person_id}) > 1:
                self._report("S2", f"{face_id} is in conflict and was sent")
            if (person_id, face_id) not in self.named and not (
                person_id in self.whole and self._was_shown(person_id, face_id)
            ):
                self._report("S1", f"{face_id} is not in the input and was sent")

    def _was_shown(self, person_id: str, face_id: str) -> bool:
        return any(
            x.run == self.run and x.person_id == person_id and face_id in x.shown
            for x in self._history.arrivals
        )

    def check_holds(self, operation: str, person_id: str, face_ids: Sequence[str]) -> None:
        """S2: no attempt is opened for what is on the exclusion list by then."""
        if operation == "GetPerson":
            return
        if (person_id, "") in self._held or any((person_id, x) in self._held for x in face_ids):
            self._report("S2", f"{operation} for {person_id}, which is held")

    def _report(self, rule: str, what: str) -> None:
        self._violations.report(rule, f"run {self.run}: {what}")
