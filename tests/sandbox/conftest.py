from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from worker.green.interface import Credential, Unsigned
from worker.green.operations import Operation
from worker.green.signing import signer_for
from worker.sandbox.keys import SANDBOX_KEY, AccessKey
from worker.sandbox.operations import OPERATIONS
from worker.sandbox.options import SandboxOptions
from worker.sandbox.server import Sandbox

PATHS = {operation.action: operation.path for operation in OPERATIONS.values()}


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def gateway_code(self) -> str:
        return str(self.json["Code"])


class Client:
    """Signs and sends one call at a time, as oddly as a test wants it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    def request(
        self,
        action: str,
        document: Any,
        *,
        scheme: Any = "roa",
        key: AccessKey = SANDBOX_KEY,
        query: Sequence[tuple[str, str]] = (),
        nonce: str = "",
        now_us: int = 0,
        path: str = "",
    ) -> tuple[URL, bytes, dict[str, str]]:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        unsigned = Unsigned(
            Operation(action, path or PATHS[action]),
            self.url.partition("//")[2],
            query,
            body,
            nonce or uuid.uuid4().hex,
        )
        credential = Credential(key.access_key_id, key.access_key_secret, key.security_token)
        headers = signer_for(scheme).sign(unsigned, credential, now_us or time.time_ns() // 1000)
        target = f"{self.url}{unsigned.operation.path}?{urlencode(query)}".rstrip("?")
        return URL(target, encoded=True), body, headers

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str]) -> Got:
        async with self.session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return Got(response.status, response.headers, await response.read())

    async def call(self, action: str, document: Any, **more: Any) -> Got:
        return await self.post(*self.request(action, document, **more))

    async def delete(self, person_id: str, *face_ids: str, **more: Any) -> Got:
        document = {"personId": person_id, "faceIds": list(face_ids)}
        return await self.call("DeleteFaces", document, **more)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as opened:
        yield opened


@pytest.fixture
def connect(session: aiohttp.ClientSession) -> Callable[[str], Client]:
    """Gives a client for a sandbox at some URL."""
    return lambda url: Client(url, session)


@dataclass(frozen=True)
class Stage:
    sandbox: Sandbox
    client: Client


@pytest.fixture
async def stage(session: aiohttp.ClientSession) -> AsyncIterator[Callable[..., Any]]:
    """Starts a sandbox with the given state and options, and a client for it."""
    async with AsyncExitStack() as stack:

        async def start(
            state: Any = None,
            *,
            arguments: Mapping[str, Any] | None = None,
            **options: Any,
        ) -> Stage:
            sandbox = Sandbox(SandboxOptions(state=state, **options), **(arguments or {}))
            await stack.enter_async_context(sandbox)
            return Stage(sandbox, Client(sandbox.url, session))

        yield start
