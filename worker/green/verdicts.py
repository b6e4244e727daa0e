"""What an answer proves: a pure function from request and answer to evidence.

An HTTP status alone never proves anything but a 429; whatever contradicts itself is ambiguous. What
is the same for all operations is here; what a good answer of each proves is beside it:

=============  ==========================  =======================================
operation      module                      proves at best
=============  ==========================  =======================================
DeleteFaces    ``worker.green.deletions``  ``LISTED``: these faces are gone
GetPerson      ``worker.green.lookups``    ``SHOWN``: the service has these faces;
                                           ``NO_PERSON``: it knows nobody
DeletePerson   ``worker.green.removals``   ``REMOVED``: the person is gone
=============  ==========================  =======================================

A good answer is HTTP 200 with one complete JSON object, 200 in ``code`` and in ``data.code``, and
the request's person echoed as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from worker.green.answers import ServiceAnswer, as_code, as_object, id_texts
from worker.green.codes import OK, SERVICE_CODES, Meaning, gateway_meaning, service_meaning
from worker.green.deletions import judge_deletion, names_unasked_face
from worker.green.findings import Finding, contradictory, incomplete
from worker.green.hints import retry_after_seconds
from worker.green.interface import Reply
from worker.green.lookups import judge_lookup, no_person_code
from worker.green.operations import DELETE_FACES, DELETE_PERSON, GET_PERSON
from worker.green.redaction import redacted
from worker.green.removals import judge_removal
from worker.model import Evidence, Kind, Request

_SWAPPED_REMEDY = (
    "do not resume: the service answered about something nobody asked for; check for a proxy or "
    "cache on the way, keep the ledger, and ask Alibaba Cloud support with the request ID"
)

_SUCCESSES: dict[str, Callable[[Request, ServiceAnswer], Finding]] = {
    DELETE_FACES.action: judge_deletion,
    GET_PERSON.action: judge_lookup,
    DELETE_PERSON.action: judge_removal,
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")


class _Unreadable(Exception):
    """The body is not one complete JSON object; the argument says why."""


def judge(
    request: Request, reply: Reply, *, retry_after_cap_seconds: float, unknown_person: str
) -> Evidence:
    """What ``reply`` proves about ``request``; never raises, whatever the answer holds.

    ``unknown_person`` is ``Settings.unknown_person`` (see ``worker.green.lookups``).
    """
    try:
        document = _json_object(reply)
    except _Unreadable as unreadable:
        document = {}
        finding = _unreadable(reply, str(unreadable))
    else:
        finding = _envelope(request, reply, document, unknown_person)
    throttled = finding.kind is Kind.THROTTLED
    return Evidence(
        kind=finding.kind,
        ended_us=reply.ended_us,
        sent_us=reply.sent_us,
        http_status=reply.status,
        code=finding.code,
        message=_without_ids(finding.message, request, document) if finding.message else "",
        request_id=_request_id(request, reply, document),
        listed=finding.listed,
        retry_after_seconds=retry_after_seconds(
            reply.headers, reply.ended_us, retry_after_cap_seconds
        )
        if throttled
        else None,
        remedy=finding.remedy,
    )


def _json_object(reply: Reply) -> dict[str, Any]:
    """The body as one JSON object: strict UTF-8, no duplicate keys, no ``NaN``, exact integers."""
    if "html" in reply.headers.get("content-type", "").lower():
        raise _Unreadable("an HTML page")
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise _Unreadable("an encoded body that nobody asked for")
    try:
        document = _JSON.decode(reply.body.decode("utf-8"))
    # RecursionError: 100 000 opening brackets are an answer too.
    except (ValueError, RecursionError):
        raise _Unreadable(
            "not one complete JSON document" if reply.body else "an empty body"
        ) from None
    if not isinstance(document, dict):
        raise _Unreadable("JSON, but not an object")
    return document


def _ids(request: Request, document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Persons and faces that the request or the answer speaks of, so that no text repeats them."""
    data = as_object(document.get("data"))
    persons = [request.person_id, *id_texts([data.get("personId")])]
    return persons, [*request.face_ids, *id_texts(data.get("faceIds"))]


def _without_ids(message: str, request: Request, document: dict[str, Any]) -> str:
    persons, faces = _ids(request, document)
    return redacted(message, persons=persons, faces=faces)


def _request_id(request: Request, reply: Reply, document: dict[str, Any]) -> str:
    named = document.get("requestId", document.get("RequestId"))
    if not isinstance(named, str):
        named = reply.headers.get("x-acs-request-id", "")
    if not _REQUEST_ID.fullmatch(named):
        return ""
    persons, faces = _ids(request, document)
    return "" if named in persons or named in faces else named


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_JSON = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)


def _unreadable(reply: Reply, why: str) -> Finding:
    if reply.status == 429:
        # By its definition not processed, whoever on the way said so.
        return Finding(Kind.THROTTLED, "http_429", f"HTTP 429 with {why}.")
    if 300 <= reply.status < 400:
        return Finding(
            Kind.AMBIGUOUS, "redirect", f"HTTP {reply.status}: redirects are not followed."
        )
    return Finding(Kind.AMBIGUOUS, "unreadable_answer", f"HTTP {reply.status} with {why}.")


def _envelope(
    request: Request, reply: Reply, document: dict[str, Any], unknown_person: str
) -> Finding:
    gateway_code, service_code = document.get("Code"), as_code(document.get("code"))
    if isinstance(gateway_code, str) and "code" not in document:
        if not _CODE.fullmatch(gateway_code) or gateway_code in (
            request.person_id,
            *request.face_ids,
        ):
            # Nothing that could be an ID or a secret may pass for a code.
            gateway_code = "unknown_code"
        return _gateway(reply, gateway_code, _text(document.get("Message")))
    if service_code is not None and "Code" not in document:
        answer = ServiceAnswer.of(
            reply.status, service_code, _text(document.get("msg")), document.get("data")
        )
        return _service(request, answer, unknown_person)
    return _unreadable(reply, "JSON in neither the gateway's nor the service's form")


def _gateway(reply: Reply, code: str, message: str) -> Finding:
    meaning = gateway_meaning(code)
    if reply.status == 429 and meaning.kind is Kind.AMBIGUOUS:
        return Finding(Kind.THROTTLED, code, message)
    return Finding(meaning.kind, code, message, remedy=meaning.remedy)


def _service(request: Request, answer: ServiceAnswer, unknown_person: str) -> Finding:
    if swapped := _swapped(request, answer):
        return Finding(Kind.SWAPPED, "swapped_answer", swapped, remedy=_SWAPPED_REMEDY)
    if answer.good:
        return _success(request, answer)
    if request.operation == GET_PERSON.action and (
        code := no_person_code(request, answer, unknown_person)
    ):
        return Finding(Kind.NO_PERSON, code, answer.message)
    return _failure(answer)


def _swapped(request: Request, answer: ServiceAnswer) -> str:
    person = answer.data.get("personId")
    if isinstance(person, str) and person != request.person_id:
        return "The answer is about another person than the request."
    if request.operation == DELETE_FACES.action and names_unasked_face(request, answer):
        return "The answer lists a face that was not in the request."
    return ""


def _success(request: Request, answer: ServiceAnswer) -> Finding:
    if answer.status != 200:
        return contradictory(f"Code 200, but HTTP {answer.status}.")
    if answer.data.get("personId") != request.person_id:
        return incomplete("The person is not echoed as text.")
    return _SUCCESSES[request.operation](request, answer)


def _failure(answer: ServiceAnswer) -> Finding:
    decisive = answer.decisive
    if decisive == OK:
        return incomplete("Code 200 without a data.code.")
    meaning = service_meaning(decisive)
    if _contradicts(meaning, answer):
        message = f"The answer contradicts itself. {answer.message}"
        return Finding(Kind.AMBIGUOUS, str(decisive), message)
    if answer.status == 429 and decisive not in SERVICE_CODES:
        # A code of the table wins over the status: 500 may have been applied all the same.
        return Finding(Kind.THROTTLED, str(decisive), answer.message)
    return Finding(meaning.kind, str(decisive), answer.message, remedy=meaning.remedy)


def _contradicts(meaning: Meaning, answer: ServiceAnswer) -> bool:
    """Whether an answer with an error code also reports success, or two different errors."""
    data, inner = answer.data, answer.inner
    if data.get("faceIds") or data.get("deleteCount"):
        return True
    if inner is None and data.get("code") is not None:
        return True
    return (
        answer.code != OK and inner is not None and service_meaning(inner).kind is not meaning.kind
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
