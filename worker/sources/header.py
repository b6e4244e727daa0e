"""The header row of a table: which columns it names, or what to do about it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import InputRefused
from worker.model import REMEDY_COLUMN, RESULT_COLUMNS
from worker.sources.place import Place, shown
from worker.sources.roles import ROLES, SINGLE_FACE, Role, RoleNames, columns_flag

_SHOWN_NAMES = 12


@dataclass(frozen=True, slots=True)
class Header:
    """Where a row's cells belong; every number is a 0-based cell index."""

    names: tuple[str, ...]
    person: int
    face: int
    job: int | None
    several: bool
    """Whether a face cell may hold several IDs separated by ``;``."""
    carried: tuple[int, ...]
    report: bool = False
    """A report of ours: its text cells are neutralised for spreadsheets."""


def read_header(
    names: list[str], line: int, place: Place, columns: RoleNames, delimiter: str
) -> Header:
    """Understand a header row; raises ``InputRefused`` with the flag that would help."""
    if tuple(names[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS:
        return _report_header(names, line, place)
    _refuse_duplicates(names, line, place)
    found: dict[Role, str] = {}
    for role in ROLES:
        present = columns.present(role, names)
        if len(present) > 1:
            raise place.refused(
                f"the header has {' and '.join(map(shown, present))}, and only one can be the {role}",
                f"say which one is meant: --columns {role}={shlex.quote(present[0])}",
                line,
            )
        if present:
            found[role] = present[0]
        elif role in columns.columns:
            raise _unknown_target(names, line, place, columns, role)
    if "person" not in found or "face" not in found:
        raise _unknown_header(names, line, place, columns, delimiter)
    taken = {names.index(name) for name in found.values()}
    return Header(
        names=tuple(names),
        person=names.index(found["person"]),
        face=names.index(found["face"]),
        job=names.index(found["job"]) if "job" in found else None,
        several=found["face"] not in SINGLE_FACE,
        carried=tuple(i for i in range(len(names)) if i not in taken),
    )


def _report_header(names: list[str], line: int, place: Place) -> Header:
    _refuse_duplicates(names, line, place)
    ours = len(RESULT_COLUMNS)
    if names[ours : ours + 1] == [REMEDY_COLUMN]:
        ours += 1
    return Header(
        names=tuple(names),
        person=names.index("person_id"),
        face=names.index("face_id"),
        job=names.index("job_id"),
        several=False,
        carried=tuple(range(ours, len(names))),
        report=True,
    )


def _refuse_duplicates(names: Sequence[str], line: int, place: Place) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not repeated:
        return
    if repeated == [""]:
        raise place.refused(
            f"{names.count('')} columns of the header have no name",
            "name them, or delete the empty columns in the program that wrote the file",
            line,
        )
    raise place.refused(
        f"the header names {_listed(repeated)} more than once",
        "give every column its own name",
        line,
    )


def _unknown_target(
    names: Sequence[str], line: int, place: Place, columns: RoleNames, role: Role
) -> InputRefused:
    wanted = columns.columns[role]
    nearest = difflib.get_close_matches(wanted, names, 1, 0.5)
    remedy = (
        f"the nearest name is {shown(nearest[0])}: --columns {shlex.quote(f'{role}={nearest[0]}')}"
        if nearest
        else "name one of these columns with --columns"
    )
    return place.refused(
        f"no column is named {shown(wanted)}, which --columns gives for the {role}; "
        f"the header has {_found(names)}",
        remedy,
        line,
    )


def _unknown_header(
    names: Sequence[str], line: int, place: Place, columns: RoleNames, delimiter: str
) -> InputRefused:
    missing = [
        f"no column {columns.expected(role)} for the {role} IDs"
        for role in ("person", "face")
        if not columns.present(role, names)
    ]
    cause = f"the header has {' and '.join(missing)}; found {_found(names)}"
    if re.fullmatch(r"sep=.?", delimiter.join(names), re.IGNORECASE):
        return place.refused(
            "the first line is a spreadsheet's hint, not the header row",
            "delete that line; where it names another character than a comma, add --delimiter",
            line,
        )
    if names[0].startswith("\ufeff"):
        return place.refused(
            "the file begins with two byte order marks, so the second is part of the first name",
            "save it again as UTF-8, with one byte order mark or none",
            line,
        )
    if _is_data(names):
        return place.refused(
            f"{cause}: this looks like data, and the header row is missing",
            f'put a first line such as "person_id{delimiter}face_id" above it',
            line,
        )
    other = _better_delimiter(names, columns, delimiter)
    if other:
        parts = [part.strip('"') for part in delimiter.join(names).split(other)]
        known = columns.present("person", parts) and columns.present("face", parts)
        flags = _separated_by(other)
        return place.refused(
            f"{cause}; the columns seem to be separated by {shown(other)}",
            f"add {flags if known else f'{flags} {columns_flag(parts, columns)}'}",
            line,
        )
    return place.refused(cause, f"name the columns: add {columns_flag(names, columns)}", line)


def _is_data(names: Sequence[str]) -> bool:
    """Whether a first row holds IDs; they are then left out of the message."""
    return any(part.isdecimal() for name in names for part in re.split(r"[,;|\t]", name))


def _better_delimiter(names: Sequence[str], columns: RoleNames, delimiter: str) -> str:
    whole = delimiter.join(names)
    for other in (";", "\t", ",", "|"):
        parts = [part.strip('"') for part in whole.split(other)]
        if (
            other != delimiter
            and columns.present("person", parts)
            and columns.present("face", parts)
        ):
            return other
    if len(names) == 1:
        return next((d for d in (";", "\t", ",", "|") if d != delimiter and d in whole), "")
    return ""


def _separated_by(delimiter: str) -> str:
    return "--format tsv" if delimiter == "\t" else f"--delimiter {shlex.quote(delimiter)}"


def _found(names: Sequence[str]) -> str:
    return f"{len(names)} cells that are no names" if _is_data(names) else _listed(names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    listed = ", ".join(shown(name) for name in names[:_SHOWN_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed
