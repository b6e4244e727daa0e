"""``facepurge plan FILE -o DIR`` and its yardsticks over one generated manifest, as contestants."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.agreeable_service import KEYS
from tests.benchmarks.comparison import Contestant, WrongAnswer
from tests.benchmarks.manifest import SUFFIXES, Shape, Totals, write_manifest
from tests.benchmarks.measurement import MB, Ended

HERE = Path(__file__).parent
READ_BYTES = 1 << 20
C_LOCALE = {"LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Planning:
    """A manifest in a directory of its own, where everything about it happens."""

    directory: Path
    file: Path
    shape: Shape
    totals: Totals
    endpoint: str

    @classmethod
    def of(
        cls, directory: Path, shape: Shape, rows: int, endpoint: str = "http://127.0.0.1:9"
    ) -> Planning:
        """Writes the manifest; nobody calls the endpoint while it is planned."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"faces{SUFFIXES.get(shape, '.csv')}"
        return cls(directory, file, shape, write_manifest(file, shape, rows), endpoint)

    @property
    def title(self) -> str:
        size_mb = self.file.stat().st_size / MB
        return f"{self.totals.rows:,} rows, {self.shape} ({size_mb:,.0f} MB)"

    @property
    def plan_dir(self) -> Path:
        return self.directory / "plan"

    @property
    def environment(self) -> Mapping[str, str]:
        """Temporary files where there is as much room as for the manifest."""
        return {**KEYS, "TMPDIR": str(self.directory), "XDG_STATE_HOME": str(self.directory)}

    def facepurge(self) -> Contestant:
        """The program, from outside: exit code 0, and the totals of the generator."""
        command = (sys.executable, "-m", "worker", "plan", self.file, "-o", self.plan_dir)
        return Contestant(
            "facepurge plan",
            (*command, "--endpoint", self.endpoint, "--json", "--quiet"),
            self._planned,
            lambda: shutil.rmtree(self.plan_dir, ignore_errors=True),
            self.environment,
        )

    def _planned(self, ended: Ended) -> Mapping[str, float]:
        document = json.loads(ended.out)
        told = [document[name] for name in ("rows", "faces", "persons", "calls", "repeats")]
        totals = self.totals
        _require(told, [totals.rows, totals.pairs, totals.persons, totals.persons, totals.repeats])
        size = sum(path.stat().st_size for path in self.plan_dir.rglob("*") if path.is_file())
        return {"plan_mb": size / MB}

    def sort(self, *options: str) -> Contestant:
        """GNU sort; a gzipped manifest is unpacked on the way. It knows lines, not pairs."""
        sorted_file = self.directory / "sorted"
        words = ["sort", "-u", *options, "-T", str(self.directory), "-o", str(sorted_file)]
        command: list[str | Path] = [*words, self.file]
        if self.shape == "gz":
            command = ["sh", "-c", 'gzip -dc "$1" | ' + " ".join(words), "sh", self.file]

        def check(_ended: Ended) -> Mapping[str, float]:
            _require(_lines_of(sorted_file), self.totals.distinct_lines)
            sorted_file.unlink()
            return {}

        name = " ".join(["sort -u", *options])
        return Contestant(name, command, check, environment=C_LOCALE)

    def duckdb(self, memory: str = "512MB") -> Contestant:
        """Distinct and group. That it may fall over its own limit is a result."""
        return Contestant(
            f"DuckDB alone, {memory}",
            (sys.executable, HERE / "duckdb_distinct.py", self.file, self.directory, memory),
            self._counted,
            may_fail=True,
        )

    def dict_of_sets(self) -> Contestant:
        """Standard library only; for CSV of two columns."""
        return Contestant(
            "Python dict of sets",
            (sys.executable, HERE / "dict_of_sets.py", self.file),
            self._counted,
        )

    def _counted(self, ended: Ended) -> Mapping[str, float]:
        _require(json.loads(ended.out), [self.totals.pairs, self.totals.persons])
        return {}


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(READ_BYTES), b""))


def _require(told: object, known: object) -> None:
    if told != known:
        raise WrongAnswer(f"it counted {told}, and the generator wrote {known}")


def without(programs: tuple[str, ...], find: Callable[[str], str | None] = shutil.which) -> str:
    """Which of ``programs`` this machine lacks, as a sentence; ``""`` where it has them all."""
    lacking = [program for program in programs if find(program) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else ""
