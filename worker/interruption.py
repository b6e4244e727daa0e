"""Signals that end the program: heeded from its first moment to its last, never without a word.

At first there is nothing to clean up: the process says so and ends at once. From the first block on
that knows what to say last (``raise_from_here``), a signal is raised where the program is. While
calls are made it is handed to whoever lets them end (``handed_to``). In between the default action,
which ends a process without a word, is never restored.

SIGHUP, a lost terminal or connection, is heeded like SIGTERM, unless the program was started to
outlive it (``nohup``). It may come twice for one event, from the kernel and from the shell.

Nothing heavy is imported here: what comes before ``begin`` is the interpreter's own start.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

_SAID = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated (SIGTERM)",
    signal.SIGHUP: "the terminal or the connection was closed (SIGHUP)",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP outside the work on the calls, which has an end of its own for it.

    No ``FacepurgeError``, so that neither an event loop nor anybody who expects errors keeps it.
    """

    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.exit_code = 128 + number
        self.words = _SAID[number]


class State:
    """How far the process is."""

    def __init__(self) -> None:
        self.raises = False
        """Whether there may be something to clean up."""
        self.over = False
        """Whether the end is decided and about to be said: a first signal changes nothing."""
        self.over_and_told = False
        self.hung_up = False
        self.first: tuple[signal.Signals, float] | None = None
        """The first signal, and when it came on the monotonic clock."""
        self.raised: KeyboardInterrupt | None = None


state = State()


def begin() -> None:
    """Heed signals from here on, until the process has ended; once, by its main thread."""
    # The last of all exit functions: what is left of the process then is the interpreter's own end.
    atexit.register(_ignore)
    for number in _heeded():
        # What runs in the background of a script is not meant by its Ctrl-C.
        if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)


def raise_from_here() -> None:
    """From here on a signal raises ``KeyboardInterrupt``, which ``Terminated`` is one of.

    Raises one that has been raised and got lost: Python drops what is raised in some callbacks of
    its own, as in the middle of an import.
    """
    state.raises = True
    if state.raised is not None:
        raise state.raised


@contextlib.contextmanager
def handed_to(take: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Inside, ``take`` is called with each signal, by the main thread between two instructions.

    Not by the means of an event loop, which restores the default action when it is done.
    """

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if _is_news(number):
            take(signal.Signals(number))

    with _handled(on_signal, _heeded()):
        yield


@contextlib.contextmanager
def disregarded() -> Iterator[None]:
    """Inside, neither a signal nor an alarm is heeded: for the few steps that are taken as one.

    Of another thread's steps they are none of the business: signals are the main thread's.
    """
    import threading  # noqa: PLC0415 (start-up)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled(lambda _number, _frame: None, (*_heeded(), signal.SIGALRM)):
        yield


@contextlib.contextmanager
def alarmed(seconds: float, error: type[BaseException]) -> Iterator[None]:
    """Raise ``error`` after ``seconds``, unless the block has ended; 0 or less is at once."""

    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        raise error

    with _handled(on_alarm, (signal.SIGALRM,)):
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def first_signal() -> tuple[signal.Signals, float] | None:
    """The first signal that came and the seconds since then; None where none did."""
    if state.first is None:
        return None
    number, came = state.first
    return number, time.monotonic() - came


@contextlib.contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], object], numbers: tuple[signal.Signals, ...]
) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _heeded() -> tuple[signal.Signals, ...]:
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGINT, signal.SIGTERM)
    return tuple(_SAID)


def _receive(number: int, _frame: FrameType | None) -> None:
    if not _is_news(number):
        return
    if state.over:
        if state.over_and_told:
            os._exit(128 + number)
        state.over_and_told = True
        return
    if not state.raises:
        # Past Python's buffers and exceptions, in the middle of whatever import this may be.
        words = f"facepurge: {_SAID[signal.Signals(number)]}\nnothing was sent\n"
        with contextlib.suppress(OSError):
            os.write(2, words.encode())
        os._exit(128 + number)
    is_int = number == signal.SIGINT
    state.raised = KeyboardInterrupt() if is_int else Terminated(signal.Signals(number))
    raise state.raised


def _is_news(number: int) -> bool:
    if state.first is None:
        state.first = signal.Signals(number), time.monotonic()
    if number != signal.SIGHUP:
        return True
    seen, state.hung_up = state.hung_up, True
    return not seen


def _ignore() -> None:
    for number in _heeded():
        signal.signal(number, signal.SIG_IGN)
