from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from worker import telemetry
from worker.telemetry import ForgivingStream, configure, get_log, lines_through, register_secret

Events = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A test that looked for credentials in this process has silenced it for good.
    monkeypatch.setattr(logging.getLogger("credentials"), "disabled", False)
    handlers = list(logging.getLogger().handlers)
    filters = list(logging.getLogger("credentials").filters)
    yield
    structlog.reset_defaults()
    telemetry._secrets.clear()
    telemetry._sink.write_line = telemetry._nowhere
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("credentials").filters[:] = filters


@pytest.fixture
def events() -> Events:
    stream = io.StringIO()
    configure("json", 0, stream)
    return lambda: [json.loads(text) for text in stream.getvalue().splitlines()]


def test_json_logs_are_one_object_a_line_with_utc_time(events: Events) -> None:
    get_log().info("deleted", place="in.csv:2", faces=3, note="two\nlines")
    (event,) = events()
    assert event["event"] == "deleted"
    assert event["level"] == "info"
    assert event["place"] == "in.csv:2"
    assert event["faces"] == 3
    assert event["note"] == r"two\nlines"
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("verbosity", "heard"),
    [
        (-1, ["warning"]),
        (0, ["info", "warning"]),
        (1, ["debug", "info", "warning"]),
    ],
)
def test_verbosity(verbosity: int, heard: list[str]) -> None:
    stream = io.StringIO()
    configure("json", verbosity, stream)
    log = get_log()
    log.debug("x")
    log.info("x")
    log.warning("x")
    assert [json.loads(text)["level"] for text in stream.getvalue().splitlines()] == heard


@pytest.mark.parametrize(
    "told",
    [
        "the key is hunter2-hunter2, keep it",
        "Authorization: acs LTAIexample:c2lnbmF0dXJlIQ==",
        "{'Authorization': 'ACS3-HMAC-SHA256 Credential=LTAIx,SignedHeaders=host,Signature=c2lnbmF0dXJlIQ'}",
        "header acs LTAIexample:c2lnbmF0dXJlIQ== was wrong",
        "https://x/?Signature=c2lnbmF0dXJlIQ%3D%3D&a=b",
        "x-acs-security-token: c2lnbmF0dXJlIQ",
        '{"SecurityToken": "c2lnbmF0dXJlIQ"}',
        "AccessKeySecret=c2lnbmF0dXJlIQ",
        "Specified signature is not matched. server string to sign is:POST\nx:c2lnbmF0dXJlIQ",
        "bearer c2lnbmF0dXJlIQ",
    ],
)
def test_no_secret_is_logged_wherever_it_hides(events: Events, told: str) -> None:
    register_secret("hunter2-hunter2")
    log = get_log()
    log.warning(told)
    log.warning(
        "nested", facts={"list": [told], told: 1}, raw=told.encode(), error=ValueError(told)
    )
    logging.getLogger("aiohttp.client").error("failed: %s", told)
    output = json.dumps(events())
    assert len(events()) == 3
    assert "c2lnbmF0dXJlIQ" not in output
    assert "hunter2" not in output
    assert "[redacted]" in output


def test_a_telling_name_hides_its_value(events: Events) -> None:
    get_log().info("x", authorization="abc", security_token="def", token="")
    (event,) = events()
    assert event["authorization"] == event["security_token"] == "[redacted]"
    assert event["token"] == ""


def test_short_secrets_do_not_blank_out_text(events: Events) -> None:
    register_secret("")
    register_secret("a")
    get_log().info("a plain word")
    assert events()[0]["event"] == "a plain word"


def test_people_read_no_braces_and_no_names_without_a_value() -> None:
    stream = io.StringIO()
    configure("console", 0, stream)
    get_log().info("x", empty="", none=None, lanes={"a": 1, "b": {"count": 2, "place": "in.csv:3"}})
    line = stream.getvalue()
    assert "lanes='a 1; b (count 2; place in.csv:3)'" in line
    assert "empty" not in line
    assert "none=None" in line
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[info ", line)


def test_control_characters_reach_no_terminal() -> None:
    stream = io.StringIO()
    configure("console", 0, stream)
    get_log().warning("\x1b[31mred", code="\x9b\u202e\u2028x", **{"k\x1b": "v"})
    output = stream.getvalue()
    assert output.rstrip("\n").isprintable()
    assert r"\x1b[31mred" in output


def test_an_exception_shows_types_and_places_only(events: Events) -> None:
    def fail(face_id: str) -> None:
        try:
            raise KeyError(face_id)
        except KeyError as error:
            raise ValueError(f"no {face_id}") from error

    for tell in (get_log().exception, logging.getLogger("asyncio").exception):
        try:
            fail("31842550077981745")
        except ValueError:
            tell("went wrong")
    first, second = events()
    assert first["exception"].startswith("ValueError at test_telemetry.py:")
    assert " from KeyError at test_telemetry.py:" in first["exception"]
    assert second["exception"] == first["exception"]
    assert second["logger"] == "asyncio"
    assert "31842550077981745" not in json.dumps([first, second])


def test_an_exception_given_as_a_value_and_one_that_is_not_there(events: Events) -> None:
    get_log().error("x", exc_info=OSError("disk"))
    get_log().error("x", exc_info=True)
    assert events()[0]["exception"] == "OSError"
    assert "exception" not in events()[1]


def test_standard_loggers_are_heard_from_warning_on(events: Events) -> None:
    logger = logging.getLogger("aiohttp.client")
    logger.info("quiet")
    logger.warning("heard %d", 1)
    assert [event["event"] for event in events()] == ["heard 1"]


def test_somebody_elses_broken_log_call_is_still_heard(events: Events) -> None:
    logging.getLogger("credentials").warning("broken %d", "call")
    assert [event["event"] for event in events()] == ["broken %d"]


def test_the_credential_chains_own_handler_says_nothing(
    events: Events, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("credentials")
    own = logging.StreamHandler(sys.stderr)
    logger.addHandler(own)
    try:
        logger.warning("refresh failed: SecurityToken=c2lnbmF0dXJlIQ")
        logger.info("refreshed")
    finally:
        logger.removeHandler(own)
    assert [event["event"] for event in events()] == ["refresh failed: SecurityToken=[redacted]"]
    assert capfd.readouterr().err == ""


def test_configuring_twice_does_not_double_a_line(events: Events) -> None:
    stream = io.StringIO()
    configure("json", 0, stream)
    logging.getLogger("aiohttp").warning("once")
    logging.getLogger("credentials").warning("once")
    assert len(stream.getvalue().splitlines()) == 2
    assert events() == []


def test_lines_go_through_a_display_while_it_lasts(events: Events) -> None:
    seen: list[str] = []
    with lines_through(seen.append):
        get_log().info("above")
    get_log().info("below")
    assert json.loads(seen[0])["event"] == "above"
    assert [event["event"] for event in events()] == ["below"]


@pytest.mark.parametrize(
    ("no_color", "term", "coloured"),
    [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)],
)
def test_colour_on_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, no_color: str, term: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        configure("console", 0, terminal)
        get_log().warning("hello")
        output = os.read(leader, 4096)
    os.close(leader)
    assert b"hello" in output
    assert (b"\x1b[" in output) is coloured


def test_no_colour_into_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        configure("console", 0, file)
        get_log().warning("hello")
    assert "\x1b" not in (tmp_path / "log").read_text()


def test_a_stream_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    closed = (tmp_path / "closed").open("w")
    closed.close()
    for stream in (None, closed):
        forgiving = configure("console", 0, stream)
        get_log().warning("x")
        assert not forgiving.isatty()
    with pytest.raises(OSError, match="no stream"):
        ForgivingStream(None).fileno()


BROKEN = """
import sys
from worker.telemetry import configure, get_log
stream = configure("json", 0, sys.stderr)
for number in range(2000):
    get_log().warning("x" * 100)
stream.write("last")
print("done")
"""


def test_a_closed_pipe_and_a_full_disk_leave_the_exit_code_alone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, Path("/dev/full").open("w") as full:
        for stderr in (pipe, full):
            done = subprocess.run(
                [sys.executable, "-c", BROKEN],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "done\n")


def test_text_that_the_stream_cannot_spell_is_escaped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        configure("console", 0, file)
        get_log().warning("人")
    assert r"\u4eba" in (tmp_path / "log").read_text()
