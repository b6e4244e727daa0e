"""The last line where an error leaves no report to take it from: what was deleted, and what to type."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.core.rig import Silence, draft_run, persons, rows
from tests.core.test_pipeline import FakeService, all_listed
from tests.core.virtual_time import LoopClock, run_virtually
from worker import interruption, telemetry
from worker.cli import concluding, ending
from worker.cli.purge import lanes_of
from worker.errors import GateClosed, LedgerFailed
from worker.interruption import Terminated
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import StopReason, Verb
from worker.pacing import Pacers
from worker.pipeline import Pipeline, Stop
from worker.report.interface import Line
from worker.settings import Settings
from worker.telemetry import configure

GO_ON = "to go on type: facepurge resume"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    telemetry._sink.write_line = telemetry._nowhere


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A planned run of two persons with two faces each, in a directory with a blank in its name."""
    directory = tmp_path / "my runs"
    draft_run(directory, [rows(persons(2, 2))])
    return directory


def deleted(run_dir: Path) -> None:
    async def work() -> None:
        ledger = Ledger(open_ledger(run_dir), InlineWriter)
        pacers = Pacers(19.8, outage_limit_seconds=900.0, shared=False)
        clock = LoopClock()
        service = FakeService(pacers, all_listed, clock=clock, _nonces=itertools.count())
        pipeline = Pipeline(
            ledger,
            service,
            lanes_of(pacers, Verb.RUN),
            clock,
            Silence(),
            holds=None,
            concurrency=4,
            grace_seconds=1.0,
        )
        await ledger.begin_session(Verb.RUN, clock.now_us())
        await pipeline.run()
        await ledger.end_session(clock.now_us(), StopReason.FINISHED, "", {})
        await ledger.close()

    run_virtually(work())


def raising(
    error: BaseException, after: Callable[[], object] = lambda: None
) -> Callable[..., object]:
    async def carry_out(*_arguments: object, **_options: object) -> Stop:
        await asyncio.to_thread(after)
        raise error

    return carry_out


def last_line(
    capsys: pytest.CaptureFixture[str],
    run_dir: Path,
    code: int,
    *,
    report_only: bool = False,
    verb: Verb = Verb.RESUME,
) -> str:
    def conclude() -> int:
        if report_only:
            return concluding.report_run(run_dir, json=False)
        return concluding.conclude_run(run_dir, Settings(), verb, json=False, quiet=True)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 (every kind of it has a last line)
        conclude()
    assert ending.tell(caught.value, verbose=False) == code
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LedgerFailed("r/ledger.sqlite3: the disk is full", "make room"), 7),
        (Terminated(), 143),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a defect"), 1),
    ],
)
def test_an_error_in_the_work_tells_what_was_deleted_before(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run_dir: Path,
    error: BaseException,
    code: int,
) -> None:
    monkeypatch.setattr(concluding, "carry_out", raising(error))
    command = f"{GO_ON} '{run_dir}'"
    assert last_line(capsys, run_dir, code) == f"nothing was sent; {command}"
    error.__notes__.clear()
    monkeypatch.setattr(concluding, "carry_out", raising(error, after=lambda: deleted(run_dir)))
    assert last_line(capsys, run_dir, code) == f"4 faces deleted so far; {command}"


def test_damage_that_shows_in_the_report_is_no_refusal_after_calls_were_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    """Exit 3 would say that nothing was sent."""

    async def carry_out(*_arguments: object, **_options: object) -> Stop:
        await asyncio.to_thread(deleted, run_dir)
        connection = open_ledger(run_dir)
        connection.execute("DELETE FROM face WHERE face_no = 1")
        connection.close()
        return Stop(StopReason.FINISHED)

    monkeypatch.setattr(concluding, "carry_out", carry_out)
    said = last_line(capsys, run_dir, 7)
    assert said.startswith("4 faces deleted so far; the report is not written")
    assert last_line(capsys, run_dir, 3, report_only=True) == said


@pytest.mark.parametrize("verb", [Verb.RESUME, Verb.RETRY, Verb.VERIFY])
def test_what_is_refused_before_the_first_call_has_sent_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_dir: Path, verb: Verb
) -> None:
    """Whatever an earlier session has deleted: to be typed again is this verb and no other."""
    deleted(run_dir)
    monkeypatch.setattr(concluding, "carry_out", raising(GateClosed("holds: gone", "put it back")))
    said = f"nothing was sent; to go on type: facepurge {verb} '{run_dir}'"
    assert last_line(capsys, run_dir, 3, verb=verb) == said


def test_a_report_that_cannot_be_written_is_no_lost_count(
    capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    deleted(run_dir)
    (run_dir / "report").write_text("in the way")
    assert last_line(capsys, run_dir, 1, report_only=True) == (
        "nothing was sent now; in all 4 faces deleted; finished, every face is gone; the report is not"
        f" written; to write it type: facepurge report '{run_dir}'"
    )


def test_what_cannot_be_read_is_not_made_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    deleted(run_dir)
    (run_dir / FILE_NAME).write_bytes(b"no database" * 1000)
    monkeypatch.setattr(concluding, "carry_out", raising(LedgerFailed("r: gone", "look")))
    assert last_line(capsys, run_dir, 7).startswith(
        f"how many faces were deleted cannot be read from the ledger; {GO_ON} "
    )


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        (StopReason.SIGTERM, (143, "stopped: it was told to terminate (SIGTERM)")),
        (StopReason.SWAPPED, (7, "stopped: another person")),
        (StopReason.FINISHED, (143, "finished")),
    ],
)
def test_after_a_signal_the_report_is_given_up_in_time_and_whole(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run_dir: Path,
    reason: StopReason,
    ended: tuple[int, str],
) -> None:
    code, why = ended
    deleted(run_dir)
    assert concluding.report_run(run_dir, json=False) == 0
    before = {file.name: file.read_bytes() for file in (run_dir / "report").iterdir()}

    def endless(_books: object) -> Iterator[Line]:
        signal.pause()
        yield pytest.fail("nobody has stopped it")

    async def carry_out(*_arguments: object, **_options: object) -> Stop:
        detail = "another person" if reason is StopReason.SWAPPED else ""
        return Stop(reason, detail, "do not resume" if detail else "")

    state = interruption.State()
    state.first = (signal.SIGTERM, time.monotonic() - 29.9)
    monkeypatch.setattr(interruption, "state", state)
    monkeypatch.setattr(concluding, "LEAST_REPORT_SECONDS", 0.05)
    monkeypatch.setattr(concluding, "carry_out", carry_out)
    monkeypatch.setattr(LedgerBooks, "lines", endless)
    settings = Settings(grace_seconds=30.0)
    assert concluding.conclude_run(run_dir, settings, Verb.RUN, json=False, quiet=True) == code
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        f"4 faces deleted so far; {why}; SIGTERM has left no time for more: the report is not written;"
        f" to write it type: facepurge report '{run_dir}'"
    )
    assert ("  remedy: do not resume" in said) == (reason is StopReason.SWAPPED)
    assert {file.name: file.read_bytes() for file in (run_dir / "report").iterdir()} == before


def test_a_report_that_takes_its_time_is_announced(
    monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    said = io.StringIO()
    configure("json", 0, said)
    deleted(run_dir)
    monkeypatch.setattr(concluding, "_MANY_LINES", 5)
    concluding.report_run(run_dir, json=False)
    assert said.getvalue() == ""
    monkeypatch.setattr(concluding, "_MANY_LINES", 4)
    concluding.report_run(run_dir, json=False)
    (event,) = map(json.loads, said.getvalue().splitlines())
    assert (event["event"], event["lines"]) == ("writing the report", 4)


def test_a_round_of_nothing_and_a_resume_of_nothing_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    async def carry_out(*_arguments: object, **_options: object) -> Stop:
        return Stop(StopReason.FINISHED)

    deleted(run_dir)
    monkeypatch.setattr(concluding, "carry_out", carry_out)
    concluding.conclude_run(run_dir, Settings(), Verb.RESUME, json=False, quiet=True)
    assert capsys.readouterr().err.startswith(
        "nothing was sent now, nothing was left to do; in all 4 faces deleted; finished"
    )
    concluding.report_run(run_dir, json=False, work=concluding.Work(idle="nothing to try"))
    assert capsys.readouterr().err.startswith(
        "nothing was sent now, nothing to try; in all 4 faces deleted; finished"
    )
