"""Arrow columns to JSON texts: every value exactly, whole columns at a time."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Sequence
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from worker.texts import TooMuchText

_ESCAPED = re.compile(rb'["\\\x00-\x1f]')


def untold(type_: Any) -> str:
    """Why values of an Arrow type cannot be told exactly in JSON, or ``""``."""
    if types.is_map(type_):
        return untold(type_.key_type) or untold(type_.item_type)
    if types.is_dictionary(type_) or is_list(type_):
        return untold(type_.value_type)
    if types.is_struct(type_):
        names = [type_.field(i).name for i in range(type_.num_fields)]
        if len(set(names)) < len(names):
            return "a structure with two fields of one name"
        return next(filter(None, (untold(type_.field(name).type) for name in names)), "")
    if _is_uuid(type_) or any(known(type_) for known in _told()):
        return ""
    return "bytes" if _is_bytes(type_) else str(type_)


def json_texts(array: Any) -> Any:
    """A ``pyarrow.StringArray`` with the JSON text of each value; nulls become ``null``.

    Numbers keep all their digits, floats are written as Python does, times as ISO 8601 (with a zone:
    in UTC). NaN and the infinities, for which JSON has no numbers, become texts.
    """
    return pc.coalesce(_texts(array), pa.scalar("null"))


def objects(names: Sequence[str], arrays: Sequence[Any]) -> Any:
    """A ``pyarrow.StringArray`` of JSON objects with ``names`` as keys, one for each row."""
    pieces: list[Any] = []
    for name, array in zip(names, arrays, strict=True):
        pieces += [f"{',' if pieces else '{'}{encode_basestring(name)}:", json_texts(array)]
    return pc.binary_join_element_wise(*pieces, "}", "")


def iso_texts(array: Any) -> Any:
    """Dates and times as ISO 8601, without a fraction that is zero; nulls stay."""
    type_ = array.type
    zoned = types.is_timestamp(type_) and type_.tz is not None
    if zoned:
        # The moment itself, which Arrow keeps in UTC; no table of time zones is needed for it.
        array = array.cast(pa.timestamp(type_.unit))
    texts = array.cast(pa.string())
    if types.is_timestamp(type_):
        texts = pc.replace_substring(texts, " ", "T")
    if not types.is_date(type_):
        texts = pc.replace_substring_regex(texts, r"\.0+$", "")
        texts = pc.replace_substring_regex(texts, r"(\.[0-9]*[1-9])0+$", r"\1")
    return pc.binary_join_element_wise(texts, "Z", "") if zoned else texts


def is_text(type_: Any) -> bool:
    """Whether an Arrow type is text, in any of its layouts."""
    if types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(
        types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)
    )


def is_list(type_: Any) -> bool:
    """Whether values of an Arrow type are lists that can be told."""
    return bool(
        types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    )


def _told() -> tuple[Callable[[Any], bool], ...]:
    return (
        is_text,
        types.is_null,
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_decimal,
        types.is_date,
        types.is_time,
        types.is_timestamp,
    )


def _texts(array: Any) -> Any:
    """As ``json_texts``, but nulls may stay nulls."""
    type_ = array.type
    if types.is_dictionary(type_):
        return _texts(array.dictionary_decode())
    if is_text(type_):
        return _quoted(array.cast(pa.string()))
    if types.is_boolean(type_):
        return pc.if_else(array, "true", "false")
    if types.is_floating(type_):
        return _strings(map(_float_text, array.to_pylist()))
    if types.is_temporal(type_):
        return pc.binary_join_element_wise('"', iso_texts(array), '"', "")
    if types.is_map(type_) or is_list(type_):
        return _lists(array)
    if types.is_struct(type_):
        return _structures(array)
    if _is_uuid(type_):
        stored = array.storage.to_pylist()
        return _strings(None if b is None else f'"{uuid.UUID(bytes=b)}"' for b in stored)
    return array.cast(pa.string())


def _quoted(texts: Any) -> Any:
    _, offsets, data = texts.buffers()
    if len(texts) and data is not None:
        ends = memoryview(offsets).cast("i")
        first, last = ends[texts.offset], ends[texts.offset + len(texts)]
        if _ESCAPED.search(memoryview(data)[first:last]):
            escaped = (None if t is None else encode_basestring(t) for t in texts.to_pylist())
            return _strings(escaped)
    return pc.binary_join_element_wise('"', texts, '"', "")


def _float_text(value: float | None) -> str | None:
    if value is None:
        return None
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _lists(array: Any) -> Any:
    """A map is what Arrow makes of it: a list of objects with ``key`` and ``value``."""
    if types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    offsets = array.offsets.to_pylist()
    first = offsets[0]
    items = json_texts(array.values.slice(first, offsets[-1] - first)).to_pylist()
    return _strings(
        "[" + ",".join(items[start - first : end - first]) + "]" if valid else None
        for (start, end), valid in zip(pairwise(offsets), array.is_valid().to_pylist(), strict=True)
    )


def _structures(array: Any) -> Any:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    told = objects(names, array.flatten()) if names else pa.array(["{}"] * len(array))
    return pc.if_else(array.is_valid(), told, pa.scalar(None, pa.string()))


def _strings(texts: Any) -> Any:
    strings = pa.array(list(texts), pa.string())
    if isinstance(strings, pa.ChunkedArray):
        raise TooMuchText  # it has made several of them
    return strings


def _is_bytes(type_: Any) -> bool:
    return bool(
        types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
        or types.is_binary_view(type_)
    )


def _is_uuid(type_: Any) -> bool:
    return getattr(type_, "extension_name", "") == "arrow.uuid"
