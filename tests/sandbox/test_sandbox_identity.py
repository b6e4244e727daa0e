"""STS on the sandbox's port, asked by the official client and by hand."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from worker.cli.sandbox import sandbox as sandbox_verb
from worker.errors import UsageRefused
from worker.green.interface import Credential, Unsigned
from worker.green.operations import GET_CALLER_IDENTITY, Operation
from worker.green.signing import V3Signer
from worker.sandbox.facts import Facts
from worker.sandbox.faults import parse_rule
from worker.sandbox.flags import options_from_flags
from worker.sandbox.keys import SANDBOX_ACCOUNT_ID, SANDBOX_KEY, AccessKey
from worker.sandbox.quota import Quota

if TYPE_CHECKING:
    from tests.sandbox.conftest import Stage

Start = Callable[..., Awaitable["Stage"]]
STS_KEY = AccessKey("STS.key", "sts-secret", "sts-token/with+signs==")


def official_call(url: str, key: AccessKey) -> Any:
    """As the official STS client does it, which is generated around this generic one."""
    from alibabacloud_tea_openapi import models
    from alibabacloud_tea_openapi.client import Client
    from darabonba.runtime import RuntimeOptions

    config = models.Config(
        access_key_id=key.access_key_id,
        access_key_secret=key.access_key_secret,
        security_token=key.security_token or None,
        endpoint=url.removeprefix("http://"),
        protocol="http",
    )
    params = models.Params(
        action="GetCallerIdentity",
        version="2015-04-01",
        protocol="HTTP",
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
    return Client(config).call_api(params, models.OpenApiRequest(), RuntimeOptions())


@pytest.mark.parametrize(
    ("key", "identity"), [(SANDBOX_KEY, "RAMUser"), (STS_KEY, "AssumedRoleUser")]
)
async def test_the_official_client_is_told_its_account(
    stage: Start, key: AccessKey, identity: str
) -> None:
    on = await stage({}, keys=(SANDBOX_KEY, STS_KEY), account="42")
    answer = await asyncio.to_thread(official_call, on.sandbox.url, key)
    assert answer["body"]["AccountId"] == "42"
    assert answer["body"]["IdentityType"] == identity
    assert answer["body"]["Arn"].startswith("acs:ram::42:")
    assert set(answer["body"]) == {"IdentityType", "AccountId", "PrincipalId", "Arn", "RequestId"}


async def test_the_official_client_is_told_what_is_wrong(stage: Start) -> None:
    from alibabacloud_tea_openapi.exceptions import ClientException

    on = await stage({})
    forged = AccessKey(SANDBOX_KEY.access_key_id, "forged")
    with pytest.raises(ClientException) as refused:
        await asyncio.to_thread(official_call, on.sandbox.url, forged)
    assert refused.value.code == "SignatureDoesNotMatch"


def legacy_call(url: str, key: AccessKey, version: str = "2015-04-01") -> Any:
    """As the legacy client does it: the signature of RPC calls, in the query."""
    import json

    from aliyunsdkcore.auth.credentials import (
        AccessKeyCredential,
        StsTokenCredential,
    )
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkcore.request import CommonRequest

    pair = (key.access_key_id, key.access_key_secret)
    credential = (
        StsTokenCredential(*pair, key.security_token)
        if key.security_token
        else AccessKeyCredential(*pair)
    )
    host = url.removeprefix("http://")
    request = CommonRequest(domain=host, version=version, action_name="GetCallerIdentity")
    request.set_protocol_type("http")
    request.set_method("POST")
    request.set_accept_format("json")
    client = AcsClient(region_id="cn-shanghai", credential=credential)
    return json.loads(client.do_action_with_exception(request))


@pytest.mark.parametrize("key", [SANDBOX_KEY, STS_KEY], ids=["pair", "sts"])
async def test_the_legacy_client_is_told_its_account(stage: Start, key: AccessKey) -> None:
    on = await stage({}, keys=(SANDBOX_KEY, STS_KEY), account="42")
    answer = await asyncio.to_thread(legacy_call, on.sandbox.url, key)
    assert answer["AccountId"] == "42"
    assert on.sandbox.entries == []


@pytest.mark.parametrize(
    ("key", "version", "code"),
    [
        (AccessKey("nobody", "x"), "2015-04-01", "InvalidAccessKeyId.NotFound"),
        (AccessKey(SANDBOX_KEY.access_key_id, "forged"), "2015-04-01", "SignatureDoesNotMatch"),
        (AccessKey("STS.key", "sts-secret"), "2015-04-01", "MissingSecurityToken"),
        (SANDBOX_KEY, "1999-01-01", "InvalidAction.NotFound"),
    ],
)
async def test_the_legacy_client_is_told_what_is_wrong(
    stage: Start, key: AccessKey, version: str, code: str
) -> None:
    from aliyunsdkcore.acs_exception.exceptions import (
        ServerException,
    )

    on = await stage({}, keys=(SANDBOX_KEY, STS_KEY))
    with pytest.raises(ServerException) as refused:
        await asyncio.to_thread(legacy_call, on.sandbox.url, key, version)
    assert refused.value.get_error_code() == code


async def test_the_query_of_a_legacy_call_is_good_once_and_for_now(
    stage: Start, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aliyunsdkcore.vendored import requests

    on = await stage({})
    urls: list[str] = []
    send = requests.Session.send

    def listen(self: Any, request: Any, **more: Any) -> Any:
        urls.append(request.url)
        return send(self, request, **more)

    monkeypatch.setattr(requests.Session, "send", listen)
    await asyncio.to_thread(legacy_call, on.sandbox.url, SANDBOX_KEY)

    async def code(url: str) -> str:
        async with session.post(URL(url, encoded=True)) as response:
            return str((await response.json(content_type=None))["Code"])

    (url,) = urls
    assert await code(url) == "SignatureNonceUsed"
    assert await code(f"{url}&RoleArn=x") == "SignatureDoesNotMatch"
    assert await code(re.sub(r"Timestamp=[^&]+", "Timestamp=now", url)) == "InvalidTimeStamp.Format"
    long_ago = re.sub(r"Timestamp=\d+", "Timestamp=2017", url)
    assert await code(long_ago) == "InvalidTimeStamp.Expired"


class Caller:
    """Asks by hand."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def ask(
        self,
        operation: Operation = GET_CALLER_IDENTITY,
        *,
        nonce: str = "",
        key: AccessKey = SANDBOX_KEY,
        now_us: int | None = None,
        **changed: str,
    ) -> tuple[int, Any]:
        import time

        host = self._url.removeprefix("http://")
        unsigned = Unsigned(operation, host, (), b"", nonce or uuid.uuid4().hex)
        credential = Credential(key.access_key_id, key.access_key_secret, key.security_token)
        moment = time.time_ns() // 1000 if now_us is None else now_us
        headers = V3Signer().sign(unsigned, credential, moment)
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        async with self._session.post(f"{self._url}/", headers=headers) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def asked(stage: Start, session: aiohttp.ClientSession) -> tuple[Stage, Caller]:
    on = await stage({"p": ["1"]}, keys=(SANDBOX_KEY, STS_KEY))
    return on, Caller(on.sandbox.url, session)


async def test_what_is_refused(asked: tuple[Stage, Caller]) -> None:
    _, caller = asked
    assert (await caller.ask())[1]["AccountId"] == SANDBOX_ACCOUNT_ID
    nonce = uuid.uuid4().hex
    assert (await caller.ask(nonce=nonce))[0] == 200
    for expected, answer in {
        "SignatureNonceUsed": await caller.ask(nonce=nonce),
        "SignatureDoesNotMatch": await caller.ask(x_acs_version="2018-05-09"),
        "InvalidAction.NotFound": await caller.ask(Operation("GetCallerIdentity", "/", "1999")),
        "InvalidTimeStamp.Expired": await caller.ask(now_us=10**15),
        "InvalidAccessKeyId.NotFound": await caller.ask(key=AccessKey("nobody", "x")),
        "MissingSecurityToken": await caller.ask(
            key=AccessKey(STS_KEY.access_key_id, STS_KEY.access_key_secret)
        ),
    }.items():
        assert (answer[0] >= 400, answer[1]["Code"]) == (True, expected)


async def test_it_is_no_call_of_the_face_library(
    stage: Start, session: aiohttp.ClientSession
) -> None:
    """No quota, no fault, no line of the log: the checker counts Content Moderation's calls."""
    on = await stage(
        {"p": ["1"]},
        quota=Quota(calls_per_second=1, shared=True),
        faults=(parse_rule("reset operation=* count=0"),),
        facts=Facts(v3="refused"),
        arguments={"monotonic": lambda: 1.0},
    )
    caller = Caller(on.sandbox.url, session)
    for _ in range(5):
        assert (await caller.ask())[0] == 200
    assert on.sandbox.identity_calls == 5
    assert on.sandbox.entries == []
    # Another action at the root is nobody's.
    status, answer = await caller.ask(Operation("AssumeRole", "/", "2015-04-01"))
    assert (status, answer["Code"]) == (400, "IncompleteSignature")
    assert len(on.sandbox.entries) == 1


def flags(account: str) -> dict[str, Any]:
    defaults = {param.name: param.default for param in sandbox_verb.params if param.name}
    given = {name: () if name in ("fact", "fault", "faults") else v for name, v in defaults.items()}
    given |= {"state": None, "generate": None, "log": None, "quota_shared": False}
    return {**given, "quota_count_throttled": False, "account": account}


def test_the_account_is_a_number() -> None:
    assert options_from_flags(flags("77"), {}).account == "77"
    with pytest.raises(UsageRefused, match="--account 'me' is not the number") as refused:
        options_from_flags(flags("me"), {})
    assert refused.value.remedy == "give digits only"
