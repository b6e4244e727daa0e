"""What one run sent, and that it had written it down before."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import msgspec

from tests.simulation.event_log import EventLog
from tests.simulation.simulated_loop import now_seconds
from tests.simulation.violations import Violations
from tests.simulation.warrant import Warrant

STOP_SECONDS = 0.1
"""After this nothing leaves any more once a process was told to stop."""

ATTEMPT = "SELECT operation, face_ids, body_sha256 FROM attempt WHERE nonce = ?"


class _Body(msgspec.Struct):
    person_id: str = msgspec.field(name="personId")
    face_ids: tuple[str, ...] = msgspec.field(name="faceIds", default=())


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_ids = msgspec.json.Decoder(tuple[str, ...]).decode


@dataclass(frozen=True, slots=True)
class Departure:
    """One request that left."""

    at_seconds: float
    nonce: str
    operation: str


class Departures:
    """Checks D1, S1, R2 and L2 as each request of one run leaves.

    ``reader`` is a connection of its own to the run's ledger: it sees what is durable.
    """

    def __init__(
        self,
        reader: apsw.Connection,
        warrant: Warrant,
        nonces: set[str],
        log: EventLog,
        violations: Violations,
    ) -> None:
        self._reader = reader
        self._warrant = warrant
        self._nonces = nonces
        self._log = log
        self._violations = violations
        self.sent: list[Departure] = []

    @property
    def is_sampled(self) -> bool:
        """Whether this run is one of the tenth about which more is asked."""
        return bool(self.sent) and int(self.sent[0].nonce[:4], 16) % 10 == 0

    def note(self, nonce: str, path: str, body: bytes, *, stopped_seconds: float | None) -> None:
        """The bytes of a request were handed to the socket."""
        rows: list[Any] = self._reader.execute(ATTEMPT, (nonce,)).fetchall()
        request = _decode_body(body)
        operation = rows[0][0] if rows else path
        self._log.note(
            self._warrant.run,
            f"departs {operation} {request.person_id} {len(request.face_ids)} {nonce[:6]}",
        )
        self.sent.append(Departure(now_seconds(), nonce, operation))
        if nonce in self._nonces:
            self._report("R2", "a nonce is used twice")
        self._nonces.add(nonce)
        if len(rows) != 1:
            self._report("D1", f"{operation} left without its attempt record on the disk")
            return
        if hashlib.sha256(body).hexdigest() != rows[0][2]:
            self._report("S3", "other bytes left than were written down")
        if operation == "DeleteFaces" and _decode_ids(rows[0][1]) != request.face_ids:
            self._report("D1", "other faces left than were written down")
        self._warrant.check(operation, request.person_id, request.face_ids)
        if stopped_seconds is not None and now_seconds() > stopped_seconds + STOP_SECONDS:
            late = now_seconds() - stopped_seconds
            self._report("L2", f"{operation} left {late:.3f} s after the stop")

    def _report(self, rule: str, what: str) -> None:
        self._violations.report(rule, f"run {self._warrant.run}: {what}")


def most_in_any_second(times: Sequence[float]) -> int:
    """Of ascending ``times``: the most within any half-open second."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def by_bucket(sent: Sequence[tuple[str, float]], *, shared: bool) -> dict[str, list[float]]:
    """Ascending times of (operation, time) for each bucket of the quota."""
    buckets: defaultdict[str, list[float]] = defaultdict(list)
    for operation, time in sent:
        buckets["" if shared else operation].append(time)
    return {bucket: sorted(times) for bucket, times in buckets.items()}
