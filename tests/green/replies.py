"""Answers of the service and its gateway, and the requests they are answers to."""

from __future__ import annotations

import json
from typing import Any

from worker.green.interface import Reply
from worker.green.operations import body_of, operation_of
from worker.green.verdicts import judge
from worker.model import Evidence, Request, Step

PERSON = "person1"
FACES = ("1244453323565", "31842550077981745")


def request(step: Step, face_ids: tuple[str, ...] = FACES) -> Request:
    operation = operation_of(step)
    body = body_of(operation, PERSON, face_ids)
    return Request(operation.action, step, 7, PERSON, face_ids, body, "n" * 32)


DELETION = request(Step.DELETE)
LOOKUP = request(Step.LOOKUP)
WHOLE_LOOKUP = request(Step.LOOKUP, ())
VERIFICATION = request(Step.VERIFY)
REMOVAL = request(Step.REMOVE, ())
EACH_OPERATION = (DELETION, LOOKUP, REMOVAL)


def reply(body: bytes, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, body, 1, 2)


def judged(
    of: Request, document: Any, status: int = 200, *, unknown_person: str = "", **headers: str
) -> Evidence:
    """What an answer proves; ``document`` is its JSON, or its bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return judge(
        of,
        reply(body, status, **headers),
        retry_after_cap_seconds=300,
        unknown_person=unknown_person,
    )


def envelope(data: Any, code: int = 200) -> dict[str, Any]:
    return {"msg": "OK", "code": code, "requestId": "36D384DA-1", "data": data}


def gateway(code: str, message: str = "m") -> dict[str, str]:
    return {"RequestId": "R", "HostId": "h", "Code": code, "Message": message, "Recommend": "r"}
