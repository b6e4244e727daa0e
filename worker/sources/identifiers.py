"""Whether an ID may be sent, and if not, why: in sentences that can be counted."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Literal

from worker.sources.interface import SourceOptions

_SHOWN_CHARACTERS = 200

MOST_CHARACTERS = 32
"""Of an ID of the documented form."""

_ALPHABETS = {"person": f"{string.ascii_letters}{string.digits}_-", "face": string.digits}

_WORDS = frozenset(
    {"*", "all", "any", "none", "null", "nil", "nan", "n/a", "na", "undefined", "true", "false"}
)

_SPREADSHEET_FORMS = (
    (
        re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*)?[eE][+-]?[0-9]+"),
        "has an exponent; a spreadsheet has rounded it: export the column as text",
    ),
    (
        re.compile(r"[+-]?[0-9]+\.[0-9]*"),
        "has a decimal point; a spreadsheet may have rounded it: export the column as text",
    ),
    (
        re.compile(r"\+[0-9]+"),
        "has a plus sign, as a spreadsheet's number format writes it: export the column as text",
    ),
    (re.compile(r"-[0-9]+"), "has a minus sign; it may have become a number that overflowed"),
    (
        re.compile(r"[0-9]{1,3}(?:[,'][0-9]{2,3})+"),
        "has digit separators, as a spreadsheet's number format writes it: export the column as text",
    ),
    (
        re.compile(r"'[0-9]+|=\"?[0-9]+\"?"),
        "has a spreadsheet's mark for text around it: export the bare text",
    ),
)


def printable(text: str) -> str:
    """``text`` as a report may show it, or ``""`` where it is long or cannot be printed."""
    return text if len(text) <= _SHOWN_CHARACTERS and text.isprintable() else ""


class IdGrammar:
    """What the IDs of one kind look like: a regular expression over the whole text, ASCII rules.

    ``documented`` says that ``pattern`` is the default one, so that a refusal can name its rules
    (32 characters of ``[A-Za-z0-9_-]`` for a person, as documented on the service's add-person
    page; its samples of face IDs are 13 and 17 digits).
    """

    def __init__(self, kind: Literal["person", "face"], pattern: str, *, documented: bool) -> None:
        self._kind = kind
        self._documented = documented
        self.alphabet = _ALPHABETS[kind].encode() if documented else None
        """Every 1 to ``MOST_CHARACTERS`` of these are an ID, and nothing else is; None where
        another pattern than the documented one decides."""
        self._match = re.compile(pattern, re.ASCII).fullmatch
        self._match_lines = re.compile(f"(?:(?:{pattern})\n)*+", re.ASCII).fullmatch

    @classmethod
    def person(cls, pattern: str) -> IdGrammar:
        return cls("person", pattern, documented=pattern == SourceOptions().person_id_pattern)

    @classmethod
    def face(cls, pattern: str) -> IdGrammar:
        return cls("face", pattern, documented=pattern == SourceOptions().face_id_pattern)

    def accepts_all(self, texts: Sequence[str]) -> bool:
        """Whether every text is an ID."""
        if not self._documented:
            return all(map(self._match, texts))
        # The documented patterns match no line feed, so with exactly one behind each text no match
        # can borrow from its neighbour; a text with one of its own makes the count wrong.
        lines = "\n".join((*texts, ""))
        return lines.count("\n") == len(texts) and self._match_lines(lines) is not None

    def defect(self, text: str) -> str:
        """``""`` for an ID, otherwise one sentence that never holds the text itself."""
        if self._match(text):
            return ""
        return f"{self._kind} ID {self._why(text)}"

    def _why(self, text: str) -> str:
        if not text:
            return "is empty"
        return (
            _why_characters(text)
            or (self._kind == "face" and _why_face(text))
            or self._why_grammar(text)
        )

    def _why_grammar(self, text: str) -> str:
        if not self._documented:
            return f"does not match {self._kind}_id_pattern of the configuration"
        inside = "[A-Za-z0-9_-]*" if self._kind == "person" else "[0-9]*"
        if re.fullmatch(inside, text):
            return "is longer than 32 characters"
        if any(c.isdigit() for c in text if not c.isascii()):
            return "holds digits that are not the ASCII digits 0 to 9"
        if self._kind == "person":
            return "holds characters other than A-Z, a-z, 0-9, _ and -"
        return "holds characters other than the digits 0 to 9"


def _why_characters(text: str) -> str:
    categories = {unicodedata.category(c) for c in text}
    if "\0" in text:
        return "holds a NUL character"
    if "Cs" in categories:
        return "holds half of a surrogate pair, which is no character"
    if "Cc" in categories:
        return "holds a control character such as a tab or a line break"
    if "Cf" in categories:
        return "holds an invisible format character (zero width, direction or byte order mark)"
    if any(c.isspace() and c != " " for c in text):
        return "holds a non-breaking or other special space"
    if text.strip(" ") != text:
        return "has spaces around it; IDs are never trimmed: remove them from the input"
    if " " in text:
        return "holds a space"
    return ""


def _why_face(text: str) -> str:
    if text.casefold() in _WORDS:
        return "is a word; no word ever means all faces or no face"
    if re.fullmatch("[0-9]+(?:;[0-9]*)+", text):
        return "is several IDs separated by ';', which belong into a column named face_ids"
    return next((why for form, why in _SPREADSHEET_FORMS if form.fullmatch(text)), "")
