"""Operating-system locks: one process per run directory, one run per account and endpoint.

The lock is the kernel's and ends with the process, however it ends; the file's text only names
the holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from worker.errors import GateClosed

LOCK_NAME = "lock"
"""The lock's file in a run directory."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    pid: int
    host: str
    since: str
    """UTC, ISO 8601."""
    run_dir: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}, run {self.run_dir}"


def state_directory() -> Path:
    """Where this user's programs keep state, as the XDG base directory specification says."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "facepurge"


def _holder(descriptor: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder))
    except msgspec.DecodeError:
        return "another process"


def make_private(directory: Path) -> None:
    """Create ``directory``; ``mkdir(parents=True)`` would leave the parents to the umask."""
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _locked(path: Path, run_dir: Path, refused: str, remedy: str) -> Iterator[None]:
    try:
        make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GateClosed(
            f"{path}: the lock cannot be taken ({error.strerror})",
            "check the owner and the permissions of its directory, and that the disk has room",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GateClosed(f"{refused}: {_holder(descriptor)}", remedy) from None
        holder = Holder(
            os.getpid(),
            os.uname().nodename,
            datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            str(run_dir.resolve()),
        )
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        except OSError:
            pass  # a full disk takes the holder's name away, not the lock
        yield
    finally:
        os.close(descriptor)


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Only one process works on a run directory; raises ``GateClosed`` naming the holder."""
    with _locked(
        run_dir / LOCK_NAME,
        run_dir,
        f"{run_dir}: another process works on this run",
        "wait for it, or stop it with SIGTERM",
    ):
        yield


@contextmanager
def quota_lock(account: str, endpoint: str, run_dir: Path) -> Iterator[None]:
    """Only one run per account and endpoint on this machine, because they share one quota.

    Raises ``GateClosed`` naming the holder.
    """
    key = hashlib.sha256(f"{account}\n{endpoint}".encode()).hexdigest()[:32]
    with _locked(
        state_directory() / "locks" / f"{key}.lock",
        run_dir,
        "another run uses the quota of this account and endpoint",
        "wait until it has ended, then: facepurge resume RUN_DIR",
    ):
        yield
