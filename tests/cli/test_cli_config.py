"""``facepurge config show`` and the profiles that come with the program."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.e2e.program import Program
from tests.e2e.service import serving
from worker.cli import options
from worker.cli.config import config
from worker.cli.options import SETTING_OF
from worker.configuration import TYPES, load
from worker.sandbox.keys import SANDBOX_ACCOUNT_ID
from worker.settings import Settings

CONFIGS = Path(__file__).parents[2] / "configs"
PROFILES = sorted(path for path in CONFIGS.glob("*.toml") if path.name != "reference.toml")

PURGE = """\
# three of them
region = "cn-beijing"
max_delete = 5

[columns]
person = "kunde"
"""


@pytest.fixture
def purge(tmp_path: Path) -> Path:
    path = tmp_path / "purge.toml"
    path.write_text(PURGE)
    return path


def show(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(config, ["show", *map(str, arguments)], env=environment)


def shown(result: Result) -> dict[str, tuple[Any, str]]:
    """Setting to value and origin, from the lines a person reads."""
    assert result.exit_code == 0, result.output
    found = {}
    for line in result.stdout.splitlines():
        parts = re.fullmatch(r"(.+?) +# (.+)", line)
        assert parts is not None, line
        setting, comment = parts.groups()
        ((key, value),) = tomllib.loads(setting).items()
        found[key] = (value, comment)
    return found


def test_each_value_and_where_it_came_from(purge: Path) -> None:
    result = show(
        *("--config", purge, "--rate", "5", "--delimiter", "\t"),
        FACEPURGE_CONCURRENCY="3",
        FACEPURGE_REGION="cn-shanghai",
    )
    found = shown(result)
    assert set(found) == set(TYPES)
    changed = {key: item for key, item in found.items() if item[1] != "default"}
    assert changed == {
        "region": ("cn-shanghai", "FACEPURGE_REGION"),
        "rate_per_second": (5.0, "--rate"),
        "concurrency": (3, "FACEPURGE_CONCURRENCY"),
        "columns": ({"person": "kunde"}, f"{purge}:5"),
        "delimiter": ("\t", "--delimiter"),
        "max_delete": (5, f"{purge}:3"),
    }
    defaults = msgspec.to_builtins(Settings())
    for key, (value, origin) in found.items():
        if origin == "default":
            assert value == defaults[key]
    assert result.stderr == (
        f"6 of {len(TYPES)} settings are not default; nothing was sent; to see what a run would do"
        " with them type: facepurge plan SOURCE...\n"
    )


def test_what_a_file_merely_repeats_is_no_change() -> None:
    reference = CONFIGS / "reference.toml"
    assert show("--config", reference).stderr.startswith(f"0 of {len(TYPES)} settings are not ")
    once = show("--config", reference, "--rate", "5").stderr
    assert once.startswith(f"1 of {len(TYPES)} settings is not default; ")


def test_what_is_shown_is_a_configuration_with_the_same_settings(
    purge: Path, tmp_path: Path
) -> None:
    texts = ("--columns", r'person=a"b,face=c\d', "--exclude-from", "Höhle/ü \u4eba.txt")
    result = show("--config", purge, *texts)
    again = tmp_path / "effective.toml"
    again.write_text(result.stdout, "utf-8")
    told = load({}, {}, str(again)).settings
    assert told.columns == {"person": 'a"b', "face": r"c\d"}
    assert (told.exclude_from, told.max_delete) == ("Höhle/ü \u4eba.txt", 5)
    assert {key: value for key, (value, _) in shown(result).items()} == msgspec.to_builtins(told)


def test_the_same_for_programs(purge: Path) -> None:
    result = show("--config", purge, "--json", "--rate", "5", FACEPURGE_CONCURRENCY="3")
    assert result.exit_code == 0, result.output
    settings = json.loads(result.stdout)["settings"]
    assert set(settings) == set(TYPES)
    assert settings["rate_per_second"] == {"value": 5.0, "origin": "flag", "place": "--rate"}
    assert settings["concurrency"] == {
        "value": 3,
        "origin": "environment",
        "place": "FACEPURGE_CONCURRENCY",
    }
    assert settings["region"] == {"value": "cn-beijing", "origin": "file", "place": f"{purge}:2"}
    assert settings["verify"] == {"value": "none", "origin": "default", "place": "default"}


def test_every_flag_that_is_a_setting_is_taken() -> None:
    assert {param.name for param in config.params} >= set(SETTING_OF)
    typed = {param.name: param for param in config.params}
    for name in options.SETTING_OF:
        assert getattr(typed[name], "help", ""), name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "it is not said what to do with the settings: config show"),
        (("list",), "'list' cannot be done with the settings: did you mean config show?"),
        (("show", "--rat", "5"), "--rat is not a flag of config: did you mean --rate?"),
        (("show", "--rate", "0"), "a number of calls per second from 0.001"),
    ],
)
def test_what_cannot_be_shown(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(config, arguments)
    assert result.exit_code == 2
    assert said in result.output


async def test_secrets_are_refused_unseen_and_never_shown(tmp_path: Path) -> None:
    program = Program(tmp_path)
    ended = await program("config", "show")
    assert ended.code == 0
    for value in program.environment.values():
        assert not value.startswith("not-a-secret") or value not in ended.out + ended.err
    (tmp_path / "purge.toml").write_text('access_key_secret = "hush"\n')
    ended = await program("config", "show", "--config", "purge.toml")
    assert ended.code == 2
    assert ended.last_line == "nothing was sent"
    ended = await program("config", "show", environment={"FACEPURGE_ACCESS_KEY_SECRET": "hush"})
    assert ended.code == 2
    assert "hush" not in ended.out + ended.err


# --- Profiles -------------------------------------------------------------------------------------


def test_the_profiles_are_those_that_are_named() -> None:
    assert [path.name for path in PROFILES] == [
        "gdpr-erasure.toml",
        "retention-purge.toml",
        "sandbox.toml",
    ]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_profile_is_loaded_and_each_of_its_lines_matters(profile: Path) -> None:
    configuration = load({}, {}, str(profile))
    said = tomllib.loads(profile.read_text("utf-8"))
    settings, defaults = (
        msgspec.to_builtins(each) for each in (configuration.settings, Settings())
    )
    for key, value in settings.items():
        if key in said:
            assert configuration.origins[key].startswith(f"{profile}:")
            assert value == said[key], key
            assert value != defaults[key], f"{key} says what is so anyway"
        else:
            assert value == defaults[key], key


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_line_of_a_profile_is_explained(profile: Path) -> None:
    first, *blocks = profile.read_text("utf-8").rstrip().split("\n\n")
    assert all(line.startswith("#") for line in first.splitlines())
    for block in blocks:
        comment, *rest = re.split(r"^(?=[a-z_]+ = )", block, flags=re.MULTILINE)
        assert comment.startswith("# "), block
        assert rest, block
    for line in profile.read_text("utf-8").splitlines():
        assert len(line) <= 105, line


async def test_the_retention_profile_plans(tmp_path: Path) -> None:
    program = Program(tmp_path)
    profile = str(CONFIGS / "retention-purge.toml")
    source = str(CONFIGS / "examples" / "retention.csv")
    ended = await program("plan", source, "--config", profile)
    assert ended.code != 0, "there is no list of holds"
    assert "holds.txt" in ended.err
    (tmp_path / "holds.txt").write_text("# none this month\n")
    ended = await program("plan", source, "--config", profile)
    assert ended.code == 0, ended.err
    assert "https://green.cn-shanghai.aliyuncs.com" in ended.out


async def test_the_erasure_profile_plans_whole_persons(tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "holds.txt").write_text("# none\n")
    (tmp_path / "requests.jsonl").write_text('{"personId": "p", "faces": "all", "jobId": "7"}\n')
    profile = str(CONFIGS / "gdpr-erasure.toml")
    ended = await program("plan", "requests.jsonl", "--config", profile)
    assert ended.code == 0, ended.err
    assert "all faces and then the record go" in ended.out


async def test_the_sandbox_profile_rehearses_over_a_socket(tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "faces.csv").write_text("person_id,face_id\np,1\n")
    profile = str(CONFIGS / "sandbox.toml")
    async with serving([("p", "1")]) as service:
        there = {"FACEPURGE_ENDPOINT": service.url, "FACEPURGE_STS_ENDPOINT": service.url}
        ended = await program("run", "faces.csv", "--config", profile, "--yes", environment=there)
        assert ended.code == 0, ended.err
        assert service.deleted == {("p", "1")}
    assert f"account   {SANDBOX_ACCOUNT_ID}" in ended.out + ended.err
