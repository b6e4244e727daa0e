"""What a run tells while it works: a line for each kind of trouble, and figures for the display."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from worker.cli.progress import Progress
from worker.errors import LedgerFailed
from worker.fold import may_have_left
from worker.ledger.journal import Ledger
from worker.model import UNFINISHED, Call, Evidence, Kind
from worker.pacing import Pacer
from worker.pipeline import Pipeline
from worker.telemetry import get_log

TALLY_INTERVAL_SECONDS = 0.5

_TOLD = {
    Kind.LISTED: "deleted",
    Kind.SHOWN: "looked up",
    Kind.NO_PERSON: "looked up: no such person",
    Kind.REMOVED: "person removed",
}
"""What the complete, good answers of the service are called in the log."""


class AttemptLog:
    """Tells what happened, by the places of the input, never by IDs."""

    def __init__(self) -> None:
        self._log = get_log()
        self.errors: Counter[str] = Counter()
        self.calls_sent = 0

    def attempt_ended(self, call: Call, evidence: Evidence) -> None:
        self.calls_sent += may_have_left(evidence)
        facts = {
            "place": call.places[0],
            "faces": len(call.face_ids),
            "code": evidence.code,
            "request_id": evidence.request_id,
        }
        if evidence.kind in _TOLD:
            self._log.debug(_TOLD[evidence.kind], listed=len(evidence.listed), **facts)
            return
        if evidence.kind is Kind.NOT_SENT and evidence.code in {"held", "stopped"}:
            self._log.debug("not sent", **facts)
            return
        name = f"{evidence.kind} {evidence.code}".strip()
        self.errors[name] += 1
        # The first of a kind is worth a line; the rest are counted, and in the report.
        tell = self._log.warning if self.errors[name] == 1 else self._log.debug
        tell(str(evidence.kind), message=evidence.message, **facts)


class Gauge:
    """What the progress display asks for; the figures come from the ledger."""

    def __init__(
        self, faces_total: int, pipeline: Pipeline, pacers: Sequence[Pacer], log: AttemptLog
    ) -> None:
        """``pacers`` are those of the run's lanes, the one that matters most first."""
        self._faces_total = faces_total
        self._pipeline = pipeline
        self._pacers = pacers
        self._log = log
        self._began = asyncio.get_running_loop().time()
        self._tally: Mapping[str, int] = {}
        self._done_at_start: int | None = None

    async def follow(self, ledger: Ledger) -> None:
        """Keep the tally fresh until cancelled."""
        with suppress(LedgerFailed):  # the pipeline reports it
            while True:
                await self.look(ledger)
                await asyncio.sleep(TALLY_INTERVAL_SECONDS)

    async def look(self, ledger: Ledger) -> None:
        """Read the tally once."""
        self._tally = await ledger.tally()

    def __call__(self) -> Progress:
        now = asyncio.get_running_loop().time()
        total = sum(self._tally.values()) or self._faces_total
        unsettled = sum(self._tally.get(x, 0) for x in UNFINISHED) if self._tally else total
        done = total - unsettled
        if self._done_at_start is None and self._tally:
            self._done_at_start = done
        seconds = now - self._began
        pace = (done - (self._done_at_start or 0)) / seconds if seconds > 0 else 0.0
        waiting = next((x.waiting_for for x in self._pacers if x.waiting_for), "")
        if not waiting and self._pipeline.in_flight:
            waiting = "answers"
        elif self._pipeline.idles:
            waiting = "lookups"
        line = sum(pacer.line for pacer in self._pacers)
        return Progress(
            faces_done=done,
            faces_total=total,
            outcomes=self._tally,
            calls_sent=self._log.calls_sent,
            calls_in_flight=max(0, self._pipeline.in_flight - line),
            rate_per_second=sum(pacer.rate_now_per_second for pacer in self._pacers),
            mean_rate_per_second=self._log.calls_sent / seconds if seconds > 0 else 0.0,
            eta_seconds=unsettled / pace if pace > 0 else None,
            waiting=waiting,
            errors=dict(self._log.errors),
        )
