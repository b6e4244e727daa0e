"""Tables: RFC 4180, character by character."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.sources.plain.ids import face_fault, person_fault
from tests.sources.plain.records import Parts, rows_of
from tests.sources.plain.words import Asked, Fault, Kind, Read, Refusal, Refused, Row
from worker.model import REMEDY_COLUMN, RESULT_COLUMNS

SINGLE = ("face_id", "faceId")
NAMES: Mapping[str, Sequence[str]] = {
    "person": ("person_id", "personId"),
    "face": (*SINGLE, "face_ids", "faceIds"),
    "job": ("job_id", "jobId"),
    "due": ("due_at", "dueAt"),
}
_FACE_LIKE = re.compile(r"(face|img|image|photo|picture|pic)s?(ids?)?|fids?")


class _Header(NamedTuple):
    names: list[str]
    person: int
    face: int | None
    job: int | None
    due: int | None
    ours: bool
    """A report of ours, whose text cells a spreadsheet cannot run."""
    carried: list[int]


def read_table(text: str, asked: Asked, *, whole: bool) -> Read:
    """Every row; ``whole`` is false where ``text`` ends early and its last row is not known."""
    if not text.startswith("\ufeff"):
        return _read_table(text, asked, whole=whole)
    two = Refusal(Kind.TWO_MARKS, 1)
    try:
        _read_table(text, asked, whole=whole)
    except Refused as refused:
        raise Refused(two, *refused.refusals) from None
    raise Refused(two)


def _read_table(text: str, asked: Asked, *, whole: bool) -> Read:
    delimiter = asked.delimiter or ("\t" if asked.format == "tsv" else ",")
    delimiter = "\t" if delimiter == "\\t" else delimiter
    header: _Header | None = None
    ragged: Refusal | None = None
    rows: list[Row] = []
    records = blank_lines = 0
    cutting = _records(text, delimiter, asked.max_line_bytes, whole=whole)
    while True:
        try:
            line, cells = next(cutting)
            if header is not None:
                _refuse_hidden_rows(cells, line, header, asked, delimiter)
        except StopIteration:
            break
        except Refused as refused:
            # The width of rows is looked at when their cells are known.
            raise Refused(*refused.refusals, *([ragged] if ragged else [])) from None
        if not any(cells):
            blank_lines += 1
        elif header is None:
            header = _header(cells, line, asked)
        elif len(cells) != len(header.names):
            short = len(cells) < len(header.names)
            ragged = ragged or Refusal(Kind.SHORT_ROW if short else Kind.LONG_ROW, line)
        else:
            rows += rows_of(records, _parts(cells, line, header), asked)
            records += 1
    if ragged:
        raise Refused(ragged)
    if whole and not records:
        raise Refused(Refusal(Kind.NO_JOBS))
    return Read(rows, records, blank_lines)


def _records(
    text: str, delimiter: str, max_bytes: int, *, whole: bool
) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record begins, and its cells."""
    line = begun = 1
    begun_at = 0
    cells: list[str] = []
    cell: list[str] = []
    state = "new cell"

    def check_size(end: int, *others: Refusal) -> None:
        """A record of several lines is as long as one line may be, at most."""
        if end - begun_at > max_bytes // 4 and len(text[begun_at:end].encode()) > max_bytes:
            raise Refused(Refusal(Kind.LONG_QUOTE, begun), *others)

    for at, char in enumerate(text):
        if state == "carriage return" and char != "\n":
            raise Refused(Refusal(Kind.CARRIAGE_RETURN, line))
        if state == "in quotes":
            if char == '"':
                state = "quote in quotes"
            else:
                cell.append(char)
        elif char == '"':
            if state == "new cell":
                state = "in quotes"
            elif state == "quote in quotes":
                cell.append('"')
                state = "in quotes"
            else:
                raise Refused(Refusal(Kind.STRAY_QUOTE, line))
        elif char == delimiter or char in "\r\n":
            if state != "carriage return":
                cells.append("".join(cell))
                cell = []
            state = "carriage return" if char == "\r" else "new cell"
            if char == "\n":
                if line > begun:
                    check_size(at + 1)
                yield begun, cells
                cells = []
                begun, begun_at = line + 1, at + 1
        elif state == "quote in quotes":
            refusal = Refusal(Kind.AFTER_QUOTE, line)
            check_size(at, refusal)
            raise Refused(refusal)
        else:
            cell.append(char)
            state = "in cell"
        if char == "\n":
            line += 1
    if state == "in quotes":
        check_size(len(text))
    if not whole:
        return
    if state == "carriage return":
        raise Refused(Refusal(Kind.CARRIAGE_RETURN, line))
    if state == "in quotes":
        raise Refused(Refusal(Kind.OPEN_QUOTE, begun))
    if begun_at < len(text):
        if line > begun:
            check_size(len(text))
        yield begun, [*cells, "".join(cell)]


def _header(names: list[str], line: int, asked: Asked) -> _Header:
    refused = Refused(Refusal(Kind.HEADER, line))
    if len(set(names)) < len(names):
        raise refused
    ours = tuple(names[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS
    others = names
    columns = asked.columns
    if ours:
        dropped = len(RESULT_COLUMNS)
        dropped += names[dropped : dropped + 1] == [REMEDY_COLUMN]
        others = names[dropped:]
        columns = {"person": "person_id", "face": "face_id", "job": "job_id"} | {
            role: name for role, name in columns.items() if role == "due"
        }
    found: dict[str, int] = {}
    for role, known in NAMES.items():
        wanted = [columns[role]] if role in columns else known
        present = [name for name in (others if role == "due" else names) if name in wanted]
        if len(present) > 1:
            raise refused
        if present:
            found[role] = names.index(present[0])
        elif role in columns and not ours:
            raise refused
    if "person" not in found or ("face" in found) == asked.whole_persons:
        raise refused
    taken = [at for role, at in found.items() if role != "due"]
    if asked.whole_persons and any(
        _sounds_like_a_face(name) for at, name in enumerate(names) if at not in found.values()
    ):
        raise refused
    carried = [at for at, name in enumerate(names) if at not in taken and name in others]
    if ours:
        carried = list(range(len(names) - len(others), len(names)))
    if len(carried) > 2000 or any(len(names[at]) > 1000 for at in carried):
        raise Refused(Refusal(Kind.TOO_MANY_NAMES, line))
    return _Header(
        names,
        found["person"],
        found.get("face"),
        found.get("job"),
        found.get("due"),
        ours,
        carried,
    )


def _sounds_like_a_face(name: str) -> bool:
    """As one of its words, which capitals, digits and signs set apart."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return any(_FACE_LIKE.fullmatch(word.lower()) for word in words)


def _faces(cell: str, header: _Header) -> list[str]:
    assert header.face is not None
    return [cell] if header.names[header.face] in SINGLE else cell.split(";")


def _parts(cells: list[str], line: int, header: _Header) -> Parts:
    def text(at: int | None) -> str:
        cell = "" if at is None else cells[at]
        # The apostrophe that a report of ours puts in front of what a spreadsheet would run.
        return cell[1:] if header.ours and re.match(r"'\s*[=+\-@＝＋－＠]", cell) else cell

    carried = [(header.names[at], text(at)) for at in header.carried]
    return Parts(
        line=line,
        label=text(header.job),
        person_id=cells[header.person],
        faces=None
        if header.face is None
        else [(face, Fault.NONE) for face in _faces(cells[header.face], header)],
        due=text(header.due),
        carried=carried or None,
        person_column=header.names[header.person],
        face_column="" if header.face is None else header.names[header.face],
        due_column="" if header.due is None else header.names[header.due],
    )


def _refuse_hidden_rows(
    cells: list[str], line: int, header: _Header, asked: Asked, delimiter: str
) -> None:
    """A line within a cell that could be a row: the quote before it was most likely never closed.

    So could what stands before the quote that ends the cell, if it ends with a delimiter.
    """
    for cell in cells:
        *between, last = cell.split("\n")[1:] or [""]
        lines = [text.removesuffix("\r").split(delimiter) for text in between]
        suspects = [inner for inner in lines if len(inner) == len(header.names)]
        if last.endswith(delimiter):
            suspects.append(last.split(delimiter))
        if any(_could_be_row(inner, header, asked) for inner in suspects):
            raise Refused(Refusal(Kind.SWALLOWED, line))


def _could_be_row(cells: list[str], header: _Header, asked: Asked) -> bool:
    if len(cells) <= max(header.person, header.face or 0):
        return False
    if person_fault(cells[header.person], asked.person_id_pattern) is not Fault.NONE:
        return False
    return header.face is None or all(
        face_fault(face, asked.face_id_pattern) is Fault.NONE
        for face in _faces(cells[header.face], header)
    )
