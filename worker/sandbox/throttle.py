"""How a call over the quota is refused; every form that the service or a proxy might use."""

from __future__ import annotations

import math
from email.utils import formatdate
from typing import Literal

import msgspec

from worker.sandbox.answers import Answer, Refusal, Reply, gateway_answer, service_answer
from worker.sandbox.facts import Facts

ThrottleForm = Literal[
    "gateway-400", "gateway-429", "gateway-503", "service-200", "service-588", "http-429"
]


class Throttle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of the refusal and its hints.

    ``gateway-*`` is ``Throttling.User`` with that HTTP status, ``service-*`` is code 588 in the
    body with that HTTP status, ``http-429`` is a proxy's page without JSON. The two headers are
    not sent when empty; ``auto`` computes the value, ``date`` (``Retry-After`` only) sends it as an
    HTTP date, and anything else is sent as it is, also nonsense.
    """

    form: ThrottleForm = "gateway-400"
    code: str = "Throttling.User"
    """The gateway's code: ``Throttling``, ``Throttling.Api`` or ``Throttling.User``."""
    retry_after: str = ""
    acs_retry_after: str = ""
    """``x-acs-retry-after``, in milliseconds."""


def throttle_answer(
    throttle: Throttle, wait_seconds: float, request_id: str, host: str, now_us: int
) -> Answer:
    """Refuse a call that may be repeated after ``wait_seconds``."""
    answer = _bare_answer(throttle, request_id, host)
    headers = _hints(throttle, wait_seconds, now_us)
    return Answer(answer.status, answer.body, answer.code, answer.content_type, headers)


def _bare_answer(throttle: Throttle, request_id: str, host: str) -> Answer:
    match throttle.form:
        case "http-429":
            page = b"<html><body><h1>429 Too Many Requests</h1></body></html>"
            return Answer(429, page, "429", "text/html")
        case "service-200":
            return service_answer(Reply(588), request_id, Facts())
        case "service-588":
            return service_answer(Reply(588), request_id, Facts(service_error_status="code"))
        case "gateway-400" | "gateway-429" | "gateway-503":
            status = int(throttle.form.removeprefix("gateway-"))
            return gateway_answer(Refusal(throttle.code, status), request_id, host)


def _hints(throttle: Throttle, wait_seconds: float, now_us: int) -> tuple[tuple[str, str], ...]:
    hints: list[tuple[str, str]] = []
    match throttle.retry_after:
        case "":
            pass
        case "auto":
            hints.append(("Retry-After", str(math.ceil(wait_seconds))))
        case "date":
            at_seconds = math.ceil(now_us / 1e6 + wait_seconds)
            hints.append(("Retry-After", formatdate(at_seconds, usegmt=True)))
        case literal:
            hints.append(("Retry-After", literal))
    match throttle.acs_retry_after:
        case "":
            pass
        case "auto":
            hints.append(("x-acs-retry-after", str(math.ceil(wait_seconds * 1000))))
        case literal:
            hints.append(("x-acs-retry-after", literal))
    return tuple(hints)
