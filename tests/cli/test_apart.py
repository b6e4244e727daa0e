"""Planning in a process of its own: what goes wrong there is said here, and nothing else is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sources import object_store

ROOT = Path(__file__).parents[2]

APART = """
import os, signal, sys
from worker import interruption
from worker.cli import ending
from worker.cli.apart import apart

def memory():
    raise MemoryError

def unexpected():
    raise LookupError("a secret of the other process")

def mask():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    os.kill(os.getppid(), signal.SIGTERM) if len(sys.argv) > 2 else None
    return repr(sorted(blocked)).encode()

interruption.begin()
try:
    with ending.known("last"):
        print(apart(globals()[sys.argv[1]]).decode())
except BaseException as error:
    print(ending.tell(error, verbose=True))
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
"""


def apart(*args: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", APART, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_too_little_memory_is_a_sentence() -> None:
    out, err = apart("memory")
    assert out == "3\n[]\n"
    assert "the memory did not suffice to read the input" in err
    assert "  remedy: see the system's log, give it more" in err


def test_an_unexpected_error_is_told_with_its_own_places_and_without_its_words() -> None:
    out, err = apart("unexpected")
    assert out == "1\n[]\n"
    assert "(LookupError" in err
    assert " in unexpected\n" in err
    assert "secret" not in err


def test_signals_are_held_back_only_while_there_are_not_two_processes_yet() -> None:
    assert apart("mask") == ("[]\n[]\n", "")


def test_a_signal_ends_both() -> None:
    out, err = apart("mask", "terminated")
    assert out == "143\n[]\n"
    assert "terminated (SIGTERM)" in err


def test_a_big_file_beside_an_object_of_a_store(tmp_path: Path) -> None:
    """Connections and threads to a store do not live on in a fork."""
    big = tmp_path / "big.csv"
    big.write_text(
        "person_id,face_id\n" + "".join(f"person{n:026},{n:032}\n" for n in range(70_000))
    )
    with object_store.serving() as store:
        store.put("bucket/more.csv", b"person_id,face_id\nanother,1\n")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "worker", "run", str(big), "s3://bucket/more.csv"),
                *("--sandbox", "--dry-run"),
            ],
            cwd=ROOT,
            env=os.environ | object_store.environment(store.endpoint),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "70,001" in done.stdout
