"""What goes wrong on the way and at the service, and what the report then says."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from pathlib import Path

import pytest
import trustme

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import files_with, judge, served_twice
from tests.e2e.program import Program
from tests.e2e.service import FAST, library, serving
from worker.sandbox.faults import parse_rule
from worker.sandbox.keys import AccessKey
from worker.sandbox.latency import FixedLatency
from worker.sandbox.options import SandboxOptions
from worker.sandbox.quota import Quota
from worker.sandbox.server import Sandbox

PAIRS = persons(12, 2)


def run(url: str, *flags: str) -> tuple[str, ...]:
    return ("run", "a.csv", "--endpoint", url, "--yes", "--run-dir", "r", *flags)


async def test_half_of_the_quota_costs_throttles_and_nothing_else(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(60)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs, quota=Quota(calls_per_second=10)) as service:
        ended = await program(*run(service.url))
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.counts == {"deleted": 60}
        calls = report.summary["calls"]["DeleteFaces"]
        throttled = sum(entry.throttled for entry in service.entries)
        assert calls["throttles"] == throttled > 0
        assert calls["retries"] >= throttled
        assert len(service.entries) == 60 + throttled
        assert not served_twice(service.journal.lines)
        assert report.summary["waits_seconds"]["throttled"] > 0


THROTTLES = (
    {
        "person-1": ("form=gateway-400", 0.2),
        "person-3": ("form=gateway-429", 0.2),
        "person-5": ("form=gateway-503", 0.2),
    },
    {
        "person-1": ("form=service-200", 0.2),
        "person-3": ("form=service-588", 0.2),
        "person-5": ("form=http-429 retry_after=-5", 0.2),
    },
    {
        "person-1": ("form=http-429 retry_after=soon", 0.2),
        "person-3": ("form=http-429 retry_after=date", 0.2),
    },
    {
        "person-1": ("form=gateway-400 acs_retry_after=700", 0.7),
        "person-3": ("form=http-429 retry_after=1", 1.0),
    },
)
"""Every second person's first call is refused in another shape; for how long everybody waits."""


async def test_every_shape_of_a_throttle_slows_down_and_fails_nothing(tmp_path: Path) -> None:
    pairs = persons(7)

    async def one(directory: Path, throttles: dict[str, tuple[str, float]]) -> None:
        write_table(directory / "a.csv", pairs)
        faults = [f"throttle {fault} person={person}" for person, (fault, _) in throttles.items()]
        async with serving(pairs, faults=tuple(map(parse_rule, faults))) as service:
            ended = await Program(directory)(*run(service.url, "--concurrency", "1"))
            assert ended.code == 0, ended.err
            report = judge(directory / "r", pairs, service.journal.lines)
            assert report.counts == {"deleted": 7}
            assert report.summary["calls"]["DeleteFaces"]["throttles"] == len(throttles)
            for person, (_, seconds) in throttles.items():
                throttled, again = [x for x in service.entries if x.person_id == person]
                assert again.seconds - throttled.seconds >= seconds - 0.02, person

    directories = [tmp_path / str(number) for number in range(len(THROTTLES))]
    for directory in directories:
        directory.mkdir()
    async with asyncio.TaskGroup() as group:
        for directory, throttles in zip(directories, THROTTLES, strict=True):
            group.create_task(one(directory, throttles))


async def test_a_service_that_is_not_there_yet(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        await service.refuse()
        async with program.started(*run(service.url)) as running:
            await running.said("connection_refused")
            await service.listen()
            ended = await running.ended()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 24}
        assert {row["attempts"] for row in report.results} == {"1"}
        assert report.summary["calls"]["DeleteFaces"]["sent"] == len(service.entries) == 12


async def test_an_outage_beyond_its_limit_loses_nothing(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    limit = {"FACEPURGE_OUTAGE_LIMIT_MINUTES": "0.005"}
    async with serving(PAIRS) as service:
        await service.refuse()
        ended = await program(*run(service.url), environment=limit)
        assert ended.code == 5, ended.err
        assert ended.last_line.startswith("nothing was sent; stopped: the service could not be")
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        assert judge(tmp_path / "r", PAIRS, []).counts == {"unsent": 24}
        await service.listen()
        ended = await program("resume", "r", "--yes", *FAST)
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 24}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gateway-code code=Forbidden.RAM", "AliyunYundunGreenWebFullAccess"),
        ("gateway-code code=InvalidAccessKeyId.NotFound", "AccessKey"),
        ("service-code code=596 applies=never", "activate Content Moderation"),
    ],
)
async def test_a_refusal_that_concerns_everybody_stops_and_is_resumable(
    program: Program, tmp_path: Path, fault: str, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, faults=(parse_rule(f"{fault} nth=4 count=0"),)) as service:
        ended = await program(*run(service.url))
        assert ended.code == 7, ended.err
        assert said in ended.err
        assert ended.last_line.startswith("6 faces deleted; stopped: ")
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 6, "unsent": 18}
        assert len(service.entries) <= 8
        service.script.clear()
        ended = await program("resume", "r", "--yes", *FAST)
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 24}


async def test_a_key_that_is_rotated_in_the_middle(program: Program, tmp_path: Path) -> None:
    pairs = persons(20)
    write_table(tmp_path / "a.csv", pairs)
    old, new = AccessKey("LTAI-old", "old-secret"), AccessKey("LTAI-new", "new-secret")
    profile = tmp_path / "home" / ".aliyun" / "config.json"
    profile.parent.mkdir(parents=True)

    def store(key: AccessKey) -> None:
        entry = {
            "name": "default",
            "mode": "AK",
            "access_key_id": key.access_key_id,
            "access_key_secret": key.access_key_secret,
        }
        profile.write_text(json.dumps({"current": "default", "profiles": [entry]}))

    store(old)
    chain = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
    async with serving(pairs, keys=(old,)) as service:
        async with program.started(*run(service.url), environment=chain) as running:
            await service.arrivals(5)
            service.keys.accept(new)
            store(new)
            service.keys.revoke(old.access_key_id)
            ended = await running.ended()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.counts == {"deleted": 20}
        assert {entry.access_key_id for entry in service.entries} == {"LTAI-old", "LTAI-new"}
        assert not served_twice(service.journal.lines)


async def test_a_key_that_is_switched_off_in_the_middle(program: Program, tmp_path: Path) -> None:
    pairs = persons(20)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(5)
            service.keys.disable("LTAI-facepurge-sandbox")
            ended = await running.ended()
        assert ended.code == 7, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert set(report.counts) == {"deleted", "unsent"}


async def test_a_token_of_sts(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    key = AccessKey("STS.key", "sts-secret", "sts-token-of-many-characters")
    environment = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": key.access_key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": key.access_key_secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": key.security_token,
    }
    async with serving(PAIRS, keys=(key,)) as service:
        refused = await program(*run(service.url, *FAST, "-v"), environment=environment)
        assert refused.code == 3
        assert "FACEPURGE_ACCOUNT_ID" in refused.err
        environment["FACEPURGE_ACCOUNT_ID"] = "1234567890123456"
        ended = await program(*run(service.url, *FAST, "-v"), environment=environment)
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 24}
    assert not files_with(tmp_path, b"sts-secret")
    assert not files_with(tmp_path, b"sts-token")


@pytest.mark.parametrize("signature", ["roa", "v3"])
async def test_a_clock_twenty_minutes_off_is_corrected(
    program: Program, tmp_path: Path, signature: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, clock_offset_seconds=1200.0) as service:
        ended = await program(*run(service.url, "--signature", signature))
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 24}
        assert service.entries[0].code == "InvalidTimeStamp.Expired"
        assert sum(entry.served for entry in service.entries) == 12


@pytest.mark.parametrize("form", ["person", "face"])
async def test_a_swapped_answer_stops_everything(
    program: Program, tmp_path: Path, form: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS, faults=(parse_rule(f"swapped form={form} nth=4"),)) as service:
        ended = await program(*run(service.url))
        assert ended.code == 7, ended.err
        assert "do not resume" in ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"deleted": 6, "unknown": 2, "unsent": 16}
        assert {r["code"] for r in report.results if r["outcome"] == "unknown"} == {
            "swapped_answer"
        }
        assert {r["remedy"] for r in report.failures} == {"support"}


async def test_a_report_without_room_hides_nothing_of_what_happened(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    report = tmp_path / "r" / "report"
    async with (
        serving(PAIRS, faults=(parse_rule("swapped nth=4"),)) as service,
        program.started(*run(service.url), "--json") as running,
    ):
        await service.arrivals(1)
        shutil.rmtree(report, ignore_errors=True)
        report.write_text("in the way")
        ended = await running.ended()
    assert ended.code == 1, ended.err
    *_, remedy, cause, mend, last = ended.err.splitlines()
    assert remedy.startswith("  remedy: do not resume")
    assert "the report could not be written" in cause
    assert mend.startswith("  remedy: ")
    document = json.loads(ended.out)
    deleted = document["outcomes"]["deleted"]
    assert deleted >= 6
    assert last.startswith(f"{deleted} faces deleted; stopped: ")
    assert last.endswith("the report is not written; to write it type: facepurge report r")
    assert document["exit_code"] == 1
    report.unlink()
    assert (await program("report", "r")).code == 7
    assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts["deleted"] == deleted


NO_LOOKUPS = "service-code code=400 operation=GetPerson count=0 applies=never"
"""A definite answer that establishes nothing, and is no outage."""

ONE_QUICK_LOOKUP = {
    "FACEPURGE_MAX_LOOKUPS": "1",
    "FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.2",
}

AMBIGUOUS = {
    "person-1": ("reset at=start", "connection_reset"),
    "person-3": ("reset at=half", "cut_body"),
    "person-5": ("reset at=start applies=never", "connection_reset"),
    "person-7": ("cut form=json", "unreadable_answer"),
    "person-9": ("body form=html", "unreadable_answer"),
    "person-11": ("body form=no-data", "incomplete_answer"),
    "person-13": ("body form=data-null", "incomplete_answer"),
    "person-15": ("body form=null", "unreadable_answer"),
    "person-17": ("html status=503", "unreadable_answer"),
    "person-19": ("service-code code=500 place=inner", "500"),
    "person-21": ("service-code code=500 filled=true", "500"),
    "person-23": ("service-code code=585", "585"),
    "person-25": ("count-mismatch", "count_mismatch"),
    "person-27": ("redirect", "redirect"),
    "person-29": ("gateway-code code=ServiceUnavailable status=503", "ServiceUnavailable"),
}
"""Every second person meets a fault; the service does as it was asked unless it says never."""


async def test_no_answer_short_of_a_good_one_makes_a_face_deleted(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(31, 2)
    write_table(tmp_path / "a.csv", pairs)
    faults = [f"{fault} person={person}" for person, (fault, _) in AMBIGUOUS.items()]
    async with serving(pairs, faults=tuple(map(parse_rule, faults))) as service:
        # Nobody can look, so whatever was ambiguous stays so, and nothing is sent again blindly.
        service.script.add(parse_rule(NO_LOOKUPS))
        ended = await program(*run(service.url), environment=ONE_QUICK_LOOKUP)
        assert ended.code == 5, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert {person for person, _ in report.of("unknown")} == set(AMBIGUOUS)
        assert report.counts == {"deleted": 32, "unknown": 30}
        codes = {row["person_id"]: row["code"] for row in report.failures}
        assert codes == {person: code for person, (_, code) in AMBIGUOUS.items()}
        deletions = [x for x in service.entries if x.operation == "DeleteFaces"]
        assert len(deletions) == 31
        # Once somebody can look, everything is settled.
        service.script.clear()
        ended = await program("resume", "r", "--yes", *FAST, environment=ONE_QUICK_LOOKUP)
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.counts == {"deleted": 38, "absent": 24}
        assert service.deleted == set(pairs)


async def test_faces_that_an_answer_does_not_list_are_not_called_deleted(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(3, 4)
    write_table(tmp_path / "a.csv", pairs)
    faults = ("partial person=person-1", NO_LOOKUPS)
    async with serving(pairs, faults=tuple(map(parse_rule, faults))) as service:
        ended = await program(*run(service.url), environment=ONE_QUICK_LOOKUP)
        assert ended.code == 5, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.of("unknown") == set(pairs[6:8])
        assert {r["code"] for r in report.results if r["outcome"] == "unknown"} == {"not_listed"}
        assert report.jobs[6]["status"] != "succeeded"


async def test_an_answer_that_never_comes_is_no_claim(program: Program, tmp_path: Path) -> None:
    pairs = persons(4)
    write_table(tmp_path / "a.csv", pairs)
    deadlines = {
        "FACEPURGE_READ_TIMEOUT_SECONDS": "0.5",
        "FACEPURGE_TOTAL_TIMEOUT_SECONDS": "1",
        "FACEPURGE_CONNECT_TIMEOUT_SECONDS": "1",
    }
    faults = ("silence person=person-1", "drip interval_seconds=0.3 person=person-2")
    async with serving(
        pairs, faults=tuple(map(parse_rule, faults)), latency=FixedLatency(0.01)
    ) as service:
        ended = await program(*run(service.url), environment=deadlines)
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.of("absent") == set(pairs[1:3])
        assert report.of("deleted") == {pairs[0], pairs[3]}


async def test_refusals_of_most_calls_trip_the_breaker(program: Program, tmp_path: Path) -> None:
    pairs = persons(80)
    write_table(tmp_path / "a.csv", pairs)
    fault = parse_rule("service-code code=403 applies=never count=0")
    async with serving(pairs, faults=(fault,)) as service:
        # What is in flight when the 50th refusal is read still counts.
        ended = await program(*run(service.url, *FAST, "--concurrency", "4"))
        assert ended.code == 7, ended.err
        assert "wrong region, account or library" in ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert 50 <= report.counts["refused"] <= 54
        assert report.counts["unsent"] == 80 - report.counts["refused"]


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("127.0.0.1", False, "unable to get local issuer certificate"),
        ("green.cn-shanghai.aliyuncs.com", True, "IP address mismatch"),
    ],
    ids=["unknown authority", "another name"],
)
async def test_a_certificate_that_proves_nothing_stops_before_anything_is_sent(
    program: Program, tmp_path: Path, *, name: str, known: bool, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trust = {"FACEPURGE_CA_FILE": str(tmp_path / "ca.pem")} if known else {}
    async with Sandbox(SandboxOptions(state=library(PAIRS)), ssl_context=tls) as service:
        ended = await program(*run(service.url), environment=trust)
        assert ended.code == 7, ended.err
        assert said in ended.err
        assert "verification cannot be switched off" in ended.err
        assert service.entries == []
        report = judge(tmp_path / "r", PAIRS, [])
        assert report.counts == {"unsent": 24}
        assert report.summary["calls"]["DeleteFaces"]["sent"] == 0
