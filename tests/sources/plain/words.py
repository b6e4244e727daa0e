"""What a reading of a job file can come to, in words that two readers share and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Kind(StrEnum):
    """Why a file is refused: what the program says about it, as a regular expression.

    The first that is found in a cause is its kind.
    """

    EMPTY = r"it is empty"
    NO_JOBS = r"it holds no jobs"
    COMPRESSION = r"its name says|follows the compressed data|data is cut|data is damaged"
    OTHER_FILE = r"not the text that was expected"
    NOT_UTF8 = r"is not UTF-8"
    NUL = r"a NUL at"
    TWO_MARKS = r"two byte order marks"
    CARRIAGE_RETURN = r"carriage return"
    LONG_LINE = r"longer than \d+ bytes"
    LONG_QUOTE = r"not closed within"
    SWALLOWED = r"lines that look like rows"
    OPEN_QUOTE = r"never closed"
    AFTER_QUOTE = r"follows a closing quote"
    STRAY_QUOTE = r"middle of a cell"
    SHORT_ROW = r"too short"
    LONG_ROW = r"too long"
    TOO_MANY_NAMES = r"distinct names|name of more than"
    HEADER = r"header|separated by|a spreadsheet's hint|no column|only one can be|may name faces"
    NOT_JSON = r"the line is not JSON"
    NOT_AN_ARRAY = r"not a JSON array"
    DEEP_ARRAY = r"nested too deeply"
    BROKEN_ARRAY = r"ends in the middle of the array|the content is not JSON"


class Fault(StrEnum):
    """Why a row is refused: what the program says about it, as a regular expression."""

    NONE = r"^$"
    REPEATED_KEY = r"repeated key"
    NOT_A_NUMBER = r"NaN or Infinity"
    NOT_AN_OBJECT = r"not a JSON object"
    TOO_DEEP = r"nested deeper than"
    HALF_A_PAIR = r"half of a surrogate pair"
    BOTH = r"^both .* are given"
    NO_KEY = r"^no key"
    NO_FACES = r"list of face IDs is empty"
    NOT_ALL = r"must be exactly \"all\""
    NOT_A_LIST = r"must be a list of face IDs"
    LIST_ELSEWHERE = r"a list of face IDs belongs under"
    NOT_A_TEXT = r"must be a text in quotes"
    FRACTION = r"a JSON number with a fraction"
    NO_TIME = r"^due time is not a date or time"
    NO_DAY = r"^due time does not exist"
    EMPTY = r"is empty"
    NUL = r"holds a NUL"
    CONTROL = r"holds a control character"
    INVISIBLE = r"invisible format character"
    SPECIAL_SPACE = r"special space"
    SPACE_AROUND = r"spaces around it"
    SPACE = r"holds a space"
    WORD = r"is a word"
    EXPONENT = r"has an exponent"
    POINT = r"has a decimal point"
    PLUS = r"has a plus sign"
    MINUS = r"has a minus sign"
    SEPARATORS = r"has digit separators"
    MARK = r"mark for text"
    SEVERAL = r"is several IDs"
    OTHER_DIGITS = r"not the ASCII digits"
    LONG = r"longer than 32 characters"
    OTHER = r"holds characters other than|does not match"


class Refusal(NamedTuple):
    """A file that is refused as a whole, and where the contract says that it is named."""

    kind: Kind
    line: int = 0
    """1-based; 0 where the whole file is meant."""
    offset: int | None = None
    """0-based byte of the expanded content, where it is named."""


class Row(NamedTuple):
    """What ``worker.model.Entry`` says, with the reason by its kind and the carried columns parsed."""

    record: int
    line: int
    label: str
    person_id: str
    face_id: str
    fault: Fault
    column: str
    carried: object
    """Pairs of name and value; None where there are none, or where they stand with another row."""
    whole: bool
    due_us: int | None


@dataclass(frozen=True, slots=True)
class Read:
    """A file that can be used, with as many refused rows as it may have."""

    rows: list[Row]
    records: int
    blank_lines: int


Result: TypeAlias = Read | tuple[Refusal, ...]
"""Of a refused file: what is wrong with it first, for each of the ways to look at it.

What is wrong with the compression, the text and the structure are found by different looks, and which
of them comes first depends on how far each has got; each is true only of what the looks before it let
through.
"""


class Asked(NamedTuple):
    """How a file is to be read, as flags and settings say it."""

    format: str = ""
    columns: Mapping[str, str] = {}
    delimiter: str = ""
    whole_persons: bool = False
    person_id_pattern: str = "[A-Za-z0-9_-]{1,32}"
    face_id_pattern: str = "[0-9]{1,32}"
    max_line_bytes: int = 8 * 1024 * 1024


class Refused(Exception):
    """A file that cannot be used, with whatever of it may be said first."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(*refusals)
        self.refusals = refusals
