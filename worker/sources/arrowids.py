"""Arrow columns of IDs, labels and due times: which types say exactly what was meant, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from worker.sources.arrowjson import is_list, is_text, iso_texts
from worker.sources.place import shown
from worker.sources.roles import SINGLE_FACE, Role

_EXPORT_AS_TEXT = (
    "write the column as text where its values are still whole, e.g. CAST(... AS VARCHAR) in SQL, "
    "dtype=str in pandas"
)


class Misfit(NamedTuple):
    """Why no value of a column can be trusted."""

    cause: str
    remedy: str


class Column(NamedTuple):
    """Where the values of a role are."""

    name: str
    """As a message names it; ``a.b`` is the field ``b`` of the structure ``a``."""
    type: Any
    place: int | None = None
    """0-based, among the columns of the file; None where its folder gives the value."""
    fields: tuple[str, ...] = ()
    """The fields that lead to it, inside that column."""
    constant: str | None = None
    """The value of all rows, where the folder gives it; None for a null."""

    def of(self, batch: Any) -> Any:
        """Its values in ``batch``."""
        if self.place is None:
            return pa.repeat(pa.scalar(self.constant, self.type), batch.num_rows)
        values = batch.column(self.place)
        return pc.struct_field(values, list(self.fields)) if self.fields else values


def columns_of(schema: Any, constants: Mapping[str, str | None]) -> list[Column]:
    """Every column by its own name, then what the folder says, then the fields of structures."""
    columns = [Column(field.name, field.type, index) for index, field in enumerate(schema)]
    columns += [Column(name, pa.string(), constant=value) for name, value in constants.items()]
    for column in columns:
        # What is found is looked through as well, as the list grows.
        if types.is_struct(column.type):
            inside = [column.type.field(i) for i in range(column.type.num_fields)]
            columns += [
                Column(
                    f"{column.name}.{field.name}",
                    field.type,
                    column.place,
                    (*column.fields, field.name),
                )
                for field in inside
            ]
    return columns


def misfit(column: Column, role: Role) -> Misfit | None:
    """Why a column cannot be what ``--columns`` or its name says; None where it can."""
    named, type_ = f"the column {shown(column.name)}", column.type
    if role == "due":
        if is_text(type_) or types.is_null(type_) or _is_moment(type_):
            return None
        return Misfit(f"{named} is {type_}, and due times are text or times", _EXPORT_AS_TEXT)
    if is_list(type_) and role == "face":
        if column.name in SINGLE_FACE:
            return Misfit(
                f"{named} is {type_}; a list of face IDs belongs into a column named face_ids",
                "rename the column, or write one row for each face",
            )
        type_ = type_.value_type
    if types.is_dictionary(type_):
        type_ = type_.value_type
    if is_text(type_) or types.is_integer(type_) or types.is_null(type_):
        return None
    if types.is_floating(type_):
        return Misfit(
            f"{named} is {type_}, so a program has rounded the IDs in it", _EXPORT_AS_TEXT
        )
    if types.is_decimal(type_):
        if type_.scale == 0:
            return None
        return Misfit(f"{named} is {type_}, a number that is not a whole one", _EXPORT_AS_TEXT)
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_):
        return Misfit(f"{named} holds bytes, and nothing says which text they are", _EXPORT_AS_TEXT)
    return Misfit(f"{named} is {type_}, and IDs are text", _EXPORT_AS_TEXT)


def texts_of(array: Any) -> Any:
    """A ``pyarrow.StringArray`` of values that fit: whole numbers digit by digit, nulls stay."""
    return array.cast(pa.string())


def moments_of(array: Any) -> Any:
    """A ``pyarrow.StringArray`` of due times that fit, ISO 8601; nulls stay."""
    return iso_texts(array) if _is_moment(array.type) else array.cast(pa.string())


def lists_of(array: Any) -> Any:
    """A ``pyarrow.ListArray`` of texts from lists of face IDs that fit; nulls stay."""
    return array.cast(pa.list_(pa.string()))


def _is_moment(type_: Any) -> bool:
    return bool(types.is_timestamp(type_) or types.is_date(type_))
