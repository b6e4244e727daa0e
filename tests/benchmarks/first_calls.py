"""A command that calls, waited for until its calls come, and then sent a signal."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.agreeable_service import AgreeableService
from tests.benchmarks.comparison import WrongAnswer
from tests.benchmarks.measurement import MB, Measurement


@dataclass(frozen=True, slots=True)
class Interrupted:
    """How the command ended."""

    code: int
    """Negative: killed."""
    measurement: Measurement
    """Wall seconds to the arrival of its first call; peak memory up to the last one that was waited for,
    CPU seconds to its end."""


def interrupt(
    command: Sequence[str | Path],
    service: AgreeableService,
    environment: Mapping[str, str],
    *,
    after_calls: int,
    signal_number: int,
) -> Interrupted:
    """Start it, wait for so many calls, send it the signal, and wait for its end.

    Raises ``WrongAnswer`` where the calls do not come.
    """
    service.forget()
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        with subprocess.Popen(
            command,
            env={"PATH": os.defpath, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        ) as process:
            try:
                first = service.arrived(after_calls, lambda: process.poll() is not None)
            except TimeoutError as error:
                process.kill()
                said.seek(0)
                raise WrongAnswer(f"{command[3]}: {error}; {said.read()[-2000:]}") from error
            peak_mb = held_at_most_mb(process.pid)
            process.send_signal(signal_number)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Interrupted(process.returncode, Measurement(first - began, cpu_seconds, peak_mb))


def held_at_most_mb(pid: int) -> float | None:
    """The peak of a live process; None where there is no /proc to tell it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / MB
