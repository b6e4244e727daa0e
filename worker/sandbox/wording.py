"""What a switch or a fault may be set to, in words."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}


def amiss(value: object, hint: Any) -> str:
    """What is expected where ``value`` cannot be taken for ``hint``; ``""`` where it can."""
    try:
        msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        return _expected(hint)
    return ""


def _expected(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, meta = arguments
        least = f" from {meta.ge} up" if meta.ge is not None else ""
        return _expected(kind) + least
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(part) for part in arguments if part is not type(None))
    return _KINDS[hint]
