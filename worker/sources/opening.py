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
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from worker.errors import UsageRefused
from worker.sources.folder import (
    Folder,
    Part,
    constants_of,
    is_local_dataset,
    local_files,
    parts_of,
)
from worker.sources.formats import COMPRESSIONS, EXTENSIONS, FORMATS, NamedFormat, named_format
from worker.sources.identifiers import IdGrammar
from worker.sources.interface import Source, SourceOptions
from worker.sources.place import Place, shown
from worker.sources.records import Grammars
from worker.sources.remote import ObjectStream, address_of, is_remote, objects_of, version_of
from worker.sources.roles import ROLES
from worker.sources.source import JobSource

_SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
_NOT_SOURCES = (
    (
        stat.S_ISDIR,
        "it is a directory",
        "name the files in it, e.g. '{}/*.csv'; only a folder of Parquet parts is a source itself",
    ),
    (stat.S_ISSOCK, "it is a socket", "name a file, or pipe the data to standard input"),
    (stat.S_ISCHR, "it is a device", "name a file; for standard input write -"),
    (stat.S_ISBLK, "it is a device", "name a file; for standard input write -"),
)


def open_sources(
    specs: Sequence[str], options: SourceOptions, stdin: BinaryIO | None
) -> list[Source]:
    """The sources that ``specs`` (files, folders, globs, URLs, ``-``) name, in that order.

    What a glob matches, and the parts of a folder, are sorted by their whole name.

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
    for path, part in _named(specs, None):
        if path == "-":
            if stdin is None:
                raise UsageRefused(
                    "-: standard input is closed, and it is named as a source",
                    "pipe the data to it, or name a file",
                )
            identity = _stdin_identity(stdin)
            source = _standard_input(stdin, options, grammars)
        elif is_remote(path):
            identity, source = _object(path, part, options, grammars)
        else:
            identity, source = _file(path, part, options, grammars)
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
    """What ``specs`` name, seen from ``directory``: themselves, or what is found in their place.

    For a glob these are its sorted matches, for a folder of Parquet parts the sorted parts. Raises
    ``worker.errors.UsageRefused`` for a glob that nothing matches, a folder that holds more than
    parts, and a store that cannot be asked.
    """
    return (path for path, _ in _named(specs, directory))


def _named(specs: Sequence[str], directory: str | None) -> Iterator[tuple[str, Part | None]]:
    for spec in specs:
        if is_remote(spec):
            found = list(objects_of(spec))
            folder = Folder(spec, sum(1 for _, within in found if within))
            for url, within in found:
                part = Part(folder, constants_of(url.removeprefix(within))) if within else None
                yield url, part
            continue
        matches = [spec]
        if (
            spec != "-"
            and glob.has_magic(spec)
            and not os.path.lexists(Path(directory or "", spec))
        ):
            matches = sorted(glob.glob(spec, root_dir=directory, recursive=True))  # noqa: PTH207 (matches keep the spelling of the pattern)
            if not matches:
                raise UsageRefused(
                    f"{spec}: no file matches this pattern", "check the pattern and the directory"
                )
        for match in matches:
            if match in ("", "-") or not is_local_dataset(Path(directory or "", match)):
                yield match, None
            else:
                yield from _parts(match, directory)


def _parts(folder: str, directory: str | None) -> Iterator[tuple[str, Part]]:
    try:
        parts = parts_of(folder, local_files(Path(directory or "", folder)))
    except OSError as error:
        raise UsageRefused(
            f"{folder}: what is in this folder cannot be listed ({error.strerror})",
            "check the permissions of its subfolders and the disk",
        ) from error
    whole = Folder(folder, len(parts))
    for part in parts:
        yield os.path.join(folder, part), Part(whole, constants_of(part))  # noqa: PTH118 (parts keep the spelling of the folder)


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


def _object(
    url: str, part: Part | None, options: SourceOptions, grammars: Grammars
) -> tuple[object, Source]:
    _check_name(url)
    named = _named_format(url, options)
    if named.format is None:
        raise _unknown_extension(url, named.extension)
    version_of(url)
    place = Place(url)
    source = JobSource(
        place, lambda: BufferedReader(ObjectStream(url)), named, options, grammars, part=part
    )
    return address_of(url), source


def _file(
    path: str, part: Part | None, options: SourceOptions, grammars: Grammars
) -> tuple[object, Source]:
    _check_name(path)
    status = _status(path)
    stream = stat.S_ISFIFO(status.st_mode)
    named = _named_format(path, options)
    if named.format is None and not (stream and not named.extension):
        raise _unknown_extension(path, named.extension)
    source = JobSource(
        Place(path, stream=stream),
        lambda: Path(path).open("rb", buffering=0),  # noqa: SIM115 (the intake closes it)
        named,
        options,
        grammars,
        part=part,
    )
    return (status.st_dev, status.st_ino), source


def _named_format(path: str, options: SourceOptions) -> NamedFormat:
    named = named_format(path)
    format_ = FORMATS.get(options.format) or named.format
    if format_ == "parquet" and named.compression:
        raise UsageRefused(
            f"{path}: a Parquet file that is compressed as a whole cannot be read",
            "unpack it; Parquet compresses what is in it by itself",
        )
    return replace(named, format=format_)


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
    known = ", ".join(f".{name}" for name, read in EXTENSIONS.items() if read != "parquet")
    packed = ", ".join(COMPRESSIONS)
    formats = "|".join(FORMATS)
    said = f"the extension {shown(extension)} is unknown" if extension else "it has no extension"
    if extension in _SPREADSHEETS:
        remedy = "open it in its own program and save or export it as CSV (UTF-8)"
    else:
        remedy = f"say what it holds with --format {formats}"
    return UsageRefused(
        f"{path}: {said}; known are {known}, each also followed by {packed}, and .parquet and .pq",
        remedy,
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
