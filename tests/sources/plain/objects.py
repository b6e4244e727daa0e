"""JSON Lines and arrays: the standard module, with every number and every pair kept as written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.sources.plain.records import Parts, refused_row, rows_of
from tests.sources.plain.tables import NAMES, SINGLE
from tests.sources.plain.words import Asked, Fault, Kind, Read, Refusal, Refused, Row


class Number(NamedTuple):
    text: str
    integer: bool


class Object(NamedTuple):
    pairs: list[tuple[str, Any]]


class Foreign(NamedTuple):
    """NaN or Infinity, which JSON does not have."""

    name: str


DECODER = json.JSONDecoder(
    parse_int=lambda text: Number(text, integer=True),
    parse_float=lambda text: Number(text, integer=False),
    parse_constant=Foreign,
    object_pairs_hook=Object,
)
_DEEPEST = 100
_BLANK = " \t\r\n"


class _Records:
    """The rows of one source so far."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._names: set[str] = set()
        self.rows: list[Row] = []
        self.count = 0

    def add(self, value: Any, line: int) -> None:
        self.rows += self._judged(value, line)
        self.count += 1

    def add_too_deep(self, line: int) -> None:
        self.rows += self._unknown(line, Fault.TOO_DEEP)
        self.count += 1

    def _unknown(self, line: int, fault: Fault) -> list[Row]:
        return [refused_row(self.count, Parts(line, "", "", [], "", None, ""), fault, "")]

    def _judged(self, value: Any, line: int) -> list[Row]:
        if _holds_foreign(value):
            return self._unknown(line, Fault.NOT_A_NUMBER)
        if not isinstance(value, Object):
            return self._unknown(line, Fault.NOT_AN_OBJECT)
        keys = [key for key, _ in value.pairs]
        values = dict(value.pairs)
        if len(values) < len(keys):
            return self._unknown(line, Fault.REPEATED_KEY)
        found, fault, column = self._roles(keys)
        taken = [name for role, name in found.items() if role != "due"]
        others = [(key, values[key]) for key in keys if key not in taken]
        self._note_names([key for key, _ in others], line)
        for _, other in others:
            if inner := _inner_fault(other, 2):
                return self._unknown(line, inner)
        if _has_half_a_pair(Object(others)):
            return self._unknown(line, Fault.HALF_A_PAIR)

        def text(role: str) -> str:
            return _text_of(values[found[role]]) if role in found else ""

        label = text("job")
        parts = Parts(
            line=line,
            label="" if _is_half(label) else label,
            person_id=text("person"),
            faces=None,
            due=text("due"),
            carried=written(Object(others)) if others else None,
            person_column=found.get("person", ""),
            face_column=found.get("face", ""),
            due_column=found.get("due", ""),
        )
        if fault is Fault.NONE:
            fault, column = _shape_fault(values, found)
        if fault is not Fault.NONE:
            return [refused_row(self.count, parts, fault, column)]
        if "face" in found:
            given = values[found["face"]]
            faces = given if isinstance(given, list) else [given]
            parts = parts._replace(faces=[_face(face) for face in faces])
        return rows_of(self.count, parts, self._asked)

    def _roles(self, keys: Sequence[str]) -> tuple[dict[str, str], Fault, str]:
        """The key of each role that has one; of what is wrong with them the gravest."""
        found: dict[str, str] = {}
        fault, column = Fault.NONE, ""
        asks_for_all = "faces" in keys and "faces" not in self._asked.columns.values()
        for role in ("due", "job", "face", "person"):
            mapped = self._asked.columns.get(role)
            known = NAMES[role] if mapped is None else (mapped,)
            present = [key for key in keys if key in known]
            if role == "face" and asks_for_all:
                if present:
                    fault, column = Fault.BOTH, "faces"
                else:
                    found["all"] = "faces"
            elif len(present) > 1:
                fault, column = Fault.BOTH, present[1]
            elif present:
                found[role] = present[0]
            elif role in ("person", "face"):
                fault, column = Fault.NO_KEY, known[-1]
        return found, fault, column

    def _note_names(self, names: Sequence[str], line: int) -> None:
        for name in names:
            if not _is_half(name):
                self._names.add(name)
                if len(self._names) > 2000 or len(name) > 1000:
                    raise Refused(Refusal(Kind.TOO_MANY_NAMES, line))


def _shape_fault(values: dict[str, Any], found: dict[str, str]) -> tuple[Fault, str]:
    """Which value has a type that its key does not allow."""
    if not isinstance(values[found["person"]], str):
        return Fault.NOT_A_TEXT, found["person"]
    if "all" in found:
        if values["faces"] != "all":
            return Fault.NOT_ALL, "faces"
    else:
        key = found["face"]
        faces = values[key]
        if key in ("face_ids", "faceIds") and not isinstance(faces, list):
            return Fault.NOT_A_LIST, key
        if key in SINGLE and isinstance(faces, list):
            return Fault.LIST_ELSEWHERE, key
        if faces == []:
            return Fault.NO_FACES, key
    if "job" in found:
        label = values[found["job"]]
        if not isinstance(label, str) and not (isinstance(label, Number) and label.integer):
            return Fault.NOT_A_TEXT, found["job"]
        if isinstance(label, str) and _is_half(label):
            return Fault.HALF_A_PAIR, found["job"]
    if "due" in found:
        due = values[found["due"]]
        if due is not None and not isinstance(due, str):
            return Fault.NOT_A_TEXT, found["due"]
    return Fault.NONE, ""


def _face(value: Any) -> tuple[str, Fault]:
    if isinstance(value, str):
        return value, Fault.NONE
    if isinstance(value, Number):
        return value.text, Fault.NONE if value.integer else Fault.FRACTION
    return "", Fault.NOT_A_TEXT


def _text_of(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else ""


def _is_half(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _inner(value: Any) -> list[Any]:
    if isinstance(value, Object):
        return [inner for _, inner in value.pairs]
    return value if isinstance(value, list) else []


def _holds_foreign(value: Any) -> bool:
    return isinstance(value, Foreign) or any(map(_holds_foreign, _inner(value)))


def _inner_fault(value: Any, level: int) -> Fault | None:
    """The first that is found in the order of the text."""
    if isinstance(value, Object | list):
        if level > _DEEPEST:
            return Fault.TOO_DEEP
        if isinstance(value, Object) and len(dict(value.pairs)) < len(value.pairs):
            return Fault.REPEATED_KEY
    for inner in _inner(value):
        if fault := _inner_fault(inner, level + 1):
            return fault
    return None


def _has_half_a_pair(value: Any) -> bool:
    if isinstance(value, str):
        return _is_half(value)
    keys = [key for key, _ in value.pairs] if isinstance(value, Object) else []
    return any(map(_is_half, keys)) or any(map(_has_half_a_pair, _inner(value)))


def written(value: Any) -> Any:
    """A value in which 1.0, 1, "1" and true are different, and pairs keep their order."""
    if isinstance(value, Object):
        return [(key, written(inner)) for key, inner in value.pairs]
    if isinstance(value, list):
        return ["list", *map(written, value)]
    if isinstance(value, str):
        return value
    return ("number", value.text) if isinstance(value, Number) else ("constant", str(value))


def read_lines(text: str, asked: Asked, *, whole: bool) -> Read:
    """One object on each line."""
    records = _Records(asked)
    blank_lines = 0
    *lines, last = text.split("\n")
    ended = len(lines)
    if last and whole:
        lines.append(last)
    for number, line in enumerate(lines, 1):
        content = line.removesuffix("\r")
        if "\r" in content or (number > ended and content != line):
            raise Refused(Refusal(Kind.CARRIAGE_RETURN, number))
        content = content.strip(" \t")
        if not content:
            blank_lines += 1
            continue
        try:
            records.add(DECODER.decode(content), number)
        except RecursionError:
            records.add_too_deep(number)
        except (json.JSONDecodeError, Refused) as error:
            refusals = [Refusal(Kind.NOT_JSON, number)]
            if isinstance(error, Refused):
                refusals = [*error.refusals]
            # Carriage returns are looked for in many lines at once.
            later = [at for at, other in enumerate(lines, 1) if "\r" in other.removesuffix("\r")]
            refusals += [Refusal(Kind.CARRIAGE_RETURN, at) for at in later[:1]]
            raise Refused(*refusals) from None
    if whole and not records.count:
        raise Refused(Refusal(Kind.NO_JOBS))
    return Read(records.rows, records.count, blank_lines)


def read_array(text: str, asked: Asked, *, whole: bool) -> Read:
    """An array of objects; where one of them ends decides what all that follow mean."""
    lone = _lone_carriage_return(text, whole=whole)
    also = (
        [Refusal(Kind.CARRIAGE_RETURN, 1 + text.count("\n", 0, lone))] if lone is not None else []
    )
    if lone is not None:
        text, whole = text[:lone], False
    try:
        read = _read_array(text, asked, whole=whole)
    except Refused as refused:
        raise Refused(*also, *refused.refusals) from None
    if also:
        raise Refused(*also)
    return read


def _lone_carriage_return(text: str, *, whole: bool) -> int | None:
    for at, char in enumerate(text):
        if char == "\r" and text[at + 1 : at + 2] != "\n" and (whole or at + 1 < len(text)):
            return at
    return None


def _read_array(text: str, asked: Asked, *, whole: bool) -> Read:
    records = _Records(asked)
    line, at = 1, 0

    def skip_blanks() -> str:
        nonlocal line, at
        while at < len(text) and text[at] in _BLANK:
            line += text[at] == "\n"
            at += 1
        return text[at : at + 1]

    def broken(error_at: int) -> Refused:
        refusals = [
            Refusal(Kind.BROKEN_ARRAY, line),
            Refusal(Kind.BROKEN_ARRAY, line + text.count("\n", at, error_at)),
        ]
        if len(text) - at > asked.max_line_bytes:
            refusals.append(Refusal(Kind.LONG_LINE, line))
        return Refused(*refusals)

    if skip_blanks() != "[":
        if not text[at:]:
            if not whole:
                return Read([], 0, 0)
            raise Refused(Refusal(Kind.NO_JOBS))
        raise Refused(Refusal(Kind.NOT_AN_ARRAY, line))
    at += 1
    sign = skip_blanks()
    while sign != "]":
        try:
            value, end = DECODER.raw_decode(text, at)
        except RecursionError:
            raise Refused(Refusal(Kind.DEEP_ARRAY, line)) from None
        except json.JSONDecodeError as error:
            raise broken(error.pos) from None
        if end - at > asked.max_line_bytes:
            raise Refused(Refusal(Kind.LONG_LINE, line))
        records.add(value, line)
        line += text.count("\n", at, end)
        at = end
        sign = skip_blanks()
        if sign == ",":
            at += 1
            skip_blanks()
        elif sign != "]":
            raise broken(at)
    at += 1
    if skip_blanks():
        raise broken(at)
    if whole and not records.count:
        raise Refused(Refusal(Kind.NO_JOBS))
    return Read(records.rows, records.count, 0)
