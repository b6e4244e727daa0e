"""What a plan is bound to beyond what every run records, and how its input differs from it now."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import msgspec

from worker.configuration import Configuration
from worker.errors import InputRefused, UsageRefused
from worker.model import SourceSummary
from worker.plan import PlanFigures
from worker.sources import paths_of
from worker.sources.remote import ObjectStream, is_remote, version_of
from worker.sources.stores import Version

Identity = tuple[int, int, int, int, int] | Version
"""Device, inode, size and times of change: what tells at once that a file may be another. Of an
object in a store its version."""


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sealed with the plan, as the fact ``bound``."""

    directory: str
    """Where the names of the sources lead from: the working directory of the planning."""
    specs: tuple[str, ...]
    """Files, folders, globs, URLs and ``-`` as they were typed."""
    streams: tuple[str, ...]
    """Sources that nobody can read again: standard input and pipes."""
    typed: tuple[str, ...]
    """Settings that were given by flag; where they came from elsewhere, that place is asked again."""
    figures: PlanFigures


def bound(
    specs: Sequence[str],
    names: Sequence[str],
    configuration: Configuration,
    figures: PlanFigures,
) -> Binding:
    """What a plan of ``specs`` is bound to, as seen from the working directory.

    ``names`` are the sources that they named.
    """
    return Binding(
        str(Path.cwd()),
        tuple(specs),
        tuple(name for name in names if not _is_file(name)),
        typed(configuration),
        figures,
    )


def typed(configuration: Configuration) -> tuple[str, ...]:
    """The settings that were given by flag."""
    return tuple(key for key, origin in configuration.origins.items() if origin.startswith("--"))


def _is_file(name: str) -> bool:
    """Whether the same name will mean the same file or object later; the kernel's do not."""
    if is_remote(name):
        return True
    path = Path(name)
    kernel = any(path.is_relative_to(place) for place in ("/dev", "/proc"))
    return name != "-" and not kernel and path.is_file()


@dataclass(slots=True)
class Comparison:
    """The input as it is now, against what the plan has read."""

    differences: list[str] = field(default_factory=list)
    """One sentence each."""
    seen: dict[str, Identity] = field(default_factory=dict)
    """The files and objects that are what they were, by path or URL."""

    def changed_since(self) -> list[str]:
        """Files that were the planned ones, and have been touched after that was established."""
        return [
            f"{name}: the {_noun(name)} was changed just now"
            for name, identity in self.seen.items()
            if _identity_of(name) != identity
        ]


def compare(
    binding: Binding, sources: Sequence[SourceSummary], progress: Callable[[int], None]
) -> Comparison:
    """Read all files of the plan again, from where it was made.

    ``progress`` is told the number of bytes read so far. A glob counts with all that it matches now,
    a folder with all its parts.
    """
    comparison = Comparison()
    planned = {source.name: source for source in sources if source.name not in binding.streams}
    present = dict.fromkeys(_present(binding, comparison.differences))
    directory = Path(binding.directory)
    read = 0
    for name in present:
        if name not in planned and name not in binding.streams:
            comparison.differences.append(
                f"{name}: the {_noun(name)} is not in the plan, and a pattern or folder of its sources"
                " has it now"
            )
    for name, source in planned.items():
        if name not in present:
            comparison.differences.append(
                f"{name}: the plan has read this {_noun(name)}, and it is gone"
            )
            continue
        if is_remote(name):
            path, (difference, identity) = name, _compare_object(name, source)
        else:
            path = str(directory / name)
            difference, identity = _compare_file(path, source)
        if identity is None:
            comparison.differences.append(f"{name}: {difference}")
        else:
            comparison.seen[path] = identity
        read += source.byte_count
        progress(read)
    return comparison


def _present(binding: Binding, differences: list[str]) -> Iterator[str]:
    for spec in binding.specs:
        try:
            yield from paths_of([spec], binding.directory)
        except UsageRefused as refused:
            differences.append(refused.cause)


def _compare_object(url: str, source: SourceSummary) -> tuple[str, Identity | None]:
    """The difference, or the version of the object that has none."""
    try:
        version = version_of(url)
        if version.size != source.byte_count:
            return _other_size(source, "object", version.size), None
        with BufferedReader(ObjectStream(url)) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != source.sha256:
            return _other_content(source, "object", digest), None
        if version_of(url) != version:
            return "the object is being changed at this moment", None
    except (UsageRefused, InputRefused) as refused:
        return (
            f"the object cannot be read any more ({refused.cause.removeprefix(f'{url}: ')})",
            None,
        )
    return "", version


def _compare_file(path: str, source: SourceSummary) -> tuple[str, Identity | None]:
    """The difference, or what identifies the file that has none."""
    try:
        # Without waiting: what was a file may be a pipe by now, and nobody may be writing to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _compare_content(descriptor, source)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return "the plan has read this file, and it is gone", None
    except OSError as error:
        return f"the file cannot be read any more ({error.strerror})", None


def _compare_content(descriptor: int, source: SourceSummary) -> tuple[str, Identity | None]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return "the plan has read a file, and it is none any more", None
    if status.st_size != source.byte_count:
        return _other_size(source, "file", status.st_size), None
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        return _other_content(source, "file", digest), None
    if _identity(os.fstat(descriptor)) != _identity(status):
        return "the file is being changed at this moment", None
    return "", _identity(status)


def _other_size(source: SourceSummary, noun: str, size_bytes: int) -> str:
    return f"{_planned(source)}, and the {noun} has {size_bytes:,} bytes now"


def _other_content(source: SourceSummary, noun: str, digest: str) -> str:
    return f"{_planned(source)}, and the {noun} is another now (SHA-256 {digest[:12]}...)"


def _planned(source: SourceSummary) -> str:
    return f"the plan has read {source.byte_count:,} bytes (SHA-256 {source.sha256[:12]}...)"


def _noun(name: str) -> str:
    return "object" if is_remote(name) else "file"


def _identity(status: os.stat_result) -> Identity:
    # The time of the content can be set by whoever wrote it; that of the change itself cannot.
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, status.st_size, *times


def _identity_of(name: str) -> Identity | None:
    try:
        return version_of(name) if is_remote(name) else _identity(Path(name).stat())
    except (OSError, UsageRefused):
        return None
