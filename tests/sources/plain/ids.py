"""IDs and due times: which texts are some, and what is wrong with the others."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

from tests.sources.plain.words import Asked, Fault

_WORDS = (
    "*",
    "all",
    "any",
    "none",
    "null",
    "nil",
    "nan",
    "n/a",
    "na",
    "undefined",
    "true",
    "false",
)
_SPREADSHEET_FORMS = (
    (r"[0-9]+(;[0-9]*)+", Fault.SEVERAL),
    (r"[+-]?[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+", Fault.EXPONENT),
    (r"[+-]?[0-9]+\.[0-9]*", Fault.POINT),
    (r"\+[0-9]+", Fault.PLUS),
    (r"-[0-9]+", Fault.MINUS),
    (r"[0-9]{1,3}([,'][0-9]{2,3})+", Fault.SEPARATORS),
    (r"'[0-9]+|=\"?[0-9]+\"?", Fault.MARK),
)
_DUE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"([T ]([0-9]{2}):([0-9]{2})(:([0-9]{2})([.]([0-9]{1,6}))?)?(Z|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def person_fault(text: str, pattern: str) -> Fault:
    """What is wrong with a person ID."""
    if re.fullmatch(pattern, text, re.ASCII):
        return Fault.NONE
    if fault := _character_fault(text):
        return fault
    if pattern != Asked().person_id_pattern:
        return Fault.OTHER
    return _length_or_other(text, r"[A-Za-z0-9_-]*")


def face_fault(text: str, pattern: str) -> Fault:
    """What is wrong with a face ID."""
    if re.fullmatch(pattern, text, re.ASCII):
        return Fault.NONE
    if fault := _character_fault(text):
        return fault
    if text.lower() in _WORDS:
        return Fault.WORD
    for form, fault in _SPREADSHEET_FORMS:
        if re.fullmatch(form, text):
            return fault
    if pattern != Asked().face_id_pattern:
        return Fault.OTHER
    return _length_or_other(text, r"[0-9]*")


def _character_fault(text: str) -> Fault | None:
    categories = [unicodedata.category(char) for char in text]
    if not text:
        return Fault.EMPTY
    if "\0" in text:
        return Fault.NUL
    if "Cs" in categories:
        return Fault.HALF_A_PAIR
    if "Cc" in categories:
        return Fault.CONTROL
    if "Cf" in categories:
        return Fault.INVISIBLE
    if any(
        category in ("Zs", "Zl", "Zp") and char != " "
        for char, category in zip(text, categories, strict=True)
    ):
        return Fault.SPECIAL_SPACE
    if text[0] == " " or text[-1] == " ":
        return Fault.SPACE_AROUND
    return Fault.SPACE if " " in text else None


def _length_or_other(text: str, documented: str) -> Fault:
    if re.fullmatch(documented, text):
        return Fault.LONG
    if any(unicodedata.digit(char, None) is not None for char in text if char > "\x7f"):
        return Fault.OTHER_DIGITS
    return Fault.OTHER


def shown(text: str) -> str:
    """As much of a text that is refused as a report may show."""
    return text if len(text) <= 200 and text.isprintable() else ""


def due_us(text: str) -> int | Fault | None:
    """Microseconds since the epoch; None for a text that says nothing."""
    if not text:
        return None
    match = _DUE.fullmatch(text)
    if not match:
        return Fault.NO_TIME
    year, month, day, time, hour, minute, _, second, _, fraction, zone, sign, ahead, minutes = (
        match.groups()
    )
    offset = timedelta()
    if zone and zone != "Z":
        if int(minutes) > 59:
            return Fault.NO_TIME
        if int(ahead) > 23:
            return Fault.NO_DAY
        offset = timedelta(hours=int(ahead), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(6, "0")),
            timezone(offset),
        )
    except ValueError:
        return Fault.NO_DAY
    # A day ends when the next one begins.
    ends = timedelta() if time else timedelta(days=1)
    return (moment - _EPOCH + ends) // timedelta(microseconds=1)
