"""Work done in a process of its own, so that the memory it takes is given back.

A run may last for days after its plan was made from a big manifest in a minute: what the libraries of
that minute have taken would stay with it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import msgspec

from worker import errors
from worker.cli.ending import FailedElsewhere, told_elsewhere
from worker.errors import FacepurgeError, GateClosed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_NO_MEMORY = "the memory did not suffice to plan the input, and nothing was sent"
_MORE_MEMORY = "see the system's log, give it more, and start again"

_WITHOUT_MEMORY = (
    "failed to map segment",
    "annot allocate memory",
    "Failed to launch worker thread",
)
"""What the loader of libraries and Arrow say where there is no memory for them."""

_PR_SET_PDEATHSIG = 1
"""Of ``prctl(2)``."""


class _Raised(msgspec.Struct, frozen=True):
    """An error on its way to the other process."""

    kind: str
    """Of ``worker.errors``; ``""`` for an unexpected one, whose places are the notes."""
    cause: str
    remedy: str
    notes: list[str]


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raises ``GateClosed`` where memory does not suffice for what is done in this block."""
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        # What is left of the work is let go before anything is said.
    else:
        return
    raise GateClosed(_NO_MEMORY, _MORE_MEMORY)


def _is_of_memory(error: BaseException) -> bool:
    """Also of a library for which there is none left when it is needed."""
    if isinstance(error, FacepurgeError):
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in _WITHOUT_MEMORY)


def apart(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns, which another process does; only before this one has threads.

    Raises what ``work`` raises, as far as that is a ``FacepurgeError``, ``FailedElsewhere`` for anything
    else, and ``GateClosed`` where that process could not be started, had too little memory, or was
    killed. It ends with this one where that is stopped; ``work`` has to look for itself whether
    ``os.getppid()`` is still the same.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # One that came to the other process before it ignores them would end the parent's work in it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
    except OSError as refused:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reader)
        os.close(writer)
        raise GateClosed(
            f"no process could be started to read the input ({refused.strerror})",
            "allow more processes (ulimit -u) or give it more memory, and start again",
        ) from refused
    if not pid:
        os.close(reader)
        _work(work, writer, before)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        pid = 0
    finally:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) or not said:
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no word"
        raise GateClosed(
            f"the process that read the input has ended with {name}, and there is no plan",
            f"if nobody killed it, the memory may not have sufficed: {_MORE_MEMORY}",
        )
    if said[:1] == b"=":
        return said[1:]
    raised = msgspec.json.decode(said[1:], type=_Raised)
    kind = getattr(errors, raised.kind, None)
    if kind is None:
        raise FailedElsewhere(raised.cause, raised.notes)
    error = kind(raised.cause, raised.remedy)
    for note in raised.notes:
        error.add_note(note)
    raise error


def _die_with_the_parent() -> None:
    """On Linux at once, also where the parent is killed: nobody would take over what this makes."""
    import ctypes  # noqa: PLC0415 (here alone)

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _work(work: Callable[[], bytes], writer: int, mask: Iterable[int]) -> NoReturn:
    """Do it and end, past everything that the parent would do when it ends."""
    # Made before there is no memory left to make it.
    refused = b"!" + msgspec.json.encode(_Raised(GateClosed.__name__, _NO_MEMORY, _MORE_MEMORY, []))
    said = b""
    # Whoever stops the parent stops this one by it; a terminal's Ctrl-C comes to both.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        try:
            _die_with_the_parent()
            said = b"=" + work()
        except FacepurgeError as error:
            notes = list(getattr(error, "__notes__", ()))
            raised = _Raised(type(error).__name__, error.cause, error.remedy, notes)
            said = b"!" + msgspec.json.encode(raised)
        except BaseException as error:  # noqa: BLE001 (the parent raises it)
            if _is_of_memory(error):
                raise MemoryError from None
            told = told_elsewhere(error)
            said = b"!" + msgspec.json.encode(_Raised("", told.sentence, "", told.places))
    except MemoryError:
        said = refused
    finally:
        # Whatever happens here, nothing of the parent's may go on in this process.
        try:
            with os.fdopen(writer, "wb", buffering=0) as pipe:
                while said:
                    said = said[pipe.write(said) :]
            sys.stderr.flush()
        finally:
            os._exit(0)
