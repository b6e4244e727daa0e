"""Faults that spoil an answer before it is written: what the service says, not how it is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.sandbox.answers import Answer, Refusal, Reply, gateway_answer, service_answer
from worker.sandbox.facts import Facts
from worker.sandbox.faults import (
    Body,
    CountMismatch,
    Fault,
    GatewayCode,
    Html,
    Partial,
    Redirect,
    ServiceCode,
    Swapped,
    Throttled,
)
from worker.sandbox.operations import Effect
from worker.sandbox.throttle import Throttle, throttle_answer
from worker.sandbox.world import Change

UNASKED_FACE = "99999999999999999"
"""The face that a swapped answer names; nobody should ever ask for it."""

_LISTS = ("faceIds", "faceImageItems")


def spoil_effect(effect: Effect, fault: Fault | None) -> Effect:
    """The reply as the fault spoils it, and what is really changed before it is given."""
    if fault is None:
        return effect
    reply = replace(effect.reply, data=_spoil_data(effect.reply.data, fault))
    return Effect(reply, _really_applied(effect.change, reply, fault))


def _spoil_data(data: dict[str, Any] | None, fault: Fault) -> dict[str, Any] | None:
    if not data:
        return data
    match fault:
        case Partial():
            return _half(data)
        case Swapped(form="person"):
            return {**data, "personId": f"{data.get('personId', '')}-other"}
        case Swapped():
            return _with_unasked_face(data)
        case CountMismatch() if "deleteCount" in data:
            return {**data, "deleteCount": data["deleteCount"] + 1}
        case _:
            return data


def _really_applied(change: Change, reply: Reply, fault: Fault) -> Change:
    if fault.applies == "before":
        return change
    if isinstance(fault, Partial):
        listed = (reply.data or {}).get("faceIds", ())
        return replace(change, deleted=tuple(f for f in change.deleted if f in listed))
    return Change(change.person_id)


def _half(data: dict[str, Any]) -> dict[str, Any]:
    halved = {key: value[: len(value) // 2] for key, value in data.items() if key in _LISTS}
    if "deleteCount" in data and "faceIds" in halved:
        halved["deleteCount"] = len(halved["faceIds"])
    return {**data, **halved}


def _with_unasked_face(data: dict[str, Any]) -> dict[str, Any]:
    spoiled = dict(data)
    if "faceIds" in data:
        spoiled["faceIds"] = [*data["faceIds"], UNASKED_FACE]
    if "faceImageItems" in data:
        item = {"success": True, "faceId": int(UNASKED_FACE)}
        spoiled["faceImageItems"] = [*data["faceImageItems"], item]
    if "deleteCount" in data:
        spoiled["deleteCount"] = data["deleteCount"] + 1
    return spoiled


def spoil_answer(
    fault: Fault | None, reply: Reply, request_id: str, host: str, now_us: int
) -> Answer | None:
    """The answer that the fault puts in the place of the right one; None where it keeps that."""
    match fault:
        case Body(form=form):
            return _body(form, request_id)
        case Html(status=status):
            return Answer(status, _page(status), str(status), "text/html")
        case ServiceCode():
            return _service_code(fault, reply, request_id)
        case GatewayCode(code=code, status=status):
            return gateway_answer(Refusal(code, status), request_id, host)
        case Throttled(form=form, retry_after=retry_after, acs_retry_after=acs_retry_after):
            throttle = Throttle(form=form, retry_after=retry_after, acs_retry_after=acs_retry_after)
            return throttle_answer(throttle, fault.wait_seconds, request_id, host, now_us)
        case Redirect(status=status, location=location):
            headers = (("Location", location or f"http://{host}/redirected"),)
            return Answer(status, b"", str(status), "text/html", headers)
        case _:
            return None


def _page(status: int) -> bytes:
    return (
        f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>".encode()
    )


def _body(form: str, request_id: str) -> Answer:
    head = f'{{"msg":"OK","code":200,"requestId":"{request_id}"'
    match form:
        case "null":
            return Answer(200, b"null", "200")
        case "no-data":
            return Answer(200, f"{head}}}".encode(), "200")
        case "data-null":
            return Answer(200, f'{head},"data":null}}'.encode(), "200")
        case "empty":
            return Answer(200, b"", "200")
        case _:
            return Answer(200, _page(200), "200", "text/html")


def _service_code(fault: ServiceCode, reply: Reply, request_id: str) -> Answer:
    data = dict(reply.data or {}) if fault.filled else {}
    if fault.place == "inner":
        data["code"] = fault.code
        answer = service_answer(Reply(200, data=data), request_id, Facts())
    else:
        answer = service_answer(Reply(fault.code, data=data), request_id, Facts())
    return replace(answer, status=fault.status, code=str(fault.code))
