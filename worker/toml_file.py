"""A TOML file as the configuration reads it: bounded, UTF-8, and able to say on which line a key is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from worker.errors import UsageRefused

BYTES_AT_MOST: Final = 1024 * 1024


class TomlFile:
    """The parsed file; raises ``UsageRefused`` where it cannot be read or understood as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = _text(path)
        self.table: dict[str, Any] = _table(path, self._text)

    def place(self, key: str) -> str:
        """``FILE:LINE: key``; without the line where the key is spelt in an unusual way."""
        spelt = rf"""(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')"""
        pattern = rf"^[ \t]*(?:{spelt}[ \t]*[=.]|\[+[ \t]*{spelt}[ \t]*[\].])"
        match = re.search(pattern, self._text, re.MULTILINE)
        shown = key if key.isprintable() and len(key) <= 60 else repr(key[:60])
        if match is None:
            return f"{self.path}: {shown}"
        return f"{self.path}:{self._text.count(chr(10), 0, match.start()) + 1}: {shown}"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
    except OSError as error:
        raise UsageRefused(
            f"{path}: the configuration file cannot be read ({error.strerror})",
            "check the path and its permissions, or leave --config away",
        ) from error
    except ValueError as error:  # a NUL in the path
        raise UsageRefused(
            f"{str(path)!r}: this cannot be the path of a file", "check the value of --config"
        ) from error
    if len(content) > BYTES_AT_MOST:
        raise UsageRefused(
            f"{path}: the configuration file is larger than {BYTES_AT_MOST} bytes",
            "is it the list of faces? A source is an argument of its own, not --config",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageRefused(
            f"{path}: the configuration file is not UTF-8 (byte {error.start})",
            "save it as UTF-8 text",
        ) from error


def _table(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        cause, line = _cause(str(error))
        raise UsageRefused(
            f"{path}:{line or text.count(chr(10)) + 1}: {cause}",
            "correct the line; configs/reference.toml shows every key",
        ) from error
    except (ValueError, RecursionError) as error:  # endless digits, endless brackets
        raise UsageRefused(
            f"{path}: a value is too long or nested too deeply to be a setting",
            "correct the file; configs/reference.toml shows every key",
        ) from error


def _cause(message: str) -> tuple[str, str]:
    """The parser's message in our words, and the line; ``""`` for the end of the file."""
    match = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)$", message)
    line = match[1] or "" if match else ""
    text = message[: match.start()] if match else message
    if text.startswith(("Cannot overwrite", "Cannot declare")):
        return "a key or table is given twice", line
    return f"this is not TOML ({text[0].lower()}{text[1:]})", line
