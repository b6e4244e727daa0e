from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from worker.errors import InputRefused, UsageRefused
from worker.sandbox.faults import FAULTS, FaultRule, Rule, Script, describe, parse_rule, read_rules
from worker.sandbox.journal import Late
from worker.sandbox.quota import Quota
from worker.sandbox.tampering import UNASKED_FACE
from worker.sandbox.throttle import Throttle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Client, Stage

Start = Callable[..., Awaitable["Stage"]]
LIBRARY = {"p": ["1", "2", "3", "4"]}


async def staged(stage: Start, *faults: str) -> Stage:
    return await stage(LIBRARY, faults=tuple(map(parse_rule, faults)))


async def raw_exchange(client: Client) -> tuple[bytes, Exception | None]:
    """All bytes of the answer to a DeleteFaces, and how the connection ended."""
    document = {"personId": "p", "faceIds": ["1", "2"]}
    url, body, headers = client.request("DeleteFaces", document)
    lines = [f"POST {url.raw_path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    got = b""
    try:
        writer.write(head + body)
        async with asyncio.timeout(10):
            while chunk := await reader.read(65536):
                got += chunk
        return got, None
    except ConnectionError as error:
        return got, error
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(("applies", "left"), [("before", 2), ("never", 4)])
async def test_a_reset_instead_of_an_answer(stage: Start, applies: str, left: int) -> None:
    on = await staged(stage, f"reset applies={applies}")
    got, error = await raw_exchange(on.client)
    assert (got, type(error)) == (b"", ConnectionResetError)
    assert on.sandbox.world.face_count() == left
    (entry,) = on.sandbox.entries
    assert entry.status == 0
    assert entry.fault.startswith("reset")
    assert len(entry.deleted) == 4 - left


async def test_a_reset_after_half_of_the_body(stage: Start) -> None:
    on = await staged(stage, "reset at=half")
    got, error = await raw_exchange(on.client)
    assert isinstance(error, ConnectionResetError)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(body) == length // 2
    assert on.sandbox.entries[0].status == 200


@pytest.mark.parametrize(
    ("form", "complete"), [("length", False), ("json", True), ("chunked", False)]
)
async def test_a_cut_answer(stage: Start, form: str, complete: bool) -> None:  # noqa: FBT001 (a table)
    on = await staged(stage, f"cut form={form}")
    if not complete:
        with pytest.raises(aiohttp.ClientPayloadError):
            await on.client.delete("p", "1")
        return
    got = await on.client.delete("p", "1")
    with pytest.raises(json.JSONDecodeError):
        assert got.json


async def test_silence_is_broken_by_nobody_and_applied_after_the_client_gave_up(
    stage: Start,
) -> None:
    on = await staged(stage, "silence late_seconds=0.05")
    url, body, headers = on.client.request("DeleteFaces", {"personId": "p", "faceIds": ["1"]})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await on.client.post(url, body, headers)
    assert on.sandbox.entries[0].deleted == ()
    assert on.sandbox.world.face_count() == 4
    async with asyncio.timeout(5):
        while on.sandbox.world.face_count() == 4:  # noqa: ASYNC110 (a world announces nothing)
            await asyncio.sleep(0.01)
    late = on.sandbox.journal.lines[-1]
    assert isinstance(late, Late)
    assert (late.sequence, late.deleted) == (1, ("1",))


@pytest.mark.parametrize(("applies", "left"), [("before", 3), ("never", 4)])
async def test_silence_may_have_an_effect_or_none(stage: Start, applies: str, left: int) -> None:
    on = await staged(stage, f"silence applies={applies}")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await on.client.delete("p", "1")
    await on.client.delete("p", "other")  # by now the first is over
    assert on.sandbox.world.face_count() == left
    assert not any(isinstance(line, Late) for line in on.sandbox.journal.lines)


async def test_a_drip_gives_one_byte_at_a_time(stage: Start) -> None:
    on = await staged(stage, "drip interval_seconds=0.001")
    got = await on.client.delete("p", "1")
    assert got.json["data"]["faceIds"] == ["1"]


async def test_a_drip_ends_with_its_client(stage: Start) -> None:
    on = await staged(stage, "drip interval_seconds=0.02")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await on.client.delete("p", "1")
    assert on.sandbox.entries[0].deleted == ("1",)


@pytest.mark.parametrize(("form", "body"), [("null", b"null"), ("empty", b""), ("html", b"<html>")])
async def test_a_good_status_with_another_body(stage: Start, form: str, body: bytes) -> None:
    on = await staged(stage, f"body form={form}")
    got = await on.client.delete("p", "1")
    assert got.status == 200
    assert got.body.startswith(body)
    assert on.sandbox.world.face_count() == 3


async def test_a_good_code_without_data(stage: Start) -> None:
    on = await staged(stage, "body form=no-data", "body form=data-null nth=2")
    first, second = await on.client.delete("p", "1"), await on.client.delete("p", "2")
    assert first.json["code"] == second.json["code"] == 200
    assert "data" not in first.json
    assert second.json["data"] is None


@pytest.mark.parametrize("status", [404, 500, 502, 503, 504])
@pytest.mark.parametrize(("applies", "left"), [("before", 3), ("never", 4)])
async def test_a_page_of_a_proxy(stage: Start, status: int, applies: str, left: int) -> None:
    on = await staged(stage, f"html status={status} applies={applies}")
    got = await on.client.delete("p", "1")
    assert (got.status, got.headers["Content-Type"]) == (status, "text/html")
    assert on.sandbox.world.face_count() == left


@pytest.mark.parametrize("code", [500, 580, 581, 585, 596])
@pytest.mark.parametrize(("applies", "left"), [("before", 3), ("never", 4)])
async def test_a_code_of_the_service(stage: Start, code: int, applies: str, left: int) -> None:
    on = await staged(stage, f"service-code code={code} applies={applies}")
    got = await on.client.delete("p", "1")
    assert (got.status, got.json["code"], got.json["data"]) == (200, code, {})
    assert on.sandbox.world.face_count() == left
    assert on.sandbox.entries[0].code == str(code)


async def test_contradictory_codes(stage: Start) -> None:
    on = await staged(
        stage, "service-code code=500 filled=true", "service-code place=inner filled=true nth=2"
    )
    outer, inner = await on.client.delete("p", "1"), await on.client.delete("p", "2")
    assert outer.json["code"] == 500
    assert outer.json["data"]["faceIds"] == ["1"]
    assert (inner.json["code"], inner.json["data"]["code"]) == (200, 500)
    assert inner.json["data"]["faceIds"] == ["2"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Forbidden.RAM", 403),
        ("InvalidSecurityToken.Expired", 400),
        ("InvalidTimeStamp.Expired", 400),
        ("InvalidAccessKeyId.NotFound", 404),
        ("InternalError", 500),
        ("ServiceUnavailable", 503),
        ("Something.New", 400),
    ],
)
async def test_a_code_of_the_gateway(stage: Start, code: str, status: int) -> None:
    on = await staged(stage, f"gateway-code code={code}")
    got = await on.client.delete("p", "1")
    assert (got.status, got.gateway_code) == (status, code)
    assert on.sandbox.world.face_count() == 4


@pytest.mark.parametrize(("applies", "left"), [("never", 2), ("before", 0)])
async def test_part_of_the_faces_is_listed(stage: Start, applies: str, left: int) -> None:
    on = await staged(stage, f"partial applies={applies}")
    got = await on.client.delete("p", "1", "2", "3", "4")
    assert got.json["data"]["faceIds"] == ["1", "2"]
    assert got.json["data"]["deleteCount"] == 2
    assert on.sandbox.world.face_count() == left
    assert len(on.sandbox.entries[0].deleted) == 4 - left


async def test_part_of_a_lookup(stage: Start) -> None:
    on = await staged(stage, "partial operation=GetFaces")
    got = await on.client.call("GetFaces", {"personId": "p"})
    assert len(got.json["data"]["faceImageItems"]) == 2


async def test_swapped_answers_and_wrong_counts(stage: Start) -> None:
    on = await staged(stage, "swapped", "swapped form=face nth=2", "count-mismatch nth=3")
    person, face, count = [await on.client.delete("p", number) for number in "123"]
    assert person.json["data"]["personId"] == "p-other"
    assert face.json["data"]["faceIds"] == ["2", UNASKED_FACE]
    assert face.json["data"]["deleteCount"] == 2
    assert count.json["data"]["deleteCount"] == 2
    assert count.json["data"]["faceIds"] == ["3"]
    assert on.sandbox.world.as_dict() == {"p": ["4"]}


async def test_an_unasked_face_in_a_lookup(stage: Start) -> None:
    on = await staged(stage, "swapped form=face operation=GetFaces")
    got = await on.client.call("GetFaces", {"personId": "p", "faceIds": ["1"]})
    faces = [item["faceId"] for item in got.json["data"]["faceImageItems"]]
    assert faces == [1, int(UNASKED_FACE)]


async def test_a_redirect_is_logged_when_it_is_followed(stage: Start) -> None:
    on = await staged(stage, "redirect")
    got = await on.client.delete("p", "1")
    assert got.status == 307
    assert got.headers["Location"] == f"{on.sandbox.url}/redirected"
    async with on.client.session.post(got.headers["Location"], data=b"{}"):
        pass
    assert [entry.operation for entry in on.sandbox.entries] == ["DeleteFaces", ""]


async def test_a_flood_of_blanks_is_streamed_before_a_good_answer(stage: Start) -> None:
    on = await staged(stage, "flood size_bytes=3000000")
    got = await on.client.delete("p", "1")
    assert len(got.body) > 3_000_000
    assert got.json["data"]["faceIds"] == ["1"]


async def test_a_client_that_leaves_a_flood_of_a_gibibyte_ends_it(stage: Start) -> None:
    on = await staged(stage, "flood")
    url, body, headers = on.client.request("DeleteFaces", {"personId": "p", "faceIds": ["1"]})
    async with on.client.session.post(url, data=body, headers=headers) as response:
        assert response.content_length is not None
        assert response.content_length > 1024**3
        assert await response.content.readexactly(100_000) == b" " * 100_000
    assert (await on.client.delete("p", "2")).json["code"] == 200


async def test_a_gzip_bomb_is_whole_and_small_on_the_wire(stage: Start) -> None:
    on = await staged(stage, "flood form=gzip size_bytes=20000000")
    url, body, headers = on.client.request("DeleteFaces", {"personId": "p", "faceIds": ["1"]})
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(url, data=body, headers=headers) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        packed = await response.read()
    assert len(packed) < 60_000
    plain = gzip.decompress(packed)
    assert len(plain) > 19 * 1024**2
    assert json.loads(plain)["data"]["faceIds"] == ["1"]


async def test_a_flood_of_headers(stage: Start) -> None:
    on = await staged(stage, "flood form=headers")
    got, error = await raw_exchange(on.client)
    assert error is None
    head = got.partition(b"\r\n\r\n")[0]
    assert len(head) > 1024**2
    assert got.endswith(b"}")


HINTS: list[tuple[str, str]] = [
    ("7", "7"),
    ("0", "0"),
    ("-1", "-1"),
    ("99999999999", "99999999999"),
    ("soon", "soon"),
    ("auto", "3"),
]


@pytest.mark.parametrize(("hint", "sent"), HINTS)
async def test_hints_of_a_throttle(stage: Start, hint: str, sent: str) -> None:
    on = await staged(stage, f"throttle retry_after={hint} acs_retry_after={hint} wait_seconds=2.5")
    got = await on.client.delete("p", "1")
    assert got.headers["Retry-After"] == sent
    assert got.headers["x-acs-retry-after"] == ("2500" if hint == "auto" else sent)
    assert on.sandbox.world.face_count() == 4
    assert not on.sandbox.entries[0].throttled


async def test_a_hint_that_is_a_date(stage: Start) -> None:
    on = await staged(stage, "throttle form=http-429 retry_after=date wait_seconds=60")
    got = await on.client.delete("p", "1")
    ahead = parsedate_to_datetime(got.headers["Retry-After"]).timestamp() - time.time()
    assert 55 < ahead < 62


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ("gateway-400", 400, "Throttling.User"),
        ("gateway-429", 429, "Throttling.User"),
        ("gateway-503", 503, "Throttling.User"),
        ("service-200", 200, 588),
        ("service-588", 588, 588),
        ("http-429", 429, None),
    ],
)
async def test_forms_of_the_quotas_refusal(stage: Start, form: Any, status: int, code: Any) -> None:
    quota = Quota(calls_per_second=1, throttle=Throttle(form=form))
    on = await stage(LIBRARY, quota=quota, arguments={"monotonic": lambda: 5.0})
    assert (await on.client.delete("p", "1")).json["code"] == 200
    got = await on.client.delete("p", "2")
    assert got.status == status
    assert not {"Retry-After", "x-acs-retry-after"} & set(got.headers)
    if code is None:
        assert got.headers["Content-Type"] == "text/html"
    else:
        assert (got.json.get("Code") or got.json["code"]) == code
    assert on.sandbox.world.as_dict() == {"p": ["2", "3", "4"]}
    assert [entry.throttled for entry in on.sandbox.entries] == [False, True]


async def test_a_clock_that_is_ahead_shows_in_the_date_and_refuses_signatures(stage: Start) -> None:
    on = await stage(LIBRARY, clock_offset_seconds=1200.0)
    got = await on.client.delete("p", "1")
    assert got.gateway_code == "InvalidTimeStamp.Expired"
    ahead = parsedate_to_datetime(got.headers["Date"]).timestamp() - time.time()
    assert 1195 < ahead < 1201
    now_us = round((time.time() + ahead) * 1e6)
    assert (await on.client.delete("p", "1", now_us=now_us)).json["code"] == 200


async def test_a_host_that_is_down_refuses_connections_and_comes_back(stage: Start) -> None:
    on = await stage(LIBRARY)
    url = on.sandbox.url
    await on.sandbox.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await on.client.delete("p", "1")
    await on.sandbox.listen()
    assert on.sandbox.url == url
    assert (await on.client.delete("p", "1")).json["code"] == 200


async def test_it_serves_and_resets_over_tls(stage: Start) -> None:
    authority = trustme.CA()
    served, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusted)
    on = await stage(
        LIBRARY, faults=(parse_rule("reset nth=2"),), arguments={"ssl_context": served}
    )
    assert on.sandbox.url.startswith("https://127.0.0.1:")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await on.client.delete("p", "1")
    connector = aiohttp.TCPConnector(ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = type(on.client)(on.client.url, session)
        assert (await client.delete("p", "1")).json["code"] == 200
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.delete("p", "2")
    assert on.sandbox.world.as_dict() == {"p": ["3", "4"]}


async def test_throttled_and_forged_calls_are_not_counted_by_a_script(stage: Start) -> None:
    on = await stage(
        LIBRARY,
        faults=(parse_rule("html nth=2"),),
        quota=Quota(calls_per_second=1),
        arguments={"monotonic": iter(range(1000)).__next__},
    )
    await on.client.delete("p", "1", now_us=1)
    assert (await on.client.delete("p", "1")).status == 200
    assert (await on.client.delete("p", "2")).status == 502


def strikes(script: Script, calls: int, **at: Any) -> list[int]:
    operation = at.get("operation", "DeleteFaces")
    since_start_seconds = at.get("since_start_seconds", 0.0)
    return [
        number
        for number in range(1, calls + 1)
        if script.strike(operation, "p", since_start_seconds) is not None
    ]


@pytest.mark.parametrize(
    ("rule", "at", "struck"),
    [
        ("html nth=3", {}, [3]),
        ("html nth=3 count=2", {}, [3, 4]),
        ("html nth=4 count=0", {}, [4, 5, 6]),
        ("html person=p", {}, [1]),
        ("html person=q", {}, []),
        ("html operation=GetPerson", {}, []),
        ("html operation=* count=0", {"operation": "GetPerson"}, [1, 2, 3, 4, 5, 6]),
        ("html count=0 after_seconds=5", {}, []),
        ("html count=0 after_seconds=5", {"since_start_seconds": 5.0}, [1, 2, 3, 4, 5, 6]),
        ("html count=0 until_seconds=5", {"since_start_seconds": 5.0}, []),
        ("html probability=0", {}, []),
    ],
)
def test_which_requests_a_rule_strikes(rule: str, at: dict[str, Any], struck: list[int]) -> None:
    assert strikes(Script([parse_rule(rule)], seed=1), 6, **at) == struck


def test_random_faults_repeat_with_their_seed() -> None:
    rule = parse_rule("html probability=0.3")
    first, again, other = (strikes(Script([rule], seed), 500) for seed in (7, 7, 8))
    assert first == again != other
    assert 100 < len(first) < 200


def test_rules_come_and_go() -> None:
    script = Script([], seed=0)
    assert strikes(script, 2) == []
    script.add(parse_rule("html nth=2"))
    assert strikes(script, 3) == [2]
    script.add(parse_rule("html count=0"))
    script.clear()
    assert strikes(script, 3) == []


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__struct_config__.tag)
def test_every_fault_is_described_as_it_is_written(kind: Any) -> None:
    fault = kind()
    assert parse_rule(describe(fault)) == FaultRule(fault, Rule())


def test_a_description_names_what_is_not_the_default() -> None:
    assert describe(parse_rule("service-code code=581 filled=true nth=4").fault) == (
        "service-code code=581 filled=True"
    )
    assert describe(None) == ""


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("", "'' is not the name of a fault", "see "),
        ("rest nth=3", "'rest' is not the name of a fault", "did you mean reset? see "),
        ("zzzzz", "'zzzzz' is not the name of a fault", "see "),
        ("reset nth", "'nth' is not KEY=VALUE", "see "),
        ("reset nht=3", "'nht' is not one of the keys of reset: at, applies,", "did you mean nth?"),
        ("reset colour=red", "'colour' is not one of the keys of reset", ""),
        ("reset nth=x", "nth is 'x', and a whole number is expected", "see "),
        ("reset count=x", "count is 'x', and a whole number is expected", "see "),
        ("reset probability=x", "probability is 'x', and a number is expected", "see "),
        ("service-code filled=x", "filled is 'x', and true or false is expected", "see "),
        ("reset at=end", "at is 'end', and one of start, half is expected", "see "),
        ("silence applies=now", "applies is 'now', and one of late, before, never is", "see "),
    ],
)
def test_a_rule_that_means_nothing_is_refused(text: str, cause: str, remedy: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse_rule(text)
    assert refused.value.cause.startswith(f"--fault {text!r}: {cause}")
    assert refused.value.remedy.startswith(remedy)
    assert refused.value.remedy.endswith("see `facepurge sandbox --list faults`")


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('[{"fault": "html", "status": 504, "nth": 2}, {"fault": "reset"}]')
    assert read_rules(path) == (parse_rule("html status=504 nth=2"), parse_rule("reset"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "not a JSON array of fault rules"),
        ("[", "not a JSON array of fault rules"),
        ("[1]", "not a JSON array of fault rules"),
        ('[{"fault": "no"}]', "rule number 1: 'no' is not the name of a fault"),
        ('[{"fault": "lie"}, {"fault": [1]}]', r"rule number 2: \[1\] is not the name of a fault"),
        ('[{"nth": 1}]', "rule number 1: '' is not the name of a fault"),
        ('[{"fault": "html", "x": 1}]', "rule number 1: 'x' is not one of the keys of html"),
        ('[{"fault": "html", "nth": [1]}]', r"nth is \[1\], and a whole number is expected"),
    ],
)
def test_a_file_that_holds_no_rules_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(InputRefused, match=rf"faults\.json: .*{said}"):
        read_rules(path)
    with pytest.raises(InputRefused, match="cannot be read"):
        read_rules(tmp_path / "missing.json")
