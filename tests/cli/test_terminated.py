"""Signals outside the calls: whatever the program is doing then, it ends with their code and says so."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.program import Program
from worker import interruption
from worker.cli.ending import NOTHING_SENT, known
from worker.interruption import Terminated


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
    await asyncio.Event().wait()


async def where_every_error_is_expected() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    except Exception:  # noqa: BLE001 (what libraries do)
        await asyncio.Event().wait()


async def beside_other_tasks() -> None:
    async def terminated() -> None:
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())
        group.create_task(terminated())


@pytest.fixture
def heeding(monkeypatch: pytest.MonkeyPatch) -> Iterator[interruption.State]:
    """This process as the program is from its first words on, and then as it was before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    state = interruption.State()
    monkeypatch.setattr(interruption, "state", state)
    monkeypatch.setattr("atexit.register", lambda _function: None)
    interruption.begin()
    interruption.raise_from_here()
    yield state
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("work", [in_a_callback, where_every_error_is_expected, beside_other_tasks])
@pytest.mark.usefixtures("heeding")
def test_an_event_loop_does_not_keep_it(work: object) -> None:
    assert callable(work)
    with pytest.raises(Terminated) as caught:
        asyncio.run(asyncio.wait_for(work(), 10))
    assert caught.value.exit_code == 143


@pytest.mark.usefixtures("heeding")
def test_what_gets_lost_on_its_way_is_raised_again() -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        del (deaf := [Deaf()])[:]
        assert deaf == []
    finally:
        sys.unraisablehook = hook
    with pytest.raises(Terminated), known(NOTHING_SENT):
        pytest.fail("it has gone on")


@pytest.mark.usefixtures("heeding")
def test_a_terminal_that_is_closed_is_told_of_twice_and_heard_once() -> None:
    with pytest.raises(Terminated) as caught:
        signal.raise_signal(signal.SIGHUP)
    assert caught.value.exit_code == 129
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("heeding")
def test_who_takes_them_gives_them_back_without_a_gap() -> None:
    """Whoever sends one at any moment: the default action would end this process."""
    taken: list[signal.Signals] = []
    with interruption.handed_to(taken.append):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
            signal.raise_signal(number)
    assert taken == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    first = interruption.first_signal()
    assert first is not None
    assert first[0] is signal.SIGINT
    assert 0 <= first[1] < 60


def test_once_the_end_is_decided_a_first_signal_changes_nothing(
    heeding: interruption.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    heeding.over = True
    signal.raise_signal(signal.SIGTERM)
    assert codes == []
    signal.raise_signal(signal.SIGINT)
    assert codes == [130]


def test_an_alarm_that_is_not_needed_does_not_come() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError), interruption.alarmed(0.0, TimeoutError):
        signal.pause()
    with interruption.alarmed(60.0, TimeoutError):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 1
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before
    with interruption.alarmed(60.0, TimeoutError), interruption.disregarded():
        signal.raise_signal(signal.SIGALRM)


DELAYED = """
import builtins, os, sys
place, true_import = sys.argv[1], builtins.__import__
def delayed(name, *rest, **named):
    if name == place:
        os.write(1, b"here\\n")
        os.read(0, 2)
    return true_import(name, *rest, **named)
builtins.__import__ = delayed
sys.argv = ["facepurge", "verify", "nowhere", "--self"]
from worker.__main__ import main
main()
"""
"""The program, held up where it first imports a module, until it is told to go on."""


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "terminated (SIGTERM)"),
        (signal.SIGHUP, "the terminal or the connection was closed (SIGHUP)"),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
@pytest.mark.parametrize("place", ["click", "worker.cli.options", "apsw", "worker.cli.concluding"])
def test_from_the_first_moment_on(place: str, number: signal.Signals, said: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DELAYED, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == f"facepurge: {said}\nnothing was sent\n"


def test_what_is_started_to_outlive_its_terminal_does() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DELAYED, "click"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509 (as nohup does)
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate("go", timeout=60)
    assert process.returncode == 3
    assert err.startswith("facepurge: nowhere")


@asynccontextmanager
async def silence() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The address of a server that takes a connection and never answers, and when it has one."""
    called = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}", called


@pytest.mark.parametrize("asked", ["credentials", "STS"])
async def test_while_it_finds_out_whose_run_it_is(tmp_path: Path, asked: str) -> None:
    program = Program(tmp_path)
    (tmp_path / "a.csv").write_text("person_id,face_id\np,1\n")
    async with silence() as (url, called):
        if asked == "credentials":
            for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
                del program.environment[name]
            program.environment["ALIBABA_CLOUD_CREDENTIALS_URI"] = url
        else:
            program.environment["FACEPURGE_STS_ENDPOINT"] = url
        arguments = ("run", "a.csv", "--endpoint", "http://127.0.0.1:9", "--yes")
        async with program.started(*arguments) as running:
            async with asyncio.timeout(60):
                await called.wait()
            running.send(signal.SIGTERM)
            ended = await running.ended()
    assert ended.code == 143
    assert ended.err == "facepurge: terminated (SIGTERM)\nnothing was sent\n"
    assert not (tmp_path / "runs").exists()
