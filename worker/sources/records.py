"""One record to entries: what both tables and JSON know once they have found the parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from worker.deadlines import Undated, due_us
from worker.model import Entry
from worker.sources.identifiers import IdGrammar, printable

new_entry = partial(tuple.__new__, Entry)
"""``Entry._make`` without its Python frame; there may be millions."""


class Grammars(NamedTuple):
    """What IDs look like in this run."""

    person: IdGrammar
    face: IdGrammar


class IdColumns(NamedTuple):
    """The columns or keys, for the entries to name where one is at fault."""

    person: str
    face: str
    due: str = ""


class Unreadable(NamedTuple):
    """What stands where a face ID belongs and is not even text."""

    text: str
    reason: str


class RecordHead(NamedTuple):
    """What the entries of a record share."""

    record: int
    line: int
    label: str
    carried: str
    due: str = ""
    """As the input writes it; ``""`` where it says nothing."""


def refused_record(head: RecordHead, person_id: str, reason: str, column: str) -> Entry:
    """The single entry of a record whose person or shape is unreadable."""
    return Entry(
        head.record, head.line, head.label, printable(person_id), "", reason, column, head.carried
    )


def whole_person(head: RecordHead, person_id: str, columns: IdColumns, grammars: Grammars) -> Entry:
    """The single entry of a record that asks for everything of its person."""
    defect = grammars.person.defect(person_id)
    if defect:
        return refused_record(head, person_id, defect, columns.person)
    try:
        due = due_us(head.due) if head.due else None
    except Undated as error:
        return refused_record(head, person_id, str(error), columns.due)
    return new_entry(
        (head.record, head.line, head.label, person_id, "", "", "", head.carried, True, due)
    )


def entries_of(
    head: RecordHead,
    person_id: str,
    faces: Sequence[str | Unreadable],
    columns: IdColumns,
    grammars: Grammars,
) -> list[Entry]:
    """Judge a record: an unreadable person or due time refuses it, an unreadable face itself."""
    record, line, label, carried, due_text = head
    defect = grammars.person.defect(person_id)
    if defect:
        return [refused_record(head, person_id, defect, columns.person)]
    try:
        due = due_us(due_text) if due_text else None
    except Undated as error:
        return [refused_record(head, person_id, str(error), columns.due)]
    entries: list[Entry] = []
    for face in faces:
        text, reason = (
            (face, grammars.face.defect(face))
            if isinstance(face, str)
            else (face.text, face.reason)
        )
        if reason:
            shown, column = printable(text), columns.face
        else:
            shown, column = text, ""
        entries.append(
            new_entry((record, line, label, person_id, shown, reason, column, carried, False, due))
        )
        carried = ""
    return entries
