from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
import pytest
from aioresponses import aioresponses
from msgspec.structs import replace

from worker.clock import SystemClock
from worker.departure import NotDeparted
from worker.errors import RunStopped
from worker.green.client import GreenClient
from worker.green.endpoint import Endpoint, resolve_endpoint
from worker.green.interface import Credential, NotSent, Reply, Unanswered
from worker.green.signing import (
    roa_signature,
    roa_string_to_sign,
    signer_for,
    v3_canonical_request,
    v3_signature,
    v3_string_to_sign,
)
from worker.green.transport import open_transport
from worker.model import Call, Kind, Step
from worker.settings import ClientInfo, Settings

CALL = Call(3, "person1", ("1244453323565", "1345345466455"), ("a.csv:2", "a.csv:3"))
BODY = b'{"personId":"person1","faceIds":["1244453323565","1345345466455"]}'
OLD = Credential("oldId", "oldSecret", "", "test")
NEW = Credential("newId", "newSecret", "newToken", "test")
NEWER = Credential("newerId", "newerSecret", "newerToken", "test")
NOON_US = 1_795_435_200_000_000
ENDPOINT = Endpoint("http://127.0.0.1", "127.0.0.1", loopback=True)
GOOD = json.dumps(
    {
        "code": 200,
        "msg": "OK",
        "requestId": "R",
        "data": {
            "code": 200,
            "personId": "person1",
            "faceIds": list(CALL.face_ids),
            "deleteCount": 2,
        },
    }
).encode()


def gateway(code: str, message: str = "m") -> bytes:
    return json.dumps({"RequestId": "R", "Code": code, "Message": message}).encode()


class FrozenClock:
    def __init__(self, now_us: int = NOON_US) -> None:
        self.us = now_us

    def now_us(self) -> int:
        return self.us


class Chain:
    """Gives the first credential, and the next one at each renewal."""

    def __init__(self, *credentials: Credential | RunStopped) -> None:
        self.left = list(credentials)
        self.renewals = 0

    async def get(self) -> Credential:
        first = self.left[0]
        if isinstance(first, RunStopped):
            raise first
        return first

    async def renew(self) -> Credential:
        self.renewals += 1
        await asyncio.sleep(0)
        if len(self.left) > 1:
            del self.left[0]
        return await self.get()


Answer = Callable[[Mapping[str, str]], Reply | NotSent | Unanswered]


class Wire:
    """A transport that departs and answers by a function of the headers that left."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.sent: list[Mapping[str, str]] = []

    async def exchange(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes,
        depart: Callable[[], Awaitable[Mapping[str, str]]],
        departed: Callable[[], None],
    ) -> Reply | NotSent | Unanswered:
        try:
            headers = await depart()
        except NotDeparted as stayed:
            return NotSent(stayed.reason, "", NOON_US)
        departed()
        self.sent.append(headers)
        await asyncio.sleep(0)
        return self.answer(headers)


class Gate:
    """Departures that notes who passes; ``wait`` is what a slot takes."""

    def __init__(self, wait: Callable[[], Awaitable[None]] | None = None) -> None:
        self._wait = wait
        self.slots = self.departures = 0

    async def slot(self) -> None:
        self.slots += 1
        if self._wait is not None:
            await self._wait()

    def departed(self) -> None:
        self.departures += 1


def through(wait: Callable[[], Awaitable[None]]) -> Callable[[str], Gate]:
    """One gate for every operation."""
    gate = Gate(wait)
    return lambda _operation: gate


def client(transport: Any, chain: Any, **changes: Any) -> GreenClient:
    given: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "signer": signer_for("roa"),
        "clock": FrozenClock(),
        "randomness": random.Random(1),
        "departures": lambda _operation: Gate(),
        "client_info": ClientInfo(),
        "retry_after_cap_seconds": 300.0,
        "unknown_person": "",
    }
    return GreenClient(transport=transport, credentials=chain, **{**given, **changes})


def reply(body: bytes, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {"content-type": "application/json", **headers}, body, NOON_US, NOON_US)


def accepts(*keys: str, code: str = "InvalidAccessKeyId.NotFound") -> Answer:
    def answer(headers: Mapping[str, str]) -> Reply:
        key = headers["Authorization"].removeprefix("acs ").partition(":")[0]
        return reply(GOOD) if key in keys else reply(gateway(code), 404)

    return answer


# --- Preparing ------------------------------------------------------------------------------------


def test_prepare_serialises_once_with_a_fresh_nonce() -> None:
    green = client(Wire(accepts("oldId")), Chain(OLD))
    first, second = green.prepare(CALL), green.prepare(CALL)
    assert first.body == BODY
    assert (first.operation, first.call_no, first.person_id) == ("DeleteFaces", 3, "person1")
    assert first.face_ids == CALL.face_ids
    assert first.nonce != second.nonce
    assert re.fullmatch(r"[0-9a-f]{32}", first.nonce)
    odd = green.prepare(replace(CALL, person_id="Jürgen ✓"))
    assert "Jürgen ✓".encode() in odd.body


@pytest.mark.parametrize(
    ("step", "operation", "body"),
    [
        (Step.DELETE, "DeleteFaces", BODY),
        (Step.LOOKUP, "GetPerson", b'{"personId":"person1"}'),
        (Step.VERIFY, "GetPerson", b'{"personId":"person1"}'),
        (Step.REMOVE, "DeletePerson", b'{"personId":"person1"}'),
    ],
)
def test_prepare_asks_for_what_the_call_waits_for(step: Step, operation: str, body: bytes) -> None:
    request = client(Wire(accepts("oldId")), Chain(OLD)).prepare(replace(CALL, step=step))
    assert (request.operation, request.step, request.body) == (operation, step, body)
    assert request.face_ids == CALL.face_ids


def test_a_deletion_of_no_face_is_never_prepared() -> None:
    green = client(Wire(accepts("oldId")), Chain(OLD))
    whole = replace(CALL, face_ids=(), whole=True)
    with pytest.raises(ValueError, match="needs faces"):
        green.prepare(whole)
    assert green.prepare(replace(whole, step=Step.LOOKUP)).face_ids == ()


# --- Quotas ---------------------------------------------------------------------------------------


async def test_each_operation_leaves_by_a_gate_of_its_own() -> None:
    gates = {action: Gate() for action in ("DeleteFaces", "GetPerson", "DeletePerson")}
    wire = Wire(accepts("oldId"))
    green = client(wire, Chain(OLD), departures=gates.__getitem__)
    for step, times in ((Step.DELETE, 1), (Step.LOOKUP, 2), (Step.VERIFY, 3), (Step.REMOVE, 4)):
        for _ in range(times):
            await green.send(green.prepare(replace(CALL, step=step)))
    passed = {action: (gate.slots, gate.departures) for action, gate in gates.items()}
    assert passed == {"DeleteFaces": (1, 1), "GetPerson": (5, 5), "DeletePerson": (4, 4)}
    assert [headers["x-acs-action"] for headers in wire.sent] == (
        ["DeleteFaces"] + ["GetPerson"] * 5 + ["DeletePerson"] * 4
    )


async def test_a_closed_gate_holds_its_own_operation_only() -> None:
    async def closed() -> None:
        raise NotDeparted("held")

    gates = {"DeleteFaces": Gate(), "GetPerson": Gate(closed)}
    wire = Wire(accepts("oldId"))
    green = client(wire, Chain(OLD), departures=gates.__getitem__)
    held = await green.send(green.prepare(replace(CALL, step=Step.LOOKUP)))
    assert (held.kind, held.code, gates["GetPerson"].departures) == (Kind.NOT_SENT, "held", 0)
    assert (await green.send(green.prepare(CALL))).kind is Kind.LISTED
    assert len(wire.sent) == 1


# --- What lookups and removals bring --------------------------------------------------------------

PERSON_ANSWERS: dict[str, tuple[Step, bytes, Kind]] = {
    "shown": (Step.LOOKUP, GOOD, Kind.SHOWN),
    "verified": (Step.VERIFY, GOOD, Kind.SHOWN),
    "nobody": (Step.LOOKUP, b'{"code":404}', Kind.NO_PERSON),
    "removed": (Step.REMOVE, GOOD, Kind.REMOVED),
    "refused": (Step.LOOKUP, b'{"code":400}', Kind.REFUSED),
}


@pytest.mark.parametrize("name", PERSON_ANSWERS)
async def test_an_answer_of_the_service_proves_key_and_clock(name: str) -> None:
    step, body, kind = PERSON_ANSWERS[name]
    call = replace(CALL, step=step)
    # A renewed key, and a corrected clock, may be renewed again once they have worked.
    late = reply(gateway("InvalidTimeStamp.Expired"), 400, date="Mon, 23 Nov 2026 12:20:00 GMT")
    stale = reply(gateway("InvalidAccessKeyId.NotFound"), 404)
    answers = [stale, reply(body), stale, reply(body), late, reply(body), late, reply(body)]
    left = iter(answers)
    chain = Chain(OLD, NEW, NEWER)
    green = client(Wire(lambda _: next(left)), chain)
    kinds = [(await green.send(green.prepare(call))).kind for _ in answers]
    assert kinds == [Kind.AGAIN, kind] * 4
    assert chain.renewals == 2


@pytest.mark.parametrize("body", [b"<html>", b'{"code":500}', b'{"code":588}'])
async def test_what_anybody_might_say_proves_neither(body: bytes) -> None:
    call = replace(CALL, step=Step.LOOKUP)
    late = reply(gateway("InvalidTimeStamp.Expired"), 400, date="Mon, 23 Nov 2026 12:20:00 GMT")
    left = iter([late, reply(body), late])
    green = client(Wire(lambda _: next(left)), Chain(OLD))
    kinds = [(await green.send(green.prepare(call))).kind for _ in range(3)]
    assert kinds[0] is Kind.AGAIN
    assert kinds[2] is Kind.FATAL


@pytest.mark.parametrize(
    ("unknown_person", "body", "kind"),
    [
        ("", b'{"code":400}', Kind.REFUSED),
        ("code-400", b'{"code":400}', Kind.NO_PERSON),
        ("code-404", b'{"code":200,"data":{}}', Kind.AMBIGUOUS),
        ("empty-data", b'{"code":200,"data":{}}', Kind.NO_PERSON),
    ],
)
async def test_what_an_unknown_person_looks_like_is_a_setting(
    unknown_person: str, body: bytes, kind: Kind
) -> None:
    green = client(Wire(lambda _: reply(body)), Chain(OLD), unknown_person=unknown_person)
    lookup = green.prepare(replace(CALL, step=Step.LOOKUP))
    assert (await green.send(lookup)).kind is kind


# --- Credentials ----------------------------------------------------------------------------------


async def test_a_refused_key_is_renewed_once_for_everybody() -> None:
    chain = Chain(OLD, NEW)
    wire = Wire(accepts("newId"))
    green = client(wire, chain)
    refused = await asyncio.gather(*(green.send(green.prepare(CALL)) for _ in range(5)))
    assert {evidence.kind for evidence in refused} == {Kind.AGAIN}
    assert {evidence.code for evidence in refused} == {"InvalidAccessKeyId.NotFound"}
    assert {evidence.remedy for evidence in refused} == {""}
    assert chain.renewals == 1
    assert (await green.send(green.prepare(CALL))).kind is Kind.LISTED
    assert wire.sent[-1]["x-acs-security-token"] == "newToken"


@pytest.mark.parametrize(
    "code", ["SignatureDoesNotMatch", "InvalidSecurityToken.Expired", "MissingSecurityToken"]
)
async def test_other_stale_codes_are_renewed_too(code: str) -> None:
    green = client(Wire(accepts("newId", code=code)), Chain(OLD, NEW))
    assert (await green.send(green.prepare(CALL))).kind is Kind.AGAIN


async def test_a_renewal_that_changes_nothing_is_fatal_for_all() -> None:
    chain = Chain(OLD)
    green = client(Wire(accepts("newId")), chain)
    refused = await asyncio.gather(*(green.send(green.prepare(CALL)) for _ in range(5)))
    assert {evidence.kind for evidence in refused} == {Kind.FATAL}
    assert all(evidence.remedy for evidence in refused)
    assert chain.renewals == 1


async def test_a_renewed_key_that_is_refused_at_once_is_fatal() -> None:
    chain = Chain(OLD, NEW, NEWER)
    green = client(Wire(accepts("nobody")), chain)
    kinds = [(await green.send(green.prepare(CALL))).kind for _ in range(3)]
    assert kinds == [Kind.AGAIN, Kind.FATAL, Kind.FATAL]
    assert chain.renewals == 1


async def test_a_key_may_be_rotated_again_after_it_has_worked() -> None:
    wire = Wire(accepts("newId"))
    green = client(wire, Chain(OLD, NEW, NEWER))
    kinds = [(await green.send(green.prepare(CALL))).kind for _ in range(2)]
    wire.answer = accepts("newerId")
    kinds += [(await green.send(green.prepare(CALL))).kind for _ in range(2)]
    assert kinds == [Kind.AGAIN, Kind.LISTED, Kind.AGAIN, Kind.LISTED]


async def test_a_permission_is_not_renewed() -> None:
    chain = Chain(OLD, NEW)
    green = client(Wire(accepts("nobody", code="Forbidden.RAM")), chain)
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, chain.renewals) == (Kind.FATAL, 0)
    assert "AliyunYundunGreenWebFullAccess" in evidence.remedy


async def test_no_credential_is_evidence() -> None:
    wire = Wire(accepts())
    green = client(wire, Chain(RunStopped("Credentials: none found.", "Set them.")))
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.code, evidence.sent_us) == (Kind.FATAL, "no_credential", None)
    assert (evidence.message, evidence.remedy) == ("Credentials: none found.", "Set them.")
    assert wire.sent == []


async def test_a_renewal_that_finds_nothing_keeps_what_the_service_said() -> None:
    green = client(Wire(accepts("newId")), Chain(OLD, RunStopped("the file is gone", "restore it")))
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.code) == (Kind.FATAL, "InvalidAccessKeyId.NotFound")
    assert evidence.remedy == "the file is gone; restore it"
    assert evidence.sent_us == NOON_US


# --- The clock ------------------------------------------------------------------------------------


def dated_within(
    server_clock: FrozenClock, *, says_date: bool = True
) -> Callable[[Mapping[str, str]], Reply]:
    def answer(headers: Mapping[str, str]) -> Reply:
        now = formatdate(server_clock.us // 1_000_000, usegmt=True)
        if headers["Date"] == now:
            return reply(GOOD)
        date = {"date": now} if says_date else {}
        return reply(gateway("InvalidTimeStamp.Expired"), 400, **date)

    return answer


async def test_a_skewed_clock_is_set_once_by_the_server() -> None:
    wire = Wire(dated_within(FrozenClock(NOON_US + 1_200_000_000)))
    green = client(wire, Chain(OLD))
    refused = await asyncio.gather(*(green.send(green.prepare(CALL)) for _ in range(3)))
    assert {evidence.kind for evidence in refused} == {Kind.AGAIN}
    assert (await green.send(green.prepare(CALL))).kind is Kind.LISTED
    assert wire.sent[-1]["Date"] == "Mon, 23 Nov 2026 12:20:00 GMT"


async def test_a_clock_that_is_set_right_in_the_middle_is_followed() -> None:
    server, machine = FrozenClock(NOON_US + 1_200_000_000), FrozenClock(NOON_US)

    def answer(headers: Mapping[str, str]) -> Reply:
        # Received by the machine's clock, whatever that says.
        return replace(dated_within(server)(headers), ended_us=machine.us)

    green = client(Wire(answer), Chain(OLD), clock=machine)
    kinds = [(await green.send(green.prepare(CALL))).kind for _ in range(2)]
    machine.us = server.us
    kinds += [(await green.send(green.prepare(CALL))).kind for _ in range(2)]
    assert kinds == [Kind.AGAIN, Kind.LISTED, Kind.AGAIN, Kind.LISTED]


async def test_an_attempt_counts_for_the_clock_that_dated_it() -> None:
    server, machine = FrozenClock(NOON_US + 1_200_000_000), FrozenClock(NOON_US)
    opened = asyncio.Event()
    waits = [True, False]

    async def slot() -> None:
        if waits and waits.pop(0):
            await opened.wait()

    green = client(Wire(dated_within(server)), Chain(OLD), clock=machine, departures=through(slot))
    waiting = asyncio.ensure_future(green.send(green.prepare(CALL)))
    await asyncio.sleep(0)
    assert (await green.send(green.prepare(CALL))).kind is Kind.AGAIN
    # Dated after the correction, and so its proof: the next one may be corrected again.
    opened.set()
    assert (await waiting).kind is Kind.LISTED
    server.us += 1_200_000_000
    assert (await green.send(green.prepare(CALL))).kind is Kind.AGAIN


async def test_a_correction_that_is_refused_is_fatal() -> None:
    def never(headers: Mapping[str, str]) -> Reply:
        date = {"date": "Mon, 23 Nov 2026 12:20:00 GMT"}
        return reply(gateway("InvalidTimeStamp.Expired"), 400, **date)

    green = client(Wire(never), Chain(OLD))
    kinds = [(await green.send(green.prepare(CALL))).kind for _ in range(2)]
    assert kinds == [Kind.AGAIN, Kind.FATAL]


async def test_without_a_server_date_a_skewed_clock_is_fatal() -> None:
    wire = Wire(dated_within(FrozenClock(NOON_US + 1_200_000_000), says_date=False))
    green = client(wire, Chain(OLD))
    evidence = await green.send(green.prepare(CALL))
    assert evidence.kind is Kind.FATAL
    assert "clock" in evidence.remedy


# --- Other ends -----------------------------------------------------------------------------------


async def test_a_closed_slot_is_not_sent() -> None:
    async def closed() -> None:
        raise NotDeparted("stopped")

    green = client(Wire(accepts("oldId")), Chain(OLD), departures=through(closed))
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.code, evidence.sent_us) == (Kind.NOT_SENT, "stopped", None)


async def test_what_the_transport_says_becomes_evidence() -> None:
    outcome: NotSent | Unanswered = NotSent("tls_failed", "h: expired", 5)
    green = client(Wire(lambda _: outcome), Chain(OLD))
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.message, evidence.sent_us) == (Kind.FATAL, "h: expired", None)
    assert "ca_file" in evidence.remedy
    outcome = NotSent("dns_failed", "h", 5)
    assert (await green.send(green.prepare(CALL))).kind is Kind.NOT_SENT
    outcome = Unanswered("cut_body", "b", 4, 5, 200)
    evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.code, evidence.sent_us, evidence.ended_us) == (
        Kind.AMBIGUOUS,
        "cut_body",
        4,
        5,
    )
    assert evidence.http_status == 200


async def test_the_credential_is_at_hand_before_the_slot() -> None:
    order: list[str] = []

    class Watched(Chain):
        async def get(self) -> Credential:
            order.append("credential")
            return await super().get()

    async def slot() -> None:
        order.append("slot")

    green = client(Wire(accepts("oldId")), Watched(OLD), departures=through(slot))
    await green.send(green.prepare(CALL))
    assert order == ["credential", "slot"]


# --- Over a real socket ---------------------------------------------------------------------------


async def over_the_wire(
    stack: AsyncExitStack,
    url: str,
    *,
    signature: Literal["roa", "v3"] = "roa",
    credential: Credential = OLD,
    **changes: Any,
) -> GreenClient:
    endpoint = resolve_endpoint("", "public", url, allow=False)
    settings = Settings(concurrency=4)
    transport = await stack.enter_async_context(
        open_transport(endpoint.url_base, settings, SystemClock())
    )
    return client(
        transport,
        Chain(credential),
        endpoint=endpoint,
        signer=signer_for(signature),
        **{"clock": SystemClock(), **changes},
    )


def http(body: bytes, status: str = "200 OK") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json;charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def verify(head: bytes, body: bytes, secret: str) -> dict[str, str]:
    """A verifier that knows only what arrived; returns the headers with lower-case names."""
    start, *lines = head.decode().split("\r\n")[:-2]
    method, target, _ = start.split(" ")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs)
    split = urlsplit(target)
    path, query = unquote(split.path), parse_qsl(split.query, keep_blank_values=True)
    authorization = headers["authorization"]
    if authorization.startswith("acs "):
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        assert headers["content-md5"] == base64.b64encode(md5).decode()
        signature = roa_signature(roa_string_to_sign(method, path, query, headers), secret)
        assert authorization.endswith(":" + signature)
    else:
        digest = hashlib.sha256(body).hexdigest()
        assert headers["x-acs-content-sha256"] == digest
        found = re.search(r"SignedHeaders=([^,]*),Signature=(.*)", authorization)
        assert found
        names = found[1].split(";")
        assert {name for name in headers if name.startswith("x-acs-")} | {"host"} <= set(names)
        canonical = v3_canonical_request(method, path, query, headers, names, digest)
        assert found[2] == v3_signature(v3_string_to_sign(canonical), secret)
    return headers


HARD = ClientInfo(userId="120234234", userNick='Mike & "Zoë" = a+b?/%2F~*', userType="others")


@pytest.mark.parametrize("client_info", [ClientInfo(), HARD], ids=["plain", "hard"])
@pytest.mark.parametrize("credential", [OLD, NEW], ids=["key", "sts"])
@pytest.mark.parametrize("signature", ["roa", "v3"])
async def test_what_arrives_is_what_was_signed(
    serve: Any, signature: Literal["roa", "v3"], credential: Credential, client_info: ClientInfo
) -> None:
    server = await serve(http(GOOD))
    async with AsyncExitStack() as stack:
        green = await over_the_wire(
            stack, server.url, signature=signature, credential=credential, client_info=client_info
        )
        request = green.prepare(CALL)
        first = await green.send(request)
        second = await green.send(green.prepare(CALL))
    assert (first.kind, second.kind) == (Kind.LISTED, Kind.LISTED)
    assert first.listed == CALL.face_ids
    seen = [verify(head, body, credential.access_key_secret) for head, body in server.requests]
    assert [body for _, body in server.requests] == [BODY, BODY]
    assert seen[0]["x-acs-signature-nonce"] == request.nonce
    assert seen[0]["x-acs-signature-nonce"] != seen[1]["x-acs-signature-nonce"]
    assert seen[0]["host"] == f"127.0.0.1:{server.port}"
    assert seen[0]["accept"] == seen[0]["content-type"] == "application/json"
    assert seen[0].get("x-acs-security-token", "") == credential.security_token
    target = server.requests[0][0].split(b" ")[1].decode()
    assert ("?" in target) == (client_info is HARD)
    if client_info is HARD:
        assert json.loads(dict(parse_qsl(urlsplit(target).query))["ClientInfo"]) == {
            "userId": "120234234",
            "userNick": HARD.userNick,
            "userType": "others",
        }


@pytest.mark.parametrize("signature", ["roa", "v3"])
@pytest.mark.parametrize(
    ("step", "path", "kind"),
    [
        (Step.DELETE, "/green/sface/face/delete", Kind.LISTED),
        (Step.LOOKUP, "/green/sface/person", Kind.SHOWN),
        (Step.VERIFY, "/green/sface/person", Kind.SHOWN),
        (Step.REMOVE, "/green/sface/person/delete", Kind.REMOVED),
    ],
)
async def test_every_step_arrives_at_its_own_address(
    serve: Any, step: Step, path: str, kind: Kind, signature: Literal["roa", "v3"]
) -> None:
    server = await serve(http(GOOD))
    async with AsyncExitStack() as stack:
        green = await over_the_wire(stack, server.url, signature=signature)
        request = green.prepare(replace(CALL, step=step))
        evidence = await green.send(request)
    assert evidence.kind is kind
    head, body = server.requests[0]
    headers = verify(head, body, OLD.access_key_secret)
    assert head.startswith(f"POST {path} HTTP/1.1\r\n".encode())
    assert headers["x-acs-action"] == request.operation
    assert body == request.body


async def test_the_date_is_made_after_the_slot(serve: Any) -> None:
    server, clock = await serve(http(GOOD)), FrozenClock()

    async def slow_slot() -> None:
        clock.us += 60_000_000

    async with AsyncExitStack() as stack:
        green = await over_the_wire(stack, server.url, clock=clock, departures=through(slow_slot))
        await green.send(green.prepare(CALL))
    head, body = server.requests[0]
    headers = verify(head, body, OLD.access_key_secret)
    assert headers["date"] == "Mon, 23 Nov 2026 12:01:00 GMT"


async def test_an_echoed_signature_stays_out_of_evidence_and_logs(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def echo(visit: Any) -> None:
        text = f"server string to sign is:{visit.head.decode()}"
        await visit.say(http(gateway("SignatureDoesNotMatch", text), "400 Bad Request"))

    server = await serve(echo)
    async with AsyncExitStack() as stack:
        green = await over_the_wire(stack, server.url, credential=NEW)
        evidence = await green.send(green.prepare(CALL))
    assert evidence.kind is Kind.FATAL
    head, body = server.requests[0]
    authorization = verify(head, body, NEW.access_key_secret)["authorization"]
    kept = f"{evidence!r} {NEW!r} {green!r} {caplog.text}"
    for secret in (NEW.access_key_secret, NEW.security_token, authorization.partition(":")[2]):
        assert secret not in kept


# --- Answers mapped to verdicts -------------------------------------------------------------------


class SentResponse(aiohttp.ClientResponse):
    """aioresponses knows no stream writer, which aiohttp 3.14 asks for the size sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        class Writer:
            output_size = 0

        super().__init__(*args, **{"stream_writer": Writer(), **kwargs})


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "code"),
    [
        (200, GOOD, {}, Kind.LISTED, "200"),
        (
            404,
            gateway("InvalidAccessKeyId.NotFound"),
            {},
            Kind.FATAL,
            "InvalidAccessKeyId.NotFound",
        ),
        (400, gateway("Throttling.User"), {"Retry-After": "3"}, Kind.THROTTLED, "Throttling.User"),
        (200, b'{"code":588,"msg":"EXCEED_QUOTA"}', {}, Kind.THROTTLED, "588"),
        (200, b'{"code":404,"msg":"NOT_FOUND"}', {}, Kind.REFUSED, "404"),
        (404, b'{"code":404,"msg":"NOT_FOUND"}', {}, Kind.REFUSED, "404"),
        (404, b"<html>", {}, Kind.AMBIGUOUS, "unreadable_answer"),
        (502, b"<html>", {}, Kind.AMBIGUOUS, "unreadable_answer"),
        (307, b"", {"Location": "http://127.0.0.1/x"}, Kind.AMBIGUOUS, "redirect"),
        (429, b"", {}, Kind.THROTTLED, "http_429"),
    ],
)
async def test_answer_to_verdict(
    status: int, body: bytes, headers: dict[str, str], kind: Kind, code: str
) -> None:
    async with open_transport(ENDPOINT.url_base, Settings(), SystemClock()) as transport:
        green = client(transport, Chain(OLD))
        with aioresponses() as mocked:
            mocked.post(
                "http://127.0.0.1/green/sface/face/delete",
                status=status,
                body=body,
                headers=headers,
                response_class=SentResponse,
            )
            evidence = await green.send(green.prepare(CALL))
    assert (evidence.kind, evidence.code, evidence.http_status) == (kind, code, status)
    assert evidence.retry_after_seconds == (3 if "Retry-After" in headers else None)
