"""One JSON record to entries: which keys it has, and what their values may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

from worker.model import Entry
from worker.sources.carried import CarriedNames
from worker.sources.jsonvalues import MAX_DEPTH, Integer, Real, Unwritable, is_encodable, json_text
from worker.sources.records import (
    Grammars,
    IdColumns,
    RecordHead,
    Unreadable,
    entries_of,
    refused_record,
    whole_person,
)
from worker.sources.roles import (
    ROLES,
    SEVERAL_FACES,
    SINGLE_FACE,
    WHOLE_KEY,
    WHOLE_VALUE,
    Role,
    RoleNames,
)

TOO_DEEP = f"the record is nested deeper than {MAX_DEPTH} levels"

# Records of one program share their keys; what varies is looked at anew each time.
_LAYOUTS_KEPT = 100
_KEYS_KEPT = 100
_ASKED = f'"{WHOLE_KEY}": "{WHOLE_VALUE}"'
_SURROGATE = "the record holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a record's keys say; every number is a 0-based position among its members."""

    person: int | None
    face: int | None
    job: int | None
    due: int | None
    """Also among ``carried``."""
    whole: int | None
    """Where the key is that asks for everything of the person, in place of ``face``."""
    columns: IdColumns
    carried: tuple[tuple[int, str], ...]
    """Position and encoded key of each other member."""
    reason: str
    column: str


class JsonRecords:
    """Judges the records of one source in order."""

    def __init__(self, columns: RoleNames, grammars: Grammars, carried_names: CarriedNames) -> None:
        self._columns = columns
        self.grammars = grammars
        self._carried_names = carried_names
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self.records = 0

    def entries(self, value: Any, line: int, *, foreign_constant: bool) -> list[Entry]:
        """The entries of one value that ``JsonScanner`` read.

        Raises ``InputRefused`` only where the source has too many distinct keys.
        """
        if foreign_constant:
            return self.refused(line, "the record holds NaN or Infinity, which JSON does not have")
        if type(value) is not tuple:
            return self.refused(line, "the record is not a JSON object")
        layout = self.layout(tuple([key for key, _ in value]), line)
        if layout is None:
            return self.refused(line, "the record has a repeated key")
        carried = ""
        if layout.carried:
            try:
                carried = _carried(value, layout)
            except Unwritable as error:
                return self.refused(line, str(error))
        label = "" if layout.job is None else _label(value[layout.job][1])
        due = "" if layout.due is None else _id_text(value[layout.due][1])
        head = RecordHead(self.records, line, label, carried, due)
        self.records += 1
        person = "" if layout.person is None else value[layout.person][1]
        reason, column = layout.reason, layout.column
        if not reason:
            reason, column = shape_defect(value, layout)
        if reason:
            return [refused_record(head, _id_text(person), reason, column)]
        if layout.face is None:
            return [whole_person(head, person, layout.columns, self.grammars)]
        named = value[layout.face][1]
        faces = [_face(item) for item in named] if type(named) is list else [_face(named)]
        return entries_of(head, person, faces, layout.columns, self.grammars)

    def refused(self, line: int, reason: str) -> list[Entry]:
        """The entry of a record of which nothing is known but its line."""
        head = RecordHead(self.records, line, "", "")
        self.records += 1
        return [refused_record(head, "", reason, "")]

    def layout(self, keys: tuple[str, ...], line: int) -> Layout | None:
        """How records with these keys are to be read; None where one is repeated.

        Raises ``InputRefused`` where the source has too many distinct keys.
        """
        layout = self._layouts.get(keys)
        if layout is None:
            if len(set(keys)) < len(keys):
                return None
            layout = self._lay_out(keys, line)
            if len(self._layouts) < _LAYOUTS_KEPT and len(keys) <= _KEYS_KEPT:
                self._layouts[keys] = layout
        return layout

    def _lay_out(self, keys: tuple[str, ...], line: int) -> Layout:
        found: dict[Role, str] = {}
        reason = column = ""
        whole = self._columns.has_whole_key(keys)
        for role in reversed(ROLES):
            present = self._columns.present(role, keys)
            if role == "face" and whole and present:
                reason, column = _both(*sorted(present), WHOLE_KEY), WHOLE_KEY
                whole = False
            elif len(present) > 1:
                reason, column = f"both {' and '.join(sorted(present))} are given", present[1]
            elif present:
                found[role] = present[0]
            elif role == "person" or (role == "face" and not whole):
                reason, column = self._missing(role), self._columns.accepted(role)[-1]
        roles = {
            *(name for role, name in found.items() if role != "due"),
            *((WHOLE_KEY,) if whole else ()),
        }
        others = [(i, key) for i, key in enumerate(keys) if key not in roles]
        # Keys with half a surrogate pair have no place in a report: their record is refused.
        self._carried_names.add([key for _, key in others if is_encodable(key)], line)
        return Layout(
            person=keys.index(found["person"]) if "person" in found else None,
            face=keys.index(found["face"]) if "face" in found else None,
            job=keys.index(found["job"]) if "job" in found else None,
            due=keys.index(found["due"]) if "due" in found else None,
            whole=keys.index(WHOLE_KEY) if whole else None,
            columns=IdColumns(*(found.get(role, "") for role in ("person", "face", "due"))),
            carried=tuple((i, encode_basestring(key)) for i, key in others),
            reason=reason,
            column=column,
        )

    def _missing(self, role: Role) -> str:
        flag = f"name another key with --columns {role}=KEY"
        if role == "person":
            return f"no key {self._columns.expected(role)}; {flag}"
        return (
            f"no key {self._columns.expected(role)}, and none never means all faces; {flag}, or ask "
            f"for everything of the person with {_ASKED}"
        )


def _both(*keys: str) -> str:
    return (
        f"both {' and '.join(keys)} are given; keep the face IDs, or {_ASKED} for everything of the "
        "person"
    )


def _carried(members: Sequence[tuple[str, Any]], layout: Layout) -> str:
    text = (
        "{" + ",".join([f"{key}:{json_text(members[i][1], 2)}" for i, key in layout.carried]) + "}"
    )
    if not is_encodable(text):
        raise Unwritable(_SURROGATE)
    return text


def _label(value: Any) -> str:
    """The job's label, or ``""`` for one that ``shape_defect`` will refuse."""
    return str(value) if isinstance(value, str) and is_encodable(value) else ""


def shape_defect(members: Sequence[tuple[str, Any]], layout: Layout) -> tuple[str, str]:
    """Why the values of a record with the right keys have the wrong types, and the key at fault."""
    assert layout.person is not None
    person_key, person = members[layout.person]
    if type(person) is not str:
        return f"person ID is {_type_name(person)}; it must be a text in quotes", person_key
    defect = _faces_defect(members, layout)
    if defect[0]:
        return defect
    if layout.job is not None:
        job_key, label = members[layout.job]
        if not isinstance(label, str) or type(label) is Real:
            return f"job ID is {_type_name(label)}; it must be a text in quotes", job_key
        if not is_encodable(label):
            return _SURROGATE, job_key
    if layout.due is not None:
        due_key, due = members[layout.due]
        if due is not None and type(due) is not str:
            return f"due time is {_type_name(due)}; it must be a text in quotes", due_key
    return "", ""


def _faces_defect(members: Sequence[tuple[str, Any]], layout: Layout) -> tuple[str, str]:
    if layout.face is None:
        assert layout.whole is not None
        asked = members[layout.whole][1]
        if type(asked) is str and asked == WHOLE_VALUE:
            return "", ""
        return _not_all(asked), WHOLE_KEY
    face_key, faces = members[layout.face]
    if face_key in SEVERAL_FACES and type(faces) is not list:
        return f"{face_key} is {_type_name(faces)}; it must be a list of face IDs", face_key
    if face_key in SINGLE_FACE and type(faces) is list:
        return f"{face_key} is a list; a list of face IDs belongs under faceIds", face_key
    if type(faces) is list and not faces:
        return "the list of face IDs is empty, which never means all faces", face_key
    return "", ""


def _not_all(value: Any) -> str:
    found = "another text" if type(value) is str else _type_name(value)
    return (
        f'{WHOLE_KEY} is {found}; it must be exactly "{WHOLE_VALUE}", which asks for everything of '
        "the person, and face IDs belong under faceIds"
    )


def _face(value: Any) -> str | Unreadable:
    if type(value) is str:
        return value
    if type(value) is Integer:
        return str(value)
    if type(value) is Real:
        return Unreadable(
            str(value),
            "face ID is a JSON number with a fraction or an exponent, so a program has rounded it: "
            "write it as a text in quotes",
        )
    return Unreadable("", f"face ID is {_type_name(value)}; it must be a text in quotes")


def _id_text(value: Any) -> str:
    return str(value) if isinstance(value, str) else ""


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Integer | Real):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
