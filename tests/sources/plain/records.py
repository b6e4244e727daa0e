"""What a table's row and a JSON object have in common, once their parts are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.sources.plain.ids import due_us, face_fault, person_fault, shown
from tests.sources.plain.words import Asked, Fault, Row


class Parts(NamedTuple):
    """One record, with the names of its columns or keys for those at fault."""

    line: int
    label: str
    person_id: str
    faces: Sequence[tuple[str, Fault]] | None
    """Texts, and why one is refused already; None where everything of the person is asked for."""
    due: str
    carried: object
    person_column: str
    face_column: str = ""
    due_column: str = ""


def refused_row(record: int, parts: Parts, fault: Fault, column: str) -> Row:
    """The only row of a record that is refused as a whole."""
    return Row(
        record, parts.line, parts.label, shown(parts.person_id), "", fault, column, parts.carried, False, None
    )  # fmt: skip


def rows_of(record: int, parts: Parts, asked: Asked) -> list[Row]:
    """An unreadable person or due time refuses the record, an unreadable face only itself."""
    fault = person_fault(parts.person_id, asked.person_id_pattern)
    if fault is not Fault.NONE:
        return [refused_row(record, parts, fault, parts.person_column)]
    due = due_us(parts.due)
    if isinstance(due, Fault):
        return [refused_row(record, parts, due, parts.due_column)]
    if parts.faces is None:
        return [
            Row(record, parts.line, parts.label, parts.person_id, "", Fault.NONE, "", parts.carried, True, due)
        ]  # fmt: skip
    rows: list[Row] = []
    for text, known in parts.faces:
        fault = known if known is not Fault.NONE else face_fault(text, asked.face_id_pattern)
        good = fault is Fault.NONE
        rows.append(
            Row(
                record,
                parts.line,
                parts.label,
                parts.person_id,
                text if good else shown(text),
                fault,
                "" if good else parts.face_column,
                None if rows else parts.carried,
                False,
                due,
            )
        )
    return rows
