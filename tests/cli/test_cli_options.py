from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from worker.cli import options
from worker.cli.verb import Verb, verb
from worker.configuration import TYPES, Configuration, Given
from worker.errors import UsageRefused

Seen = dict[str, Any]


def _verb(seen: Seen) -> Verb:
    @verb("probe", examples="facepurge probe faces.csv --yes")
    @click.argument("sources", nargs=-1)
    @options.source_options
    @options.safety_options
    @options.evidence_options
    @options.belt_options
    @options.service_options
    @options.sandbox_option
    @options.output_option
    @options.general_options
    @click.pass_context
    def probe(ctx: click.Context, /, **_parameters: object) -> int:
        """Probe."""
        seen.update(ctx.params)
        seen["given"] = options.flags_to_settings(ctx)
        seen["configuration"] = options.configuration(ctx)
        return 0

    return probe


def _run(*args: str, env: dict[str, str] | None = None) -> tuple[Seen, click.testing.Result]:
    seen: Seen = {}
    result = CliRunner().invoke(_verb(seen), args, env=env)
    return seen, result


def test_only_what_was_typed_reaches_the_settings() -> None:
    seen, result = _run("a.csv")
    assert result.exit_code == 0, result.output
    assert seen["given"] == {}
    seen, _ = _run("a.csv", "--rate", "19.5", "--skip-invalid", "--columns", "person=Kunde")
    assert seen["given"] == {
        "rate_per_second": Given(19.5, "--rate"),
        "skip_invalid": Given(value=True, place="--skip-invalid"),
        "columns": Given({"person": "Kunde"}, "--columns"),
    }
    assert seen["configuration"].origins["columns"] == "--columns"


def test_every_flag_of_a_setting() -> None:
    values = {
        "format": "csv",
        "columns": "person=a,job=b",
        "delimiter": ";",
        "max_delete": "10",
        "max_persons": "5",
        "max_attempts": "4",
        "verify": "sample:9",
        "exclude_from": "holds.txt",
        "plan_ttl": "12",
        "region": "cn-shanghai",
        "endpoint": "https://green.cn-shanghai.aliyuncs.com",
        "rate": "21",
        "concurrency": "3",
        "reserve": "5",
        "halt": "soon,fail=20%",
        "canary": "1,20",
        "max_duration": "6h",
        "window": "22:00-06:00",
        "time_zone": "UTC",
        "outside_window": "wait",
        "stop_file": "stop",
        "pause_file": "pause",
        "signature": "v3",
        "run_dir": "runs/x",
        "report_format": "parquet",
        "log_format": "json",
    }
    args = ["a.csv"]
    flags = {param.name: param for param in _verb({}).params}
    for name in options.SETTING_OF:
        flag = flags[name].opts[-1]
        args += [flag, values[name]] if name in values else [flag]
    seen, result = _run(*args)
    assert result.exit_code == 0, result.output
    assert seen["given"]["verify"] == Given("sample:9", "--verify")
    assert seen["given"]["whole_persons"] == Given(value=True, place="--whole-persons")
    configuration: Configuration = seen["configuration"]
    changed = {key for key, origin in configuration.origins.items() if origin != "default"}
    assert changed == set(options.SETTING_OF.values())
    for key in changed:
        assert getattr(configuration.settings, key) not in ("", 0, False), key


def test_flags_name_settings_and_steering_flags_do_not() -> None:
    assert set(options.SETTING_OF.values()) <= set(TYPES)
    steering = {param.name for param in _verb({}).params} - set(options.SETTING_OF)
    assert steering == {
        "sources",
        "yes",
        "confirm",
        "dry_run",
        "sandbox",
        "output",
        "config",
        "verbose",
        "quiet",
        "json",
        "help",
    }


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("concurrency = 1\nmax_delete = 1\nmax_persons = 1\n")
    environment = {"FACEPURGE_CONCURRENCY": "2", "FACEPURGE_MAX_DELETE": "2"}
    seen, _ = _run("a.csv", "--config", str(file), "--concurrency", "3", env=environment)
    settings = seen["configuration"].settings
    assert (settings.concurrency, settings.max_delete, settings.max_persons) == (3, 2, 1)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--rate", "0"), "found '0', and a number of calls per second from 0.001 to 1000000"),
        (("--rate", "-5"), "found '-5', and a number of calls"),
        (("--rate", "nan"), "found 'nan', and"),
        (("--rate", "inf"), "found 'inf', and"),
        (("--rate", "1000001"), "to 1000000 is expected"),
        (("--rate", "1,5"), "found '1,5', and"),
        (("--rate", "9" * 400), "found '99999"),
        (
            ("--plan-ttl", "0"),
            "found '0', and a number of hours above 0 and up to 8760 is expected",
        ),
        (("--plan-ttl", "1e3"), "like 24 or 0.5"),
        (("--output", "o", "--run-dir", "r"), "--output and --run-dir contradict each other"),
        (("--max-delete", "0"), "a whole number of faces from 1 to"),
        (("--max-delete", "-1"), "found '-1', and a whole number of faces"),
        (("--max-delete", "1_000"), "in digits without separators"),
        (("--max-delete", "٣"), "a whole number of faces"),
        (("--max-persons", "9" * 400), "a whole number of persons"),
        (("--confirm", "ten"), "found 'ten', and a whole number of faces or persons from 1"),
        (("--max-attempts", "0"), "found '0', and a whole number of attempts from 1 to 100"),
        (("--max-attempts", "101"), "a whole number of attempts from 1 to 100"),
        (("--verify", "--yes"), "found '--yes', which is a flag"),
        (("--verify", ""), "found an empty value"),
        (("--concurrency", "5001"), "calls in flight from 1 to 5000"),
        (("--exclude-from", ""), "is the shell variable that should fill it unset?"),
        (("--run-dir", "--yes"), "found '--yes', which is a flag; its own value is missing"),
        (("--signature", "v2"), "'v2' is not one of 'roa', 'v3'"),
        (("--yes", "--confirm", "3"), "--yes and --confirm contradict each other"),
        (("--sandbox", "--region", "cn-x"), "--sandbox and --region contradict each other"),
        (("--endpoint", "http://x", "--sandbox"), "--sandbox and --endpoint contradict"),
    ],
)
def test_values_and_contradictions_that_are_refused(args: tuple[str, ...], sentence: str) -> None:
    seen, result = _run("a.csv", *args)
    assert result.exit_code == 2
    assert sentence in result.output
    assert seen == {}


def test_a_dry_run_goes_with_everything() -> None:
    seen, result = _run("a.csv", "--dry-run", "--yes", "--sandbox")
    assert result.exit_code == 0
    assert seen["dry_run"] is True


def test_a_region_in_the_environment_is_no_contradiction_to_the_sandbox() -> None:
    _, result = _run("a.csv", "--sandbox", env={"FACEPURGE_REGION": "cn-shanghai"})
    assert result.exit_code == 0


def test_columns_that_are_no_pairs() -> None:
    _, result = _run("a.csv", "--columns", "person")
    assert isinstance(result.exception, UsageRefused)
    assert result.exception.cause == "--columns: found 'person' where name=value is expected"


@pytest.mark.parametrize("value", ["some", "sample:0", "sample:", "All", "sample:1 ", "1"])
def test_a_verification_that_is_none(value: str) -> None:
    seen, result = _run("a.csv", "--verify", value)
    assert isinstance(result.exception, UsageRefused)
    assert result.exception.cause.startswith(
        f"--verify: found {value!r}, and none, all or sample:N"
    )
    assert "configuration" not in seen


def test_whoever_names_a_variable_after_a_flag_is_told_the_right_name() -> None:
    for name, remedy in (
        ("RATE", "did you mean FACEPURGE_RATE_PER_SECOND, which is what --rate sets?"),
        ("DRY_RUN", "--dry-run is a flag only: give it with the command"),
    ):
        _, result = _run("a.csv", env={f"FACEPURGE_{name}": "3"})
        assert isinstance(result.exception, UsageRefused)
        assert result.exception.remedy.startswith(remedy)


def test_the_help_is_grouped_and_every_option_is_explained() -> None:
    _, result = _run("--help")
    positions = [
        result.output.index(f"\n{heading}:")
        for heading in ("Source", "Safety", "Evidence", "Service", "General", "  Examples")
    ]
    assert positions == sorted(positions)
    assert "Other" not in result.output
    assert "facepurge probe faces.csv --yes" in result.output
    for param in _verb({}).params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert param.opts[-1] in result.output
