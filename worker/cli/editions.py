"""Which editions of Python, SQLite and the packages are at work, and whether they are new enough."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import Final

import apsw

from worker import __version__
from worker.cli.finding import Finding, Grade

SQLITE_AT_LEAST: Final = (3, 51, 3)
"""Earlier ones can damage a write-ahead log when connections meet at a checkpoint."""

_MENDED: Final = ((3, 50, 7), (3, 44, 6))
"""Earlier lines that the fix was brought back to."""

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def examine_versions() -> Finding:
    """The editions, and what is older than this program needs."""
    old = [] if _sound(_numbers(apsw.sqlite_lib_version())) else ["SQLite"]
    shown = [
        f"facepurge {__version__}",
        f"Python {platform.python_version()}",
        f"SQLite {apsw.sqlite_lib_version()}",
    ]
    for name, least in _requirements():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        shown.append(f"{name} {found}")
        if _numbers(found) < _numbers(least):
            old.append(f"{name} (needs {least})")
    said = ", ".join(shown)
    if not old:
        return Finding("versions", Grade.OK, said)
    return Finding(
        "versions",
        Grade.FAIL,
        f"{said}; too old: {', '.join(old)}",
        "install facepurge again into an environment of its own: make clean demo, or pip install",
    )


def _sound(sqlite: tuple[int, ...]) -> bool:
    return sqlite >= SQLITE_AT_LEAST or any(
        sqlite[:2] == mended[:2] and sqlite >= mended for mended in _MENDED
    )


def _requirements() -> list[tuple[str, str]]:
    """Name and least version of what is needed to run; nothing where this is not installed."""
    try:
        stated = metadata.requires("facepurge") or []
    except metadata.PackageNotFoundError:
        return []
    found = (_REQUIREMENT.match(line) for line in stated if "extra ==" not in line)
    return sorted((match[1], match[2]) for match in found if match)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:4])
