"""Room on the disk for a plan, stated and checked before hours of reading and not after them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.errors import GateClosed
from worker.ledger.draft import no_room_remedy
from worker.sources.formats import named_format
from worker.telemetry import get_log

STATED_BYTES: Final = 64 * 1024 * 1024
"""Sources below this are planned in no time, and hardly ever beyond what is free."""

FACTOR: Final = 5
"""Bytes for each byte of plain text while it is planned: 4.5 were measured at 10 million rows of two
IDs, three quarters of a byte of which stay as the ledger; other columns take less."""

FACTOR_OF_COMPRESSED: Final = 6
"""What compressed sources are taken to expand to; how much it is shows only when they are read."""


def require_room(paths: Iterable[str], directory: Path, flag: str) -> None:
    """Say what planning the files may take in ``directory``, and refuse where that is not free.

    Raises ``GateClosed``; what is compressed or comes through a pipe is no reason for it, since
    nobody knows its size. ``flag`` names another place.
    """
    known, guessed = 0, 0
    for path in paths:
        try:
            size = sum(x.stat().st_size for x in _files(Path(path)))
        except OSError:
            continue  # no file, or one that whoever opens it refuses
        if named_format(path).compression or not path.endswith(_PLAIN):
            guessed += size * FACTOR_OF_COMPRESSED
        else:
            known += size
    if known + guessed < STATED_BYTES:
        return
    needed, stated = known * FACTOR, (known + guessed) * FACTOR
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    get_log().info(
        "planning", needs_about=_size(stated), free=_size(free), directory=str(directory)
    )
    if free < needed:
        raise GateClosed(
            f"{directory}: planning may take {_size(needed)} there, and {_size(free)} are free;"
            " nothing was sent",
            no_room_remedy(flag),
        )


_PLAIN = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def _files(path: Path) -> Iterable[Path]:
    return [x for x in path.rglob("*") if x.is_file()] if path.is_dir() else [path]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
