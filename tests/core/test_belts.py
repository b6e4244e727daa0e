"""What stops or pauses a run by itself, over the real ledger and pipeline."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.belted_run import AtWork, outcomes, session
from tests.core.rig import draft_run, persons, rows
from tests.ledger.errands import World
from worker.cli import belts
from worker.cli.belts import Hours, OrderFiles
from worker.model import Evidence, Kind, Request, Step, StopReason, Verb
from worker.pipeline import Pipeline, Stop
from worker.settings import Settings

HOUR = 3600


def planned(run_dir: Path, count: int) -> World:
    """A planned run of so many persons with a face each, and a service that has them."""
    draft_run(run_dir, [rows(persons(count))])
    return World({person_id: {face_id} for person_id, face_id in persons(count)})


def refusing(world: World, *numbers: int) -> Callable[[Request], Evidence]:
    """The world, which refuses the deletions of these persons."""
    refused = {f"person{number}" for number in numbers}

    def answer(request: Request) -> Evidence:
        if request.person_id in refused and request.step is Step.DELETE:
            return Evidence(Kind.REFUSED, 0, code="403")
        return world.answer(request)

    return answer


def ahead(text: str) -> float:
    """How far the clock has to be ahead for a session to begin at ``text``, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() - 1000


# --halt


def test_halt_soon_lets_what_is_in_flight_finish(tmp_path: Path) -> None:
    world = planned(tmp_path, 60)
    answer = refusing(world, 3, 5, 8)
    ran = session(tmp_path, answer, halt="soon,refused=2")
    assert ran.stop == Stop(
        StopReason.HALT,
        "--halt soon,refused=2: of 6 faces settled in this session 2 (33.3 %) are not as wanted"
        " (2 refused)",
        "read the codes in report/failures.csv and mend the cause",
    )
    counts = Counter(outcomes(tmp_path))
    assert counts["refused"] == 2
    assert counts["unknown"] == 0
    assert counts["deleted"] == len(ran.sent) - 2
    # What left before the answer came, and not one more.
    assert len(ran.sent) <= 8


def test_halt_now_does_not_and_resume_settles_it(tmp_path: Path) -> None:
    world = planned(tmp_path, 60)
    ran = session(tmp_path, refusing(world, 3), halt="now,fail=1", latency_seconds=0.5)
    assert ran.stop.at_once
    counts = Counter(outcomes(tmp_path))
    assert counts["unknown"] >= 5
    assert counts["deleted"] + counts["unknown"] + 1 == len(ran.sent)
    # Those answers came; nobody was there to hear them.
    resumed = session(tmp_path, world.answer, Verb.RESUME, ahead_seconds=60)
    assert resumed.stop == Stop(StopReason.FINISHED)
    assert Counter(outcomes(tmp_path))["refused"] == 1
    assert set(outcomes(tmp_path)) <= {"refused", "deleted", "absent"}


def test_a_halt_counts_each_session_anew(tmp_path: Path) -> None:
    world = planned(tmp_path, 60)
    answer = refusing(world, 1, 2, 30)
    first = session(tmp_path, answer, halt="soon,fail=2")
    assert first.stop.reason is StopReason.HALT
    second = session(tmp_path, answer, Verb.RESUME, halt="soon,fail=2", ahead_seconds=60)
    assert second.stop == Stop(StopReason.FINISHED)
    assert Counter(outcomes(tmp_path)) == {"deleted": 57, "refused": 3}


def of_several_faces(run_dir: Path, count: int, faces: int) -> World:
    """A planned run of so many persons with several faces each, and a service that has them."""
    pairs = persons(count, faces)
    draft_run(run_dir, [rows(pairs)])
    return World({x: {face for person, face in pairs if person == x} for x, _ in pairs})


def test_what_was_settled_before_does_not_dilute_a_new_round(tmp_path: Path) -> None:
    world = of_several_faces(tmp_path, 12, 10)
    stuck = {f"{number:08d}00" for number in range(12)}

    def answer(request: Request) -> Evidence:
        if request.step is not Step.DELETE:
            return world.answer(request)
        gone = world.apply(replace(request, face_ids=tuple({*request.face_ids} - stuck)))
        return Evidence(Kind.LISTED, 0, code="200", listed=tuple(gone))

    session(tmp_path, answer)
    assert Counter(outcomes(tmp_path)) == {"deleted": 108, "present": 12}
    ran = session(tmp_path, answer, Verb.RETRY, halt="soon,fail=50%", ahead_seconds=600)
    assert ran.stop.reason is StopReason.HALT
    assert "of 10 faces settled in this session 10 (100.0 %)" in ran.stop.detail


def test_what_is_only_shown_once_more_was_not_settled_by_this_session(tmp_path: Path) -> None:
    world = of_several_faces(tmp_path, 1, 20)

    def lost(request: Request) -> Evidence:
        if request.step is Step.DELETE:
            world.persons["person0"].discard("0000000000")
            return Evidence(Kind.AMBIGUOUS, 0, code="reset")
        return world.answer(request)

    async def stop(work: AtWork) -> None:
        await asyncio.sleep(4.5)
        work.pipeline.stop(Stop(StopReason.REQUEST))

    session(tmp_path, lost, meanwhile=stop, max_attempts=1)
    assert Counter(outcomes(tmp_path)) == {"present": 19, "unknown": 1}
    ran = session(tmp_path, lost, Verb.RESUME, max_attempts=1, halt="now,fail=1", ahead_seconds=600)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert Counter(outcomes(tmp_path)) == {"present": 19, "absent": 1}


def test_what_a_session_finds_out_anew_counts(tmp_path: Path) -> None:
    world = of_several_faces(tmp_path, 3, 4)
    session(tmp_path, world.answer)
    world.persons["person1"].add("0000000102")
    ran = session(
        tmp_path, world.answer, Verb.RESUME, verify="all", halt="soon,fail=1", ahead_seconds=60
    )
    assert ran.stop.reason is StopReason.HALT
    assert "of 1 faces settled in this session 1 (100.0 %)" in ran.stop.detail


def test_what_stays_unknown_after_a_session_has_asked_again_counts(tmp_path: Path) -> None:
    of_several_faces(tmp_path, 1, 2)

    def silence(_: Request) -> Evidence:
        return Evidence(Kind.AMBIGUOUS, 0, code="timeout")

    session(tmp_path, silence)
    ran = session(tmp_path, silence, Verb.RESUME, halt="soon,unknown=2", ahead_seconds=600)
    assert ran.stop.reason is StopReason.HALT
    assert "of 2 faces settled in this session 2 (100.0 %)" in ran.stop.detail


def test_a_call_whose_last_face_is_taken_out_by_a_hold_counts(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("w", "")])])
    world = World({"w": {f"{number:02}" for number in range(25)}})
    pipelines: list[Pipeline] = []

    def answer(request: Request) -> Evidence:
        if request.step is Step.DELETE:
            pipelines[0].pause("hold")
            return Evidence(Kind.REFUSED, 0, code="403")
        return world.answer(request)

    async def hold(work: AtWork) -> None:
        pipelines.append(work.pipeline)
        await asyncio.sleep(1)  # paused by then, with nothing in flight
        await work.ledger.hold(frozenset({("w", "")}))
        work.pipeline.unpause("hold")

    ran = session(tmp_path, answer, halt="soon,refused=20", meanwhile=hold)
    assert len(ran.persons) == 1
    assert ran.stop.reason is StopReason.HALT
    assert "of 20 faces settled in this session 20 (100.0 %)" in ran.stop.detail


def test_the_line_of_a_whole_person_counts_like_a_face(tmp_path: Path) -> None:
    draft_run(tmp_path, [rows([("nobody", ""), ("unheard-of", "")])])
    ran = session(tmp_path, World({}).answer, halt="soon,no_person=2")
    assert ran.stop.reason is StopReason.HALT
    assert "of 2 faces settled in this session 2 (100.0 %)" in ran.stop.detail


def test_a_halt_that_is_not_met_stops_nothing(tmp_path: Path) -> None:
    world = planned(tmp_path, 60)
    ran = session(tmp_path, refusing(world, 1, 2, 30), halt="soon,fail=4,refused=21%")
    assert ran.stop == Stop(StopReason.FINISHED)


def test_a_verification_is_not_halted(tmp_path: Path) -> None:
    world = planned(tmp_path, 12)
    session(tmp_path, world.answer)
    for number in range(12):
        world.persons[f"person{number}"].add(f"{number:08d}00")
    ran = session(tmp_path, world.answer, Verb.VERIFY, halt="soon,fail=1", ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert outcomes(tmp_path) == ["present"] * 12


# --max-duration


def test_a_session_ends_after_its_duration_and_what_is_in_flight_is_recorded(
    tmp_path: Path,
) -> None:
    world = planned(tmp_path, 1500)
    ran = session(tmp_path, world.answer, max_duration="1m")
    assert ran.stop == Stop(StopReason.REQUEST, "this session has lasted --max-duration 1m")
    assert 60 <= ran.seconds < 60.2
    counts = Counter(outcomes(tmp_path))
    assert counts == {"deleted": len(ran.sent), "unsent": 1500 - len(ran.sent)}
    assert len(ran.sent) >= 0.985 * 20 * 60
    again = session(tmp_path, world.answer, Verb.RESUME, max_duration="1m", ahead_seconds=100)
    assert again.stop == Stop(StopReason.FINISHED)


def test_a_pause_is_part_of_the_session(tmp_path: Path) -> None:
    world = planned(tmp_path, 30)

    async def paused(work: AtWork) -> None:
        work.pipeline.pause("order")

    ran = session(tmp_path, world.answer, max_duration="5m", meanwhile=paused)
    assert ran.stop.reason is StopReason.REQUEST
    assert 300 <= ran.seconds < 301


# --window

NIGHT: dict[str, Any] = {"window": "22:00-06:00", "time_zone": "Europe/Berlin"}


def test_outside_of_its_window_a_run_does_not_begin(tmp_path: Path) -> None:
    world = planned(tmp_path, 30)
    ran = session(tmp_path, world.answer, ahead_seconds=ahead("2026-01-10T12:00"), **NIGHT)
    assert ran.stop == Stop(
        StopReason.REQUEST,
        "the window 22:00-06:00 is closed until 22:00 CET",
        "resume then, or wait for it with --outside-window wait",
    )
    assert ran.sent == []


def test_when_its_window_closes_a_run_stops(tmp_path: Path) -> None:
    world = planned(tmp_path, 1500)
    ran = session(tmp_path, world.answer, ahead_seconds=ahead("2026-01-10T04:59:30"), **NIGHT)
    assert ran.stop.reason is StopReason.REQUEST
    assert 30 <= ran.seconds < 30.2
    assert max(seconds for seconds, _ in ran.sent) <= 30.01
    assert Counter(outcomes(tmp_path)) == {
        "deleted": len(ran.sent),
        "unsent": 1500 - len(ran.sent),
    }


def test_waiting_it_goes_on_when_the_window_opens(tmp_path: Path) -> None:
    world = planned(tmp_path, 1500)
    seen: list[tuple[str, ...]] = []

    async def watch(work: AtWork) -> None:
        for seconds in (1, 31, 10, 140):
            await asyncio.sleep(seconds)
            seen.append(tuple(work.pipeline.pauses))

    ran = session(
        tmp_path,
        world.answer,
        ahead_seconds=ahead("2026-01-10T04:59:30"),
        meanwhile=watch,
        window="22:00-06:00,06:02-06:30",
        time_zone="Europe/Berlin",
        outside_window="wait",
    )
    assert ran.stop == Stop(StopReason.FINISHED)
    assert set(outcomes(tmp_path)) == {"deleted"}
    # Half a minute before six, and again from two minutes past six on.
    times = [seconds for seconds, _ in ran.sent]
    before, after = [x for x in times if x < 100], [x for x in times if x > 100]
    assert before
    assert max(before) <= 30.01
    assert 150 <= min(after) <= 151
    assert seen == [(), *[("window until 06:02 CET",)] * 2, ()]


def test_a_window_in_the_night_that_is_an_hour_shorter(tmp_path: Path) -> None:
    world = planned(tmp_path, 100)
    # 29 March 2026: what would be 02:30 CET is 03:30 CEST, and opens at 03:00.
    ran = session(
        tmp_path,
        world.answer,
        ahead_seconds=ahead("2026-03-29T00:58:00"),
        window="02:30-03:30",
        time_zone="Europe/Berlin",
        outside_window="wait",
    )
    assert ran.stop == Stop(StopReason.FINISHED)
    assert 120 <= ran.sent[0][0] <= 121


def test_a_clock_that_is_set_is_noticed_in_half_a_minute(tmp_path: Path) -> None:
    world = planned(tmp_path, 3000)

    async def suspend(work: AtWork) -> None:
        await asyncio.sleep(5)
        work.clock.set_forward(6 * HOUR)

    ran = session(
        tmp_path,
        world.answer,
        ahead_seconds=ahead("2026-01-10T00:00"),
        meanwhile=suspend,
        **NIGHT,
    )
    assert ran.stop.reason is StopReason.REQUEST
    assert ran.seconds < 31


# --stop-file and --pause-file


class Steered:
    """Stands for a pipeline; notes what it is told, and when that changed."""

    def __init__(self) -> None:
        self.stops: list[Stop] = []
        self.pauses: dict[str, None] = {}
        self.told = asyncio.Event()

    def stop(self, stop: Stop) -> None:
        self.stops.append(stop)
        self.told.set()

    def pause(self, why: str) -> None:
        self.pauses[why] = None
        self.told.set()

    def unpause(self, why: str) -> None:
        del self.pauses[why]
        self.told.set()

    async def news(self) -> None:
        async with asyncio.timeout(20):
            await self.told.wait()
        self.told.clear()


class ToldClock:
    """Shows the time that it was told."""

    def __init__(self, text: str) -> None:
        self.tell(text)

    def tell(self, text: str) -> None:
        self._now_us = round(datetime.fromisoformat(text).timestamp() * 1e6)

    def now_us(self) -> int:
        return self._now_us


def files(steered: Steered, **settings: Any) -> OrderFiles:
    return OrderFiles(Settings(**settings), steered)  # type: ignore[arg-type]


async def test_a_file_pauses_as_long_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(belts, "FILES_EVERY_SECONDS", 0.01)
    path = tmp_path / "pause"
    steered = Steered()
    order_files = files(steered, pause_file=str(path))
    order_files.look()
    assert not steered.told.is_set()
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(order_files.keep())
        for _ in range(2):
            path.touch()
            await steered.news()
            assert list(steered.pauses) == [f"file: {path} exists"]
            path.unlink()
            await steered.news()
            assert not steered.pauses
        keeper.cancel()
    assert steered.stops == []


async def test_calls_are_said_to_go_on_only_once_nothing_else_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class Log:
        def info(self, text: str) -> None:
            said.append(text)

        warning = info

    monkeypatch.setattr(belts, "get_log", Log)
    path = tmp_path / "pause"
    path.touch()
    steered, clock = Steered(), ToldClock("2026-01-10T12:00+00:00")
    order_files = files(steered, pause_file=str(path))
    night = Settings(**NIGHT, outside_window="wait")
    hours = Hours(night, steered, clock)  # type: ignore[arg-type]
    steered.pause("order")
    hours.look()
    order_files.look()
    path.unlink()
    order_files.look()
    clock.tell("2026-01-10T21:30+00:00")
    hours.look()
    steered.unpause("order")
    path.touch()
    order_files.look()
    path.unlink()
    order_files.look()
    assert said == [
        "the window 22:00-06:00 is closed until 22:00 CET: no call is made before",
        f"paused by a file: {path} exists",
        "no file keeps the run paused any more: still paused by: order, window until 22:00 CET",
        "the window 22:00-06:00 is open: still paused by: order",
        f"paused by a file: {path} exists",
        "no file keeps the run paused any more: calls go on",
    ]


async def test_a_stop_file_stops_whatever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(belts, "FILES_EVERY_SECONDS", 0.01)
    path = tmp_path / "stop"
    steered = Steered()
    order_files = files(steered, stop_file=str(path))
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(order_files.keep())
        path.symlink_to(tmp_path / "nothing")
        await steered.news()
        keeper.cancel()
    assert steered.stops[0] == Stop(
        StopReason.REQUEST, f"the stop file {path} exists", "remove it before the run goes on"
    )


async def test_what_is_there_at_the_start_counts_before_the_first_call(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    (tmp_path / "pause").mkdir()
    steered = Steered()
    files(steered, stop_file=str(tmp_path / "stop"), pause_file=str(tmp_path / "pause")).look()
    assert len(steered.stops) == len(steered.pauses) == 1


async def test_a_file_that_cannot_be_looked_at_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steered = Steered()
    order_files = files(steered, stop_file=str(tmp_path / "stop"))

    def refused(_: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", refused)
        order_files.look()
    why = f"file: {tmp_path / 'stop'} cannot be looked at (Permission denied)"
    assert list(steered.pauses) == [why]
    order_files.look()
    assert not steered.pauses
    assert steered.stops == []


async def test_a_folder_that_is_gone_holds_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)
    steered = Steered()
    files(
        steered,
        stop_file=str(tmp_path / "gone" / "stop"),
        pause_file=str(tmp_path / "file" / "pause"),
    ).look()
    assert not steered.told.is_set()


def test_a_zone_that_no_window_is_in_is_not_looked_up(tmp_path: Path) -> None:
    """A plan may have been made where the zone is known, and be carried out where it is not."""
    world = planned(tmp_path, 3)
    ran = session(tmp_path, world.answer, window="always", time_zone="Europe/Atlantis")
    assert ran.stop.reason is StopReason.FINISHED


def test_a_stop_file_at_the_start_sends_nothing(tmp_path: Path) -> None:
    world = planned(tmp_path, 10)
    stop_file = tmp_path / "stop"
    stop_file.touch()
    ran = session(tmp_path, world.answer, stop_file=str(stop_file))
    assert ran.stop.reason is StopReason.REQUEST
    assert ran.sent == []
    stop_file.unlink()
    ran = session(tmp_path, world.answer, Verb.RESUME, stop_file=str(stop_file), ahead_seconds=60)
    assert ran.stop == Stop(StopReason.FINISHED)


# What does not go together


def test_without_belts_nothing_is_watched(tmp_path: Path) -> None:
    world = planned(tmp_path, 10)
    ran = session(tmp_path, world.answer)
    assert ran.stop == Stop(StopReason.FINISHED)
    assert len(ran.sent) == 10
