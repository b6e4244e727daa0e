"""``facepurge doctor`` as a person meets it: one line for each check, whatever is wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import Ended, Program
from tests.e2e.service import Service, serving
from worker.calibration import path_of
from worker.cli import checkup
from worker.cli.checkup import Order, examined
from worker.cli.finding import Finding, Grade
from worker.configuration import Configuration, Given, load
from worker.errors import FacepurgeError
from worker.green.interface import Reply
from worker.locks import quota_lock
from worker.sandbox.faults import FaultRule, parse_rule
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCOUNT_ID, AccessKey

CHECKS = [
    "configuration",
    "credentials",
    "account",
    "dns",
    "connection",
    "clock",
    "permission",
    "quota",
    "disk",
    "versions",
]
PAIRS = [("person1", "1")]
NO_KEY = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
TEMPORARY = AccessKey("STS.key", "sts-secret", "sts-token")
NOBODY = "http://127.0.0.1:1"
ONE_LOOKUP = "nothing was deleted, one lookup of a made-up person was sent"
NO_LOOKUP = "nothing was deleted, no lookup was sent"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Starts ``facepurge`` in the test's directory; the test sees the same state directory."""
    started = Program(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, started.environment[name])
    return started


class Seen:
    """What was shown, by check."""

    def __init__(self, shown: str) -> None:
        matches = [re.fullmatch(r"(\w+) +(\w+) +(.*[.?])", line) for line in shown.splitlines()]
        assert all(matches), shown
        self.lines = {match[2]: (match[1], match[3]) for match in matches if match}
        assert list(self.lines) == CHECKS, "one line for each, in this order"
        for check, (grade, sentence) in self.lines.items():
            assert (" To do: " in sentence) == (grade in ("warn", "FAIL")), (check, sentence)

    def those(self, grade: str) -> list[str]:
        return [check for check, (found, _) in self.lines.items() if found == grade]


class Told(Seen):
    """The same, by the program itself."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.out)
        self.ended = ended


async def seen(
    program: Program,
    service: Service | None,
    *more: str,
    code: int = 0,
    environment: dict[str, str] | None = None,
) -> Told:
    arguments, variables = list(more), dict(environment or {})
    if service is not None:
        arguments += ["--endpoint", service.url]
        variables = {"FACEPURGE_STS_ENDPOINT": service.url, **variables}
    ended = await program("doctor", *arguments, environment=variables)
    assert ended.code == code, ended.out + ended.err
    return Told(ended)


Inside = Callable[..., Awaitable[Seen]]


@pytest.fixture
def inside(program: Program, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """The checks in this process, which takes a tenth of the time, with the program's environment."""
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
        monkeypatch.setenv(name, program.environment[name])
    monkeypatch.chdir(program.directory)

    async def examine(
        service: Service, file: str | None = None, *, sts: str = "", **settings: object
    ) -> Seen:
        given = {"endpoint": service.url, **settings}
        flags = {key: Given(value, f"--{key}") for key, value in given.items()}
        configuration: Configuration | FacepurgeError
        try:
            asked = {"FACEPURGE_STS_ENDPOINT": sts or service.url}
            configuration = load(flags, asked, file)
        except FacepurgeError as error:
            configuration = error
        found = await examined(Order(configuration, flags, None, None))
        return Seen("\n".join(finding.as_line() for finding in found))

    return examine


def struck(*faults: str) -> tuple[FaultRule, ...]:
    return tuple(parse_rule(f"{fault} operation=GetPerson") for fault in faults)


def untouched(service: Service, operations: Sequence[str]) -> None:
    assert [entry.operation for entry in service.entries] == list(operations)
    assert service.world.as_dict() == {"person1": ["1"]}


# --- What is asked for: good, no credentials, wrong secret, no permission, clock, network ---------


async def test_all_is_well(program: Program) -> None:
    async with serving(PAIRS) as service:
        found = await seen(program, service, "--rows", "1000000")
        untouched(service, ["GetPerson"])
        assert service.identity_calls == 1
    assert found.those("ok") == CHECKS
    assert found.lines["account"][1] == f"{SANDBOX_ACCOUNT_ID} (RAMUser), as STS says."
    assert SANDBOX_ACCESS_KEY_ID in found.lines["credentials"][1]
    assert "1,000,000 rows may take about 2 GiB" in found.lines["disk"][1]
    assert re.search(r"SQLite \d+\.\d+.*aiohttp \d", found.lines["versions"][1])
    assert found.ended.err.splitlines() == [
        f"all is well; {ONE_LOOKUP}; to see what a run would do type: facepurge plan SOURCE..."
    ]
    assert list(program.directory.glob("runs*")) == [], "nothing is left on the disk"


async def test_no_credentials(program: Program) -> None:
    async with serving(PAIRS) as service:
        found = await seen(program, service, code=1, environment=NO_KEY)
        untouched(service, [""])  # nobody signed: it is about the server's time
    assert found.those("FAIL") == ["credentials"]
    assert found.those("skipped") == ["account", "permission"]
    assert "et ALIBABA_CLOUD_ACCESS_KEY_ID" in found.lines["credentials"][1]
    assert found.lines["clock"] == ("ok", "within 2 s of the service's.")
    assert found.ended.last_line.startswith(f"failed: credentials; {NO_LOOKUP}; do what")


async def test_a_wrong_secret(program: Program) -> None:
    async with serving(PAIRS) as service:
        found = await seen(
            program, service, code=1, environment={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "hush-hush"}
        )
        untouched(service, ["GetPerson"])
    assert found.those("FAIL") == ["account", "permission"]
    for check in found.those("FAIL"):
        assert "SignatureDoesNotMatch" in found.lines[check][1]
        assert "copy the secret of this AccessKey ID again" in found.lines[check][1]
    assert "hush" not in found.ended.out + found.ended.err


async def test_no_permission(program: Program) -> None:
    faults = struck("gateway-code code=Forbidden.RAM count=0")
    async with serving(PAIRS, faults=faults) as service:
        found = await seen(program, service, code=1)
    assert found.those("FAIL") == ["permission"]
    assert "code Forbidden.RAM, HTTP 403" in found.lines["permission"][1]
    assert "AliyunYundunGreenWebFullAccess" in found.lines["permission"][1]


@pytest.mark.parametrize(
    ("offset_seconds", "where"), [(1200.0, "behind"), (-1200.0, "ahead of")], ids=["slow", "fast"]
)
async def test_a_clock_that_is_20_minutes_off(
    program: Program, offset_seconds: float, where: str
) -> None:
    async with serving(PAIRS, clock_offset_seconds=offset_seconds) as service:
        found = await seen(program, service, code=1)
    assert found.those("FAIL") == ["clock"]
    off = re.match(rf"this machine is (\d+) min (\d+) s {where} the serv", found.lines["clock"][1])
    assert off is not None
    assert abs(int(off[1]) * 60 + int(off[2]) - 1200) <= 2
    assert "NTP" in found.lines["clock"][1]
    assert found.lines["account"][0] == found.lines["permission"][0] == "ok"


async def test_no_network(program: Program, unused_tcp_port: int) -> None:
    """A port that refuses stands for a service that cannot be reached."""
    nobody = f"http://127.0.0.1:{unused_tcp_port}"
    found = await seen(program, None, "--endpoint", nobody, code=1)
    assert found.those("FAIL") == ["connection"]
    assert found.those("skipped") == ["clock", "permission"]
    assert f"127.0.0.1:{unused_tcp_port}: Connect" in found.lines["connection"][1]
    assert NO_LOOKUP in found.ended.last_line


async def test_no_name_server(program: Program) -> None:
    nowhere = ("--endpoint", "https://green.invalid", "--allow-endpoint")
    found = await seen(program, None, *nowhere, code=1)
    assert found.those("FAIL") == ["dns"]
    assert found.those("skipped") == ["connection", "clock", "permission"]
    assert "the name cannot be resolved" in found.lines["dns"][1]


# --- Everything else that may be wrong -------------------------------------------------------------


async def test_nothing_at_all_is_given(program: Program) -> None:
    found = await seen(program, None, code=1, environment=NO_KEY)
    assert found.those("FAIL") == ["configuration", "credentials"]
    assert found.those("ok") == ["quota", "disk", "versions"]
    assert "neither a region nor an endpoint" in found.lines["configuration"][1]


async def test_a_configuration_that_is_refused_keeps_no_other_check_from_running(
    inside: Inside, tmp_path: Path
) -> None:
    (tmp_path / "purge.toml").write_text("# none\nrate_per_secnd = 5\n")
    async with serving(PAIRS) as service:
        found = await inside(service, "purge.toml")
    assert found.those("FAIL") == ["configuration"]
    said = found.lines["configuration"][1]
    assert said.startswith("purge.toml:2: rate_per_secnd: this key is not known")
    assert "did you mean rate_per_second?" in said
    # Whom to ask stood in the environment, which is not read either.
    assert found.lines["account"][0] == "warn"
    assert found.lines["permission"][0] == "ok"


async def test_a_rate_that_needs_a_raised_quota(inside: Inside) -> None:
    async with serving(PAIRS) as service:
        found = await inside(service, rate_per_second=25.0)
        assert found.those("FAIL") == ["configuration"]
        assert "--raised-quota" in found.lines["configuration"][1]
        found = await inside(service, rate_per_second=25.0, raised_quota=True)
    assert found.those("warn") == ["quota"]


async def test_the_file_in_force_is_named(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "purge.toml").write_text(f'account_id = "{SANDBOX_ACCOUNT_ID}"\n')
    async with serving(PAIRS) as service:
        found = await inside(service, "purge.toml")
    assert found.lines["configuration"][1].startswith("purge.toml; 3 of ")
    assert found.lines["account"][1].endswith("as STS says; account_id agrees.")


async def test_an_account_that_is_another_one(inside: Inside) -> None:
    async with serving(PAIRS) as service:
        found = await inside(service, account_id="77")
        assert found.those("FAIL") == ["account"]
        assert "but account_id says 77" in found.lines["account"][1]
        found = await inside(service, account_id="77", sts=NOBODY)
        assert found.lines["account"][1].startswith("77, as account_id says; not compared (http")


async def test_temporary_keys(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", TEMPORARY.access_key_id)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", TEMPORARY.access_key_secret)
    monkeypatch.setenv("ALIBABA_CLOUD_SECURITY_TOKEN", TEMPORARY.security_token)
    async with serving(PAIRS, keys=(TEMPORARY,)) as service:
        found = await inside(service)
        assert found.those("warn") == ["credentials"]
        assert "nobody renews a token in the environment" in found.lines["credentials"][1]
        assert found.lines["account"][1] == f"{SANDBOX_ACCOUNT_ID} (AssumedRoleUser), as STS says."
        found = await inside(service, sts=NOBODY)
        assert found.those("FAIL") == ["account"]
        assert "FACEPURGE_ACCOUNT_ID" in found.lines["account"][1]


async def test_a_throttled_account(inside: Inside) -> None:
    async with serving(PAIRS, faults=struck("throttle count=0")) as service:
        found = await inside(service)
    assert found.those("warn") == ["permission", "quota"]
    assert "something else uses this account now" in found.lines["quota"][1]


async def test_an_answer_that_cannot_be_believed(inside: Inside) -> None:
    async with serving(PAIRS, faults=struck("html status=502 count=0")) as service:
        found = await inside(service)
    assert found.those("FAIL") == ["permission"]
    assert "no answer came that could be believed" in found.lines["permission"][1]


async def test_a_run_that_uses_the_quota_is_let_alone(inside: Inside, tmp_path: Path) -> None:
    async with serving(PAIRS) as service:
        with quota_lock(SANDBOX_ACCOUNT_ID, service.url, tmp_path / "r1"):
            found = await inside(service)
        untouched(service, [""])
    assert found.those("skipped") == ["permission"]
    assert f"run {tmp_path / 'r1'}" in found.lines["permission"][1]


async def test_a_lock_that_cannot_be_taken(inside: Inside) -> None:
    locks = path_of("", "").parent.parent / "locks"
    locks.parent.mkdir(parents=True)
    locks.write_text("in the way")
    async with serving(PAIRS) as service:
        found = await inside(service)
    assert found.those("FAIL") == ["permission"]
    assert "check the owner and the permissions" in found.lines["permission"][1]


async def test_a_ca_file_that_cannot_be_used(inside: Inside) -> None:
    async with serving(PAIRS) as service:
        found = await inside(service, ca_file="missing.pem")
    assert found.those("FAIL") == ["account", "connection"]
    assert found.those("skipped") == ["clock", "permission"]
    assert found.lines["connection"][1].startswith("ca_file: missing.pem cannot be used")


async def test_the_rows_of_a_run_and_a_directory_that_is_none(program: Program) -> None:
    (program.directory / "faces.csv").write_text("person_id,face_id\na,1\nb,2\nb,3\n")
    rehearsed = await program("run", "faces.csv", "--sandbox", "--yes", "--run-dir", "r")
    assert rehearsed.code == 0, rehearsed.err
    async with serving(PAIRS) as service:
        found = await seen(program, service, "r")
        assert "r has" in found.lines["disk"][1]
        assert "3 rows may take" in found.lines["disk"][1]
        found = await seen(program, service, "elsewhere", code=1)
    assert found.those("FAIL") == ["disk"]
    assert "there is no ledger of a run here" in found.lines["disk"][1]


async def test_the_result_as_json_beside_a_calibration(program: Program) -> None:
    async with serving(PAIRS) as service:
        sts = {"FACEPURGE_STS_ENDPOINT": service.url}
        asked = ("doctor", "--endpoint", service.url, "--json")
        ended = await program(*asked, environment=sts)
        assert ended.code == 0, ended.err
        document = json.loads(ended.out)
        assert document["good"] is True
        assert [check["check"] for check in document["checks"]] == CHECKS
        for check in document["checks"]:
            assert set(check) == {"check", "grade", "sentence", "remedy"}
            assert (check["grade"], check["remedy"]) == ("ok", "")
        ended = await program(*asked, "--checks", "--calibrate", environment=sts)
        assert ended.code == 0, ended.err
        document = json.loads(ended.out)
        recorded = path_of(SANDBOX_ACCOUNT_ID, service.url)
        assert document["calibration"]["unknown_person"] == "code-404"
        assert document["calibration"]["recorded"] == str(recorded)
        assert len(document["checks"]) == len(CHECKS)
        assert "3 lookups of made-up persons were sent" in ended.last_line
        assert recorded.is_file()
        untouched(service, ["GetPerson"] * 4)


async def test_nothing_is_calibrated_where_a_check_has_failed(program: Program) -> None:
    faults = struck("gateway-code code=Forbidden.RAM count=0")
    async with serving(PAIRS, faults=faults) as service:
        sts = {"FACEPURGE_STS_ENDPOINT": service.url}
        asked = ("doctor", "--checks", "--calibrate", "--endpoint", service.url, "--json")
        ended = await program(*asked, environment=sts)
        assert ended.code == 1
        assert json.loads(ended.out)["good"] is False
        assert "nothing was calibrated" in ended.last_line
        assert len(service.entries) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_while_nobody_answers(
    program: Program, number: signal.Signals, code: int
) -> None:
    async with serving(PAIRS, faults=struck("silence")) as service:
        async with program.started("doctor", "--endpoint", service.url) as running:
            await service.arrivals(1)
            running.send(number)
            ended = await running.ended()
        assert ended.code == code, ended.err
        assert ended.last_line == "nothing was deleted"


# --- What the program's own process cannot show ----------------------------------------------------


def reply(date: str, ended_us: int) -> Reply:
    return Reply(200, {"date": date} if date else {}, b"", ended_us - 200_000, ended_us)


@pytest.mark.parametrize(
    ("off_seconds", "grade", "said"),
    [
        (0, Grade.OK, "within 2 s"),
        (30, Grade.OK, "0 min 30 s ahead of the service"),
        (-90, Grade.WARN, "1 min 30 s behind the service"),
        (899, Grade.WARN, "14 min 59 s ahead"),
        (902, Grade.FAIL, "15 min 2 s ahead"),
    ],
)
def test_how_far_a_clock_may_be_off(off_seconds: int, grade: Grade, said: str) -> None:
    date, server_us = "Thu, 26 Nov 2026 12:00:00 GMT", 1_795_694_400_000_000
    ended_us = server_us + 600_000 + off_seconds * 1_000_000
    found = checkup._clock([reply(date, ended_us)])
    assert (found.grade, said in found.sentence) == (grade, True), found
    assert bool(found.remedy) == (grade in (Grade.WARN, Grade.FAIL))


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_an_answer_without_a_date(date: str) -> None:
    assert checkup._clock([reply(date, 1)]).grade is Grade.SKIPPED
    assert checkup._clock([]).grade is Grade.SKIPPED


async def test_the_end_of_a_renewed_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from worker.green.interface import Credential

    class Chain:
        def __init__(self, expires_us: int | None) -> None:
            self.credential = Credential("STS.x", "s", "t", "ecs_ram_role", expires_us)

        async def get(self) -> Credential:
            return self.credential

        renew = get

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected: list[tuple[int | None, Grade, str]] = [
        (None, Grade.OK, "nobody says until when, and it is renewed in time"),
        (4_102_444_800_000_000, Grade.OK, "until 2100-01-01T00:00:00.000Z, and renewed before"),
        (1_000_000, Grade.WARN, "until 1970-01-01T00:00:01.000Z"),
    ]
    for expires_us, grade, said in expected:
        monkeypatch.setattr(checkup, "credential_chain", lambda e=expires_us: Chain(e))
        found = await _finding("credentials", load({}, {}, None))
        assert (found.grade, found.sentence.endswith(said)) == (grade, True), found


async def _finding(check: str, given: Configuration, **order: Any) -> Finding:
    found = await examined(Order(given, {}, order.get("rows"), order.get("plan")))
    (finding,) = [finding for finding in found if finding.check == check]
    return finding


async def test_the_service_of_a_run_needs_no_flag(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("person_id,face_id\nperson1,1\n")
    async with serving(PAIRS) as service:
        planned = await program("plan", "a.csv", "--endpoint", service.url, "-o", "p")
        assert planned.code == 0, planned.err
        ended = await program("doctor", "p")
        assert ended.code == 0, ended.out
        assert f"the service is {service.url}" in ended.out
        assert service.entries[-1].operation == "GetPerson"


async def test_the_account_of_a_run_is_not_another_ones(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("person_id,face_id\nperson1,1\n")
    async with serving(PAIRS) as service:
        account = {"FACEPURGE_ACCOUNT_ID": "2000000000000002"}
        planned = await program(
            *("plan", "a.csv", "--endpoint", service.url, "-o", "p"), environment=account
        )
        assert planned.code == 0, planned.err
        sts = {"FACEPURGE_STS_ENDPOINT": service.url, "FACEPURGE_ACCOUNT_ID": SANDBOX_ACCOUNT_ID}
        ended = await program("doctor", "p", environment=sts)
        assert ended.code == 1, ended.out
        grade, sentence = Seen(ended.out).lines["account"]
        assert grade == "FAIL"
        assert "; but p belongs to 2000000000000002" in sentence
        assert ended.last_line.endswith("then type: facepurge doctor p")


async def test_the_same_checks_are_asked_for_again(program: Program) -> None:
    flags = ("--endpoint", NOBODY, "--rows", "12", "-v")
    ended = await program("doctor", *flags)
    assert ended.code == 1, ended.out
    command = ended.last_line.partition("then type: ")[2]
    assert command.startswith("facepurge doctor ")
    assert f" --endpoint {NOBODY}" in command
    assert " --rows 12" in command
    assert " --verbose" in command
