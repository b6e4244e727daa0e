"""Completion in real shells: what Tab offers after each beginning."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli import VERBS

SHELLS = {name: shutil.which(name) for name in ("bash", "zsh", "fish")}

BASH = """\
compopt() { printf 'compopt %s\\n' "$*"; }  # outside of a completion bash refuses its own
source <(facepurge completion bash)
complete -p facepurge
COMP_WORDS=({words}); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_facepurge_completion facepurge
printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH = """\
autoload -Uz compinit && compinit -D
source <(facepurge completion zsh)
print -- $_comps[facepurge]
"""


class Home:
    """A directory with a run, some files, and the command on its path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        commands = directory / "bin"
        commands.mkdir()
        program = commands / "facepurge"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m worker "$@"\n')
        program.chmod(0o755)
        for number, name in enumerate(["runs/one", "runs/two", "elsewhere/three"]):
            ledger = directory / name / "ledger.sqlite3"
            ledger.parent.mkdir(parents=True)
            ledger.touch()
            os.utime(ledger, (number, number))
        (directory / "runs" / "no-run").mkdir()

    def shell(self, name: str, script: str) -> list[str]:
        done = subprocess.run(
            [str(SHELLS[name]), "-c", script],
            cwd=self.directory,
            env={
                "PATH": f"{self.directory / 'bin'}:/usr/bin:/bin",
                "HOME": str(self.directory),
                "TERM": "dumb",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == "", done.stderr
        return done.stdout.splitlines()

    def asked(self, words: str) -> list[tuple[str, str]]:
        """Kind and value of what the program itself offers; the shells' own protocol."""
        typed = shlex.split(words.replace("''", "'' "))
        done = subprocess.run(
            [sys.executable, "-m", "worker"],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "_FACEPURGE_COMPLETE": "bash_complete",
                "COMP_WORDS": words.removesuffix("''"),
                "COMP_CWORD": str(len(typed) - 1),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        pairs = [line.split(",", 1) for line in done.stdout.splitlines() if line]
        return [(offered, value) for offered, value in pairs]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


OFFERED = {
    "facepurge ''": list(VERBS),
    "facepurge re": [verb for verb in VERBS if verb.startswith("re")],
    "facepurge run --exc": ["--exclude-from"],
    "facepurge run --format ''": ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"],
    "facepurge run --region cn-": ["cn-shanghai", "cn-beijing", "cn-shenzhen"],
    "facepurge sandbox --throttle service": ["service-200", "service-588"],
    "facepurge config ''": ["show"],
    "facepurge completion ''": ["bash", "zsh", "fish"],
    "facepurge resume ''": ["runs/two", "runs/one"],
    "facepurge verify ru": ["runs/two", "runs/one"],
    "facepurge retry runs/o": ["runs/one"],
    "facepurge report elsewhere/": ["elsewhere/three"],
    "facepurge doctor runs/t": ["runs/two"],
}


@pytest.mark.parametrize("words", OFFERED)
def test_what_the_program_offers(home: Home, words: str) -> None:
    assert home.asked(words) == [("plain", value) for value in OFFERED[words]]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("facepurge run fac", "file"),
        ("facepurge plan --config co", "file"),
        ("facepurge run --run-dir ''", "dir"),
        ("facepurge resume nowhere/", "dir"),
        ("facepurge sandbox --state ''", "file"),
    ],
)
def test_where_the_shell_knows_better(home: Home, words: str, kind: str) -> None:
    last = words.rsplit(maxsplit=1)[-1].strip("'")
    assert home.asked(words) == [(kind, last)]


@pytest.mark.parametrize("words", ["facepurge run --rate 1", "facepurge run --columns ''"])
def test_where_nothing_can_be_offered(home: Home, words: str) -> None:
    assert home.asked(words) == []


def test_bash_completes(home: Home) -> None:
    for words in ("facepurge re", "facepurge run --exc", "facepurge resume ''"):
        registered, *offered = home.shell("bash", BASH.replace("{words}", words))
        assert registered == "complete -o nosort -F _facepurge_completion facepurge"
        assert offered == OFFERED[words]
    _, *offered = home.shell("bash", BASH.replace("{words}", "facepurge run fac"))
    assert offered[:2] == ["compopt -o", "default"], "its own IFS stands between the words"


@pytest.mark.skipif(SHELLS["zsh"] is None, reason="zsh is not installed")
def test_zsh_takes_the_script(home: Home) -> None:
    assert home.shell("zsh", ZSH)[-1] == "_facepurge_completion"


@pytest.mark.skipif(SHELLS["fish"] is None, reason="fish is not installed")
def test_fish_completes(home: Home) -> None:
    for words in ("facepurge re", "facepurge run --exc", "facepurge resume ''"):
        typed = words.removesuffix("''")
        script = f"facepurge completion fish | source; complete -C {shlex.quote(typed)}"
        offered = [line.split("\t")[0] for line in home.shell("fish", script)]
        assert sorted(offered) == sorted(OFFERED[words])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_result_alone(home: Home, shell: str) -> None:
    lines = home.shell("bash", f"facepurge completion {shell}")
    assert any("_FACEPURGE_COMPLETE" in line for line in lines)
    if SHELLS[shell] is not None:
        script = f"facepurge completion {shell} > script && {shell} -n script"
        assert home.shell("bash", script) == []
