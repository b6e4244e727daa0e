"""Logs: on stderr, structured, without secrets, and never a reason for a run to stop.

Imported by verbs only: structlog takes a sixth of a second to import.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

REDACTED = "[redacted]"

_SHORTEST_SECRET = 4
"""Anything shorter would blank out ordinary text and protect nothing."""

_TELLING_KEY = re.compile(
    r"authorization|signature|secret|token|password|credential", re.IGNORECASE
)

# Each pattern keeps its first group and loses the rest.
_TELLING_TEXT = (
    # "Signature" of the ROA scheme, "ACS3-HMAC-SHA256" of the current one.
    re.compile(r"(\bacs )[^\s:,'\"]+:[A-Za-z0-9+/=]+"),
    re.compile(r"(\bACS3-[A-Z0-9-]+ ).*", re.DOTALL),
    re.compile(r"(\bBearer )[^\s,'\"]+", re.IGNORECASE),
    # SignatureDoesNotMatch echoes the string to sign, and the security token with it.
    re.compile(r"(string to sign is\s*:?\s*).*", re.DOTALL | re.IGNORECASE),
    re.compile(
        r"((?:authorization|signature|security-?token|access-?key-?secret|password)"
        r"['\"]?\s*[:=]\s*['\"]?)[^\s,;&'\"}]+(?:\s+[^\s,;&'\"}]+:[^\s,;&'\"}]+)?",
        re.IGNORECASE,
    ),
)

_secrets: set[str] = set()


class ForgivingStream:
    """A text stream that goes nowhere instead of failing: a closed pipe, a full disk, no stderr.

    It writes past Python's buffer, which would keep what could not be written and fail again at
    exit, with an exit code of its own.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write all of it, or as much as can be; never raises for the stream's troubles."""
        if self._stream is None:
            return len(text)
        with contextlib.suppress(OSError, ValueError):
            try:
                descriptor = self._stream.fileno()
            except OSError:
                self._stream.write(text)
                self._stream.flush()
                return len(text)
            rest = memoryview(text.encode(self.encoding, "backslashreplace"))
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            # A pipe that nobody reads, or a terminal that was halted, must not halt the run: what
            # cannot be written at once is dropped.
            while rest and writable.poll(0):
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is ever kept back."""

    def isatty(self) -> bool:
        """Whether a person is watching."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """The stream's descriptor; raises ``OSError`` where it has none."""
        if self._stream is None:
            raise OSError("there is no stream")
        return self._stream.fileno()


class _Sink:
    """Where finished log lines go: the stream, or above a display that is drawn on it."""

    def __init__(self) -> None:
        self.write_line: Callable[[str], None] = _nowhere

    def msg(self, line: str) -> None:
        self.write_line(line)

    debug = info = warning = error = critical = msg


def _nowhere(_line: str) -> None:
    """Before ``configure`` nobody has said where logs go."""


_sink = _Sink()


def configure(
    log_format: Literal["console", "json"], verbosity: int, stream: TextIO | None
) -> ForgivingStream:
    """Send all logs of the process to ``stream``; returns it as a stream that never raises.

    ``verbosity``: below 0 warnings only, 0 also what happens, above 0 also every call. The
    standard library's loggers (aiohttp, the credential chain) are heard from WARNING on.
    """
    forgiving = ForgivingStream(stream)
    _sink.write_line = lambda line: _write_line(forgiving, line)
    level = logging.WARNING if verbosity < 0 else logging.DEBUG if verbosity else logging.INFO
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _error_without_values,
            redact,
            *_rendering(log_format, forgiving),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=False,
    )
    _hear_standard_loggers()
    return forgiving


def get_log() -> FilteringBoundLogger:
    """The process's log. Events name ``source:line``, never IDs or labels."""
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def register_secret(value: str) -> None:
    """From now on this text appears in no log line, wherever it is quoted."""
    if len(value) >= _SHORTEST_SECRET:
        _secrets.add(value)


@contextlib.contextmanager
def lines_through(write_line: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, finished lines go to ``write_line``: a display draws them above itself."""
    before = _sink.write_line
    _sink.write_line = write_line
    try:
        yield
    finally:
        _sink.write_line = before


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: no secrets in any value, and no control characters either."""
    return {
        _harmless(name): REDACTED if value and _TELLING_KEY.search(name) else _clean(value)
        for name, value in event.items()
    }


def _clean(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return dict(redact(None, "", {str(name): member for name, member in value.items()}))
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(member) for member in value]
    return _harmless(value if isinstance(value, str) else repr(value))


def _harmless(text: str) -> str:
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    for pattern in _TELLING_TEXT:
        text = pattern.sub(rf"\1{REDACTED}", text)
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def _error_without_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """An exception as its types and places: messages and locals may hold signatures or IDs."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if isinstance(info, tuple):
        info = info[1]
    elif info and not isinstance(info, BaseException):
        info = sys.exception()
    if isinstance(info, BaseException):
        event["exception"] = " from ".join(_chain(info))
    return event


def _chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        yield f"{type(error).__name__} at {' > '.join(places)}" if places else type(error).__name__
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _rendering(log_format: str, stream: ForgivingStream) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ]
    colours = (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )
    return [
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True),
        _for_people,
        structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=12, sort_keys=False),
    ]


def _for_people(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Without names that have no value, and without braces: programs may count on both."""
    return {
        name: _in_words(value) if isinstance(value, Mapping) else value
        for name, value in event.items()
        if value != ""
    }


def _in_words(facts: Mapping[str, object]) -> str:
    return "; ".join(
        f"{name} ({_in_words(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in facts.items()
    )


def _write_line(stream: ForgivingStream, line: str) -> None:
    stream.write(line + "\n")


class _ToStructlog(logging.Handler):
    """Everything that is logged past structlog, in the same form and with the same redaction."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (somebody else's broken log call must not stop a run)
            message = str(record.msg)
        get_log().log(record.levelno, message, logger=record.name, exc_info=record.exc_info)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the standard library's name)
        """Say nothing: the default prints a traceback with everything in it."""


class _Takeover(logging.Filter):
    """Takes a logger's records away from handlers that its library attaches by itself."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self._handler.level:
            self._handler.handle(record)
        return False


def _hear_standard_loggers() -> None:
    handler = _ToStructlog(logging.WARNING)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _ToStructlog)]:
        root.removeHandler(old)
    root.addHandler(handler)
    # alibabacloud-credentials attaches a stream handler to this logger in several modules.
    credentials = logging.getLogger("credentials")
    for taken in [taken for taken in credentials.filters if isinstance(taken, _Takeover)]:
        credentials.removeFilter(taken)
    credentials.addFilter(_Takeover(handler))
