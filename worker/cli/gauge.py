"""What a run tells while it works: a line for each kind of trouble, and figures for the display."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from structlog.typing import FilteringBoundLogger

from worker.cli.latency import Latencies
from worker.cli.progress import LaneProgress, Progress
from worker.cli.troubles import Troubles
from worker.errors import LedgerFailed
from worker.fold import may_have_left
from worker.ledger.journal import Ledger
from worker.model import UNFINISHED, Call, Evidence, Kind, Outcome, Step
from worker.pipeline import Lane, Pipeline
from worker.telemetry import get_log

TALLY_INTERVAL_SECONDS: Final = 0.5

_TOLD = {
    Kind.LISTED: "deleted",
    Kind.SHOWN: "looked up",
    Kind.NO_PERSON: "looked up: no such person",
    Kind.REMOVED: "person removed",
}
"""What the complete, good answers of the service are called in the log."""

_OWN_WILL = frozenset({"held", "stopped", "paused"})
"""Codes of attempts that this program kept from leaving because it was told to."""

_TO_BE_REPEATED = frozenset({Kind.AMBIGUOUS, Kind.THROTTLED, Kind.AGAIN, Kind.NOT_SENT})

_LANE_NAMES = {
    Step.DELETE: "deletions",
    Step.LOOKUP: "lookups",
    Step.VERIFY: "lookups",
    Step.REMOVE: "removals",
}


_PAUSES = {"order": "facepurge pause was typed; facepurge unpause goes on"}
"""What keeps a run paused where a word of its own does not say it to a stranger."""


class AttemptLog:
    """Tells what happened, by the places of the input, never by IDs."""

    def __init__(self) -> None:
        # Bound once: the lazy logger would be made anew for every call that is told.
        self._log: FilteringBoundLogger = get_log().bind()
        self.troubles = Troubles()
        self.latencies = Latencies()
        self.calls_sent = 0
        self.lookups_answered = 0
        """Of a verification."""
        self.steps: set[Step] = set()
        """Those of which a call has been made."""
        self.repeats = 0
        """Attempts that settled nothing, so that another call has to be made."""
        self.throttles = 0

    def attempt_ended(self, call: Call, evidence: Evidence) -> None:
        now = asyncio.get_running_loop().time()
        if may_have_left(evidence):
            self.calls_sent += 1
            self.steps.add(call.step)
        if evidence.http_status is not None and evidence.sent_us is not None:
            self.latencies.add((evidence.ended_us - evidence.sent_us) / 1e6, now)
        if evidence.kind in _TOLD:
            self.lookups_answered += call.step is Step.VERIFY
            if not self._log.is_enabled_for(logging.DEBUG):
                return  # nearly every call
        facts: dict[str, object] = {
            "code": evidence.code,
            "place": call.places[0],
            "message": evidence.message,
            "faces": len(call.face_ids),
            "request_id": evidence.request_id,
        }
        if evidence.kind in _TOLD:
            self._log.debug(_TOLD[evidence.kind], listed=len(evidence.listed), **facts)
            return
        if evidence.kind is Kind.NOT_SENT and evidence.code in _OWN_WILL:
            self._log.debug("not sent", **facts)
            return
        self.repeats += evidence.kind in _TO_BE_REPEATED
        self.throttles += evidence.kind is Kind.THROTTLED
        name = f"{evidence.kind} {evidence.code}".strip().replace("_", " ")
        count = self.troubles.saw(name, call.places[0], evidence.ended_us / 1e6)
        # The first of a kind is worth a line; the rest are counted, and in the report.
        tell = self._log.debug
        if self.troubles.is_worth_a_line(count, now):
            tell = self._log.warning
            if count > 1:
                facts["seen"] = count
            if left_out := self.troubles.left_out():
                facts["lines_left_out"] = left_out
        tell(str(evidence.kind), **facts)


class Pace:
    """Faces settled for each call that was allowed, over the last minutes.

    The end is reckoned from it and from what is allowed now, so that another rate and a pause move
    the end at once, and not only when the last minutes have passed.
    """

    SAMPLE_SECONDS: Final = 10.0
    SAMPLES: Final = 60

    def __init__(self) -> None:
        self._allowed_calls = 0.0
        self._looked: float | None = None
        self._sampled = float("-inf")
        self._samples: deque[tuple[float, int]] = deque(maxlen=self.SAMPLES)

    def look(self, now: float, done: int, allowed_per_second: float) -> None:
        """Take note; ``allowed_per_second`` is 0 while the run is paused."""
        if self._looked is not None:
            self._allowed_calls += (now - self._looked) * allowed_per_second
        self._looked = now
        if now - self._sampled >= self.SAMPLE_SECONDS and (allowed_per_second or not self._samples):
            self._samples.append((self._allowed_calls, done))
            self._sampled = now

    def faces_per_call(self, done: int) -> float:
        """0 where nobody can know."""
        if not self._samples:
            return 0.0
        allowed_calls, done_then = self._samples[0]
        calls = self._allowed_calls - allowed_calls
        return (done - done_then) / calls if calls > 0 else 0.0


class Gauge:
    """What the progress display asks for; the figures come from the ledger."""

    def __init__(
        self, faces_total: int, pipeline: Pipeline, lanes: Sequence[Lane], log: AttemptLog
    ) -> None:
        """``lanes``: those of the pipeline, the one that matters most first."""
        self._faces_total = faces_total
        self._pipeline = pipeline
        self._lanes = lanes
        self._log = log
        self._began = asyncio.get_running_loop().time()
        self._tally: Mapping[str, int] = {}
        self._lookups_left = 0
        self._pace = Pace()

    async def follow(self, ledger: Ledger) -> None:
        """Keep the tally fresh until cancelled."""
        with suppress(LedgerFailed):  # the pipeline reports it
            while True:
                await self.look(ledger)
                await asyncio.sleep(TALLY_INTERVAL_SECONDS)

    async def look(self, ledger: Ledger) -> None:
        """Read the figures once."""
        self._lookups_left = await ledger.lookups_left()
        self._tally = await ledger.tally()

    @property
    def deleted(self) -> int | None:
        """Distinct faces that are deleted by the last look at the ledger; None before it."""
        return self._tally.get(Outcome.DELETED, 0) if self._tally else None

    def __call__(self) -> Progress:
        now = asyncio.get_running_loop().time()
        total = sum(self._tally.values()) or self._faces_total
        unsettled = sum(self._tally.get(x, 0) for x in UNFINISHED) if self._tally else total
        done = total - unsettled
        waiting = self._waiting()
        allowed = 0.0 if waiting == "paused" else self._lanes[0].pacer.rate_allowed_per_second
        # Once all faces are settled, a verification goes on with the same persons.
        left, reached = unsettled or self._lookups_left, done + self._log.lookups_answered
        if unsettled:
            reached = done
        if self._tally:
            self._pace.look(now, reached, allowed)
        pace = self._pace.faces_per_call(reached) * allowed
        seconds = now - self._began
        pacers = [lane.pacer for lane in self._lanes]
        return Progress(
            faces_done=done,
            faces_total=total,
            outcomes=self._tally,
            calls_sent=self._log.calls_sent,
            calls_in_flight=self._pipeline.calls_out,
            repeats=self._log.repeats,
            throttles=self._log.throttles,
            rate_per_second=sum(pacer.rate_now_per_second for pacer in pacers),
            mean_rate_per_second=self._log.calls_sent / seconds if seconds > 0 else 0.0,
            elapsed_seconds=seconds,
            lookups_answered=self._log.lookups_answered,
            lookups_left=self._lookups_left,
            eta_seconds=left / pace if pace > 0 and not self._pipeline.stopping else None,
            waiting=waiting,
            why=self._why(),
            lanes=[
                _lane_progress(x) for x in self._lanes if not self._log.steps.isdisjoint(x.steps)
            ],
            latency=self._log.latencies.percentiles(now),
            troubles=self._log.troubles.most_first,
        )

    def _waiting(self) -> str:
        words = [lane.pacer.waiting_for for lane in self._lanes]
        if word := next(filter(None, words), ""):
            return word
        if self._pipeline.in_flight:
            return "answers"
        return "lookups" if self._pipeline.idles else ""

    def _why(self) -> str:
        if self._pipeline.stopping:
            return "the run is being stopped: no call is begun, and those in flight are recorded"
        return "; ".join(_PAUSES.get(why, why) for why in self._pipeline.pauses)


def _lane_progress(lane: Lane) -> LaneProgress:
    names = dict.fromkeys(_LANE_NAMES[step] for step in lane.steps)
    return LaneProgress(
        name=" and ".join(names),
        rate_per_second=lane.pacer.rate_now_per_second,
        rate_allowed_per_second=lane.pacer.rate_allowed_per_second,
        in_flight=lane.pacer.out,
        waiting=lane.pacer.waiting_for,
    )
