"""JSON as it was written: numbers digit for digit, objects as pairs, nothing beyond RFC 8259."""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import Any

MAX_DEPTH = 100
"""Deeper nesting is nobody's data; it stays well below every parser's recursion limit."""


class Integer(str):
    """The text of a JSON number without fraction and exponent."""

    __slots__ = ()


class Real(str):
    """The text of a JSON number with a fraction or an exponent."""

    __slots__ = ()


class Unwritable(ValueError):
    """A value that JSON text cannot carry on; its message is the reason for the record."""


class JsonScanner:
    """Reads one value at a time.

    Objects come as tuples of (key, value) pairs, so that repeated keys stay visible; arrays as
    lists; numbers as ``Integer`` or ``Real``.
    """

    def __init__(self) -> None:
        self.foreign_constant = False
        """Whether the last value held NaN or Infinity, which JSON does not have."""
        self._decode = json.JSONDecoder(
            object_pairs_hook=tuple,
            parse_int=Integer,
            parse_float=Real,
            parse_constant=self._note_constant,
        ).raw_decode

    def scan(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins exactly at ``start``, and where it ends.

        Raises ``json.JSONDecodeError`` for a syntax error and ``RecursionError`` for nesting
        beyond the interpreter's limit.
        """
        self.foreign_constant = False
        return self._decode(text, start)

    def _note_constant(self, _name: str) -> None:
        self.foreign_constant = True


def json_text(value: Any, depth: int = 1) -> str:
    """Compact JSON text of a value that ``JsonScanner`` read; raises ``Unwritable``."""
    if isinstance(value, str):
        return value if isinstance(value, Integer | Real) else encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if depth > MAX_DEPTH:
        raise Unwritable(f"the record is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return "[" + ",".join([json_text(item, depth + 1) for item in value]) + "]"
    if len({key for key, _ in value}) < len(value):
        raise Unwritable("the record holds an object with a repeated key")
    members = [f"{encode_basestring(key)}:{json_text(item, depth + 1)}" for key, item in value]
    return "{" + ",".join(members) + "}"


def is_encodable(text: str) -> bool:
    """Whether ``text`` is free of lone surrogates, which an escape can put into JSON strings."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
