r"""Cells that a spreadsheet or a terminal may be shown.

Three rules, for every CSV cell except ``person_id`` and ``face_id``; the JSONL twin holds the
exact text:

* What a spreadsheet would run as a formula gets an apostrophe in front. The leading signs are
  those that OWASP lists ("CSV Injection"): ``=``, ``+``, ``-``, ``@``, their full-width forms,
  tab and line ends; white space before them does not hide them. Only ``-`` alone and ``-:12``
  stay, the names this program gives standard input and its lines: no spreadsheet runs them.
* Control and invisible format characters (ANSI escapes begin with one, right-to-left overrides
  are some) become visible escapes: ``\n``, ``\t``, ``\r``, ``\x1b``, ``\u202e``.
* So a line of the file is a record of the table.
"""

from __future__ import annotations

import re
import unicodedata

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_OWN_NAMES = re.compile(r"-(:[0-9]+)?")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def visible(text: str) -> str:
    """``text`` with every control, format and lone surrogate character as a visible escape."""
    if text.isprintable():
        return text
    return "".join(
        _escape(sign) if unicodedata.category(sign) in _HIDDEN_CATEGORIES else sign for sign in text
    )


def _escape(sign: str) -> str:
    code = ord(sign)
    if sign in _SHORT:
        return _SHORT[sign]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def harmless(cell: str) -> str:
    """One cell that neither a spreadsheet nor a terminal acts upon."""
    shown = visible(cell)
    if _FORMULA.match(cell) and not _OWN_NAMES.fullmatch(cell):
        return "'" + shown
    return shown
