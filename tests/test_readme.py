"""The README is held to the program: what it shows was printed, what it names exists."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

import worker
import worker.cli
from tests.test_deploy import _check_command, _program_codes
from worker import fold
from worker.cli.options import SETTING_OF
from worker.configuration import PREFIX, TYPES
from worker.model import Outcome
from worker.report import remedies
from worker.report.statuses import Status
from worker.sandbox.faults import parse_rule
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.sandbox.latency import parse_latency
from worker.settings import Settings
from worker.sources.formats import COMPRESSIONS, EXTENSIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")

DEADLINE_SECONDS = 60.0
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
PROGRESS = re.compile(r"\S+Z \[info +\] progress .*\n")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _spans() -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def _section(title: str) -> str:
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def _table(title: str) -> dict[str, list[str]]:
    """The rows of the only table of a section by their first cell, without code marks."""
    rows = re.findall(r"^\| (.+) \|$", _section(title), re.MULTILINE)[1:]
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return {row[0].replace("`", ""): row[1:] for row in cells}


def _commands() -> list[list[str]]:
    """Every command line of the program that the README types anywhere."""
    sessions = [line[2:] for line in "".join(_blocks("console")).splitlines() if line[:2] == "$ "]
    lines = [*"".join(_blocks("sh")).splitlines(), *sessions, *_spans()]
    typed = [line.removeprefix("facepurge ") for line in lines if line.startswith("facepurge ")]
    assert len(typed) > 10
    return [shlex.split(line.split("<")[0]) for line in typed]


def test_the_help_is_the_programs_own() -> None:
    (shown,) = _blocks("text")
    done = subprocess.run(
        [sys.executable, "-m", "worker", "--help"],
        env={**os.environ, "COLUMNS": "80"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown == done.stdout


def test_it_types_verbs_and_flags_that_exist() -> None:
    for words in _commands():
        _check_command(words)
    context = click.Context(worker.cli.facepurge)
    known = {"--help", "--version"}
    for verb in worker.cli.VERBS:
        command = worker.cli.facepurge.get_command(context, verb)
        assert command is not None
        known |= {flag for param in command.params for flag in param.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert len(named) > 20
    assert named <= known


def test_the_faults_and_the_latency_of_its_rehearsal_are_understood() -> None:
    (words,) = [words for words in _commands() if words[0] == "sandbox" and "--fault" in words]
    given = list(itertools.pairwise(words))
    faults = [value for flag, value in given if flag == "--fault"]
    assert len([parse_rule(fault) for fault in faults]) > 1
    (latency,) = [value for flag, value in given if flag == "--latency"]
    parse_latency(latency)
    assert f"ALIBABA_CLOUD_ACCESS_KEY_ID={SANDBOX_ACCESS_KEY_ID} " in README
    assert f"ALIBABA_CLOUD_ACCESS_KEY_SECRET={SANDBOX_ACCESS_KEY_SECRET}\n" in README


def test_every_setting_is_listed_with_its_default_and_its_flag() -> None:
    flags = {setting: "--" + name.replace("_", "-") for name, setting in SETTING_OF.items()}
    table = _table("Settings")
    assert set(table) == set(TYPES)
    defaults = msgspec.to_builtins(Settings())
    for name, (default, flag, meaning) in table.items():
        assert tomllib.loads(f"value = {default.strip('`')}")["value"] == defaults[name], name
        assert flag.strip("`") == flags.get(name, ""), name
        assert meaning, name
    for variable in re.findall(rf"{PREFIX}([A-Z_]+)=", README):
        assert variable.lower() in TYPES


def test_settings_named_elsewhere_exist() -> None:
    named = {span for span in _spans() if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)}
    columns = {"person_id", "face_id", "face_ids", "job_id", "due_at"}
    assert named & columns == columns
    outcomes = {str(outcome) for outcome in Outcome}
    assert named - columns - outcomes <= set(TYPES)


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = [int(code) for row in _table("Exit codes") for code in row.split(",")]
    assert set(codes) == _program_codes()
    assert codes == sorted(codes)
    assert set(map(int, re.findall(r"\bexits? (?:with )?(\d+)", README))) <= _program_codes()


def test_the_outcomes_are_those_that_can_occur() -> None:
    decided = set(re.findall(r"Outcome\.([A-Z_]+)", inspect.getsource(fold)))
    ledger = "".join(path.read_text("utf-8") for path in (ROOT / "worker/ledger").glob("*.*"))
    set_aside = {word for word in Outcome if re.search(rf"""['"]{word}['"]""", ledger)}
    assert set(_table("Outcomes")) == {Outcome[name] for name in decided} | set_aside


def test_the_formats_are_those_that_are_read() -> None:
    extensions = {name.strip() for row in _table("Input").values() for name in row[0].split(",")}
    assert {name.strip("`") for name in extensions} == {f".{name}" for name in EXTENSIONS}
    for extension in COMPRESSIONS:
        assert f"`{extension}`" in _section("Input")


def test_the_words_of_the_report_are_the_reports() -> None:
    table = _table("The report")
    statuses, failures = (table[f"report/{name}"][0] for name in ("results.jsonl", "failures.csv"))
    named = set(re.findall(r"`([a-z]+)`", statuses))
    assert named - {"status"} == set(Status)
    known = {
        *remedies._BY_OUTCOME.values(),
        *remedies._BY_SERVICE_CODE.values(),
        *(word for _, word in remedies._BY_GATEWAY_PREFIX),
        remedies.remedy_for(Outcome.REFUSED, "a code that nobody knows"),
    }
    assert set(re.findall(r"`([a-z]+)`", failures)) - {"remedy"} == known


def test_the_targets_of_make_exist_and_all_are_named() -> None:
    lines = [*"".join(_blocks("sh") + _blocks("console")).splitlines(), *_spans()]
    typed = [
        re.fullmatch(r"(?:\$ )?make ([a-z -]+?)(?: [A-Z]+=\S+)*(?: +#.*)?", line) for line in lines
    ]
    named = {target for match in typed if match for target in match[1].split()}
    assert named == set(re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE)) - {"help"}


def test_every_file_that_is_named_is_there() -> None:
    starts = ("configs/", "deploy/", "tests/", "worker/", ".ci/")
    texts = [*_spans(), *"".join(_blocks("sh") + _blocks("console")).split()]
    named = {text for text in texts if text.startswith(starts)}
    assert len(named) >= 6
    for name in named:
        assert (ROOT / name.partition(":")[0]).exists(), name
    for name in ("LICENSE", "pyproject.toml", "CHANGELOG.md"):
        assert (ROOT / name).exists()


class Terminal:
    """Types the commands of a session in a directory that has the examples in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._code = 0
        shutil.copytree(ROOT / "configs", directory / "configs")
        commands = directory / "bin"
        commands.mkdir()
        program = commands / "facepurge"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m worker "$@"\n')
        program.chmod(0o755)
        self._environment = {
            "PATH": f"{commands}:/usr/bin:/bin",
            "HOME": str(directory / "home"),
            "LANG": "C.UTF-8",
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        }

    def type(self, command: str) -> str:
        """What the terminal shows, without the display that comes and goes."""
        if command == "echo $?":
            return f"{self._code}\n"
        echo = ""
        if command.startswith("make "):
            # The recipe alone: this environment is installed already, and not the user's.
            recipe = re.search(rf"^{command[5:]}: .*\n\t(.+)$", MAKEFILE, re.MULTILINE)
            assert recipe is not None
            echo = recipe[1].replace("$(BIN)", ".venv/bin") + "\n"
            command = recipe[1].replace("$(BIN)/", "")
        # A file, not a pipe: nothing that outlives the command could keep it open.
        with (self.directory / "screen").open("w+") as screen:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
            self._code = done.returncode
            screen.seek(0)
            return echo + PROGRESS.sub("", screen.read())


@pytest.mark.parametrize("session", _blocks("console"))
def test_a_session_shows_what_the_program_prints(session: str, tmp_path: Path) -> None:
    typed = re.findall(r"^\$ (.+)$", session, re.MULTILINE)
    directory, printed = tmp_path, "throttled"
    for attempt in ("first", "second", "third"):
        # On a machine that is busy with others calls come too close together now and then, and the
        # sandbox says so, as the service would.
        if "throttled" in printed:
            directory = tmp_path / attempt
            directory.mkdir()
            terminal = Terminal(directory)
            printed = "".join(f"$ {command}\n{terminal.type(command)}" for command in typed)
    assert RUN_ID.sub("RUN", printed) == RUN_ID.sub("RUN", session)
    files = {name for name in _table("The report") if "/" in name or "." in name}
    for ledger in directory.glob("runs/*/ledger.sqlite3"):
        run_dir = ledger.parent
        made = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}
        assert {name for name in made if name.startswith(("ledger", "report/"))} == files


def test_the_sessions_show_success_refusal_and_a_rest() -> None:
    sessions = "".join(_blocks("console"))
    assert "every face is gone" in sessions
    assert re.findall(r"^\$ echo \$\?\n(\d+)$", sessions, re.MULTILINE) == ["2", "4"]


def test_the_changelog_has_this_edition_on_top() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    editions = re.findall(r"^## (\S+) - (\S+)$", changelog, re.MULTILINE)
    assert editions[0][0] == worker.__version__
    verbs = set(re.findall(r"`facepurge ([a-z]+)", changelog))
    assert verbs == set(worker.cli.VERBS)
