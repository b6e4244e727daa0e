from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from worker.errors import UsageRefused
from worker.sandbox.facts import Facts
from worker.sandbox.keys import SANDBOX_KEY, AccessKey
from worker.sandbox.options import parse_facts
from worker.sandbox.quota import Quota

if TYPE_CHECKING:
    from tests.sandbox.conftest import Got, Stage

Start = Callable[..., Awaitable["Stage"]]
LIBRARY = {"p1": ["1244453323565", "31842550077981745", "007"], "p2": ["9"]}


async def test_a_deletion_is_answered_as_documented_and_is_real(stage: Start) -> None:
    on = await stage(LIBRARY)
    got = await on.client.delete("p1", "31842550077981745", "1244453323565", "404")
    request_id = got.json["requestId"]
    assert got.status == 200
    assert got.json == {
        "msg": "OK",
        "code": 200,
        "requestId": request_id,
        "data": {
            "code": 200,
            "personId": "p1",
            "faceIds": ["31842550077981745", "1244453323565"],
            "deleteCount": 2,
        },
    }
    assert on.sandbox.world.as_dict() == {"p1": ["007"], "p2": ["9"]}
    (entry,) = on.sandbox.entries
    assert entry.request_id == request_id
    assert entry.face_ids == ("31842550077981745", "1244453323565", "404")
    assert entry.deleted == ("31842550077981745", "1244453323565")


async def test_a_person_is_looked_up(stage: Start) -> None:
    on = await stage(LIBRARY)
    got = await on.client.call("GetPerson", {"personId": "p1"})
    assert got.json["data"] == {
        "code": 200,
        "personId": "p1",
        "name": "",
        "groupIds": [],
        "faceIds": LIBRARY["p1"],
        "note": "",
    }


async def test_faces_are_looked_up_as_numbers_written_digit_by_digit(stage: Start) -> None:
    on = await stage(LIBRARY)
    got = await on.client.call("GetFaces", {"personId": "p1"})
    assert b'"faceId":31842550077981745' in got.body
    items = got.json["data"]["faceImageItems"]
    assert [item["faceId"] for item in items] == [1244453323565, 31842550077981745, "007"]
    assert all(item["success"] for item in items)
    some = await on.client.call("GetFaces", {"personId": "p1", "faceIds": ["007", "8"]})
    assert [item["faceId"] for item in some.json["data"]["faceImageItems"]] == ["007"]


async def test_a_person_with_faces_is_added_and_deleted(stage: Start) -> None:
    on = await stage({})
    person = {"personId": "new", "groupIds": ["g1"], "name": "Ann", "note": "n"}
    assert (await on.client.call("AddPerson", person)).json["data"]["personId"] == "new"
    added = await on.client.call("AddFaces", {"personId": "new", "urls": ["http://a", "http://b"]})
    assert b'"faceId":23088737259260929,"success":true' in added.body
    assert added.json["data"]["groupIds"] == ["g1"]
    got = await on.client.call("GetPerson", {"personId": "new"})
    assert got.json["data"]["faceIds"] == ["23088737259260929", "23088737259260930"]
    assert got.json["data"]["name"] == "Ann"
    gone = await on.client.call("DeletePerson", {"personId": "new"})
    assert gone.json["data"] == {"code": 200, "personId": "new", "deleteCount": 1}
    assert "new" not in on.sandbox.world
    assert on.sandbox.entries[-1].deleted == ("23088737259260929", "23088737259260930")


async def test_a_person_has_room_for_twenty_faces(stage: Start) -> None:
    on = await stage({"p": [str(number) for number in range(19)]})
    got = await on.client.call("AddFaces", {"personId": "p", "urls": ["http://a", "http://b"]})
    assert [item["success"] for item in got.json["data"]["faceImageItems"]] == [True, False]
    assert len(on.sandbox.world.faces("p")) == 20


async def test_an_added_face_may_be_written_as_a_float(stage: Start) -> None:
    on = await stage({"p": []}, facts=Facts(added_face_number="exponent"))
    got = await on.client.call("AddFaces", {"personId": "p", "urls": ["http://a"]})
    assert b'"faceId":2.3088737259260929E16' in got.body


@pytest.mark.parametrize(
    ("action", "document"),
    [
        ("DeleteFaces", b""),
        ("DeleteFaces", b"[]"),
        ("DeleteFaces", b"{"),
        ("DeleteFaces", b"[" * 100_000),
        ("DeleteFaces", {"faceIds": ["1"]}),
        ("DeleteFaces", {"personId": 1, "faceIds": ["1"]}),
        ("DeleteFaces", {"personId": "p1", "faceIds": [1244453323565]}),
        ("DeleteFaces", {"personId": "p1", "faceIds": "1244453323565"}),
        ("DeleteFaces", {"personId": "p1", "faceIds": []}),
        ("DeleteFaces", {"personId": "p1"}),
        ("GetPerson", {}),
        ("GetFaces", {"personId": "p1", "faceIds": [1]}),
        ("AddPerson", {"personId": "p1", "groupIds": ["g"]}),
        ("AddPerson", {"personId": "p3", "groupIds": []}),
        ("AddPerson", {"personId": "p 3", "groupIds": ["g"]}),
        ("AddPerson", {"personId": "p3", "groupIds": ["g/h"]}),
        ("AddPerson", {"personId": "p3", "groupIds": ["g"], "name": 1}),
        ("AddFaces", {"personId": "p1", "urls": []}),
        ("AddFaces", {"personId": "p1"}),
        ("DeletePerson", {}),
    ],
)
async def test_a_body_it_does_not_understand_is_a_bad_request(
    stage: Start, action: str, document: Any
) -> None:
    on = await stage(LIBRARY)
    got = await on.client.call(action, document)
    assert got.status == 200
    assert got.json["code"] == 400
    assert on.sandbox.world.as_dict() == LIBRARY


async def about_nobody(on: Stage, action: str) -> Got:
    document = {"personId": "nobody", "faceIds": ["1"], "urls": ["http://a"]}
    return await on.client.call(action, document)


@pytest.mark.parametrize(
    "action", ["DeleteFaces", "GetPerson", "GetFaces", "AddFaces", "DeletePerson"]
)
@pytest.mark.parametrize(
    ("switch", "code"), [("code-404", 404), ("code-400", 400), ("empty-data", 200)]
)
async def test_an_unknown_person(stage: Start, action: str, switch: str, code: int) -> None:
    on = await stage(LIBRARY, facts=parse_facts([f"unknown_person={switch}"]))
    got = await about_nobody(on, action)
    assert (got.status, got.json["code"], got.json["data"]) == (200, code, {})


@pytest.mark.parametrize(
    ("action", "data"),
    [
        ("DeleteFaces", {"code": 200, "personId": "nobody", "faceIds": [], "deleteCount": 0}),
        ("GetFaces", {"code": 200, "personId": "nobody", "faceImageItems": []}),
        ("DeletePerson", {"code": 200, "personId": "nobody", "deleteCount": 0}),
    ],
)
async def test_an_unknown_person_with_an_empty_list(
    stage: Start, action: str, data: dict[str, Any]
) -> None:
    on = await stage(LIBRARY, facts=Facts(unknown_person="empty-list"))
    assert (await about_nobody(on, action)).json["data"] == data


@pytest.mark.parametrize(
    ("facts", "faces", "expected"),
    [
        ({"unknown_faces": "listed"}, ["9", "x"], (200, ["9", "x"], 0)),
        ({"unknown_faces": "code-404"}, ["9", "x"], (404, None, 1)),
        ({"repeated_faces": "once"}, ["9", "9"], (200, ["9"], 0)),
        ({"repeated_faces": "each"}, ["9", "9"], (200, ["9", "9"], 0)),
        ({"repeated_faces": "code-400"}, ["9", "9"], (400, None, 1)),
        ({"empty_face_list": "nothing"}, [], (200, [], 1)),
        ({"empty_face_list": "all-faces"}, [], (200, ["9"], 0)),
        ({"max_faces_per_call": 1}, ["9", "8"], (400, None, 1)),
        ({"unknown_faces": "listed", "answer_order": "reversed"}, ["9", "x"], (200, ["x", "9"], 0)),
    ],
)
async def test_switches_of_a_deletion(
    stage: Start, facts: dict[str, Any], faces: list[str], expected: tuple[int, Any, int]
) -> None:
    code, listed, left = expected
    on = await stage({"p2": ["9"]}, facts=Facts(**facts))
    got = await on.client.delete("p2", *faces)
    assert got.json["code"] == code
    assert got.json["data"].get("faceIds") == listed
    assert on.sandbox.world.face_count() == left
    assert len(on.sandbox.entries[0].deleted) == 1 - left


async def test_an_unlisted_face_may_be_named_as_a_failure(stage: Start) -> None:
    on = await stage(LIBRARY, facts=Facts(unlisted_faces="success-false"))
    got = await on.client.call("GetFaces", {"personId": "p2", "faceIds": ["8"]})
    assert got.json["data"]["faceImageItems"] == [{"success": False, "faceId": 8}]


@pytest.mark.parametrize(
    ("place", "code", "data"),
    [("outer", 404, {}), ("inner", 200, {"code": 404}), ("both", 404, {"code": 404})],
)
@pytest.mark.parametrize("status", ["200", "code"])
async def test_where_the_code_of_a_refusal_is(
    stage: Start, place: str, code: int, data: Any, status: str
) -> None:
    facts = parse_facts([f"service_error_place={place}", f"service_error_status={status}"])
    on = await stage(LIBRARY, facts=facts)
    got = await on.client.delete("nobody", "1")
    assert (got.status, got.json["code"]) == (404 if status == "code" else 200, code)
    assert got.json["data"] == data
    assert got.json["msg"] == "NOT_FOUND"


async def test_a_gateway_answer_has_capital_keys(stage: Start) -> None:
    on = await stage(LIBRARY)
    url, body, headers = on.client.request("DeleteFaces", {"personId": "p1", "faceIds": ["007"]})
    got = await on.client.post(url, body, headers | {"Authorization": "acs nobody:c2lnbg=="})
    assert got.status == 404
    assert set(got.json) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert got.gateway_code == "InvalidAccessKeyId.NotFound"
    (entry,) = on.sandbox.entries
    assert (entry.code, entry.access_key_id) == ("InvalidAccessKeyId.NotFound", "nobody")
    assert (entry.authentic, entry.served, entry.deleted) == (False, False, ())


@pytest.mark.parametrize("scheme", ["roa", "v3"])
async def test_a_resent_request_is_refused_over_the_wire(stage: Start, scheme: str) -> None:
    on = await stage(LIBRARY)
    request = on.client.request("DeleteFaces", {"personId": "p2", "faceIds": ["9"]}, scheme=scheme)
    assert (await on.client.post(*request)).status == 200
    assert (await on.client.post(*request)).gateway_code == "SignatureNonceUsed"


@pytest.mark.parametrize("scheme", ["roa", "v3"])
async def test_awkward_client_info_survives_the_wire(stage: Start, scheme: str) -> None:
    on = await stage(LIBRARY)
    query = [("ClientInfo", '{"userNick":"a&b=c?ü +%~*"}'), ("RegionId", "cn-shanghai")]
    assert (await on.client.delete("p2", "9", scheme=scheme, query=query)).json["code"] == 200


@pytest.mark.parametrize("text", ["nonsense", "[]"])
async def test_client_info_must_be_an_object(stage: Start, text: str) -> None:
    on = await stage(LIBRARY)
    got = await on.client.delete("p2", "9", query=[("ClientInfo", text)])
    assert got.gateway_code == "InvalidClientInfo"


@pytest.mark.parametrize("status", [400, 404])
async def test_an_unknown_path_or_action_is_not_found(stage: Start, status: int) -> None:
    on = await stage(LIBRARY, facts=parse_facts([f"unknown_action_status={status}"]))
    for action, path in [
        ("DeleteFaces", "/green/sface/nothing"),
        ("GetPerson", "/green/sface/faces"),
    ]:
        got = await on.client.call(action, {"personId": "p1"}, path=path)
        assert (got.status, got.gateway_code) == (status, "InvalidAction.NotFound")


@pytest.mark.parametrize(
    ("order", "code"),
    [("signature-first", "SignatureDoesNotMatch"), ("throttle-first", "Throttling.User")],
)
async def test_order_of_the_gateways_checks(stage: Start, order: str, code: str) -> None:
    on = await stage(
        LIBRARY,
        facts=parse_facts([f"order_of_checks={order}"]),
        quota=Quota(calls_per_second=1),
        arguments={"monotonic": lambda: 1.0},
    )
    assert (await on.client.delete("p2", "9")).json["code"] == 200
    forger = AccessKey(SANDBOX_KEY.access_key_id, "guessed")
    assert (await on.client.delete("p2", "9", key=forger)).gateway_code == code
    nonces = [(await on.client.delete("p2", "9", nonce="n")).gateway_code for _ in range(2)]
    used = {"signature-first": "SignatureNonceUsed", "throttle-first": "Throttling.User"}
    assert nonces == ["Throttling.User", used[order]]
    assert on.sandbox.entries[-1].authentic is False


async def test_keys_rotate_while_it_runs(stage: Start) -> None:
    on = await stage(LIBRARY)
    fresh = AccessKey("fresh", "secret", "token")
    on.sandbox.keys.accept(fresh)
    on.sandbox.keys.disable(SANDBOX_KEY.access_key_id)
    assert (await on.client.delete("p2", "9")).gateway_code == "InvalidAccessKeyId.Inactive"
    assert (await on.client.delete("p2", "9", key=fresh)).json["code"] == 200
    on.sandbox.keys.expire("fresh")
    got = await on.client.delete("p2", "9", key=fresh)
    assert got.gateway_code == "InvalidSecurityToken.Expired"
    on.sandbox.keys.revoke("fresh")
    got = await on.client.delete("p2", "9", key=fresh)
    assert got.gateway_code == "InvalidAccessKeyId.NotFound"


async def test_a_body_of_mebibytes_is_refused_and_logged(stage: Start) -> None:
    on = await stage(LIBRARY)
    document = {"personId": "p1", "faceIds": ["9" * 30] * 40_000}
    url, body, headers = on.client.request("DeleteFaces", document)
    async with on.client.session.post(url, data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 400
    assert [entry.operation for entry in on.sandbox.entries] == ["DeleteFaces"]


@pytest.mark.parametrize(
    ("pair", "cause", "remedy"),
    [
        ("nonsense", "--fact 'nonsense' is not a switch and its value", "write it as KEY=VALUE"),
        ("unknown_persn=1", "'unknown_persn' is not the name", "did you mean unknown_person?"),
        ("zzzzz=1", "'zzzzz' is not the name of a switch", "see "),
        ("nonce=maybe", "found 'maybe', and one of optional, required is expected", "see "),
        ("unknown_key_status=500", "found '500', and one of 404, 400 is expected", "see "),
        ("max_faces_per_call=-1", "found '-1', and a whole number from 0 up is expected", "see "),
    ],
)
def test_a_switch_that_does_not_exist_is_refused(pair: str, cause: str, remedy: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        parse_facts([pair])
    assert cause in refused.value.cause
    assert refused.value.remedy.startswith(remedy)
    assert refused.value.remedy.endswith("see `facepurge sandbox --list facts`")


def test_switches_are_read_from_text() -> None:
    facts = parse_facts(["nonce=required", "unknown_key_status=400", "service_error_status=code"])
    assert (facts.nonce, facts.unknown_key_status) == ("required", 400)
    assert parse_facts([]) == Facts()
