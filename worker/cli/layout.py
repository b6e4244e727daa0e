"""The progress display as lines of text, for a terminal of any width and height.

Wide terminals get a column of labels, narrow ones the bare facts, each of which says what it is.
Where the height does not suffice, what matters least goes first; a single line is left at the end.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len

from worker.cli.progress import LaneProgress, Progress, duration_text, eta_text
from worker.cli.troubles import Trouble
from worker.model import Outcome
from worker.report.cells import visible

WIDEST: Final = 120
"""Wider lines are harder to read, not easier."""
NARROWEST: Final = 20
_LABEL_COLUMNS: Final = 10
_ROOM_FOR_LABELS: Final = 60
_ROOM_FOR_MEANINGS: Final = 64
_ROOM_FOR_PLACES: Final = 8
_GOOD_ROOM_FOR_PLACES: Final = 20
_TROUBLES_SHOWN: Final = 4
_BRIEFEST_LINES: Final = 4
"""Below this height there is no room for a bar."""

_WAITING = {
    "quota": "the allowed rate",
    "throttled": "the service asks for a slower pace",
    "backoff": "the service does not answer",
    "paused": "on request",
    "hold": "the exclusion list or the ledger",
    "answers": "to calls in flight",
    "lookups": "of what is unclear, an interval after the last answer",
}

LABELS: Final = (
    "faces",
    "lookups",
    "outcomes",
    "rate",
    "calls",
    "answers",
    "lanes",
    "waiting",
    "trouble",
)


@dataclass(frozen=True, slots=True)
class _Signs:
    dot: str
    times: str
    cut: str
    full: str
    empty: str


_UNICODE = _Signs(" · ", "×", "…", "━", "─")
_ASCII = _Signs(" | ", "x", "~", "#", "-")


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that stay or go together."""

    weight: int
    """What weighs least goes first."""
    lines: list[str]


def rendered(
    progress: Progress,
    columns: int,
    now: datetime,
    *,
    rows: int = 40,
    ascii_only: bool = False,
) -> list[str]:
    """At most ``rows`` lines of at most ``columns`` characters; ``now`` is in the reader's zone."""
    columns = min(max(NARROWEST, columns), WIDEST)
    signs = _ASCII if ascii_only else _UNICODE
    if rows < _BRIEFEST_LINES:
        return _packed(_brief(progress, now), signs, columns)[: max(1, rows)]
    labelled = columns >= _ROOM_FOR_LABELS
    room = columns - _LABEL_COLUMNS if labelled else columns
    blocks = [_Block(9, [_bar(progress, columns, signs)])]
    for label, weight, pieces in _facts(progress, now, columns, labelled=labelled):
        lines = _packed(pieces, signs, room)
        if lines:
            blocks.append(_Block(weight, _labelled(label, lines) if labelled else lines))
    if troubles := _troubles(progress.troubles, now, room, signs):
        # Line by line: some trouble is better than none.
        lines = _labelled("trouble", troubles) if labelled else troubles
        blocks += [_Block(6, lines[:1]), *(_Block(2, [line]) for line in lines[1:])]
    while len(blocks) > 1 and sum(len(block.lines) for block in blocks) > rows:
        least = min(block.weight for block in blocks)
        blocks.remove([block for block in blocks if block.weight == least][-1])
    return [line for block in blocks for line in block.lines][:rows]


def _facts(
    progress: Progress, now: datetime, columns: int, *, labelled: bool
) -> Iterable[tuple[str, int, Sequence[str]]]:
    """Label, weight and pieces of each block but the bar and the trouble."""
    noun = "" if labelled else " faces"
    faces = f"{progress.faces_done:,} of {progress.faces_total:,}{noun}"
    yield "faces", 8, [faces, eta_text(progress, now)]
    if progress.lookups_asked:
        noun = "" if labelled else " lookups"
        yield (
            "lookups",
            8,
            [f"{progress.lookups_answered:,} of {progress.lookups_asked:,}{noun} answered"],
        )
    if not progress.is_done:
        waiting = _waiting(progress, with_meaning=columns >= _ROOM_FOR_MEANINGS)
        yield "waiting", 7, [waiting if labelled else f"waiting: {waiting}"]
    counts = ((outcome, progress.outcomes.get(outcome, 0)) for outcome in Outcome)
    yield "outcomes", 5, [f"{outcome} {count:,}" for outcome, count in counts if count]
    rate = [
        f"{progress.rate_per_second:.1f} calls/s",
        f"mean {progress.mean_rate_per_second:.1f}",
    ]
    if busiest := progress.busiest_lane:
        of_what = f"{busiest.rate_allowed_per_second:.1f}/s allowed"
        whose = f" for {busiest.name}" if len(progress.lanes) > 1 else ""
        rate.append(f"{busiest.quota_share * 100:.0f} % of the {of_what}{whose}")
    yield "rate", 4, rate
    noun = "" if labelled else " calls"
    running = duration_text(timedelta(seconds=progress.elapsed_seconds))
    calls = [
        f"{progress.calls_sent:,}{noun} in {running}",
        f"{progress.calls_in_flight:,} in flight",
    ]
    if progress.repeats:
        calls.append(f"{_plural(progress.repeats, 'repeat')}")
    if progress.throttles:
        calls.append(f"{_plural(progress.throttles, 'throttle')}")
    yield "calls", 3, calls
    if progress.latency is not None:
        names = zip(("p50", "p95", "p99"), progress.latency, strict=True)
        yield "answers", 1, [f"{name} {_seconds_text(seconds)}" for name, seconds in names]
    if len(progress.lanes) > 1:
        yield "lanes", 0, [_lane(lane, progress.waiting) for lane in progress.lanes]


def _brief(progress: Progress, now: datetime) -> list[str]:
    pieces = [
        _percent(progress),
        progress.waiting,
        eta_text(progress, now),
        f"{progress.rate_per_second:.1f}/s",
        f"{progress.faces_done:,} of {progress.faces_total:,}",
    ]
    return [piece for piece in pieces if piece]


def _bar(progress: Progress, columns: int, signs: _Signs) -> str:
    percent = f"{_percent(progress):>8}"
    room = columns - len(percent)
    filled = int(progress.share * room)
    return signs.full * filled + signs.empty * (room - filled) + percent


def _percent(progress: Progress) -> str:
    # Cut, so that 100 % means all of them.
    return f"{int(progress.share * 1000) / 10:.1f} %"


def _waiting(progress: Progress, *, with_meaning: bool) -> str:
    why = visible(progress.why)
    if not progress.waiting:
        # Said all the same, so that the lines below stay where they are.
        return why or "for nothing"
    meaning = why or (_WAITING.get(progress.waiting, "") if with_meaning else "")
    return progress.waiting + (f" ({meaning})" if meaning else "")


def _lane(lane: LaneProgress, told: str) -> str:
    """``told`` is what the whole run waits for, which needs no saying again."""
    held = f" {lane.waiting}" if lane.waiting not in ("", "quota", told) else ""
    return f"{lane.name} {lane.rate_per_second:.1f}/s{held}"


def _troubles(troubles: Sequence[Trouble], now: datetime, columns: int, signs: _Signs) -> list[str]:
    """A line for each kind, in columns where there is room for them."""
    shown = troubles[:_TROUBLES_SHOWN]
    names = max((len(x.name) for x in shown), default=0)
    counts = [f"{signs.times}{x.count:,}" for x in shown]
    widest = max(map(len, counts), default=0)
    lines = []
    for trouble, count in zip(shown, counts, strict=True):
        seen = datetime.fromtimestamp(trouble.last_seen, now.tzinfo)
        when = f"{seen:%H:%M:%S}" if seen.date() == now.date() else f"{seen.day} {seen:%b %H:%M}"
        head = f"{trouble.name:<{names}}  {count:>{widest}}  {when}"
        if len(head) + 2 + _GOOD_ROOM_FOR_PLACES > columns:
            head = f"{trouble.name} {count} {when}"
        lines.append(_with_tail(head, visible(trouble.place), columns, signs))
    if len(troubles) > len(shown):
        kinds = _plural(len(troubles) - len(shown), "more kind")
        lines.append(_cut(f"and {kinds} in the log", columns, signs))
    return lines


def _with_tail(head: str, place: str, columns: int, signs: _Signs) -> str:
    """A place is known by its end; what does not fit at all is left out."""
    if signs is _ASCII:
        place = place.encode("ascii", "backslashreplace").decode()
    room = columns - len(head) - 2
    if cell_len(place) <= room:
        return f"{head}  {place}"
    if room < _ROOM_FOR_PLACES:
        return _cut(head, columns, signs)
    while cell_len(place) > room - 1:
        place = place[1:]
    return f"{head}  {signs.cut}{place}"


def _packed(pieces: Iterable[str], signs: _Signs, columns: int) -> list[str]:
    """Pieces side by side where they fit; one that fits nowhere goes on in the next line."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(signs.dot) + len(piece) <= columns:
            lines[-1] += signs.dot + piece
        else:
            lines += textwrap.wrap(piece, columns)
    return lines


def _cut(text: str, columns: int, signs: _Signs) -> str:
    return text if len(text) <= columns else text[: columns - 1] + signs.cut


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    labels = [label, *[""] * (len(lines) - 1)]
    return [f"{word:<{_LABEL_COLUMNS}}{line}" for word, line in zip(labels, lines, strict=True)]


def _seconds_text(seconds: float) -> str:
    """``84 ms``, ``1.2 s``, ``45 s``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
