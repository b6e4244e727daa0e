"""Content that is something else than its name says, recognised by its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.sources.place import Place

HEAD_BYTES = 1024
"""How much of a source is enough to recognise it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A kind of file."""

    kind: str
    """As a sentence names it, e.g. ``a gzip archive``."""
    compression: str = ""
    """One of ours where it only wraps a readable format (``worker.sources.formats``)."""
    unpack: str = ""
    """The command that prints its content, for sources that come through a pipe."""
    extension: str = ""


_SAVE_AS_CSV = "open it in its own program and save or export it as CSV (UTF-8)"

_GZIP = Signature("a gzip file", "gzip", "zcat", ".gz")
_BZIP2 = Signature("a bzip2 file", "bzip2", "bzcat", ".bz2")
_XZ = Signature("an xz file", "xz", "xzcat", ".xz")
_ZSTD = Signature("a zstd file", "zstd", "zstdcat", ".zst")
_PARQUET = Signature("a Parquet file", extension=".parquet")

# As published by each format; two-byte magics and words that could begin a header row are followed
# by something that a table never holds.
_SIGNATURES: tuple[tuple[re.Pattern[bytes], Signature], ...] = tuple(
    (re.compile(pattern, re.DOTALL), signature)
    for pattern, signature in (
        (rb"\x1f\x8b", _GZIP),
        (rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)", _BZIP2),
        (rb"\xfd7zXZ\x00", _XZ),
        (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", _ZSTD),
        (
            rb"PK(?:\x03\x04|\x05\x06|\x07\x08).*(?:xl/|\[Content_Types\])",
            Signature("an Excel workbook (xlsx)"),
        ),
        (rb"PK(?:\x03\x04|\x05\x06|\x07\x08).*opendocument", Signature("an OpenDocument file")),
        (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", Signature("a zip archive (or an xlsx workbook)")),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Signature("an old Excel or Office file (xls)")),
        (rb"PAR1[^\x20-\x7e]", _PARQUET),
        (rb"%PDF-", Signature("a PDF document")),
        (rb"ARROW1\x00\x00", Signature("an Arrow file")),
        (rb"Obj\x01", Signature("an Avro file")),
        (rb"ORC[\x00-\x08]", Signature("an ORC file")),
        (rb"SQLite format 3\x00", Signature("an SQLite database")),
        (rb"7z\xbc\xaf\x27\x1c", Signature("a 7-Zip archive")),
        (rb"Rar!\x1a\x07", Signature("a RAR archive")),
        (rb"\x04\x22\x4d\x18", Signature("an lz4 file")),
        (rb".{257}ustar", Signature("a tar archive")),
        (rb"\{\\rtf", Signature("an RTF document")),
        (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", Signature("a picture")),
        (rb"\x7fELF", Signature("a program")),
        (rb"(?i:(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml))", Signature("an HTML or XML page")),
        (rb"(?:\xff\xfe|\xfe\xff)", Signature("UTF-16 text (the mark of it is at byte offset 0)")),
    )
)


def recognise(head: bytes) -> Signature | None:
    """What ``head``, the first bytes of a source, says it is; None for what may be plain text."""
    for pattern, signature in _SIGNATURES:
        if pattern.match(head):
            return signature
    return None


def is_parquet(head: bytes) -> bool:
    """Whether ``head``, the first bytes of a source, begins a Parquet file."""
    return recognise(head) is _PARQUET


def remedy(signature: Signature, place: Place) -> str:
    """What to do about a source that is ``signature`` and was to be read as plain text."""
    if signature.compression and place.stream:
        return f"unpack it on the way: {signature.unpack} FILE | facepurge run -"
    if signature.compression:
        return f"rename it to {place.name}{signature.extension}, or unpack it first ({signature.unpack})"
    if signature is _PARQUET:
        return "it is read as what it is with --format parquet, or under a name that ends with .parquet"
    if signature.kind.startswith("UTF-16 text"):
        return "save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE"
    return _SAVE_AS_CSV
