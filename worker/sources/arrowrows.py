"""Batches of Arrow columns to entries: by column where a whole batch is good, otherwise by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow.compute as pc

from worker.model import RESULT_COLUMNS, Chunk, Entry, Stretch
from worker.sources.arrowids import (
    Column,
    columns_of,
    lists_of,
    misfit,
    moments_of,
    texts_of,
)
from worker.sources.arrowjson import is_list, objects, untold
from worker.sources.carried import CarriedNames
from worker.sources.columns import accepts, dues_of
from worker.sources.columns import texts_of as shared
from worker.sources.header import read_header
from worker.sources.identifiers import IdGrammar
from worker.sources.interface import SourceOptions
from worker.sources.place import Place, shown
from worker.sources.records import (
    Grammars,
    IdColumns,
    RecordHead,
    Unreadable,
    entries_of,
    refused_record,
    whole_person,
)
from worker.sources.roles import Role, RoleNames
from worker.texts import Texts


class _Rows(NamedTuple):
    """The columns of a batch as texts; None where the file has no such column."""

    first_record: int
    lines: range
    persons: Any
    """May hold nulls."""
    faces: Any
    """Texts or lists, which may hold nulls."""
    labels: Any
    dues: Any
    carried: Any


class BatchReader:
    """Judges the batches of one file in order.

    ``constants`` are columns with one value for all rows; None stands for a null. Raises
    ``InputRefused`` for columns that cannot be what they have to be.
    """

    def __init__(
        self,
        schema: Any,
        place: Place,
        grammars: Grammars,
        carried_names: CarriedNames,
        *,
        options: SourceOptions,
        constants: Mapping[str, str | None],
    ) -> None:
        self._place = place
        self._grammars = grammars
        self._max_row_bytes = options.max_line_bytes
        columns = columns_of(schema, constants)
        names = [column.name for column in columns]
        if tuple(names[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS:
            raise place.refused(
                "it is a report of ours as another program has written it again",
                "name the report itself: failures.csv",
            )
        header = read_header(
            names, 0, place, RoleNames(options.columns), "", whole_persons=options.whole_persons
        )
        self._person = self._fitting(columns[header.person], "person")

        def fitting(index: int | None, role: Role) -> Column | None:
            return None if index is None else self._fitting(columns[index], role)

        self._face = fitting(header.face, "face")
        self._job = fitting(header.job, "job")
        self._due = fitting(header.due, "due")
        self._several = header.several
        # The field of a structure is carried with the structure.
        self._carried = [columns[i] for i in header.carried if not columns[i].fields]
        for column in self._carried:
            if what := untold(column.type):
                raise place.refused(
                    f"the column {shown(column.name)} holds {what}, which no report can carry",
                    "leave the column out",
                )
        carried_names.add([column.name for column in self._carried], 0)

    def _fitting(self, column: Column, role: Role) -> Column:
        if wrong := misfit(column, role):
            raise self._place.refused(*wrong)
        return column

    def chunk(self, batch: Any, first_record: int) -> Chunk:
        """The entries of a batch whose first row is the record ``first_record`` of the file."""
        lines = range(first_record + 1, first_record + 1 + batch.num_rows)
        labels = dues = carried = None
        faces = None if self._face is None else self._face.of(batch)
        if faces is not None and not is_list(faces.type):
            faces = self._capped(texts_of(faces), lines)
        if self._job is not None:
            labels = self._capped(pc.fill_null(texts_of(self._job.of(batch)), ""), lines)
        if self._due is not None:
            dues = self._capped(pc.fill_null(moments_of(self._due.of(batch)), ""), lines)
        if self._carried:
            told = objects([c.name for c in self._carried], [c.of(batch) for c in self._carried])
            carried = self._capped(told, lines)
        persons = self._capped(texts_of(self._person.of(batch)), lines)
        rows = _Rows(first_record, lines, persons, faces, labels, dues, carried)
        return self._stretch(rows) or self._judged(rows)

    def _capped(self, texts: Any, lines: range) -> Any:
        lengths = pc.binary_length(texts)
        longest = pc.max(lengths).as_py() or 0
        if longest > self._max_row_bytes:
            raise self._place.refused(
                f"a value of the row is longer than {self._max_row_bytes} bytes",
                "check that the file is what its name says; if such values are meant, raise "
                "max_line_bytes in the configuration",
                lines[pc.index(lengths, longest).as_py()],
            )
        return texts

    def _stretch(self, rows: _Rows) -> Stretch | None:
        """The rows as one, where each holds one good person and one good face."""
        persons, faces = rows.persons, rows.faces
        if faces is None or is_list(faces.type) or persons.null_count or faces.null_count:
            return None
        people, named = shared(persons), shared(faces)
        if not _accepts(self._grammars.person, people):
            return None
        if not _accepts(self._grammars.face, named) or (self._several and _separated(named)):
            return None
        dues_us: list[int | None] | None = None
        if rows.dues is not None:
            dues_us = dues_of(shared(rows.dues))
            if dues_us is None:
                return None
        return Stretch(
            rows.first_record,
            rows.lines,
            people,
            named,
            None if rows.labels is None else shared(rows.labels),
            None if rows.carried is None else shared(rows.carried),
            dues_us,
        )

    def _judged(self, rows: _Rows) -> list[Entry]:
        """The entries of any rows, one by one, with reasons; equal to the others where both apply."""
        columns = IdColumns(
            self._person.name,
            "" if self._face is None else self._face.name,
            "" if self._due is None else self._due.name,
        )
        judged: list[Entry] = []
        for record, (line, label, person, cell, told, due) in enumerate(
            zip(
                rows.lines,
                _strings(rows.labels),
                rows.persons.to_pylist(),
                self._cells(rows.faces),
                _strings(rows.carried),
                _strings(rows.dues),
                strict=False,
            ),
            rows.first_record,
        ):
            head = RecordHead(record, line, label, told, due)
            if person is None:
                judged.append(refused_record(head, "", "person ID is null", columns.person))
            elif self._face is None:
                judged.append(whole_person(head, person, columns, self._grammars))
            elif cell is None or cell == []:
                what = "is null" if cell is None else "is an empty list"
                reason = f"{self._face.name} {what}, which never means all faces"
                judged.append(refused_record(head, person, reason, columns.face))
            else:
                judged += entries_of(head, person, self._faces(cell), columns, self._grammars)
        return judged

    def _cells(self, faces: Any) -> Iterable[str | list[str | None] | None]:
        if faces is None:
            return repeat("")
        cells: list[str | list[str | None] | None]
        cells = (lists_of(faces) if is_list(faces.type) else faces).to_pylist()
        return cells

    def _faces(self, cell: str | list[str | None]) -> Sequence[str | Unreadable]:
        if isinstance(cell, str):
            return cell.split(";") if self._several else [cell]
        return [Unreadable("", "face ID is null") if face is None else face for face in cell]


def _accepts(grammar: IdGrammar, texts: Texts) -> bool:
    if grammar.alphabet is None:
        return grammar.accepts_all(texts.strings())
    return accepts(grammar, texts)


def _separated(texts: Texts) -> bool:
    return b";" in bytes(texts.data[texts.offsets[0] : texts.offsets[-1]])


def _strings(texts: Any) -> Iterable[str]:
    return repeat("") if texts is None else texts.to_pylist()
