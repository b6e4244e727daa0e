"""IDs that something damaged on their way, as far as a column as a whole shows it.

A single ID never tells. ``31842550077981744`` may be one that the service gave out, or what a
program with doubles made of ``31842550077981745``; a column of nothing but such numbers is no
chance. Looked for are rounded IDs (``worker.rounding``) and lost leading zeros: against the
exclusion list, against another source, and by widths (``worker.widths``).

Rounding is looked for in up to 256 distinct IDs of each few thousand rows, so memory is flat and
time hardly grows; widths and the exclusion list are compared in every row. What damage leaves as
it is, nobody can see: IDs below 2^53 in a double, IDs of at most 15 digits in a spreadsheet. Nor can
a few damaged rows be told among many good ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from worker.digits import DigitIds, ListedDigits
from worker.holds import Hold
from worker.model import Chunk, Stretch
from worker.rounding import ROUNDINGS, Verdict, long_ids
from worker.widths import Widths

WINDOW_IDS = 256
"""Distinct IDs that are judged together; enough for any certainty, and quickly judged."""

WINDOW_ROWS = 8192
"""Of so many rows the first and the last are judged: damage need not have come to a whole source."""

SAMPLE_IDS = 4096
"""Distinct IDs of a column whose first digits are counted."""

MAX_CHANCE = 1e-6
"""What is less likely is not taken for chance; all windows of a column share it."""

SHOWN_LINES = 3

REMEDY = (
    "export the IDs again as text: in a spreadsheet import the column as Text and never open the CSV"
    " itself, in SQL CAST(... AS VARCHAR), in pandas dtype=str, in JSON put IDs in quotes; if they"
    " are right as they are, add --accept-ids"
)

IdKind = Literal["face", "person"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What IDs show together; never an ID, only places."""

    cause: str
    """A sentence that begins with the place."""
    certain: bool
    """Whether it is reason enough to send nothing; otherwise a person has to judge."""


@dataclass(frozen=True, slots=True)
class _ReadColumn:
    """What is left of a column when its source was read."""

    title: str
    kind: IdKind
    widths: Widths


class _Column:
    """The IDs of digits of one kind in one source, while it is read."""

    def __init__(self, title: str, kind: IdKind) -> None:
        self._title = title
        self._kind: IdKind = kind
        self._widths = Widths()
        self._sample: set[str] = set()
        self._window: dict[str, int] = {}
        self._windows = 0
        self._rounded = False

    def look(self, ids: DigitIds) -> Iterator[Finding]:
        """Take note of more rows; what is certain by now."""
        self._widths.count(ids)
        half = WINDOW_IDS // 2
        for start in range(0, len(ids), WINDOW_ROWS):
            stop = min(start + WINDOW_ROWS, len(ids))
            first = min(start + half, stop)
            # Neighbours, not every so-many-th: that could fall in step with IDs that are counted up.
            self._window.update(ids.pairs(start, first))
            self._window.update(ids.pairs(max(first, stop - half), stop))
            if len(self._window) >= WINDOW_IDS:
                yield from self._judged()

    def end(self) -> Iterator[Finding]:
        """What the last rows show."""
        if self._window:
            yield from self._judged()

    def read(self) -> _ReadColumn:
        """What is left of it."""
        self._widths.sample.update((len(text), text[0]) for text in self._sample)
        return _ReadColumn(self._title, self._kind, self._widths)

    def _judged(self) -> Iterator[Finding]:
        self._windows += 1
        for text in self._window:
            if len(self._sample) == SAMPLE_IDS:
                break
            self._sample.add(text)
        # The sum over however many windows is MAX_CHANCE.
        limit = MAX_CHANCE / (self._windows * (self._windows + 1))
        ids = long_ids(self._window)
        for rounding in ROUNDINGS:
            if self._rounded:
                break  # One sentence is enough; 15 digits are also what JavaScript may write.
            verdict = rounding.verdict(ids)
            if verdict is not None and verdict.chance < limit:
                self._rounded = True
                yield self._said(verdict)
        self._window.clear()

    def _said(self, verdict: Verdict) -> Finding:
        return Finding(
            f"{self._title}: {len(verdict.lines):,} of {verdict.compared:,} long {self._kind} IDs"
            f" that were compared ({_places(self._title, verdict.lines)})"
            f" {verdict.rounding.sentence}; by chance it would be so {_odds(verdict.chance)}",
            certain=True,
        )


class IdWatch:
    """Looks at every chunk of every source, once, and says what the IDs show together.

    ``holds`` are the entries of the exclusion list.
    """

    def __init__(self, holds: frozenset[Hold]) -> None:
        self._title = ""
        self._columns: dict[IdKind, _Column] = {}
        self._read: list[_ReadColumn] = []
        self._holds = holds
        self._bare_holds = {_bare_hold(*hold): hold for hold in sorted(holds)}
        self._bare_persons = {person for person, _ in self._bare_holds}
        self._met: set[Hold] = set()
        self._missed: dict[Hold, str] = {}

    def look(self, source: str, chunk: Chunk) -> Iterator[Finding]:
        """Take note of a chunk of ``source``; what is certain by now."""
        if not self._columns:
            self._title = "standard input" if source == "-" else source
            self._columns = {
                "face": _Column(self._title, "face"),
                "person": _Column(self._title, "person"),
            }
        if isinstance(chunk, Stretch):
            yield from self._look_at_columns(chunk)
            return
        good = [entry for entry in chunk if not entry.reason]
        lines = [entry.line for entry in good]
        persons = [entry.person_id for entry in good]
        faces = [entry.face_id for entry in good]
        yield from self._columns["face"].look(ListedDigits.among(faces, lines))
        yield from self._columns["person"].look(ListedDigits.among(persons, lines))
        if self._holds:
            self._compare_with_holds(persons, faces, lines)

    def _look_at_columns(self, stretch: Stretch) -> Iterator[Finding]:
        from worker.digit_columns import (  # noqa: PLC0415 (Arrow; small sources need none)
            ColumnDigits,
            rows_but_for_zeros,
        )

        persons, faces, lines = stretch.person_ids, stretch.face_ids, stretch.lines
        yield from self._columns["face"].look(ColumnDigits.among(faces, lines))
        yield from self._columns["person"].look(ColumnDigits.among(persons, lines))
        if self._holds:
            rows = rows_but_for_zeros(persons, self._bare_persons)
            self._compare_with_holds(
                [persons[row] for row in rows],
                [faces[row] for row in rows],
                [lines[row] for row in rows],
            )

    def end(self) -> Iterator[Finding]:
        """What there is to say of a source that was read to its end."""
        for column in self._columns.values():
            yield from column.end()
            self._read.append(column.read())
        self._columns = {}

    def conclude(self) -> Iterator[Finding]:
        """What all sources together show, once all of them were read."""
        for hold, place in self._missed.items():
            if hold not in self._met:
                yield Finding(
                    f"{place}: the exclusion list has this {'face' if hold[1] else 'person'} with"
                    " more or fewer zeros in front, and what it has is nowhere in the input: one of"
                    " the two has lost zeros, and what is held would be deleted",
                    certain=True,
                )
        for column in self._read:
            if column.widths.rows:
                yield from self._zeros_lost(column)

    def _compare_with_holds(
        self, persons: Sequence[str], faces: Sequence[str], lines: Sequence[int]
    ) -> None:
        """Note rows that a hold would concern if leading zeros did not count."""
        for person, face, line in zip(persons, faces, lines, strict=True):
            if _bare(person) not in self._bare_persons:
                continue
            for text in {"", face}:
                hold = self._bare_holds.get(_bare_hold(person, text))
                if (person, text) in self._holds:
                    self._met.add((person, text))
                elif hold is not None:
                    self._missed.setdefault(hold, f"{self._title}:{line}")

    def _zeros_lost(self, column: _ReadColumn) -> Iterator[Finding]:
        widths, width = column.widths, column.widths.width
        found = f"{column.title}: {column.kind} IDs have {width} digits"
        shorter = (
            f"{widths.shorter:,} are shorter ({_places(column.title, widths.lines_of_shorter)})"
        )
        if widths.is_padded and widths.shorter:
            yield Finding(
                f"{found}, with zeros in front where they need them, but {shorter}: these may have"
                " lost their zeros",
                certain=False,
            )
        elif widths.may_have_lost_zeros:
            for other in self._read:
                if other.kind == column.kind and other.widths.rows and other.widths.is_padded:
                    chance = widths.chance_of_no_zeros(other.widths)
                    if other.widths.width == width and chance < MAX_CHANCE:
                        yield Finding(
                            f"{found}, {shorter}, and none begins with 0; in {other.title} they are"
                            f" filled up with zeros to {width} digits: here the zeros were lost; by"
                            f" chance it would be so {_odds(chance)}",
                            certain=True,
                        )
                        return
            if widths.looks_stripped:
                yield Finding(
                    f"{found}, {shorter}, and none begins with 0: IDs of exactly {width} digits look"
                    " like this after something took their leading zeros away; make sure that they"
                    " never had any",
                    certain=False,
                )


def _bare(text: str) -> str:
    """An ID of digits without its leading zeros; any other text as it is."""
    return (text.lstrip("0") or "0") if text.isdecimal() else text


def _bare_hold(person: str, face: str) -> Hold:
    return _bare(person), _bare(face)


def _places(title: str, lines: Sequence[int]) -> str:
    return ", ".join(f"{title}:{line}" for line in sorted(set(lines))[:SHOWN_LINES])


def _odds(chance: float) -> str:
    zeros = math.floor(-math.log10(chance)) if chance > 0 else 300
    return f"less than once in 10^{zeros} times"
