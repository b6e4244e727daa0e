"""Raises mutants in a tree, one after another, and sees which of them the tests let live.

Run by the tree's own interpreter with the job's file as its argument. The libraries that tests
import are imported once; each mutant is then a file in the tree and a child of this process that
runs pytest. Tests made of random examples take the same ones each time, and report the first
failure without looking for a smaller one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

LIBRARIES = (
    "aiohttp",
    "aiolimiter",
    "apsw",
    "click",
    "hypothesis",
    "msgspec",
    "pytest_asyncio",
    "zstandard",
)
"""None of them imports the program."""

MEMORY_BYTES = 4 * 1024**3
HANGS = -signal.SIGALRM
"""The code of a child that its alarm has ended."""


def raise_all(file: Path, texts: Iterable[str], tests: Sequence[str], deadline: float) -> None:
    """Write pytest's exit code and the seconds for each text of ``file`` to standard output."""
    before = file.read_bytes()
    for name in LIBRARIES:
        __import__(name)
    try:
        for text in texts:
            file.write_text(text, encoding="utf-8")
            began = time.monotonic()
            code = _in_a_child(tests, deadline)
            sys.stdout.write(f"{code} {time.monotonic() - began:.3f}\n")
            sys.stdout.flush()
    finally:
        file.write_bytes(before)


def _in_a_child(tests: Sequence[str], deadline: float) -> int:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    code = os.EX_SOFTWARE
    try:
        code = _tested(tests, deadline)
    finally:
        os._exit(code)


def _tested(tests: Sequence[str], deadline: float) -> int:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_REAL, deadline)
    import hypothesis
    import pytest

    hypothesis.settings.register_profile(
        "mutation",
        database=None,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")
    return int(
        pytest.main(["-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", *tests])
    )


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_bytes())
    raise_all(Path(job["file"]), job["texts"], job["tests"], job["deadline"])
