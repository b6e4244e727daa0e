from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache", "--no-logo"],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_import_follows_the_rules() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("report/tables.py", "import worker.green.signing", "do not know one another"),
        ("pipeline.py", "import worker.cli", "Imports point downwards"),
        ("fold.py", "import aiohttp", "The flow and its rules"),
        ("sandbox/world.py", "import worker.green.verdicts", "The sandbox shares"),
        ("invariants/proof.py", "import worker.fold", "The checker does not judge"),
        ("sources/interface.py", "import apsw", "A port knows"),
        ("green/codes.py", "import sqlite3", "SQL stays"),
        ("report/cells.py", "import rich", "Only the command line"),
    ],
)
def test_an_import_against_the_rules_is_found(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    shutil.copytree(
        ROOT / "worker", tmp_path / "worker", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "worker" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout
    broken = done.stdout.partition("Broken contracts")[2]
    assert contract in " ".join(broken.split())


def test_the_only_top_level_folders_are_the_agreed_ones() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["worker"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a clone: there is no list of the repository's files")
    names = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    visible = {name for name in names if not name.startswith(".")}
    assert visible <= {
        "worker",
        "tests",
        "configs",
        "deploy",
        "Makefile",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "pyproject.toml",
    }
