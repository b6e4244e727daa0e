"""The service that the benchmarks wait for."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from typing import Any

import pytest

from tests.benchmarks.agreeable_service import AgreeableService
from tests.benchmarks.comparison import WrongAnswer
from tests.benchmarks.first_calls import interrupt

DELETE, LOOKUP = "/green/sface/face/delete", "/green/sface/person"

CALLS_FOREVER = """
import http.client, itertools, sys
connection = http.client.HTTPConnection(sys.argv[2])
for number in itertools.count():
    body = '{"personId": "p%d", "faceIds": ["1"]}' % number
    connection.request("POST", "/green/sface/face/delete", body)
    connection.getresponse().read()
"""


def _asked(connection: http.client.HTTPConnection, path: str, **body: object) -> dict[str, Any]:
    connection.request("POST", f"{path}?a=b", json.dumps(body))
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    assert (answer["code"], answer["data"]["code"]) == (200, 200)
    data: dict[str, Any] = answer["data"]
    return data


def _connected(service: AgreeableService) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)


def test_it_lists_what_was_not_deleted_yet() -> None:
    with AgreeableService(lambda person_id: [f"{person_id}1", f"{person_id}2"]) as service:
        connection = _connected(service)
        deleted = _asked(connection, DELETE, personId="7", faceIds=["71"])
        assert (deleted["personId"], deleted["faceIds"], deleted["deleteCount"]) == ("7", ["71"], 1)
        assert _asked(connection, LOOKUP, personId="7")["faceIds"] == ["72"]
        assert _asked(connection, LOOKUP, personId="8")["faceIds"] == ["81", "82"]
        _asked(connection, DELETE, personId="7", faceIds=["71"])
        assert service.faces_deleted == 1
        connection.close()


def test_it_knows_when_the_first_of_them_came() -> None:
    with AgreeableService() as service:
        connection = _connected(service)
        before = time.monotonic()
        _asked(connection, LOOKUP, personId="1")
        between = time.monotonic()
        _asked(connection, LOOKUP, personId="1")
        assert before < service.arrived(2) < between
        service.forget()
        with pytest.raises(TimeoutError, match="0 requests came, not 1"):
            service.arrived(1, died=lambda: True)
        connection.close()


def test_a_caller_is_interrupted_after_its_first_calls() -> None:
    with AgreeableService() as service:
        host = service.url.removeprefix("http://")
        command = [sys.executable, "-c", CALLS_FOREVER, "calls", host]
        ended = interrupt(command, service, {}, after_calls=5, signal_number=signal.SIGTERM)
        assert ended.code == -signal.SIGTERM
        assert service.faces_deleted >= 5
        assert ended.measurement.wall_seconds > 0
        assert ended.measurement.figure("peak_mb") > 5


def test_a_caller_that_never_calls_is_told_of() -> None:
    with AgreeableService() as service:
        command = [sys.executable, "-c", "import sys; sys.exit('no key')", "run"]
        with pytest.raises(WrongAnswer, match="run: 0 requests came, not 1; no key"):
            interrupt(command, service, {}, after_calls=1, signal_number=signal.SIGTERM)
