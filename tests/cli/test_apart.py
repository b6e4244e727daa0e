"""Planning in a process of its own: what goes wrong there is said here, and nothing else is changed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pyarrow as pa
import pytest

from tests.sources import object_store
from worker.cli import planning
from worker.errors import GateClosed
from worker.ledger.ahead import ahead
from worker.ledger.draft import LedgerDraft
from worker.settings import Settings

ROOT = Path(__file__).parents[2]

APART = """
import os, signal, sys
from worker import interruption
from worker.cli import apart as apart_module
from worker.cli import ending
from worker.cli.apart import apart

def memory():
    raise MemoryError

def nothing_left():
    # As where not even the sentence about it can be made.
    apart_module.told_elsewhere = lambda error: memory()
    raise LookupError

def no_library():
    raise ImportError("numpy.so: failed to map segment from shared object")

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
except BaseException as error:  # as the program does it with whatever ends it
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


@pytest.mark.parametrize("what", ["memory", "nothing_left", "no_library"])
def test_too_little_memory_is_a_sentence(what: str) -> None:
    out, err = apart(what)
    assert out == "3\n[]\n"
    assert "the memory did not suffice to plan the input, and nothing was sent" in err
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


@pytest.mark.parametrize("big_bytes", [10_000, 1], ids=["in this process", "in one of its own"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 4 failed"),
        apsw.NoMemError("out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_plan_without_memory_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, big_bytes: int
) -> None:
    table = tmp_path / "a.csv"
    table.write_text("person_id,face_id\nsomebody,1\n")
    place = tmp_path / "place"
    place.mkdir()

    def line_up(*_: object) -> None:
        raise error

    monkeypatch.setattr(planning, "BIG_BYTES", big_bytes)
    monkeypatch.setattr(LedgerDraft, "_line_up", line_up)
    with (
        pytest.raises(GateClosed) as refused,
        planning.planned(Settings(), [str(table)], "run", place, quiet=True),
    ):
        pass
    assert (
        refused.value.cause == "the memory did not suffice to plan the input, and nothing was sent"
    )
    assert "give it more" in refused.value.remedy
    assert list(place.iterdir()) == []


def test_a_plan_that_leaves_no_memory_for_its_own_table_is_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("person_id,face_id\nsomebody,1\n")
    with (
        pytest.raises(GateClosed, match="the memory did not suffice"),
        planning.planned(Settings(), [str(table)], "run", tmp_path, quiet=True),
    ):
        raise MemoryError


def test_no_thread_for_planning_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(GateClosed, match="can't start new thread") as refused:
        list(ahead(str, [1]))
    assert "ulimit -u" in refused.value.remedy


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
