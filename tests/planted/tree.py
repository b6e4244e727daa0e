"""A private copy of the tree with an interpreter of its own: where code may be broken on purpose.

The interpreter's search path is the copy and the libraries of the environment that runs the tests.
Whatever that environment has installed of this project (an editable install names the original) is
out of its sight, in child processes too.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[2]

CONTENT = (
    "worker",
    "tests",
    "configs",
    "deploy",
    ".ci",
    "Makefile",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
)

COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "worker")
"""By time and size, as is the default, a change of one sign within a second goes unnoticed."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A process that was run in a tree."""

    code: int | None
    """The exit code, or None where it did not end in time."""
    said: str


class Tree:
    """A copy in ``directory``, which must not exist yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._group: int | None = None
        ignore = shutil.ignore_patterns("__pycache__")
        for name in CONTENT:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.directory / name, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, self.directory / name)
        self.python = self._interpreter()
        compiled = self.run(*COMPILE, timeout_seconds=120)
        assert compiled.code == 0, compiled.said
        self._require_own()

    def _interpreter(self) -> Path:
        home = self.directory / ".venv"
        venv.create(home, symlinks=True)
        bases = {"base": str(home), "platbase": str(home)}
        libraries = dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))
        # Named in a .pth file, a directory is searched, and the .pth files in it are not read.
        (Path(sysconfig.get_path("purelib", vars=bases)) / "tree.pth").write_text(
            "\n".join([str(self.directory), *libraries]) + "\n"
        )
        return home / "bin" / "python"

    def _require_own(self) -> None:
        where = "import os, worker; os.chdir('/'); print(worker.__file__)"
        imported = self.run("-c", where, timeout_seconds=60)
        assert imported.code == 0, imported.said
        assert imported.said.strip() == str(self.directory / "worker" / "__init__.py")

    def run(self, *arguments: str, timeout_seconds: float) -> Ran:
        """Run the tree's interpreter in it; nothing of its process group is left afterwards."""
        said = self.directory / "said.txt"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST", "COV_", "FACEPURGE_", "ALIBABA_"))
        }
        with (
            said.open("w") as out,
            subprocess.Popen(
                [self.python, *arguments],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            self._group = process.pid
            code: int | None = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(timeout_seconds)
            finally:
                self.end()
        return Ran(code, said.read_text(errors="replace"))

    def end(self) -> None:
        """End what ``run`` has started, with everything that it has started itself."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    @contextmanager
    def holding(self, file: str, text: str) -> Iterator[None]:
        """While this lasts, ``file``, which is named from the tree's root, holds ``text``."""
        path = self.directory / file
        before = path.read_bytes()
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(before)


@contextmanager
def trees(count: int) -> Iterator[list[Tree]]:
    """So many trees, of which nothing is left afterwards: not even when a signal ends it all."""
    with tempfile.TemporaryDirectory(prefix="facepurge-trees-") as directory:
        made = [Tree(Path(directory, str(number))) for number in range(count)]

        def leave(number: int, _frame: FrameType | None) -> None:
            for tree in made:
                tree.end()
            shutil.rmtree(directory, ignore_errors=True)
            os._exit(128 + number)

        before = {
            number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield made
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
