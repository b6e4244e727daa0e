"""Folders of Parquet parts, as Spark, Hive, Trino and DuckDB write them.

The parts are the files ``*.parquet`` and ``*.pq`` in the folder and in its subfolders ``key=value``,
sorted by their whole path, character by character. What begins with a dot or an underscore is a
side file and no part (``_SUCCESS``, ``_metadata``, ``.part-0.parquet.crc``). Anything else in it
refuses the folder: nobody knows what it is. So do the logs of table formats, whose folders also
hold rows that were deleted or replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from urllib.parse import unquote

from worker.errors import UsageRefused
from worker.sources.place import shown

_EXTENSIONS = frozenset({".parquet", ".pq"})
_HIDDEN = ("_", ".")
_NULL = "__HIVE_DEFAULT_PARTITION__"
_KEY_AND_VALUE = re.compile(r"([^=]+)=(.*)", re.DOTALL)

_TABLES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_EXPORT = (
    "its folder also holds rows that were deleted or replaced: export the table's rows of today"
)
_UNFINISHED = "_temporary"


@dataclass(slots=True)
class Folder:
    """A folder while its parts are read one after the other."""

    path: str
    parts_left: int
    entries: int = 0

    def has_jobs(self, entries: int) -> bool:
        """Note that one more part was read, with so many entries.

        False where it was the last one and all were empty: Spark writes empty parts among others.
        """
        self.parts_left -= 1
        self.entries += entries
        return bool(self.entries or self.parts_left)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a folder."""

    folder: Folder
    constants: Mapping[str, str | None] = field(default_factory=dict)
    """What its subfolders say of all of its rows; None for a null."""


def is_dataset(names: Iterable[str]) -> bool:
    """Whether ``names``, what lies directly in a folder, make it one of Parquet parts."""
    return any(
        PurePath(name).suffix.lower() in _EXTENSIONS or _KEY_AND_VALUE.fullmatch(name)
        for name in names
        if not name.startswith(_HIDDEN)
    )


def is_local_dataset(path: str | Path) -> bool:
    """The same for a path of this machine, which may be anything."""
    try:
        return is_dataset(entry.name for entry in Path(path).iterdir())
    except (OSError, ValueError):
        return False  # whoever opens it says what it is


def local_files(folder: Path) -> Iterator[str]:
    """Every file below ``folder``, as a path below it; raises ``OSError``."""

    def fail(error: OSError) -> None:
        raise error

    for path, _, names in os.walk(folder, onerror=fail, followlinks=True):
        yield from (str(Path(path, name).relative_to(folder)) for name in names)


def parts_of(folder: str, files: Iterable[str]) -> list[str]:
    """Those of ``files`` (paths below ``folder``) that are its parts, sorted.

    Raises ``UsageRefused`` for a folder that holds anything else, or none.
    """
    parts = []
    for file in sorted(files):
        *folders, name = PurePath(file).parts
        _check_table(folder, folders)
        if any(part.startswith(_HIDDEN) for part in (*folders, name)):
            continue
        for above in folders:
            if not _KEY_AND_VALUE.fullmatch(above):
                raise UsageRefused(
                    f"{folder}: among its Parquet parts there is a folder {shown(above)}, which is no "
                    "partition (key=value)",
                    "name the folders that are meant one by one, or the files in them",
                )
        if PurePath(name).suffix.lower() not in _EXTENSIONS:
            raise UsageRefused(
                f"{folder}: among its Parquet parts there is {shown(name)}, which is none",
                f"name the files that are meant, e.g. '{folder}/*.parquet'",
            )
        parts.append(file)
    if not parts:
        raise UsageRefused(
            f"{folder}: no Parquet part is in this folder", "check that it is the right one"
        )
    return parts


def _check_table(folder: str, folders: list[str]) -> None:
    for name in folders:
        if name == _UNFINISHED:
            raise UsageRefused(
                f"{folder}: it holds {_UNFINISHED}, so the job that writes it has not finished or "
                "has died",
                f"wait for that job; if it died and all is there, delete {_UNFINISHED}",
            )
        if name in _TABLES:
            raise UsageRefused(f"{folder}: it is a table of {_TABLES[name]} ({name})", _EXPORT)


def constants_of(part: str) -> dict[str, str | None]:
    """What the subfolders in a part's path below its folder say: ``{"dt": "2026-11-30"}``.

    Raises ``UsageRefused`` where two of them say it of one key.
    """
    constants: dict[str, str | None] = {}
    for above in PurePath(part).parts[:-1]:
        match = _KEY_AND_VALUE.fullmatch(above)
        assert match is not None
        key, value = unquote(match[1]), match[2]
        if key in constants:
            raise UsageRefused(
                f"{part}: two of its folders give {shown(key)}", "give every key only once"
            )
        constants[key] = None if value == _NULL else unquote(value)
    return constants
