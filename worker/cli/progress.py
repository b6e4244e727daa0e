"""How far a run is, as a value and as a line of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.cli.latency import Percentiles
from worker.cli.troubles import Trouble

TROUBLES_IN_A_LINE = 5


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """One bucket of the service's quota: deletions, lookups, or what shares one."""

    name: str
    rate_per_second: float
    """Calls per second just now."""
    rate_allowed_per_second: float
    """What it is held to at present."""
    in_flight: int
    waiting: str
    """As in ``Progress``; ``""`` when nothing holds it."""

    @property
    def quota_share(self) -> float:
        """How much of what it is allowed it uses, from 0 to 1."""
        if not self.rate_allowed_per_second:
            return 0.0
        return min(1.0, self.rate_per_second / self.rate_allowed_per_second)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; names no IDs."""

    faces_done: int
    """Distinct faces whose outcome is settled."""
    faces_total: int
    outcomes: Mapping[str, int]
    """Distinct faces per ``worker.model.Outcome``."""
    calls_sent: int
    """In this session."""
    calls_in_flight: int
    repeats: int
    """Attempts of this session that settled nothing, so that another call has to be made."""
    throttles: int
    rate_per_second: float
    """Calls per second just now."""
    mean_rate_per_second: float
    """Over this session."""
    elapsed_seconds: float
    """Since this session began."""
    eta_seconds: float | None
    """Seconds until everything is settled; None where nobody can know."""
    waiting: str
    """``quota``, ``throttled``, ``backoff``, ``paused``, ``hold``, ``answers``, ``lookups``, or ``""``."""
    lanes: Sequence[LaneProgress]
    """Those that have made a call in this session."""
    latency: Percentiles | None
    """Of the answers of the last minutes; None where there were none."""
    troubles: Sequence[Trouble]
    """What went wrong, by kind, what was seen most at the beginning."""
    lookups_answered: int = 0
    """Of a verification, in this session."""
    lookups_left: int = 0
    """Of a verification that is under way."""
    why: str = ""
    """Why it is paused or being stopped, in a clause; ``""`` where there is no more to say."""

    @property
    def lookups_asked(self) -> int:
        """Of a verification; 0 where there is none."""
        return self.lookups_answered + self.lookups_left

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to settle or to look up."""
        return self.faces_done >= self.faces_total and not self.lookups_left

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1: of the faces, then of their verification."""
        if self.faces_done >= self.faces_total and self.lookups_asked:
            return self.lookups_answered / self.lookups_asked
        return self.faces_done / self.faces_total if self.faces_total else 1.0

    @property
    def busiest_lane(self) -> LaneProgress | None:
        """The one that uses most of what it is allowed; None before the first call."""
        return max(self.lanes, key=lambda lane: lane.quota_share, default=None)


def eta_text(progress: Progress, now: datetime) -> str:
    """When everything will be done, as a time of day and as a duration."""
    if progress.is_done:
        return "all settled"
    if progress.waiting == "paused":
        return "ETA not known while paused"
    if progress.eta_seconds is None:
        return "ETA not known"
    left = timedelta(seconds=round(progress.eta_seconds))
    return f"ETA {moment_text(now + left, now)} (in {duration_text(left)})"


def moment_text(moment: datetime, now: datetime) -> str:
    """``23:00`` today, ``Fri 2 Jan 00:30`` on another day, with the year in another year."""
    if moment.date() == now.date():
        return moment.strftime("%H:%M")
    year = f" {moment.year}" if moment.year != now.year else ""
    return f"{moment:%a} {moment.day} {moment:%b}{year} {moment:%H:%M}"


def duration_text(duration: timedelta) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 04 h``."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def facts(progress: Progress) -> dict[str, object]:
    """A line of the log; values that are nothing are left out."""
    told: dict[str, object] = {
        "faces_done": progress.faces_done,
        "faces_total": progress.faces_total,
        "rate_per_second": round(progress.rate_per_second, 1),
        "mean_rate_per_second": round(progress.mean_rate_per_second, 1),
        "calls_sent": progress.calls_sent,
        "calls_in_flight": progress.calls_in_flight,
        "waiting": progress.waiting,
    }
    if progress.why:
        told["why"] = progress.why
    if busiest := progress.busiest_lane:
        told["quota_share"] = round(busiest.quota_share, 2)
    if progress.lookups_asked:
        told["lookups_answered"] = progress.lookups_answered
        told["lookups_asked"] = progress.lookups_asked
    if progress.eta_seconds is not None and not progress.is_done:
        left = timedelta(seconds=round(progress.eta_seconds))
        told["eta"] = (datetime.now(UTC) + left).isoformat(timespec="seconds")
        told["eta_in"] = duration_text(left)
    told.update({outcome: count for outcome, count in progress.outcomes.items() if count})
    if progress.repeats:
        told["repeats"] = progress.repeats
    if progress.throttles:
        told["throttles"] = progress.throttles
    if progress.latency is not None:
        told["latency_ms"] = {
            name: round(seconds * 1000, 1) for name, seconds in progress.latency._asdict().items()
        }
    if len(progress.lanes) > 1:
        told["lanes"] = {
            lane.name: f"{lane.rate_per_second:.1f}/s" + (f", {lane.waiting}" * bool(lane.waiting))
            for lane in progress.lanes
        }
    if progress.troubles:
        told["trouble"] = {
            trouble.name: {
                "count": trouble.count,
                "last_seen": datetime.fromtimestamp(trouble.last_seen, UTC).isoformat(
                    timespec="seconds"
                ),
                "place": trouble.place,
            }
            for trouble in progress.troubles[:TROUBLES_IN_A_LINE]
        }
    return told
