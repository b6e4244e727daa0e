"""The input's other columns, on their way into the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from worker.model import REMEDY_COLUMN, RESULT_COLUMNS
from worker.report.batches import Batch
from worker.report.cells import harmless

_TAKEN = frozenset(
    # Besides our own names those that a source would take for an ID column: failures.csv is input.
    {*RESULT_COLUMNS, REMEDY_COLUMN, "personId", "faceId", "face_ids", "faceIds", "jobId"}
)

# JSON may hold half of a surrogate pair as an escape, which is no character: a cell spells it out.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)", re.DOTALL
)
_TEXTS = msgspec.json.Decoder(dict[str, str])
_MANY_TEXTS = msgspec.json.Decoder(list[dict[str, str]])
_RAWS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)


def carried_headers(names: Iterable[str]) -> tuple[str, ...]:
    """Column names that collide neither with ours nor with each other, made harmless."""
    headers: list[str] = []
    used = set(_TAKEN)
    for name in names:
        header = harmless(name)
        while header in used:
            header = f"input_{header}"
        used.add(header)
        headers.append(header)
    return tuple(headers)


class CarriedColumns:
    """What records carry under ``names``, in a column for each of them.

    Text is given as it is, anything else as the JSON text the record held; half of a surrogate pair
    is spelled out.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(dict.fromkeys(names))
        self.headers = carried_headers(self._names)
        """What the columns are called in every table."""
        self._open: dict[str, str] = {}

    def of(self, batch: Batch, starts: Sequence[int]) -> list[list[str | None]]:
        """A value for each line of ``batch``, None where its record has none of that name.

        Its records begin at ``starts``; the first lines may be of one that began in the batch before.
        """
        if not self._names:
            return []
        records = _decoded([batch.carried[start] or "{}" for start in starts])
        lines = records
        if len(records) < len(batch.carried):
            ends = [*starts, len(batch.carried)]
            lines = [self._open] * ends[0]
            for record, start, end in zip(records, starts, ends[1:], strict=True):
                lines += [record] * (end - start)
        self._open = lines[-1]
        return [[line.get(name) for line in lines] for name in self._names]


def _decoded(carried: Sequence[str]) -> list[dict[str, str]]:
    try:
        return _MANY_TEXTS.decode("[" + ",".join(carried) + "]")
    except msgspec.MsgspecError:
        return [_values(one) for one in carried]


def _values(carried: str) -> dict[str, str]:
    try:
        return _TEXTS.decode(carried)
    except msgspec.MsgspecError:
        spelled = _ESCAPE.sub(_spell_out_half_pair, carried)
        return {name: _value(bytes(raw)) for name, raw in _RAWS.decode(spelled).items()}


def _value(raw: bytes) -> str:
    return _TEXT.decode(raw) if raw.startswith(b'"') else raw.decode()


def _spell_out_half_pair(escape: re.Match[str]) -> str:
    return "\\" + escape[0] if escape["half"] else escape[0]
