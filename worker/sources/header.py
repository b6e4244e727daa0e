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
from worker.sources.roles import ROLES, SINGLE_FACE, Role, RoleNames, columns_flag, guess

_SHOWN_NAMES = 12


@dataclass(frozen=True, slots=True)
class Header:
    """Where a row's cells belong; every number is a 0-based cell index."""

    names: tuple[str, ...]
    person: int
    face: int | None
    """None where each row asks for everything of its person."""
    job: int | None
    due: int | None
    """Also among ``carried``."""
    several: bool
    """Whether a face cell may hold several IDs separated by ``;``."""
    carried: tuple[int, ...]
    report: bool = False
    """A report of ours: its text cells are neutralised for spreadsheets."""


def read_header(
    names: list[str],
    line: int,
    place: Place,
    columns: RoleNames,
    delimiter: str,
    *,
    whole_persons: bool = False,
) -> Header:
    """Understand a header row; raises ``InputRefused`` with the flag that would help.

    ``delimiter`` is ``""`` where names cannot run into one another, as in Parquet.
    ``whole_persons`` says that a table without a face column was announced; one that has such a
    column, or what may be one, contradicts it.
    """
    if line == 1 and names[0].startswith("\ufeff"):
        raise place.refused(
            "the file begins with two byte order marks, so the second is part of the first name",
            "save it again as UTF-8, with one byte order mark or none",
            line,
        )
    is_report = tuple(names[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS
    if whole_persons:
        _refuse_faces(names, line, place, RoleNames({}) if is_report else columns)
    if is_report:
        return _report_header(names, line, place, columns)
    _refuse_duplicates(names, line, place)
    wanted: tuple[Role, ...] = ("person",) if whole_persons else ("person", "face")
    found: dict[Role, str] = {}
    for role in ROLES:
        present = columns.present(role, names)
        _refuse_several(role, present, line, place)
        if present:
            found[role] = present[0]
        elif role in columns.columns:
            raise _unknown_target(names, line, place, columns=columns, wanted=wanted, role=role)
    if not found.keys() >= set(wanted):
        raise _unknown_header(
            names, line, place, columns=columns, delimiter=delimiter, wanted=wanted
        )
    taken = {names.index(name) for role, name in found.items() if role != "due"}
    return Header(
        names=tuple(names),
        person=names.index(found["person"]),
        face=names.index(found["face"]) if "face" in found else None,
        job=names.index(found["job"]) if "job" in found else None,
        due=names.index(found["due"]) if "due" in found else None,
        several="face" in found and found["face"] not in SINGLE_FACE,
        carried=tuple(i for i in range(len(names)) if i not in taken),
    )


def _report_header(names: list[str], line: int, place: Place, columns: RoleNames) -> Header:
    _refuse_duplicates(names, line, place)
    ours = len(RESULT_COLUMNS)
    if names[ours : ours + 1] == [REMEDY_COLUMN]:
        ours += 1
    due = columns.present("due", names[ours:])
    _refuse_several("due", due, line, place)
    return Header(
        names=tuple(names),
        person=names.index("person_id"),
        face=names.index("face_id"),
        job=names.index("job_id"),
        due=names.index(due[0], ours) if due else None,
        several=False,
        carried=tuple(range(ours, len(names))),
        report=True,
    )


def _refuse_several(role: Role, present: Sequence[str], line: int, place: Place) -> None:
    if len(present) > 1:
        raise place.refused(
            f"the header has {' and '.join(map(shown, present))}, and only one can be the {role}",
            f"say which one is meant: --columns {role}={shlex.quote(present[0])}",
            line,
        )


def _refuse_faces(names: Sequence[str], line: int, place: Place, columns: RoleNames) -> None:
    """Refuse a table that names faces, or may do so, where everything of each person is asked for."""
    present = columns.present("face", names)
    if present:
        raise place.refused(
            f"the header has {' and '.join(map(shown, present))}, and --whole-persons asks for "
            "everything of each person, whatever is written there",
            "leave out --whole-persons to delete only the faces that are named, or delete the column",
            line,
        )
    doubtful = columns.face_like(names)
    if doubtful:
        raise place.refused(
            f"the column {shown(doubtful[0])} may name faces, and --whole-persons asks for "
            "everything of each person",
            f"if it holds face IDs, give --columns {shlex.quote(f'face={doubtful[0]}')} in the place "
            "of --whole-persons; if it does not, rename or delete the column",
            line,
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
    names: Sequence[str],
    line: int,
    place: Place,
    *,
    columns: RoleNames,
    wanted: Sequence[Role],
    role: Role,
) -> InputRefused:
    target = columns.columns[role]
    hidden = _may_be_ids(names, wanted)
    nearest = [] if hidden else difflib.get_close_matches(target, names, 1, 0.5)
    remedy = (
        f"the nearest name is {shown(nearest[0])}: --columns {shlex.quote(f'{role}={nearest[0]}')}"
        if nearest
        else "name one of these columns with --columns"
    )
    return place.refused(
        f"no column is named {shown(target)}, which --columns gives for the {role}; "
        f"the header has {_found(names, hidden=hidden)}",
        remedy,
        line,
    )


def _unknown_header(
    names: Sequence[str],
    line: int,
    place: Place,
    *,
    columns: RoleNames,
    delimiter: str,
    wanted: Sequence[Role],
) -> InputRefused:
    missing = [role for role in wanted if not columns.present(role, names)]
    no_columns = [f"no column {columns.expected(role)} for the {role} IDs" for role in missing]
    hidden = "person" in missing and _may_be_ids(names, wanted)
    cause = f"the header has {' and '.join(no_columns)}; found {_found(names, hidden=hidden)}"
    if not delimiter:
        return _unknown_columns(names, line, place, columns=columns, wanted=wanted, cause=cause)
    if re.fullmatch(r"sep=.?", delimiter.join(names), re.IGNORECASE):
        return place.refused(
            "the first line is a spreadsheet's hint, not the header row",
            "delete that line; where it names another character than a comma, add --delimiter",
            line,
        )
    if hidden or _is_data(names):
        first_line = delimiter.join(f"{role}_id" for role in wanted)
        return place.refused(
            f"{cause}: this looks like data, and the header row is missing",
            f'put a first line such as "{first_line}" above it; where it is a header row all the '
            f"same, name the columns: {columns_flag((), columns, wanted)}",
            line,
        )
    other = _better_delimiter(names, columns, delimiter, wanted)
    if other:
        parts = [part.strip('"') for part in delimiter.join(names).split(other)]
        known = all(columns.present(role, parts) for role in wanted)
        flags = _separated_by(other)
        return place.refused(
            f"{cause}; the columns seem to be separated by {shown(other)}",
            f"add {flags if known else f'{flags} {columns_flag(parts, columns, wanted)}'}",
            line,
        )
    return _unknown_columns(names, line, place, columns=columns, wanted=wanted, cause=cause)


def _unknown_columns(
    names: Sequence[str],
    line: int,
    place: Place,
    *,
    columns: RoleNames,
    wanted: Sequence[Role],
    cause: str,
) -> InputRefused:
    remedy = f"name the columns: add {columns_flag(names, columns, wanted)}"
    missing = [role for role in wanted if not columns.present(role, names)]
    if "face" in missing and not columns.face_like(names):
        remedy += "; only if everything of each person is to be deleted, add --whole-persons"
    return place.refused(cause, remedy, line)


def _is_data(names: Sequence[str]) -> bool:
    """Whether a first row holds face IDs; they are then left out of the message."""
    return any(part.isdecimal() for name in names for part in re.split(r"[,;|\t]", name))


def _may_be_ids(names: Sequence[str], wanted: Sequence[Role]) -> bool:
    """Whether a first row without a person column may hold a person's ID, which is never shown.

    A list of persons has no face ID that would give its missing header away: there a cell is a
    name only if it sounds like one and has no digit.
    """
    persons_only = "face" not in wanted
    if persons_only and not guess("person", names):
        return True
    digits = re.compile("[0-9]" if persons_only else "[0-9]{3}")
    return _is_data(names) or any(map(digits.search, names))


def _better_delimiter(
    names: Sequence[str], columns: RoleNames, delimiter: str, wanted: Sequence[Role]
) -> str:
    whole = delimiter.join(names)
    for other in (";", "\t", ",", "|"):
        parts = [part.strip('"') for part in whole.split(other)]
        if other != delimiter and all(columns.present(role, parts) for role in wanted):
            return other
    if len(names) == 1:
        return next((d for d in (";", "\t", ",", "|") if d != delimiter and d in whole), "")
    return ""


def _separated_by(delimiter: str) -> str:
    return "--format tsv" if delimiter == "\t" else f"--delimiter {shlex.quote(delimiter)}"


def _found(names: Sequence[str], *, hidden: bool) -> str:
    if hidden or _is_data(names):
        return (
            "1 cell that may be an ID" if len(names) == 1 else f"{len(names)} cells that may be IDs"
        )
    return _listed(names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    listed = ", ".join(shown(name) for name in names[:_SHOWN_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed
