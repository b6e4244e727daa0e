from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as series
from hypothesis import strategies as st

from worker.configuration import TYPES, Given, load
from worker.errors import FacepurgeError, GateClosed, UsageRefused
from worker.limits import RANGES, check
from worker.settings import ClientInfo, Settings


def _file(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "purge.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def _refusal(
    flags: dict[str, Given] | None = None,
    environment: dict[str, str] | None = None,
    file: str | None = None,
) -> FacepurgeError:
    with pytest.raises(FacepurgeError) as caught:
        load(flags or {}, environment or {}, file)
    return caught.value


def test_nothing_given_is_the_defaults() -> None:
    configuration = load({}, {"PATH": "/bin", "HOME": "/root"})
    assert configuration.settings == Settings()
    assert set(configuration.origins) == set(TYPES)
    assert set(configuration.origins.values()) == {"default"}


def test_each_layer_lies_over_the_next(tmp_path: Path) -> None:
    file = _file(
        tmp_path, "rate_per_second = 1\nconcurrency = 10\n\nregion = 'cn-beijing'\nmax_delete=9\n"
    )
    environment = {"FACEPURGE_RATE_PER_SECOND": "2", "FACEPURGE_CONCURRENCY": "20"}
    configuration = load({"rate_per_second": Given(3.0, "--rate")}, environment, file)
    settings = configuration.settings
    assert (settings.rate_per_second, settings.concurrency, settings.region) == (
        3.0,
        20,
        "cn-beijing",
    )
    assert type(settings.rate_per_second) is float
    assert configuration.origins["rate_per_second"] == "--rate"
    assert configuration.origins["concurrency"] == "FACEPURGE_CONCURRENCY"
    assert configuration.origins["region"] == f"{file}:4: region"
    assert configuration.origins["max_delete"] == f"{file}:5: max_delete"
    assert configuration.origins["max_persons"] == "default"


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    file = _file(tmp_path, "concurrency = 7")
    assert load({}, {"FACEPURGE_CONFIG": file}).settings.concurrency == 7
    assert load({}, {"FACEPURGE_CONFIG": "/nowhere"}, file).settings.concurrency == 7


def test_every_setting_can_be_said_in_the_environment() -> None:
    special: dict[str, tuple[str, Any]] = {
        "region": ("cn-shanghai", "cn-shanghai"),
        "endpoint": ("https://green.cn-shanghai.aliyuncs.com",) * 2,
        "network": ("vpc", "vpc"),
        "signature": ("v3", "v3"),
        "format": ("jsonl", "jsonl"),
        "report_format": ("parquet", "parquet"),
        "log_format": ("json", "json"),
        "delimiter": (";", ";"),
        "total_timeout_seconds": ("70.5", 70.5),  # never below the deadlines within it
        "max_attempts": ("7", 7),
        "max_lookups": ("7", 7),
        "max_rounds": ("7", 7),
        "verify": ("sample:12", "sample:12"),
        "unknown_person": ("empty-data", "empty-data"),
        "halt": ("now,fail=20%", "now,fail=20%"),
        "canary": ("1,20", "1,20"),
        "max_duration": ("1d12h", "1d12h"),
        "window": ("22:00-06:00", "22:00-06:00"),
        "time_zone": ("Europe/Berlin", "Europe/Berlin"),
        "outside_window": ("wait", "wait"),
        "columns": ("person=Kunde,face=Bild Nr.", {"person": "Kunde", "face": "Bild Nr."}),
        "client_info": ("userId=7,userType=others", ClientInfo(userId="7", userType="others")),
    }
    for key, kind in TYPES.items():
        text, expected = special.get(
            key,
            {bool: ("true", True), int: ("4000", 4000), float: ("10.5", 10.5)}.get(
                kind, ("a1", "a1")
            ),
        )
        environment = {f"FACEPURGE_{key.upper()}": text}
        configuration = load({}, environment)
        assert getattr(configuration.settings, key) == expected, key
        assert configuration.origins[key] == f"FACEPURGE_{key.upper()}"


def test_tables_of_the_file(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        "\ufeffcolumns = {person = 'p', job = 'ticket'}\n[client_info]\nuserNick = 'Mike'\n",
    )
    settings = load({}, {}, file).settings
    assert settings.columns == {"person": "p", "job": "ticket"}
    assert settings.client_info == ClientInfo(userNick="Mike")


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("rate_per_secnd = 3", "1: rate_per_secnd: this key is not known", "rate_per_second?"),
        ("Rate_Per_Second = 3", "1: Rate_Per_Second: this key is not known", "rate_per_second?"),
        ("zzz = 1", "1: zzz: this key is not known", "the known ones are region, endpoint,"),
        ("\n\n[colums]\nperson='x'", "3: colums: this key is not known", "did you mean columns?"),
        ("concurrency = 20.0", "found 20.0, and a whole number is expected", "digits only"),
        ("concurrency = true", "found true, and a whole number", "digits"),
        ("concurrency = '20'", "found '20', and a whole number", "no quotes"),
        ("rate_per_second = '3'", "found '3', and a number is expected", "no quotes"),
        ("rate_per_second = false", "found false, and a number", ""),
        ("skip_invalid = 1", "found 1, and true or false is expected", ""),
        ("account_id = 1234567890123456", "found 1234567890123456, and text", "in quotes"),
        ("region = 2026-11-23", "found datetime.date(2026, 11, 23), and text", ""),
        ("signature = 'v2'", "found 'v2', and one of roa, v3 is expected", ""),
        ("log_format = ''", "found '', and one of console, json is expected", ""),
        ("format = 'xml'", "one of csv, tsv, jsonl, ndjson, json, parquet is", ""),
        ("verify = 'some'", "verify: found 'some', and none, all or sample:N", "like sample:100"),
        ("verify = 5", "found 5, and text is expected", ""),
        ("max_attempts = 0", "found 0, and 1 to 100 attempts is expected", ""),
        ("max_lookups = 101", "found 101, and 1 to 100 lookups is expected", ""),
        ("max_rounds = 2.5", "found 2.5, and a whole number", ""),
        ("absence_interval_seconds = -1", "found -1.0, and 0 to 3,600 seconds", ""),
        ("unknown_person = '404'", "one of code-404, code-400, empty-data, empty-list is", ""),
        ("whole_persons = 'all'", "found 'all', and true or false is expected", ""),
        ("network = ['vpc']", "found ['vpc'], and one of public, vpc", ""),
        ("columns = 'person=x'", "a table of names and texts is expected", "[columns]"),
        ("[columns]\nperon = 'x'", "'peron' is not one of its names", "did you mean person?"),
        ("[columns]\nperson = 3", "person is 3, and text is expected", "quotes"),
        ("[client_info]\nuserid = '3'", "'userid' is not one of its names", "userId?"),
        ("region = 'x'\nregion = 'y'", "purge.toml:2: a key or table is given twice", ""),
        ("region = x", "purge.toml:1: this is not TOML (", "configs/reference.toml"),
        ("region = 'x", "this is not TOML (", ""),
        (b"region = '\xff'", "is not UTF-8 (byte 10)", "save it as UTF-8"),
        ("concurrency = " + "9" * 5000, "too long or nested too deeply", ""),
        ("columns = " + "[" * 5000, "too long or nested too deeply", ""),
        ("#" * (1024 * 1024 + 1), "larger than 1048576 bytes", "list of faces?"),
    ],
)
def test_a_doubtful_file_is_refused(
    tmp_path: Path, text: str | bytes, cause: str, remedy: str
) -> None:
    error = _refusal(file=_file(tmp_path, text))
    assert isinstance(error, UsageRefused)
    assert error.cause.startswith(str(tmp_path / "purge.toml"))
    assert cause in error.cause
    assert remedy in error.remedy
    assert error.remedy
    assert "\n" not in error.cause
    assert len(error.cause) < 300


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("rate", "did you mean {}, which is what --rate sets?"),
        ("raet", "did you mean {}, which is what --rate sets?"),
        ("rate_per_secnd", "did you mean {}?"),
        ("dry_run", "--dry-run is a flag only: give it with the command"),
        ("dryrun", "--dry-run is a flag only: give it with the command"),
    ],
)
def test_whoever_knows_the_flag_is_told_the_setting(tmp_path: Path, key: str, said: str) -> None:
    flags = {"rate": "rate_per_second", "region": "region", "dry_run": "", "config": ""}
    with pytest.raises(UsageRefused) as refused:
        load({}, {}, _file(tmp_path, f"{key} = 3"), known_flags=flags)
    assert refused.value.remedy == said.format("rate_per_second")
    with pytest.raises(UsageRefused) as refused:
        load({}, {f"FACEPURGE_{key.upper()}": "3"}, known_flags=flags)
    expected = said.format("FACEPURGE_RATE_PER_SECOND")
    assert refused.value.remedy == f"{expected} (unset it if it is not meant for this program)"


def test_config_is_a_variable_and_no_key(tmp_path: Path) -> None:
    with pytest.raises(UsageRefused) as refused:
        load({}, {}, _file(tmp_path, "config = 'x'"), known_flags={"config": ""})
    assert refused.value.remedy == "--config is a flag only: give it with the command"
    with pytest.raises(UsageRefused) as refused:
        load({}, {"FACEPURGE_CONFIGS": "x"}, known_flags={"config": ""})
    assert "did you mean FACEPURGE_CONFIG, which is what --config sets?" in refused.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "missing.toml"), "a\0b", "x" * 5000):
        error = _refusal(file=path)
        assert error.exit_code == 2
        assert "cannot be" in error.cause


@pytest.mark.parametrize(
    ("environment", "cause", "remedy"),
    [
        ({"FACEPURGE_RATE": "3"}, "is not known", "did you mean FACEPURGE_RATE_PER_SECOND?"),
        ({"FACEPURGE_RATE_PER_SECND": "3"}, "is not known", "FACEPURGE_RATE_PER_SECOND?"),
        ({"FACEPURGE_ZZZ": "3"}, "is not known", "the known ones are FACEPURGE_REGION, FACEPURGE_"),
        ({"FACEPURGE_region": "x"}, "is not known", "FACEPURGE_REGION?"),
        ({"FACEPURGE_": "x"}, "is not known", ""),
        ({"FACEPURGE_EXCLUDE_FROM": ""}, "set but empty", "unset"),
        ({"FACEPURGE_CONFIG": ""}, "set but empty", "unset"),
        ({"FACEPURGE_SKIP_INVALID": "yes"}, "found 'yes', and true or false", ""),
        ({"FACEPURGE_MAX_DELETE": "1_000"}, "found '1_000', and a whole number", "separators"),
        ({"FACEPURGE_MAX_DELETE": "٣"}, "and a whole number is expected", ""),
        ({"FACEPURGE_MAX_DELETE": "9" * 400}, "and a whole number is expected", ""),
        ({"FACEPURGE_MAX_DELETE": "-1"}, "found -1, and 0 to", ""),
        ({"FACEPURGE_RATE_PER_SECOND": "nan"}, "found 'nan', and a number", ""),
        ({"FACEPURGE_RATE_PER_SECOND": "1e1"}, "found '1e1', and a number", ""),
        ({"FACEPURGE_SIGNATURE": "ROA"}, "found 'ROA', and one of roa, v3", ""),
        ({"FACEPURGE_COLUMNS": "person"}, "found 'person' where name=value", ""),
        ({"FACEPURGE_COLUMNS": "person=a,person=b"}, "person is given twice", ""),
        ({"FACEPURGE_REGION": "cn\udcff"}, "cannot be printed", "again"),
        ({"FACEPURGE_REGION": "a\nb"}, "control character", "again"),
    ],
)
def test_a_doubtful_environment_is_refused(
    environment: dict[str, str], cause: str, remedy: str
) -> None:
    error = _refusal(environment=environment)
    assert error.exit_code == 2
    assert next(iter(environment)) in error.cause
    assert cause in error.cause
    assert remedy in error.remedy
    assert error.remedy


@pytest.mark.parametrize(
    "key",
    ["access_key_id", "AccessKeySecret", "secret", "security_token", "password", "credentials"],
)
def test_credentials_are_refused_everywhere_and_never_shown(tmp_path: Path, key: str) -> None:
    value = "LTAI-do-not-show-me"
    refusals = [
        _refusal(file=_file(tmp_path, f"{key} = '{value}'")),
        _refusal(file=_file(tmp_path, f"[credentials]\n{key} = '{value}'")),
        _refusal(file=_file(tmp_path, f"[client_info]\n{key} = '{value}'")),
        _refusal(file=_file(tmp_path, f"[alibaba]\n{key} = '{value}'")),
        _refusal(environment={f"FACEPURGE_{key.upper()}": value}),
    ]
    for error in refusals:
        assert isinstance(error, UsageRefused)
        assert value not in error.cause + error.remedy + repr(error)
        assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in error.remedy


def test_a_rate_above_the_documented_one_is_a_closed_gate() -> None:
    flags = {"rate_per_second": Given(20.5, "--rate")}
    error = _refusal(flags)
    assert isinstance(error, GateClosed)
    assert error.exit_code == 3
    assert error.cause.startswith("--rate: 20.5 calls per second")
    assert "--raised-quota" in error.remedy
    assert load({"rate_per_second": Given(20.0, "--rate")}, {}).settings.rate_per_second == 20
    raised = load({**flags, "raised_quota": Given(value=True, place="--raised-quota")}, {})
    assert raised.settings.rate_per_second == 20.5


def test_every_number_of_the_settings_has_its_range() -> None:
    numbers = {key for key, kind in TYPES.items() if kind in (int, float)}
    assert set(RANGES) == numbers
    for key, (least, greatest, _) in RANGES.items():
        for value in (least - 1, greatest * 2, -math.inf, math.inf, math.nan):
            settings = msgspec.structs.replace(Settings(raised_quota=True), **{key: value})
            with pytest.raises(UsageRefused, match=key) as caught:
                check(settings)
            assert caught.value.remedy


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"connect_timeout_seconds": 61.0}, "connect_timeout_seconds: 61 seconds are longer"),
        ({"read_timeout_seconds": 60.5}, "read_timeout_seconds: 60.5 seconds are longer"),
        ({"person_id_pattern": "["}, "person_id_pattern: this is not a regular expression"),
        ({"face_id_pattern": "[0-9]*"}, "face_id_pattern: this pattern accepts an empty ID"),
        ({"face_id_pattern": ""}, "face_id_pattern: this pattern accepts an empty ID"),
        ({"face_id_pattern": "a{99999999999}"}, "face_id_pattern: this is not a regular"),
        ({"delimiter": ";;"}, "delimiter: ';;' is not one character"),
        ({"delimiter": "a"}, "delimiter: 'a' cannot separate columns"),
        ({"delimiter": '"'}, "cannot separate columns"),
        ({"delimiter": "§"}, "cannot separate columns"),
        ({"columns": {"person": ""}}, "columns: person= is not"),
        ({"columns": {"name": "x"}}, "columns: name=x is not"),
        ({"columns": {"person": "x", "face": "x"}}, "name the same column"),
        ({"verify": ""}, "verify: found '', and none, all or sample:N is expected"),
        ({"verify": "sample"}, "verify: found 'sample', and none"),
        ({"verify": "sample:0"}, "verify: found 'sample:0', and none"),
        ({"verify": "sample:-1"}, "verify: found 'sample:-1', and none"),
        ({"verify": "sample:1.5"}, "verify: found 'sample:1.5', and none"),
        ({"verify": "sample:٣"}, "verify: found 'sample:٣', and none"),
        ({"verify": "ALL"}, "verify: found 'ALL', and none"),
        ({"region": "Shanghai"}, "region: 'Shanghai' is not the name of a region"),
        ({"region": "cn-x.evil.example"}, "is not the name of a region"),
        ({"endpoint": "https://user:pw@green.cn-shanghai.aliyuncs.com"}, "a user or a password"),
        ({"sts_endpoint": "https://user:pw@sts.aliyuncs.com"}, "a user or a password"),
        ({"account_id": "12 34"}, "account_id: '12 34' is not the ID of an account"),
        ({"ca_file": "x" * 5000}, "ca_file: the text is 5000 characters long"),
        ({"client_info": ClientInfo(userNick="a\x1b[2J")}, "client_info: userNick: the text"),
    ],
)
def test_values_that_cannot_be_acted_upon(values: dict[str, Any], cause: str) -> None:
    with pytest.raises(UsageRefused) as caught:
        check(msgspec.structs.replace(Settings(), **values))
    assert cause in caught.value.cause
    assert caught.value.remedy
    assert "pw" not in caught.value.cause


def test_values_that_can() -> None:
    for values in (
        {"delimiter": "\t"},
        {"delimiter": ";"},
        {"region": "ap-southeast-1"},
        {"verify": "all"},
        {"verify": "sample:1"},
        {"absence_interval_seconds": 0.0},
        {"max_attempts": 100, "max_lookups": 1, "max_rounds": 1},
    ):
        check(msgspec.structs.replace(Settings(), **values))


_SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
)


def _outcome(
    flags: dict[str, Given], file: str | None = None
) -> tuple[Settings | None, FacepurgeError | None]:
    try:
        return load(flags, {}, file).settings, None
    except FacepurgeError as error:
        return None, error


@series(deadline=None)
@given(key=st.sampled_from(sorted(TYPES)), value=_SCALARS)
def test_any_value_is_settings_or_one_sentence(key: str, value: object) -> None:
    settings, error = _outcome({key: Given(value, "--flag")})
    if error:
        assert error.exit_code in (2, 3)
        assert error.remedy
        assert "\n" not in error.cause
    else:
        assert msgspec.convert(msgspec.to_builtins(settings), Settings) == settings


@series(deadline=None)
@given(text=st.text(max_size=60))
def test_any_file_is_settings_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _, error = _outcome({}, str(path))
    if error:
        assert error.cause.startswith(str(path))
    else:
        assert set(tomllib.loads(text.removeprefix("\ufeff"))) <= set(TYPES)
