"""One command, run once in a process of its own: how long it took and how much memory it held."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
HOUR_SECONDS = 3600.0
MB = 1e6


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run took, as the operating system saw it."""

    wall_seconds: float
    """From before the process was made to its end."""
    cpu_seconds: float | None
    """User and system, of the process and of its children that it waited for; None: not measured."""
    peak_mb: float | None
    """The largest of: the process, each child it waited for, and all of them together (sampled).

    In 10^6 bytes, resident; the launcher's own 11 MB at least. None: not measured.
    """
    told: Mapping[str, float] = field(default_factory=dict)
    """Further figures that the run or its check told, units in their names."""
    failure: str = ""
    """Why it counts for nothing; ``""`` where it counts."""

    def figure(self, name: str) -> float:
        """One of its figures by name; raises ``KeyError`` for one that nobody measured or told."""
        own = {
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_mb": self.peak_mb,
        }
        value = own[name] if name in own else self.told[name]
        if value is None:
            raise KeyError(name)
        return value


@dataclass(frozen=True, slots=True)
class Ended:
    """A measured process that has ended, and what it said."""

    measurement: Measurement
    exit_code: int
    """Negative: the signal that ended it."""
    out: str
    err: str
    began_seconds: float
    """On the clock of ``time.monotonic``, which all processes of a machine share."""


def measure(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    limit_seconds: float = HOUR_SECONDS,
) -> Ended:
    """Run ``command`` to its end, or kill it at its limit.

    Raises ``OSError`` where it cannot be started. A process that fails or is killed has a
    measurement with a ``failure``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        specification = {
            "command": [str(word) for word in command],
            "limit_seconds": limit_seconds,
            "stdout": str(out),
            "stderr": str(err),
        }
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(specification)],
            env={**os.environ, **(environment or {})},
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as launcher:
            try:
                told, complaint = launcher.communicate()
            except BaseException:  # a Ctrl-C too must not leave a contestant behind
                launcher.send_signal(signal.SIGTERM)
                raise
        if launcher.returncode:
            raise OSError(f"{command[0]} could not be started: {complaint.splitlines()[-1]}")
        took = json.loads(told)
        said, complained = out.read_text("utf-8", "replace"), err.read_text("utf-8", "replace")
    failure = ""
    if took["late"]:
        failure = f"not finished after {limit_seconds:,.0f} s"
    elif took["exit_code"]:
        last = (complained.strip().splitlines() or ["it said nothing"])[-1]
        failure = f"ended with {took['exit_code']}: {last}"
    measurement = Measurement(
        took["wall_seconds"], took["cpu_seconds"], took["peak_bytes"] / MB, {}, failure
    )
    return Ended(measurement, took["exit_code"], said, complained, took["began_seconds"])
