"""The harness sees what a process took, and nothing of who started it."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.benchmarks.measurement import measure

HOLD_60_MB = "held = b'x' * 60_000_000"


def _python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", textwrap.dedent(script)]


def test_the_peak_of_a_child_is_seen() -> None:
    peaks_mb = [measure(_python(s)).measurement.figure("peak_mb") for s in ("pass", HOLD_60_MB)]
    assert peaks_mb[1] - peaks_mb[0] > 50


def test_memory_given_back_still_counts() -> None:
    peak_mb = measure(_python(f"{HOLD_60_MB}; del held")).measurement.figure("peak_mb")
    assert peak_mb > 60


def test_what_the_measuring_process_holds_is_not_counted() -> None:
    held = bytearray(b"x") * 300_000_000
    assert measure(_python("pass")).measurement.figure("peak_mb") < 100
    assert len(held) == 300_000_000


def test_a_child_and_its_child_are_added_up() -> None:
    script = f"""
        import subprocess, sys
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", "{HOLD_60_MB}; print(flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        {HOLD_60_MB}
        child.stdout.readline()
        # Both hold theirs long enough to be sampled, many times: no sampler says when it has looked.
        import time
        time.sleep(0.5)
        child.communicate(b"\\n")
    """
    assert measure(_python(script)).measurement.figure("peak_mb") > 120


def test_the_work_of_a_child_that_was_waited_for_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    assert measure(_python(script)).measurement.figure("cpu_seconds") > 0.3


def test_wall_time_covers_a_wait_and_cpu_time_does_not() -> None:
    # A real one, because the clock that is tested is that of another process.
    measurement = measure(_python("import time; time.sleep(0.5)")).measurement
    assert measurement.wall_seconds > 0.5 > measurement.figure("cpu_seconds")


def test_what_it_says_and_when_it_began_are_told() -> None:
    before = time.monotonic()
    ended = measure(_python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (ended.out, ended.err, ended.exit_code) == ("out\n", "err\n", 0)
    assert before < ended.began_seconds < time.monotonic()
    assert not ended.measurement.failure


def test_an_environment_and_a_directory_are_given(tmp_path: Path) -> None:
    script = "import os; print(os.environ['LC_ALL'], os.getcwd())"
    ended = measure([sys.executable, "-c", script], environment={"LC_ALL": "C"}, directory=tmp_path)
    assert ended.out == f"C {tmp_path.resolve()}\n"


def test_a_process_that_fails_says_why() -> None:
    ended = measure(_python("import sys; sys.exit('no room')"))
    assert ended.measurement.failure == "ended with 1: no room"


def test_a_process_beyond_its_limit_is_killed_with_its_children() -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    began = time.monotonic()
    ended = measure([sys.executable, "-c", script], limit_seconds=0.5)
    assert ended.measurement.failure == "not finished after 0 s"
    assert time.monotonic() - began < 60


def test_what_cannot_be_started_is_an_error() -> None:
    with pytest.raises(OSError, match="no-such-program could not be started"):
        measure(["no-such-program"])
