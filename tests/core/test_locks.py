"""Locks between real processes: they end with their holder, however it ends."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import msgspec
import pytest

from worker import locks
from worker.calibration import calibrated
from worker.errors import GateClosed
from worker.locks import quota_lock, reading_lock, run_lock, state_directory

HOLD = """
import sys
from pathlib import Path
from worker.locks import quota_lock, run_lock
lock = {lock}
with lock:
    print("held", flush=True)
    sys.stdin.read()
"""

RUN_LOCK = "run_lock(Path(sys.argv[1]))"
QUOTA_LOCK = "quota_lock('account', 'https://green.example', Path(sys.argv[1]))"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@contextmanager
def holder(lock: str, run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``lock`` until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(lock=lock), str(run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("lock", "ours"),
    [
        (RUN_LOCK, run_lock),
        (QUOTA_LOCK, lambda run_dir: quota_lock("account", "https://green.example", run_dir)),
    ],
)
def test_the_second_process_is_told_who_holds_it(
    tmp_path: Path, lock: str, ours: Callable[[Path], AbstractContextManager[None]]
) -> None:
    run_dir = tmp_path / "run"
    with holder(lock, run_dir) as process:
        with pytest.raises(GateClosed) as refused, ours(run_dir):
            pass
        told = refused.value.cause
        assert f"process {process.pid} on {os.uname().nodename} since 20" in told
        assert str(run_dir) in told
        assert refused.value.remedy
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=5)
        with ours(run_dir):
            pass


def test_a_lock_is_free_after_its_holder_leaves(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        raise ZeroDivisionError
    with run_lock(tmp_path):
        pass


def test_one_process_does_not_get_it_twice(tmp_path: Path) -> None:
    """A second open of the same file is another holder for the kernel, within a process too."""
    with (
        run_lock(tmp_path),
        pytest.raises(GateClosed, match=f"process {os.getpid()} "),
        run_lock(tmp_path),
    ):
        pass


def test_the_holder_is_written_for_people_and_programs(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        text = msgspec.json.decode((tmp_path / "lock").read_bytes())
    assert text["pid"] == os.getpid()
    assert text["run_dir"] == str(tmp_path)
    assert text["since"].endswith("Z")


@pytest.mark.parametrize("stale", [b"", b"\xff\xfe", b"{}", b"[1]", b'{"pid": "x"}', b"x" * 9000])
def test_what_a_dead_process_left_does_not_matter(tmp_path: Path, stale: bytes) -> None:
    (tmp_path / "lock").write_bytes(stale)
    with run_lock(tmp_path):
        assert msgspec.json.decode((tmp_path / "lock").read_bytes())["pid"] == os.getpid()


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"{}", b"x" * 9000])
def test_a_holder_whose_name_cannot_be_read_still_holds(tmp_path: Path, text: bytes) -> None:
    with run_lock(tmp_path):
        (tmp_path / "lock").write_bytes(text)
        refused = "another process works on this run: another process"
        with pytest.raises(GateClosed, match=refused), run_lock(tmp_path):
            pass


def test_accounts_and_endpoints_have_locks_of_their_own(tmp_path: Path, state: Path) -> None:
    with (
        quota_lock("a", "https://x", tmp_path),
        quota_lock("b", "https://x", tmp_path),
        quota_lock("a", "https://y", tmp_path),
        pytest.raises(GateClosed, match=r"uses the quota of this account \(https://x\)"),
        quota_lock("a", "https://x", tmp_path / "elsewhere"),
    ):
        pass
    assert len(list((state / "facepurge" / "locks").iterdir())) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://green.cn-shanghai.aliyuncs.com", "https://green-vpc.cn-shanghai.aliyuncs.com"),
        ("https://green-cip.cn-beijing.aliyuncs.com", "https://green.cn-beijing.aliyuncs.com:443"),
        ("http://localhost:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://127.0.0.2:8080"),
        ("http://localhost", "http://127.0.0.1:80"),
        ("https://localhost", "https://[::1]:443"),
    ],
)
def test_one_quota_has_one_lock_whatever_leads_to_it(tmp_path: Path, one: str, other: str) -> None:
    with (
        quota_lock("a", one, tmp_path),
        pytest.raises(GateClosed, match="another run uses the quota of this account"),
        quota_lock("a", other, tmp_path / "elsewhere"),
    ):
        pass


def test_quotas_that_are_not_shared(tmp_path: Path) -> None:
    """The host without a region is not known to be any region's, nor is a host of somebody else."""
    with ExitStack() as held:
        for endpoint in (
            "https://green.cn-shanghai.aliyuncs.com",
            "https://green.cn-beijing.aliyuncs.com",
            "https://green.aliyuncs.com",
            "https://green.cn-shanghai.example.com",
            "http://127.0.0.1:8080",
            "http://127.0.0.1:8081",
        ):
            held.enter_context(quota_lock("a", endpoint, tmp_path))


@pytest.mark.parametrize("at_work", [True, False])
def test_an_archive_can_be_read_as_long_as_nobody_works_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, at_work: bool
) -> None:
    monkeypatch.setattr(locks, "may_write", lambda _: False)
    with reading_lock(tmp_path):
        assert not (tmp_path / "lock").exists()
    with run_lock(tmp_path) if at_work else nullcontext():
        (tmp_path / "lock").touch()
        if at_work:
            refused = f"another process works on this run: process {os.getpid()} "
            with pytest.raises(GateClosed, match=refused), reading_lock(tmp_path):
                pass
        else:
            with (
                reading_lock(tmp_path),
                pytest.raises(GateClosed, match="another process works on this run"),
                run_lock(tmp_path),
            ):
                pass


def test_who_only_reads_where_writing_is_allowed_locks_as_everybody_does(tmp_path: Path) -> None:
    with (
        reading_lock(tmp_path),
        pytest.raises(GateClosed, match=f"process {os.getpid()} "),
        run_lock(tmp_path),
    ):
        pass


def test_the_files_are_private_under_any_umask(tmp_path: Path, state: Path) -> None:
    before = os.umask(0)
    try:
        with quota_lock("a", "https://x", tmp_path), run_lock(tmp_path):
            pass
    finally:
        os.umask(before)
    locks = state / "facepurge" / "locks"
    modes = {path.stat().st_mode & 0o777 for path in [*locks.iterdir(), tmp_path / "lock"]}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (locks, locks.parent)} == {0o700}


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(GateClosed, match="the lock cannot be taken"), run_lock(tmp_path):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = r"file.lock: the lock cannot be taken \(File exists"
    with pytest.raises(GateClosed, match=refused), run_lock(tmp_path / "file"):
        pass


def test_a_full_disk_takes_the_name_away_and_not_the_lock(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with (
            run_lock(tmp_path),
            pytest.raises(GateClosed, match=r": another process$"),
            run_lock(tmp_path),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_state_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_directory() == tmp_path / "state" / "facepurge"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_directory() == tmp_path / ".local" / "state" / "facepurge"


def test_a_user_without_a_home_is_told_what_to_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with (
        pytest.raises(GateClosed, match="HOME: it is not set") as refused,
        quota_lock("a", "https://x", tmp_path),
    ):
        pass
    assert "XDG_STATE_HOME" in refused.value.remedy
    assert calibrated("a", "https://x") == ""
