"""What a benchmark ran on: figures of two machines are not compared, ratios may be."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import apsw

from tests.benchmarks.measurement import MB

PACKAGES = ("aiohttp", "apsw", "duckdb", "facepurge", "msgspec", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Machine:
    """Names no host and no user."""

    cores: int
    """That this process may use."""
    memory_mb: float
    system: str
    python: str
    packages: Mapping[str, str]
    sqlite: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.cores} cores, {self.memory_mb / 1000:.0f} GB, {self.system},"
            f" Python {self.python}, SQLite {self.sqlite},"
            f" {', '.join(f'{name} {version}' for name, version in self.packages.items())}"
        )


def this_machine() -> Machine:
    # As sched_getaffinity is not everywhere (macOS).
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        cores or 1,
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB,
        f"{platform.system()} {platform.machine()}",
        platform.python_version(),
        {name: metadata.version(name) for name in PACKAGES},
        apsw.sqlite_lib_version(),
    )
