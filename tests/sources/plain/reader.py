"""A second reader of job files: slow, plain, and written from the contract instead of the program.

The bytes are in memory as a whole, a table is read character by character, JSON by the standard
module. It shares nothing with ``worker.sources`` but the words by which both tell what is wrong.
"""

from __future__ import annotations

from tests.sources.plain.content import COMPRESSIONS, expanded, is_another_file, read_text
from tests.sources.plain.objects import read_array, read_lines
from tests.sources.plain.tables import read_table
from tests.sources.plain.words import Asked, Kind, Refusal, Refused, Result

_READERS = {"csv": read_table, "tsv": read_table, "jsonl": read_lines, "json": read_array}


def read_plainly(data: bytes, name: str, asked: Asked) -> Result:
    """What a file of that name and content holds, or what is wrong with it."""
    if not data:
        return (Refusal(Kind.EMPTY),)
    *_, extension = name.lower().split(".")
    whole, found = True, []
    if extension in COMPRESSIONS:
        data, whole = expanded(data, extension)
        extension = name.lower().split(".")[-2]
        if not whole:
            found.append(Refusal(Kind.COMPRESSION))
    if is_another_file(data):
        return (*found, Refusal(Kind.OTHER_FILE))
    format_ = asked.format or extension
    format_ = "jsonl" if format_ == "ndjson" else format_
    longest = None if format_ == "json" else asked.max_line_bytes
    text, defects = read_text(data, longest, cut=not whole)
    found += defects
    try:
        read = _READERS[format_](text, asked._replace(format=format_), whole=whole and not defects)
    except Refused as refused:
        return (*found, *refused.refusals)
    return tuple(found) or read
