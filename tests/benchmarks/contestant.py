"""One client of ``bench_pipeline``, in a process of its own: it calls, and says what that took.

``python -m tests.benchmarks.contestant NAME URL CALLS CONCURRENCY RUN_DIR RATE`` prints ``ready``
when the clock starts, and in the end one JSON object. Imports come before, and the pipeline's plan:
it has ``RUN_DIR``, which should be on a disk. ``RATE`` is for it and for the paced loop alone.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.settings import Settings

FACES_PER_CALL = 5
KEY = ("benchmark-key-id", "benchmark-key-secret")
PATH = "/green/sface/face/delete"


def person(number: int) -> str:
    return f"person_{number:09d}"


def faces(number: int) -> list[str]:
    return [f"{number:011d}{face:02d}" for face in range(FACES_PER_CALL)]


@dataclass
class Measured:
    """What a number of calls took of this process."""

    calls: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        print("ready", flush=True)
        cpu, began = time.process_time(), time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began
        self.cpu_seconds = time.process_time() - cpu

    def tell(self) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            json.dumps(
                {
                    "calls": self.calls,
                    "seconds": self.seconds,
                    "cpu_seconds": self.cpu_seconds,
                    "peak_mb": peak_mb,
                }
            )
        )


def _signed(number: int, host: str, nonce: str) -> tuple[bytes, dict[str, str]]:
    """What any loop of one's own would send: the same body, under the same signature."""
    from worker.green.interface import Credential, Unsigned
    from worker.green.operations import DELETE_FACES, delete_faces_body
    from worker.green.signing import RoaSigner

    body = delete_faces_body(person(number), faces(number))
    unsigned = Unsigned(DELETE_FACES, host, (), body, nonce)
    now_us = time.time_ns() // 1000
    return body, RoaSigner().sign(unsigned, Credential(*KEY), now_us)


async def _in_flight(
    measured: Measured, concurrency: int, loop: Callable[[Iterator[int]], Coroutine[Any, Any, None]]
) -> None:
    """So many loops take the numbers of all calls, one after another."""
    numbers = iter(range(measured.calls))
    with measured.working():
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(loop(numbers))


def bare_aiohttp(url: str, measured: Measured, concurrency: int) -> None:
    """Loops around ``session.post``, which sign, and read the answer without looking at it."""
    import aiohttp

    host = url.removeprefix("http://")

    async def loop(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            body, headers = _signed(number, host, f"{number:032x}")
            async with session.post(url + PATH, data=body, headers=headers) as response:
                await response.read()
                assert response.status == 200

    async def work() -> None:
        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(connector=connector) as session:
            await _in_flight(measured, concurrency, partial(loop, session))

    asyncio.run(work())


def paced_aiohttp(url: str, measured: Measured, rate_per_second: float) -> None:
    """The same, one call after another, at a rate; nothing is written anywhere."""
    import aiohttp

    host = url.removeprefix("http://")

    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            clock = asyncio.get_running_loop().time
            with measured.working():
                began = clock()
                for number in range(measured.calls):
                    await asyncio.sleep(began + number / rate_per_second - clock())
                    body, headers = _signed(number, host, f"{number:032x}")
                    async with session.post(url + PATH, data=body, headers=headers) as response:
                        await response.read()
                        assert response.status == 200

    asyncio.run(work())


def httpx_client(url: str, measured: Measured, concurrency: int) -> None:
    """The same with httpx."""
    import httpx

    host = url.removeprefix("http://")

    async def loop(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            body, headers = _signed(number, host, f"{number:032x}")
            response = await client.post(url + PATH, content=body, headers=headers)
            assert response.status_code == 200

    async def work() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
            await _in_flight(measured, concurrency, partial(loop, client))

    asyncio.run(work())


def official_sdk(url: str, measured: Measured, concurrency: int) -> None:
    """The service's own SDK, one client for each thread."""
    from aliyunsdkcore.auth.credentials import (
        AccessKeyCredential,
    )
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkgreen.request.v20180509.DeleteFacesRequest import (
        DeleteFacesRequest,
    )

    host = url.removeprefix("http://")

    def work(first: int) -> None:
        client = AcsClient(region_id="cn-shanghai", credential=AccessKeyCredential(*KEY))
        for number in range(first, measured.calls, concurrency):
            request = DeleteFacesRequest()
            request.set_endpoint(host)
            request.set_accept_format("JSON")
            document = {"personId": person(number), "faceIds": faces(number)}
            request.set_content(bytearray(json.dumps(document), "utf-8"))
            client.do_action_with_exception(request)

    with measured.working(), ThreadPoolExecutor(concurrency) as threads:
        list(threads.map(work, range(concurrency)))


def official_async(url: str, measured: Measured, concurrency: int) -> None:
    """The generic client of current SDKs with its own ``async`` call."""
    from alibabacloud_tea_openapi import models
    from alibabacloud_tea_openapi.client import Client
    from darabonba.runtime import RuntimeOptions

    config = models.Config(
        access_key_id=KEY[0],
        access_key_secret=KEY[1],
        endpoint=url.removeprefix("http://"),
        protocol="http",
    )
    client, options = Client(config), RuntimeOptions()
    params = models.Params(
        action="DeleteFaces",
        version="2018-05-09",
        protocol="HTTP",
        pathname=PATH,
        method="POST",
        auth_type="AK",
        style="ROA",
        req_body_type="json",
        body_type="json",
    )

    async def loop(numbers: Iterator[int]) -> None:
        for number in numbers:
            request = models.OpenApiRequest(
                body={"personId": person(number), "faceIds": faces(number)}
            )
            answer = await client.call_api_async(params, request, options)
            assert answer["statusCode"] == 200

    asyncio.run(_in_flight(measured, concurrency, loop))


def plan(settings: Settings, calls: int, run_dir: Path) -> None:
    """What a run of so many calls begins with."""
    from worker.cli.planning import planned
    from worker.cli.sealing import seal
    from worker.cli.target import Target

    manifest = run_dir / "faces.csv"
    with manifest.open("w") as file:
        file.write("person_id,face_id\n")
        for number in range(calls):
            file.writelines(f"{person(number)},{face}\n" for face in faces(number))
    run_id, target = "20261123T000000Z-abcdef", Target(KEY[0], settings.endpoint, rehearsal=False)
    with planned(settings, [str(manifest)], run_id, run_dir, quiet=True) as made:
        seal(made, settings, target, run_dir=run_dir, run_id=run_id)


def pipeline(
    url: str, measured: Measured, concurrency: int, run_dir: Path, rate_per_second: float
) -> None:
    """The whole of it, as ``facepurge run`` carries out a plan, with everything durable."""
    from worker.cli.purge import carry_out
    from worker.ledger.books import LedgerBooks
    from worker.ledger.database import open_ledger
    from worker.model import StopReason, Verb
    from worker.settings import Settings
    from worker.telemetry import configure

    configure("console", 0, sys.stderr)
    settings = Settings(
        endpoint=url,
        raised_quota=rate_per_second > 20,
        rate_per_second=rate_per_second,
        concurrency=concurrency,
    )
    # In a process of its own: what it takes to plan is no part of what a run takes.
    planner = multiprocessing.get_context("spawn").Process(
        target=plan, args=(settings, measured.calls, run_dir)
    )
    planner.start()
    planner.join()
    assert planner.exitcode == 0, "it could not be planned"
    os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"], os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] = KEY
    with measured.working():
        stop = asyncio.run(carry_out(run_dir, settings, Verb.RUN, quiet=True))
    assert stop.reason is StopReason.FINISHED, stop
    books = LedgerBooks(open_ledger(run_dir, read_only=True, checked=True))
    try:
        tally = {outcome: count for outcome, count in books.tally().items() if count}
    finally:
        books.close()
    assert tally == {"deleted": measured.calls * FACES_PER_CALL}, tally


CLIENTS: dict[str, Callable[..., None]] = {
    "bare aiohttp": bare_aiohttp,
    "httpx": httpx_client,
    "official SDK": official_sdk,
    "official async": official_async,
}


def main(arguments: Sequence[str]) -> None:
    name, url, calls, concurrency, run_dir, rate = arguments
    measured = Measured(int(calls))
    if name == "pipeline":
        pipeline(url, measured, int(concurrency), Path(run_dir), float(rate))
    elif name == "paced aiohttp":
        paced_aiohttp(url, measured, float(rate))
    else:
        CLIENTS[name](url, measured, int(concurrency))
    measured.tell()


if __name__ == "__main__":
    main(sys.argv[1:])
