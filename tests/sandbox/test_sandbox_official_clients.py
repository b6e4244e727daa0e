"""The official clients from PyPI, unchanged, against the sandbox on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET, AccessKey
from worker.sandbox.quota import Quota
from worker.sandbox.throttle import Throttle

if TYPE_CHECKING:
    from tests.sandbox.conftest import Stage

Start = Callable[..., Awaitable["Stage"]]
LIBRARY = {"person1": ["1244453323565", "1345345466455"]}
STS_KEY = AccessKey("sts-key", "sts-secret", "sts-token/with+signs==")


def host_of(on: Stage) -> str:
    return on.sandbox.url.removeprefix("http://")


def legacy_call(host: str, kind: str, document: dict[str, Any], key: AccessKey) -> Any:
    """As in the service's documentation: no content type is set, and no nonce is sent."""
    import importlib

    from aliyunsdkcore import client
    from aliyunsdkcore.auth.credentials import (
        AccessKeyCredential,
        StsTokenCredential,
    )

    module = importlib.import_module(f"aliyunsdkgreen.request.v20180509.{kind}Request")
    pair = (key.access_key_id, key.access_key_secret)
    credential = (
        StsTokenCredential(*pair, key.security_token)
        if key.security_token
        else AccessKeyCredential(*pair)
    )
    acs = client.AcsClient(region_id="cn-shanghai", credential=credential)
    request = getattr(module, f"{kind}Request")()
    request.set_endpoint(host)
    request.set_accept_format("JSON")
    request.set_content(bytearray(json.dumps(document), "utf-8"))
    return json.loads(acs.do_action_with_exception(request))


SANDBOX_PAIR = AccessKey(SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET)


@pytest.mark.parametrize("key", [SANDBOX_PAIR, STS_KEY], ids=["pair", "sts"])
async def test_the_legacy_client_deletes_faces_as_documented(stage: Start, key: AccessKey) -> None:
    on = await stage(LIBRARY, keys=(SANDBOX_PAIR, STS_KEY))
    document = {"personId": "person1", "faceIds": ["1244453323565"]}
    result = await asyncio.to_thread(legacy_call, host_of(on), "DeleteFaces", document, key)
    assert result["code"] == result["data"]["code"] == 200
    assert result["data"]["faceIds"] == ["1244453323565"]
    (entry,) = on.sandbox.entries
    assert (entry.nonce, entry.access_key_id) == ("", key.access_key_id)
    assert on.sandbox.world.as_dict() == {"person1": ["1345345466455"]}


async def test_the_legacy_client_walks_through_every_operation(stage: Start) -> None:
    on = await stage({})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("AddPerson", {"personId": "p", "groupIds": ["g"], "name": "n"}),
        ("AddFaces", {"personId": "p", "urls": ["http://example.com/1.jpg"]}),
        ("GetPerson", {"personId": "p"}),
        ("GetFaces", {"personId": "p"}),
        ("DeletePerson", {"personId": "p"}),
    ]
    for kind, document in calls:
        result = await asyncio.to_thread(legacy_call, host_of(on), kind, document, SANDBOX_PAIR)
        assert result["data"]["code"] == 200, kind
    assert [entry.operation for entry in on.sandbox.entries] == [kind for kind, _ in calls]
    assert len(on.sandbox.world) == 0


async def test_the_legacy_client_understands_a_refusal(stage: Start) -> None:
    from aliyunsdkcore.acs_exception.exceptions import (
        ServerException,
    )

    on = await stage(LIBRARY)
    stranger = AccessKey("stranger", "secret")
    with pytest.raises(ServerException) as refused:
        await asyncio.to_thread(legacy_call, host_of(on), "DeleteFaces", {}, stranger)
    assert refused.value.get_http_status() == 404
    assert refused.value.get_error_code() == "InvalidAccessKeyId.NotFound"
    assert refused.value.get_request_id() == on.sandbox.entries[0].request_id


class TeaClient:
    """The generic client of current SDKs, with one of its two signatures."""

    def __init__(self, host: str, signature: str, key: AccessKey) -> None:
        from alibabacloud_tea_openapi import models
        from alibabacloud_tea_openapi.client import Client
        from darabonba.runtime import RuntimeOptions

        config = models.Config(
            access_key_id=key.access_key_id,
            access_key_secret=key.access_key_secret,
            security_token=key.security_token or None,
            endpoint=host,
            protocol="http",
            signature_algorithm=signature or None,
        )
        self._client = Client(config)
        self._params = models.Params(
            action="DeleteFaces",
            version="2018-05-09",
            protocol="HTTP",
            pathname="/green/sface/face/delete",
            method="POST",
            auth_type="AK",
            style="ROA",
            req_body_type="json",
            body_type="json",
        )
        self._models, self._options = models, RuntimeOptions()

    def request(self, *faces: str) -> Any:
        return self._models.OpenApiRequest(
            query={"ClientInfo": '{"userNick":"Zoë & Mike=1"}', "RegionId": "cn-shanghai"},
            body={"personId": "person1", "faceIds": list(faces)},
        )

    def call(self, *faces: str) -> Any:
        return self._client.call_api(self._params, self.request(*faces), self._options)

    async def call_async(self, *faces: str) -> Any:
        return await self._client.call_api_async(self._params, self.request(*faces), self._options)


@pytest.mark.parametrize("key", [SANDBOX_PAIR, STS_KEY], ids=["pair", "sts"])
@pytest.mark.parametrize("signature", ["", "v2"])
async def test_the_tea_client_deletes_faces_in_both_signatures(
    stage: Start, signature: str, key: AccessKey
) -> None:
    on = await stage(LIBRARY, keys=(SANDBOX_PAIR, STS_KEY))
    tea = TeaClient(host_of(on), signature, key)
    first = await asyncio.to_thread(tea.call, "1244453323565")
    second = await tea.call_async("1345345466455")
    for answer, face in ((first, "1244453323565"), (second, "1345345466455")):
        assert answer["statusCode"] == 200
        assert answer["body"]["data"]["faceIds"] == [face]
    assert on.sandbox.world.as_dict() == {"person1": []}
    assert all(entry.nonce and entry.authentic for entry in on.sandbox.entries)


async def test_the_tea_client_understands_a_throttle(stage: Start) -> None:
    from alibabacloud_tea_openapi.exceptions import (
        ThrottlingException,
    )

    quota = Quota(calls_per_second=1, throttle=Throttle(acs_retry_after="1500"))
    on = await stage(LIBRARY, quota=quota, arguments={"monotonic": lambda: 1.0})
    tea = TeaClient(host_of(on), "", SANDBOX_PAIR)
    await tea.call_async("1244453323565")
    with pytest.raises(ThrottlingException) as throttled:
        await tea.call_async("1345345466455")
    assert throttled.value.code == "Throttling.User"
    assert throttled.value.retry_after == 1500
