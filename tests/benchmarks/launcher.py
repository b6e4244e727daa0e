"""Runs one command as a process group and tells what the operating system says it took.

``python -I -S launcher.py SPECIFICATION``, both ways JSON. A process of its own, as small as Python
gets: Linux counts the memory of whoever starts a program into that program's peak (at ``exec``, the
peak of the old image is kept in ``ru_maxrss``), so whoever measures must be smaller than what is measured.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

SAMPLING_SECONDS = 0.02
KIB = 1024
# Of ru_maxrss: the BSDs and macOS count bytes.
MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else KIB


def descendants(pid: int) -> list[int]:
    """The live processes below ``pid``; empty where there is no /proc."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                born = [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # ended meanwhile
            found += born
            waiting += born
    return found


def resident_bytes(pid: int) -> int:
    """What ``pid`` holds in memory now; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Together:
    """The most that a process and all below it held at one time, as far as samples see it.

    A page that two of them share counts twice: an upper bound.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes = 0
        self._thread.start()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            # The peak of one process alone is known from its end, without samples.
            if below := descendants(self._pid):
                held = sum(resident_bytes(pid) for pid in (self._pid, *below))
                self.peak_bytes = max(self.peak_bytes, held)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def launch(specification: dict[str, Any]) -> dict[str, object]:
    """Run it to its end, or to its limit; what it took, and the monotonic time of its start."""
    command = [str(word) for word in specification["command"]]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(specification["stdout"]), os.O_WRONLY | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, str(specification["stderr"]), os.O_WRONLY | os.O_CREAT, 0o600),
    ]
    began = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=files, setpgroup=0)
    late = threading.Event()

    def kill() -> None:
        late.set()
        os.killpg(pid, signal.SIGKILL)

    limit = threading.Timer(float(specification["limit_seconds"]), kill)
    limit.daemon = True
    limit.start()
    together = Together(pid)
    try:
        _, status, usage = os.wait4(pid, 0)
    except BaseException:  # whatever ends this one, a signal too, ends what it has started
        os.killpg(pid, signal.SIGKILL)
        raise
    wall_seconds = time.monotonic() - began
    limit.cancel()
    together.end()
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "late": late.is_set(),
        "began_seconds": began,
        "wall_seconds": wall_seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": max(usage.ru_maxrss * MAXRSS_UNIT_BYTES, together.peak_bytes),
    }


if __name__ == "__main__":
    # Ended from outside, it does not leave the measured process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.stdout.write(json.dumps(launch(json.loads(sys.argv[1]))))
