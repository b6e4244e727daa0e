"""The request log: one JSON object a line, written before the answer leaves.

The log is the server's truth for whoever judges a run, and it is what a restarted sandbox is
rebuilt from: the state it began with plus every change in the log is the world as it was, also
after SIGKILL. Lines are appended with one ``write``, so a process that dies leaves at most the last
one cut, and no answer was sent for that one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from worker.errors import FacepurgeError, InputRefused, UsageRefused
from worker.sandbox.world import Change, Profile


class Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """The first line of each life of the sandbox."""

    at_us: int
    """Microseconds since the epoch, UTC."""
    world_sha256: str
    """Digest of the state the log's changes are laid over."""


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="arrival"
):
    """One request that arrived, and what really happened to it."""

    sequence: int
    """Counts arrivals from 1, over all lives of the sandbox."""
    seconds: float
    """Monotonic clock when the first bytes were read; comparable between processes of a machine."""
    at_us: int
    """The sandbox's wall clock at that time: microseconds since the epoch, UTC."""
    operation: str
    """The SDKs' action name, or ``""`` for a path that is no operation."""
    person_id: str
    face_ids: tuple[str, ...]
    """The faces the request names, as received."""
    deleted: tuple[str, ...]
    """The faces really deleted before the answer; a late deletion has a line of its own."""
    status: int
    """HTTP status sent, or 0 where the connection was cut before it."""
    code: str
    """Code of the gateway or the service; for a fault with no code of its own, what it spoiled."""
    fault: str
    """The fault that struck, as ``worker.sandbox.faults.describe`` writes it, or ``""``."""
    nonce: str
    access_key_id: str
    request_id: str
    authentic: bool = False
    """Well signed, so that its nonce is used up."""
    served: bool = False
    """Let through by the gateway and the quota."""
    throttled: bool = False
    """Refused by the quota; faults that imitate a throttle are not counted here."""
    added: tuple[str, ...] = ()
    person: Literal["", "added", "deleted"] = ""
    profile: Profile | None = None

    @property
    def change(self) -> Change:
        return Change(self.person_id, self.deleted, self.added, self.person, self.profile)


class Late(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="late"
):
    """What a request did after its client had given up."""

    sequence: int
    """Of the arrival it belongs to."""
    seconds: float
    person_id: str
    deleted: tuple[str, ...]
    added: tuple[str, ...] = ()
    person: Literal["", "added", "deleted"] = ""
    profile: Profile | None = None

    @property
    def change(self) -> Change:
        return Change(self.person_id, self.deleted, self.added, self.person, self.profile)


Line = Start | Entry | Late

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_encode = msgspec.json.Encoder().encode


class JournalFailed(FacepurgeError):
    """The request log cannot be written, so the sandbox must not answer any more."""

    exit_code = 1


def read_log(path: Path) -> Iterator[Line]:
    """The lines of a request log in order; a last line without its end is left out.

    Raises ``InputRefused`` where a line is not one that the sandbox writes.
    """
    try:
        with path.open("rb") as log:
            for number, line in enumerate(log, start=1):
                if line.endswith(b"\n"):
                    yield _read_line(path, number, line)
    except OSError as error:
        raise InputRefused(
            f"{path}: the request log cannot be read ({error.strerror})",
            "name a file that this user may read and write",
        ) from error


def _read_line(path: Path, number: int, line: bytes) -> Line:
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise InputRefused(
            f"{path}:{number}: not a line of a sandbox's request log ({error})",
            "name another --log, or move this file away to begin with a new world",
        ) from error


class Journal:
    """Appends to the request log, and keeps the lines in memory where a test asks for it."""

    def __init__(self, path: Path | None, *, keep_lines: bool) -> None:
        self.lines: list[Line] = []
        """The lines of this life, oldest first; empty unless ``keep_lines``."""
        self._keep_lines = keep_lines
        self._path = path
        self._descriptor = -1

    def open(self, world_sha256: str, replay: Callable[[Line], None]) -> None:
        """Lock the log, hand every line of earlier lives to ``replay``, and cut off a torn end.

        Raises ``UsageRefused`` when another sandbox has it, ``InputRefused`` when it is damaged or
        belongs to another state.
        """
        if self._path is None:
            return
        self._descriptor = _open_and_lock(self._path)
        for line in read_log(self._path):
            if isinstance(line, Start) and line.world_sha256 != world_sha256:
                raise InputRefused(
                    f"{self._path}: this request log was begun with another state",
                    "name the state it was begun with, or another --log",
                )
            replay(line)
        _cut_torn_end(self._descriptor)

    @property
    def entries(self) -> list[Entry]:
        """The arrivals among ``lines``."""
        return [line for line in self.lines if isinstance(line, Entry)]

    def write(self, line: Line) -> None:
        """Hand the line to the operating system; afterwards SIGKILL cannot lose it.

        Raises ``JournalFailed``.
        """
        if self._keep_lines:
            self.lines.append(line)
        if self._descriptor < 0:
            return
        data = _encode(line) + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise JournalFailed(
                f"{self._path}: the request log cannot be written ({error.strerror})",
                "make room or name another --log; the sandbox has stopped",
            ) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_and_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise InputRefused(
            f"{path}: the request log cannot be opened ({error.strerror})",
            "name a file in a directory that this user may write to",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageRefused(
            f"{path}: another sandbox is writing this request log",
            "stop that sandbox, or name another --log",
        ) from error
    return descriptor


def _cut_torn_end(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
