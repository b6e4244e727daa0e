"""The input's other columns, on their way into CSV cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from worker.model import REMEDY_COLUMN, RESULT_COLUMNS
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


def carried_cells(carried: str, names: Sequence[str]) -> tuple[str, ...]:
    """The values of ``names`` in one record's JSON object, ``""`` where it has none.

    Text is given as it is, anything else as the JSON text the record held.
    """
    values = _values(carried) if carried else {}
    return tuple([values.get(name, "") for name in names])


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
