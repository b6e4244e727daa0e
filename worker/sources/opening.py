"""From what stands on the command line to sources that can be read."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from worker.errors import UsageRefused
from worker.sources.formats import COMPRESSIONS, FORMATS, NamedFormat, named_format
from worker.sources.identifiers import IdGrammar
from worker.sources.interface import Source, SourceOptions
from worker.sources.place import Place, shown
from worker.sources.records import Grammars
from worker.sources.roles import ROLES
from worker.sources.source import JobSource

_SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
_NOT_SOURCES = (
    (stat.S_ISDIR, "it is a directory", "name the files in it, e.g. '{}/*.csv'"),
    (stat.S_ISSOCK, "it is a socket", "name a file, or pipe the data to standard input"),
    (stat.S_ISCHR, "it is a device", "name a file; for standard input write -"),
    (stat.S_ISBLK, "it is a device", "name a file; for standard input write -"),
)


def open_sources(
    specs: Sequence[str], options: SourceOptions, stdin: BinaryIO | None
) -> list[Source]:
    """The sources that ``specs`` (files, globs, ``-``) name, in that order; globs are sorted.

    ``stdin`` is None where it is closed.

    Raises ``worker.errors.UsageRefused`` for anything that is no readable file or pipe, has no
    known format, or is named twice, and for options that cannot be acted upon. Content is looked
    at only by ``Source.entries``.
    """
    options = _checked(options)
    grammars = Grammars(
        IdGrammar.person(options.person_id_pattern), IdGrammar.face(options.face_id_pattern)
    )
    seen: dict[object, str] = {}
    sources: list[Source] = []
    for path in paths_of(specs):
        if path == "-":
            if stdin is None:
                raise UsageRefused(
                    "-: standard input is closed, and it is named as a source",
                    "pipe the data to it, or name a file",
                )
            identity = _stdin_identity(stdin)
            source = _standard_input(stdin, options, grammars)
        else:
            identity, source = _file(path, options, grammars)
        if identity in seen:
            other = seen[identity]
            also = "" if other == path else f" (it is the same file as {other})"
            raise UsageRefused(
                f"{path}: this source is named twice{also}", "name every source only once"
            )
        seen[identity] = path
        sources.append(source)
    return sources


def paths_of(specs: Sequence[str], directory: str | None = None) -> Iterator[str]:
    """What ``specs`` name, seen from ``directory``: themselves, and for a glob its sorted matches.

    Raises ``worker.errors.UsageRefused`` for a glob that nothing matches.
    """
    for spec in specs:
        if spec == "-" or not glob.has_magic(spec) or os.path.lexists(Path(directory or "", spec)):
            yield spec
            continue
        matches = sorted(glob.glob(spec, root_dir=directory, recursive=True))  # noqa: PTH207 (matches keep the spelling of the pattern)
        if not matches:
            raise UsageRefused(
                f"{spec}: no file matches this pattern", "check the pattern and the directory"
            )
        yield from matches


def _standard_input(stdin: BinaryIO, options: SourceOptions, grammars: Grammars) -> Source:
    place = Place("-", stream=True)
    named = NamedFormat(FORMATS.get(options.format), "", "")
    return JobSource(place, lambda: stdin, named, options, grammars)


def _stdin_identity(stdin: BinaryIO) -> object:
    try:
        status = os.fstat(stdin.fileno())
    except (OSError, io.UnsupportedOperation):
        return "-"
    return status.st_dev, status.st_ino


def _file(path: str, options: SourceOptions, grammars: Grammars) -> tuple[object, Source]:
    _check_name(path)
    status = _status(path)
    stream = stat.S_ISFIFO(status.st_mode)
    named = named_format(path)
    format_ = FORMATS.get(options.format) or named.format
    if format_ is None and not (stream and not named.extension):
        raise _unknown_extension(path, named.extension)
    source = JobSource(
        Place(path, stream=stream),
        lambda: Path(path).open("rb", buffering=0),  # noqa: SIM115 (the intake closes it)
        replace(named, format=format_),
        options,
        grammars,
    )
    return (status.st_dev, status.st_ino), source


def _check_name(path: str) -> None:
    if not path:
        raise UsageRefused("a source has an empty name", "name a file, a pattern, or - for stdin")
    # The name goes into reports, logs and terminals: it must be text, and one that does nothing.
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in path):
        raise UsageRefused(
            f"{shown(path)}: the file's name holds control or undecodable characters",
            "rename the file, or pipe it to standard input: facepurge run - < FILE",
        )


def _status(path: str) -> os.stat_result:
    try:
        status = Path(path).stat()
        for is_kind, cause, remedy in _NOT_SOURCES:
            if is_kind(status.st_mode):
                raise UsageRefused(f"{path}: {cause}, not a file of jobs", remedy.format(path))
        if stat.S_ISREG(status.st_mode):
            with Path(path).open("rb"):
                return status
    except FileNotFoundError as error:
        if os.path.lexists(path):
            cause, remedy = "it is a link to a file that does not exist", "repair the link"
        else:
            cause, remedy = (
                "there is no such file",
                "check the path; it is relative to the current directory",
            )
        raise UsageRefused(f"{path}: {cause}", remedy) from error
    except PermissionError as error:
        raise UsageRefused(
            f"{path}: this user may not read it", f"give the permission: chmod u+r {path}"
        ) from error
    except OSError as error:
        raise UsageRefused(
            f"{path}: it cannot be opened ({error.strerror})", "check the path and the disk"
        ) from error
    return status


def _unknown_extension(path: str, extension: str) -> UsageRefused:
    known = ", ".join(f".{name}" for name in FORMATS)
    packed = ", ".join(COMPRESSIONS)
    formats = "|".join(FORMATS)
    said = f"the extension {shown(extension)} is unknown" if extension else "it has no extension"
    if extension in _SPREADSHEETS:
        remedy = "open it in its own program and save or export it as CSV (UTF-8)"
    else:
        remedy = f"say what it holds with --format {formats}"
    return UsageRefused(
        f"{path}: {said}; known are {known}, each also followed by {packed}", remedy
    )


def _checked(options: SourceOptions) -> SourceOptions:
    """``options`` with a spelt-out tab turned into one; raises ``UsageRefused``."""
    if options.format and options.format not in FORMATS:
        raise UsageRefused(
            f"--format: {shown(options.format)} is no format", f"use one of {', '.join(FORMATS)}"
        )
    for role in options.columns:
        if role not in ROLES:
            raise UsageRefused(
                f"--columns: {shown(role)} is nothing that a column can be named for",
                "use person=NAME, face=NAME, job=NAME and due=NAME, separated by commas",
            )
    if len(set(options.columns.values())) < len(options.columns):
        raise UsageRefused(
            "--columns: the same column is named for two purposes", "name each column once"
        )
    for key in ("person_id_pattern", "face_id_pattern"):
        _check_pattern(key, getattr(options, key))
    return _with_delimiter(options)


def _check_pattern(key: str, pattern: str) -> None:
    try:
        compiled = re.compile(pattern, re.ASCII)
    except re.error as error:
        raise UsageRefused(
            f"{key}: {shown(pattern)} is not a regular expression ({error})",
            "correct it in the configuration",
        ) from error
    if compiled.fullmatch(""):
        raise UsageRefused(
            f"{key}: {shown(pattern)} also matches an empty ID, and an empty ID is none",
            "ask for at least one character, e.g. with + in the place of *",
        )


def _with_delimiter(options: SourceOptions) -> SourceOptions:
    delimiter = "\t" if options.delimiter == "\\t" else options.delimiter
    if delimiter and (len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"_-\r\n\0\ufeff'):
        raise UsageRefused(
            f"--delimiter: {shown(delimiter)} cannot separate cells",
            "give one character that is in no ID, such as ';' or '\\t' for a tab",
        )
    return replace(options, delimiter=delimiter)
