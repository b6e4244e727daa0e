"""The readers' campaign: the program and a plain second reader over generated files.

``make readers FILES=10000 SEED=1`` has each file read by both (``tests.sources.plain``,
``tests.sources.generated_files``). They must give the same rows in the same order with the same
everything, or refuse the file for the same reason at the same line and byte. A file on which they
differ is made as small as it will get and kept, with the command that reads it again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.campaigns.table import say
from tests.sources.generated_files import GeneratedFile, Size, generated_file
from tests.sources.plain.objects import DECODER, written
from tests.sources.plain.reader import read_plainly
from tests.sources.plain.words import Asked, Fault, Kind, Read, Refusal, Result, Row
from worker.errors import InputRefused
from worker.model import Entry, Stretch
from worker.sources import open_sources
from worker.sources.interface import SourceOptions

SHRINKING_SECONDS = 5.0
MOST_BYTES_SHRUNK = 5000
"""Of a file that is taken apart byte by byte; a bigger one is by lines only."""

SHOWN_DIFFERENCES = 20
FILES_AT_A_TIME = 25
KEPT_NAME = "asked.json"

_OFFSET = re.compile(r"byte offset (\d+)")


class Unexpected(NamedTuple):
    """Something that no reading of a file may end with."""

    what: str


Observed: TypeAlias = Read | Refusal | Unexpected
Reader: TypeAlias = Callable[[bytes, str, Asked], Observed]
"""Of content, the name of its file, and what is asked."""


@dataclass
class Tally:
    """What came of the files so far."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    refused_rows: Counter[str] = field(default_factory=Counter)
    refused_files: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.files += other.files
        self.bytes += other.bytes
        self.rows += other.rows
        self.refused_rows += other.refused_rows
        self.refused_files += other.refused_files
        self.differences += other.differences


@dataclass(frozen=True)
class Program:
    """What the program makes of a file, through a real one in ``directory``."""

    directory: Path

    def __call__(self, data: bytes, name: str, asked: Asked) -> Observed:
        path = self.directory / name
        path.write_bytes(data)
        try:
            (source,) = open_sources([str(path)], SourceOptions(**asked._asdict()), None)
            rows = [_row(entry) for chunk in source.chunks() for entry in _entries(chunk)]
        except InputRefused as refused:
            return _refusal(refused.cause.removeprefix(str(path)))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            return Unexpected(f"{type(error).__name__}: {error}".replace(str(path), name))
        finally:
            path.unlink()
        summary = source.summary()
        if summary.entries != len(rows):
            return Unexpected(f"{summary.entries} entries are counted, {len(rows)} were given")
        return Read(rows, summary.records, summary.blank_lines)


def _entries(chunk: list[Entry] | Stretch) -> Iterable[Entry]:
    return chunk.entries() if isinstance(chunk, Stretch) else chunk


def _row(entry: Entry) -> Row:
    return Row(
        entry.record,
        entry.line,
        entry.label,
        entry.person_id,
        entry.face_id,
        next((fault for fault in Fault if re.search(fault, entry.reason)), Fault.OTHER)
        if entry.reason
        else Fault.NONE,
        entry.column,
        written(DECODER.decode(entry.carried)) if entry.carried else None,
        entry.whole,
        entry.due_us,
    )


def _refusal(cause: str) -> Observed:
    kind = next((kind for kind in Kind if re.search(kind, cause)), None)
    if kind is None:
        return Unexpected(f"a refusal that the plain reader does not know: {cause}")
    line = re.match(r":(\d+): ", cause)
    offset = _OFFSET.search(cause) if kind in (Kind.NUL, Kind.NOT_UTF8) else None
    return Refusal(kind, int(line[1]) if line else 0, int(offset[1]) if offset else None)


def difference(expected: Result, observed: Observed) -> str:
    """In what the program differs from the plain reader, or ``""``."""
    match expected, observed:
        case _, Unexpected(what):
            return what
        case Read(), Refusal():
            return f"refused by the program alone: {_told(observed)}"
        case tuple(), Read():
            return f"refused by the plain reader alone: {' or '.join(map(_told, expected))}"
        case tuple(), Refusal():
            if observed in expected:
                return ""
            return f"{_told(observed)}, where {' or '.join(map(_told, expected))} is expected"
        case Read(), Read():
            return _difference_of_rows(expected, observed)
    raise AssertionError((type(expected), type(observed)))


def _told(refusal: Refusal) -> str:
    offset = "" if refusal.offset is None else f" byte {refusal.offset}"
    return f"{refusal.kind.name} at line {refusal.line}{offset}"


def _difference_of_rows(expected: Read, observed: Read) -> str:
    if expected == observed:
        return ""
    for number, (plain, found) in enumerate(zip_longest(expected.rows, observed.rows)):
        if plain is None or found is None:
            return f"row {number} is {'missing' if found is None else 'one more'}"
        if plain != found:
            names = [n for n, a, b in zip(Row._fields, plain, found, strict=True) if a != b]
            told = ", ".join(
                f"{n} {getattr(found, n)!r:.200} for {getattr(plain, n)!r:.200}" for n in names
            )
            return f"row {number}: {told}"
    return (
        f"{observed.records} records and {observed.blank_lines} blank lines,"
        f" where {expected.records} and {expected.blank_lines} are expected"
    )


def difference_of(file: GeneratedFile, read: Reader) -> str:
    """In what ``read`` differs from the plain reader on that file, or ``""``."""
    expected = read_plainly(file.data, file.name, file.asked)
    return difference(expected, read(file.data, file.name, file.asked))


def examine(file: GeneratedFile, tally: Tally, read: Reader, *, shrinking_seconds: float) -> str:
    """Have the file read by both, and count it; the difference is told, and its file kept."""
    expected = read_plainly(file.data, file.name, file.asked)
    observed = read(file.data, file.name, file.asked)
    told = difference(expected, observed)
    tally.files += 1
    tally.bytes += len(file.data)
    if isinstance(observed, Read):
        tally.rows += len(observed.rows)
        tally.refused_rows += Counter(
            row.fault.name for row in observed.rows if row.fault is not Fault.NONE
        )
    elif isinstance(observed, Refusal):
        tally.refused_files[observed.kind.name] += 1
    if told:
        small = shrunk(file, read, shrinking_seconds)
        tally.differences.append(
            f"{told}\n      {file.story}\n      .venv/bin/python -m tests.campaigns.readers --again {keep(small)}"
        )
    return told


def shrunk(file: GeneratedFile, read: Reader, seconds: float) -> GeneratedFile:
    """The file without most of the lines and bytes that it does not need for such a difference."""
    until = time.monotonic() + seconds
    file = _shrunk(file, file.data.splitlines(keepends=True), read, until)
    if len(file.data) <= MOST_BYTES_SHRUNK:
        file = _shrunk(file, [bytes([byte]) for byte in file.data], read, until)
    return file


def _shrunk(file: GeneratedFile, parts: list[bytes], read: Reader, until: float) -> GeneratedFile:
    """The file without as many of ``parts`` as it can do without: halves first, then fewer."""
    sort = _sort(difference_of(file, read))
    size = len(parts) // 2 or 1
    while size:
        at = 0
        while at < len(parts):
            if time.monotonic() > until:
                return file
            fewer = parts[:at] + parts[at + size :]
            smaller = file._replace(data=b"".join(fewer))
            if _sort(difference_of(smaller, read)) == sort:
                file, parts = smaller, fewer
            else:
                at += size
        size //= 2
    return file


def _sort(told: str) -> str:
    """What two differences have in common that are alike but for where they are."""
    return re.split(r"[0-9:]", told)[0]


def keep(file: GeneratedFile) -> Path:
    """A directory with the file and what is asked of it."""
    directory = Path(tempfile.mkdtemp(prefix="facepurge-readers-"))
    (directory / file.name).write_bytes(file.data)
    (directory / KEPT_NAME).write_text(json.dumps(file.asked._asdict()), "utf-8")
    return directory


def kept(directory: Path) -> GeneratedFile:
    """What ``keep`` left there."""
    (path,) = (path for path in directory.iterdir() if path.name != KEPT_NAME)
    asked = Asked(**json.loads((directory / KEPT_NAME).read_text("utf-8")))
    return GeneratedFile(path.name, path.read_bytes(), asked, "kept")


def examined(seed: int, size: Size, numbers: Iterable[int]) -> Tally:
    """The tally of the files of those numbers."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="facepurge-readers-") as directory:
        program = Program(Path(directory))
        for number in numbers:
            file = generated_file(seed, number, size)
            file = file._replace(story=f"file {number} of seed {seed}: {file.story}")
            examine(file, tally, program, shrinking_seconds=SHRINKING_SECONDS)
    return tally


def campaign(seed: int, size: Size, numbers: range, jobs: int) -> Tally:
    """The same, by ``jobs`` processes, with a line for every twentieth of the files."""
    tally = Tally()
    batches = _batches(numbers, 2 if size is Size.BIG else FILES_AT_A_TIME)
    step = max(1, len(numbers) // 20)
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(partial(examined, seed, size), batches):
            for told in part.differences[: max(0, SHOWN_DIFFERENCES - len(tally.differences))]:
                say(f"DIFFERENT: {told}")
            tally.add(part)
            if tally.files % step < part.files:
                say(f"{tally.files:>7} files, {len(tally.differences)} differences")
    return tally


def _batches(numbers: range, size: int) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, size):
        yield range(start, min(start + size, numbers.stop))


def told(tally: Tally) -> Iterator[str]:
    """The tally, line by line."""
    used = tally.files - sum(tally.refused_files.values())
    yield f"files        {tally.files:>10}   {tally.bytes / 1e6:.0f} MB"
    yield f"  used       {used:>10}   {tally.rows} rows"
    for name, count in tally.refused_rows.most_common():
        yield f"    {name.lower():<20} {count:>8} rows refused"
    yield f"  refused    {tally.files - used:>10}"
    for name, count in tally.refused_files.most_common():
        yield f"    {name.lower():<20} {count:>8} files"
    yield f"differences  {len(tally.differences):>10}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--size", type=Size, default=Size.ANY, choices=list(Size))
    parser.add_argument("--again", type=Path, help="a directory that was kept")
    given = parser.parse_args()
    if given.again:
        with tempfile.TemporaryDirectory() as directory:
            program = Program(Path(directory))
            found = difference_of(kept(given.again), program)
        say(found or "no difference")
        return 1 if found else 0
    seed: int = given.seed or random.SystemRandom().randrange(1, 1_000_000)
    say(f"seed {seed}")
    numbers = range(given.first, given.first + given.files)
    tally = campaign(seed, given.size, numbers, given.jobs)
    for line in told(tally):
        say(line)
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
