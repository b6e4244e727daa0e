"""``facepurge doctor --calibrate`` against the sandbox, for everything it may be answered."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tests.e2e.program import Ended, Program
from tests.e2e.service import Service, serving
from worker.calibration import Answer, Calibration, calibrated, path_of
from worker.cli.calibrating import CheckFailed, _calibration, ask
from worker.cli.lookups import made_up_person
from worker.configuration import TYPES
from worker.green.endpoint import resolve_endpoint
from worker.locks import quota_lock
from worker.model import Evidence, Kind
from worker.sandbox.facts import Facts
from worker.sandbox.faults import FaultRule, parse_rule
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET
from worker.settings import Settings

PAIRS = [("person1", "1"), ("person2", "2")]
MADE_UP = re.compile(r"facepurge-[A-Za-z0-9_-]{22}")
NOTHING_RECORDED = "nothing was deleted, and nothing was recorded"
CODES: dict[Answer, str] = {
    "code-404": "404",
    "code-400": "400",
    "empty-data": "empty_data",
    "empty-list": "200",
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Starts ``facepurge`` in the test's directory; the test sees the same state directory."""
    started = Program(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, started.environment[name])
    return started


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The key pair in this process's environment; at first the sandbox's."""

    def give(key_id: str, secret: str) -> None:
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", key_id)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret)

    give(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET)
    return give


def struck(*faults: str) -> tuple[FaultRule, ...]:
    return tuple(parse_rule(f"{fault} operation=GetPerson") for fault in faults)


def facts(**switches: Any) -> Facts:
    return msgspec.convert(switches, Facts)


def looked_up_only(service: Service, count: int = 2) -> list[str]:
    """Nobody but made-up persons was asked about, and nothing was changed."""
    assert {entry.operation for entry in service.entries} == {"GetPerson"}
    persons = [entry.person_id for entry in service.entries]
    assert all(MADE_UP.fullmatch(person) for person in persons)
    assert len(persons) == count
    assert len({entry.nonce for entry in service.entries}) == count
    assert service.world.as_dict() == {"person1": ["1"], "person2": ["2"]}
    return persons


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", CODES)
async def test_what_the_service_answers_is_shown_and_recorded(
    program: Program, answer: Answer
) -> None:
    async with serving(PAIRS, facts=facts(unknown_person=answer)) as service:
        ended = await program("doctor", "--calibrate", "--endpoint", service.url)
        assert ended.code == 0, ended.err
        persons = looked_up_only(service)
        assert len(set(persons)) == 2
        path = path_of(SANDBOX_ACCESS_KEY_ID, service.url)
        assert ended.out.splitlines()[-1] == f'unknown_person = "{answer}"'
        for said in (str(path), service.url, SANDBOX_ACCESS_KEY_ID):
            assert f"  {said}\n" in ended.out
        assert ended.err.splitlines() == [
            "nothing was deleted; two lookups of made-up persons were sent"
        ]
        assert not any(person in ended.out + ended.err for person in persons)
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
        assert found == Calibration(
            SANDBOX_ACCESS_KEY_ID, service.url, answer, found.time, 200, CODES[answer]
        )
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.time)
        assert path.stat().st_mode & 0o777 == 0o600
        assert calibrated(SANDBOX_ACCESS_KEY_ID, service.url) == answer
        assert calibrated("somebody else", service.url) == ""


async def test_the_result_as_json_and_a_declared_account(program: Program, tmp_path: Path) -> None:
    (tmp_path / "purge.toml").write_text('account_id = "77"\nunknown_person = "code-404"\n')
    async with serving(PAIRS) as service:
        ended = await program(
            *("doctor", "--calibrate", "--json", "--config", "purge.toml"),
            *("--endpoint", service.url, "--signature", "v3"),
        )
        assert ended.code == 0, ended.err
        looked_up_only(service)
        found = json.loads(ended.out)
        assert found.pop("time")
        assert found == {
            "unknown_person": "code-404",
            "account": "77",
            "endpoint": service.url,
            "http_status": 200,
            "code": "404",
            "recorded": str(path_of("77", service.url)),
        }
        assert calibrated("77", service.url) == "code-404"


def failed(ended: Ended, code: int, last_line: str) -> None:
    assert ended.code == code, ended.err
    assert "facepurge: " in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line == last_line


async def test_a_configuration_that_says_something_else_is_found_out(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "purge.toml").write_text('# settled\nunknown_person = "code-400"\n')
    async with serving(PAIRS) as service:
        ended = await program(
            "doctor", "--calibrate", "--endpoint", service.url, "--config", "purge.toml"
        )
        failed(ended, 1, 'nothing was deleted; the answer found was "code-404"')
        assert "purge.toml:2: unknown_person: it says 'code-400'" in ended.err
        assert calibrated(SANDBOX_ACCESS_KEY_ID, service.url) == "code-404"


async def test_an_answer_that_settles_nothing_is_said_and_not_recorded(
    program: Program, tmp_path: Path
) -> None:
    faults = struck("gateway-code code=Forbidden.RAM")
    async with serving(PAIRS, faults=faults) as service:
        ended = await program("doctor", "--calibrate", "--endpoint", service.url)
        failed(ended, 1, NOTHING_RECORDED)
        assert ended.out == ""
        assert f"{service.url}: the lookup was refused (code Forbidden.RAM, HTTP 403" in ended.err
        assert "AliyunYundunGreenWebFullAccess" in ended.err
        assert not path_of("", "").parent.exists()


async def test_where_it_cannot_be_recorded_the_answer_is_told(program: Program) -> None:
    async with serving(PAIRS) as service:
        directory = path_of("", "").parent
        directory.parent.mkdir(parents=True)
        directory.symlink_to(directory.parent)
        ended = await program("doctor", "--calibrate", "--endpoint", service.url)
        failed(ended, 1, 'nothing was deleted; the answer found was "code-404"')
        assert "the calibration cannot be recorded" in ended.err
        assert 'write unknown_person = "code-404" into the configuration' in ended.err


@dataclass(frozen=True, slots=True)
class Closed:
    """What keeps doctor from asking, and how it says so."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    code: int
    said: str
    last_line: str = NOTHING_RECORDED


NO_KEY = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
CLOSED = {
    "nothing to look at": Closed(
        ("--calibrate", "--rows", "9", "URL"), {}, 2, "add --checks", "nothing was sent"
    ),
    "twice the place": Closed(
        ("r", "--run-dir", "x", "URL"), {}, 2, "contradict each other", "nothing was sent"
    ),
    "twice the rows": Closed(
        ("r", "--rows", "9", "URL"), {}, 2, "contradict each other", "nothing was sent"
    ),
    "checks of what": Closed(("--checks", "URL"), {}, 2, "leave it out", "nothing was sent"),
    "no region": Closed(("--calibrate",), {}, 2, "neither a region nor an endpoint"),
    "half a key": Closed(
        ("--calibrate", "URL"), {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}, 2, "is not set"
    ),
    "no key": Closed(("--calibrate", "URL"), NO_KEY, 1, "credentials: none found"),
    "temporary key": Closed(
        ("--calibrate", "URL"),
        {"ALIBABA_CLOUD_ACCESS_KEY_ID": "STS.x", "ALIBABA_CLOUD_SECURITY_TOKEN": "t"},
        1,
        "FACEPURGE_ACCOUNT_ID",
    ),
    "elsewhere": Closed(
        ("--calibrate", "--endpoint", "https://example.com"), {}, 1, "--allow-endpoint"
    ),
    "in the clear": Closed(
        ("--calibrate", "--endpoint", "http://example.com"), {}, 2, "in the clear"
    ),
    "too fast": Closed(("--calibrate", "URL", "--rate", "25"), {}, 1, "--raised-quota"),
}


async def test_what_keeps_it_from_asking(program: Program, tmp_path: Path) -> None:
    at_once = asyncio.Semaphore(2)
    async with serving(PAIRS) as service:

        async def one(name: str, closed: Closed) -> None:
            arguments = [
                part
                for argument in closed.arguments
                for part in (("--endpoint", service.url) if argument == "URL" else (argument,))
            ]
            async with at_once:
                ended = await program("doctor", *arguments, environment=closed.environment)
            failed(ended, closed.code, closed.last_line)
            assert closed.said in ended.err, name
            assert ended.out == ""

        async with asyncio.TaskGroup() as group:
            for name, closed in CLOSED.items():
                group.create_task(one(name, closed))
        assert service.entries == []
    assert not path_of("", "").parent.exists()


async def test_a_run_that_uses_the_quota_is_named(program: Program, tmp_path: Path) -> None:
    async with serving(PAIRS) as service:
        with quota_lock(SANDBOX_ACCESS_KEY_ID, service.url, tmp_path / "r1"):
            ended = await program("doctor", "--calibrate", "--endpoint", service.url)
        failed(ended, 1, NOTHING_RECORDED)
        assert f"run {tmp_path / 'r1'}" in ended.err
        assert "  remedy: wait until it has ended, then ask again" in ended.err
        assert service.entries == []


async def test_a_lock_that_cannot_be_taken_keeps_its_remedy(program: Program) -> None:
    locks = path_of("", "").parent.parent / "locks"
    locks.parent.mkdir(parents=True)
    locks.write_text("in the way")
    async with serving(PAIRS) as service:
        ended = await program("doctor", "--calibrate", "--endpoint", service.url)
        failed(ended, 1, NOTHING_RECORDED)
        assert "check the owner and the permissions" in ended.err
        assert service.entries == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
async def test_a_signal_while_nobody_answers(
    program: Program, number: signal.Signals, code: int
) -> None:
    async with serving(PAIRS, faults=struck("silence")) as service:
        asked = ("doctor", "--calibrate", "--endpoint", service.url)
        async with program.started(*asked) as running:
            await service.arrivals(1)
            running.send(number)
            ended = await running.ended()
        assert ended.code == code, ended.err
        assert ended.last_line == NOTHING_RECORDED
        assert calibrated(SANDBOX_ACCESS_KEY_ID, service.url) == ""


# --- The question and its answers -----------------------------------------------------------------


async def asked(url: str, **changes: Any) -> Calibration:
    settings = Settings(**{"connect_timeout_seconds": 2.0, "read_timeout_seconds": 2.0, **changes})
    return await ask(settings, "77", resolve_endpoint("", "public", url, allow=False))


@pytest.mark.parametrize("place", ["outer", "inner", "both"])
@pytest.mark.parametrize("status", ["200", "code"])
@pytest.mark.parametrize("answer", ["code-404", "code-400"])
@pytest.mark.usefixtures("key")
async def test_wherever_the_code_stands(answer: str, status: str, place: str) -> None:
    undocumented = facts(
        unknown_person=answer, service_error_place=place, service_error_status=status
    )
    async with serving(PAIRS, facts=undocumented) as service:
        found = await asked(service.url)
        looked_up_only(service)
    code = answer.removeprefix("code-")
    assert (found.answer, found.code) == (answer, code)
    assert found.http_status == (int(code) if status == "code" else 200)


@pytest.mark.parametrize("form", ["no-data", "data-null"])
@pytest.mark.usefixtures("key")
async def test_every_way_of_leaving_the_data_out(form: str) -> None:
    async with serving(PAIRS, faults=struck(f"body form={form} count=0")) as service:
        assert (await asked(service.url)).answer == "empty-data"


@pytest.mark.parametrize(
    ("fault", "fact", "said"),
    [
        ("service-code code=401", "code-404", "was refused, and not in a way"),
        ("service-code code=404 filled=true", "empty-list", "no answer came that could be"),
        ("service-code code=404 status=500", "code-404", "was refused, and not in a way"),
        ("service-code code=500", "code-404", "no answer came that could be believed (code 500"),
        ("service-code code=588", "code-404", "because of the account's quota"),
        ("service-code code=596", "code-404", "the lookup was refused (code 596, HTTP 200"),
        ("throttle form=http-429", "code-404", "because of the account's quota"),
        ("gateway-code code=InternalError", "code-404", "no answer came that could be believed"),
        ("gateway-code code=InvalidAction.NotFound status=404", "code-404", "was refused (code"),
        ("html status=404", "code-404", "no answer came that could be believed"),
        ("html status=502", "code-404", "(code unreadable_answer, HTTP 502): HTTP 502 with an"),
        ("body form=empty", "code-404", "no answer came that could be believed"),
        ("body form=null", "code-404", "no answer came that could be believed"),
        ("cut form=json", "code-404", "no answer came that could be believed"),
        ("reset", "code-404", "no answer came that could be believed (code connection_"),
        ("redirect", "code-404", "no answer came that could be believed (code redirect"),
        ("swapped form=person", "empty-list", "about another person than the question"),
        ("swapped form=face", "empty-list", "has faces of a person who was made up"),
    ],
)
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.usefixtures("key")
async def test_an_answer_that_settles_nothing(fault: str, fact: str, said: str, nth: int) -> None:
    faults = struck(f"{fault} nth={nth}")
    async with serving(PAIRS, facts=facts(unknown_person=fact), faults=faults) as service:
        with pytest.raises(CheckFailed) as refused:
            await asked(service.url)
        persons = looked_up_only(service, nth)
    assert refused.value.exit_code == 1
    assert refused.value.cause.startswith(f"{service.url}: ")
    assert said in refused.value.cause
    assert refused.value.remedy
    assert not any(person in refused.value.cause for person in persons)


@pytest.mark.usefixtures("key")
async def test_two_different_answers_settle_nothing() -> None:
    async with serving(PAIRS, faults=struck("service-code code=400 nth=2")) as service:
        with pytest.raises(CheckFailed, match="code-404 and code-400") as refused:
            await asked(service.url)
        looked_up_only(service)
    assert "leave unknown_person empty" in refused.value.remedy


@pytest.mark.usefixtures("key")
async def test_nobody_listens() -> None:
    async with serving(PAIRS) as service:
        await service.refuse()
        with pytest.raises(CheckFailed, match="could not be reached") as refused:
            await asked(service.url)
    assert "connection_refused" in refused.value.cause


@pytest.mark.parametrize(
    ("key_id", "secret", "code"),
    [
        ("LTAI-another", SANDBOX_ACCESS_KEY_SECRET, "InvalidAccessKeyId.NotFound"),
        (SANDBOX_ACCESS_KEY_ID, "another-secret", "SignatureDoesNotMatch"),
    ],
)
async def test_a_wrong_key_is_not_an_unknown_person(
    key: Callable[[str, str], None], key_id: str, secret: str, code: str
) -> None:
    key(key_id, secret)
    async with serving(PAIRS) as service:
        with pytest.raises(CheckFailed, match=re.escape(f"the lookup was refused (code {code}")):
            await asked(service.url)
        assert [entry.authentic for entry in service.entries] == [False]


@pytest.mark.usefixtures("key")
async def test_a_clock_that_is_off_is_corrected_on_the_way() -> None:
    async with serving(PAIRS, clock_offset_seconds=1_800.0) as service:
        assert (await asked(service.url)).answer == "code-404"
        assert [entry.authentic for entry in service.entries] == [False, True, True]
        looked_up_only(service, 3)


def test_what_is_refused_again_and_again_is_given_up() -> None:
    evidence = Evidence(Kind.AGAIN, 2, 1, 400, "InvalidTimeStamp.Expired")
    with pytest.raises(CheckFailed, match=r"refused \(code InvalidTimeStamp.Expired") as refused:
        _calibration(evidence, "77", "https://h")
    assert refused.value.remedy == "ask again"


@pytest.mark.usefixtures("key")
async def test_the_two_lookups_keep_the_pace() -> None:
    async with serving(PAIRS) as service:
        await asked(service.url, rate_per_second=5.0)
        first, second = (entry.seconds for entry in service.entries)
    assert second - first > 0.15


def test_every_value_of_the_setting_can_be_found() -> None:
    values = get_args(TYPES["unknown_person"])
    assert set(values) == {"", *get_args(Answer)} == {"", *CODES}


def test_a_made_up_person_is_nobody_and_never_the_same() -> None:
    persons = {made_up_person(random.Random(seed)) for seed in range(500)}
    assert len(persons) == 500
    assert all(MADE_UP.fullmatch(person) and len(person) == 32 for person in persons)
    pattern = Settings().person_id_pattern
    assert all(re.fullmatch(pattern, person) for person in persons)
