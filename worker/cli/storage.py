"""Whether the disk has room for a run, keeps what it is given, and how fast it does so."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from worker.cli.finding import Finding, Grade

BYTES_PER_ROW: Final = 2_048
"""Ledger and report together: 800 to 1 000 bytes were measured, and a new report is written whole
before the old one goes."""

BYTES_AT_LEAST: Final = 100 * 1024 * 1024
"""For a run of unknown size; the smallest ledgers and reports are far below."""

SYNCS: Final = 20
SLOW_SYNC_SECONDS: Final = 0.1
"""Two syncs lie on the way of each call; records that wait share them, so it takes a slow disk to
be felt at 20 calls a second."""

_NETWORK_KINDS: Final = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "fuse")
_VOLATILE_KINDS: Final = ("tmpfs", "ramfs")


def examine_disk(directory: Path, rows: int | None) -> Finding:
    """The room where a run would live, for ``rows`` rows or as such, and the time of a sync."""
    place = _nearest(directory)
    try:
        status = os.statvfs(place)
        sync_seconds = _sync_seconds(place)
    except OSError as error:
        return Finding(
            "disk",
            Grade.FAIL,
            f"{place}: nothing can be written there ({error.strerror or type(error).__name__})",
            "choose another --run-dir, or mend owner, permissions, space or mount of this one",
        )
    free = status.f_bavail * status.f_frsize
    needed = BYTES_AT_LEAST if rows is None else max(rows * BYTES_PER_ROW, 1024 * 1024)
    what = "a run" if rows is None else f"{rows:,} rows"
    asked = "at least " if rows is None else "about "
    said = (
        f"{place} has {_size(free)} free, {what} may take {asked}{_size(needed)};"
        f" a sync takes {sync_seconds * 1000:.1f} ms"
    )
    if free < needed:
        return Finding("disk", Grade.FAIL, said, "make room, or choose another --run-dir")
    kind = _kind_of(place)
    if kind.startswith(_NETWORK_KINDS):
        remedy = "choose a --run-dir on a local disk: the ledger's locks need one"
        return Finding("disk", Grade.FAIL, f"{said}; it is on a network ({kind})", remedy)
    if kind in _VOLATILE_KINDS:
        remedy = "choose another --run-dir: the evidence would be gone after a power cut"
        return Finding("disk", Grade.WARN, f"{said}; it is in memory ({kind})", remedy)
    if free < 2 * needed:
        return Finding("disk", Grade.WARN, said, "make room: that is close")
    if sync_seconds > SLOW_SYNC_SECONDS:
        return Finding("disk", Grade.WARN, said, "choose a faster disk: two syncs go with a call")
    return Finding("disk", Grade.OK, said)


def _nearest(directory: Path) -> Path:
    """The directory, or the first one above it that exists."""
    absolute = directory.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.is_dir())


def _sync_seconds(directory: Path) -> float:
    """The median time that a small write takes until it is on disk. Raises ``OSError``."""
    seconds = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _kind_of(directory: Path) -> str:
    """The kind of file system, as the kernel names it; ``""`` where it cannot be told."""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    resolved = directory.resolve()
    kinds: dict[Path, str] = {}
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 2:
            kinds[Path(fields[1].replace("\\040", " "))] = fields[2]
    mounts = [mount for mount in kinds if resolved.is_relative_to(mount)]
    return kinds[max(mounts, key=lambda mount: len(mount.parts))] if mounts else ""


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
