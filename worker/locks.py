"""Operating-system locks: one process per run directory, one run per quota.

The lock is the kernel's and ends with the process, however it ends; the file's text only names
the holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from worker.errors import GateClosed

LOCK_NAME = "lock"
"""The lock's file in a run directory."""

ATTEMPTS = 5

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


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
    """Where this user's programs keep state, as the XDG base directory specification says.

    Raises ``GateClosed`` for a user without a home.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    try:
        root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise GateClosed(
            f"HOME: it is not set, and user {os.getuid()} has no home directory, so there is no place"
            " for what all runs share, such as the lock of their quota",
            "name a directory for such files in XDG_STATE_HOME, the same for all runs of the account",
        ) from error
    return root / "facepurge"


def _holder(descriptor: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder))
    except msgspec.DecodeError:
        return "another process"


def holder_of_run(run_dir: Path) -> str:
    """The process at work on ``run_dir`` as a person reads it; ``""`` where there is none.

    Raises ``GateClosed`` where the lock cannot be looked at.
    """
    with _looked_at(run_dir) as holder:
        return holder


@contextmanager
def _looked_at(run_dir: Path) -> Iterator[str]:
    """Who holds the lock of ``run_dir``; where nobody does, nobody gets it as long as this lasts."""
    path = run_dir / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        descriptor = -1
    except OSError as error:
        raise GateClosed(
            f"{path}: the lock cannot be looked at ({error.strerror})",
            "check the owner and the permissions of the run directory",
        ) from error
    if descriptor < 0:
        yield ""
        return
    try:
        holder = ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
        yield holder
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """Take the lock, or raise ``BlockingIOError``; whoever only looks has it for an instant."""
    for left in reversed(range(ATTEMPTS)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
        time.sleep(0.01)


def make_private(directory: Path) -> None:
    """Create ``directory``; ``mkdir(parents=True)`` would leave the parents to the umask."""
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _opened(path: Path, or_else: str) -> int:
    """The lock's file, made if there is none. Raises ``GateClosed`` with the remedy ``or_else``."""
    try:
        make_private(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GateClosed(
            f"{path}: the lock cannot be taken ({error.strerror})",
            f"check the owner and the permissions of its directory, and that the disk has room; {or_else}",
        ) from error


@contextmanager
def _locked(
    path: Path, run_dir: Path, refused: str, remedy: str, *, or_else: str
) -> Iterator[None]:
    descriptor = _opened(path, or_else)
    try:
        try:
            _take(descriptor)
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
        f"wait for it, or end it: facepurge stop {shlex.quote(str(run_dir))}",
        or_else="if it is an archive that nobody may write, copy it first and name the copy",
    ):
        yield


@contextmanager
def reading_lock(run_dir: Path) -> Iterator[None]:
    """As ``run_lock``, for who changes nothing: also where nobody may write.

    What cannot be written there needs no lock against this process, and a process that is at work
    elsewhere on the same files has one on theirs. Raises ``GateClosed`` naming the holder.
    """
    if may_write(run_dir):
        with run_lock(run_dir):
            yield
        return
    with _looked_at(run_dir) as holder:
        if holder:
            raise GateClosed(
                f"{run_dir}: another process works on this run: {holder}", "wait until it has ended"
            )
        yield


def may_write(run_dir: Path) -> bool:
    """Whether this process may, and the file system allows it: an archive may be read-only."""
    return os.access(run_dir, os.W_OK)


def quota_of(endpoint: str) -> str:
    """What shares the quota of an account with ``endpoint``: its region, where the host names it.

    A region's public and VPC hosts are ways to the same service (documented on "Endpoints"), and one
    machine has several names for itself.
    """
    split = urlsplit(endpoint)
    host = split.hostname or ""
    labels = host.split(".")
    if labels[-2:] == ["aliyuncs", "com"] and len(labels) == 4:
        return labels[1]
    if _is_loopback(host):
        return f"loopback:{split.port or _DEFAULT_PORTS.get(split.scheme, 0)}"
    return endpoint


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def quota_lock(account: str, endpoint: str, run_dir: Path) -> Iterator[None]:
    """Only one run per account and region on this machine, because they share one quota.

    An address that tells no region has a lock of its own. Raises ``GateClosed`` naming the holder.
    """
    quota = quota_of(endpoint)
    key = hashlib.sha256(f"{account}\n{quota}".encode()).hexdigest()[:32]
    with _locked(
        state_directory() / "locks" / f"{key}.lock",
        run_dir,
        f"another run uses the quota of this account ({quota})",
        "wait until it has ended, then type the same again",
        or_else="or name another one in XDG_STATE_HOME, the same for all runs of the account",
    ):
        yield
