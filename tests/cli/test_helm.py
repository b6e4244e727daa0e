"""The process at work under orders, on a clock that jumps: what it does, says, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.core.rig import Silence
from tests.core.virtual_time import LoopClock, run_virtually
from worker import timetable
from worker.cli.helm import BEAT_SECONDS, LOOK_SECONDS, QUIET_SECONDS, Helm
from worker.cli.progress import Progress
from worker.cli.purge import lanes_of
from worker.errors import LedgerFailed
from worker.model import StopReason, Verb
from worker.orders import Ask, Condition, Order, Pulse, Taken
from worker.pacing import Pacers
from worker.pipeline import Pipeline, Stop
from worker.settings import Settings

PROGRESS = Progress(
    faces_done=1,
    faces_total=2,
    outcomes={},
    calls_sent=7,
    calls_in_flight=3,
    repeats=0,
    throttles=0,
    rate_per_second=19.7654,
    mean_rate_per_second=19.1,
    elapsed_seconds=9.0,
    eta_seconds=60.0,
    waiting="quota",
    lanes=(),
    latency=None,
    troubles=(),
)


@dataclass
class Book:
    """What other processes have ordered, and what was written about it."""

    orders: list[Order] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    beats: list[Pulse] = field(default_factory=list)
    looks: int = 0
    broken: bool = False
    withdrawn: set[int] = field(default_factory=set)

    def give(self, ask: Ask, rate_per_second: float | None = None) -> None:
        self.orders.append(Order(ask, 1, "ann@here", rate_per_second, len(self.orders) + 1))

    async def new_orders(self, after_seq: int) -> Sequence[Order]:
        self.looks += 1
        if self.broken:
            raise LedgerFailed("the disk is full")
        return [order for order in self.orders if order.seq > after_seq]

    async def accept(self, order: Order, _now_us: int) -> bool:
        return order.seq not in self.withdrawn

    async def note_taken(self, order: Order, taken: Taken) -> None:
        assert order.seq == len(self.taken) + 1, "each order once, in their order"
        self.taken.append(taken)

    async def beat(self, pulse: Pulse) -> None:
        self.beats.append(pulse)


@dataclass
class Bridge:
    """A helm with what it steers."""

    book: Book
    pipeline: Pipeline
    pacers: Pacers
    helm: Helm
    clock: LoopClock
    progress: Progress = PROGRESS

    async def order(self, ask: Ask, rate_per_second: float | None = None) -> Taken:
        """Give it, let the helm look, and return what it made of it."""
        self.book.give(ask, rate_per_second)
        await self.helm.look()
        return self.book.taken[-1]

    async def said(self, ask: Ask, rate_per_second: float | None = None) -> str:
        return (await self.order(ask, rate_per_second)).said


def on_the_bridge(main: Callable[[Bridge], Awaitable[Any]], **settings: Any) -> Any:
    async def steer() -> Any:
        given = Settings(**settings)
        clock, book = LoopClock(), Book()
        pacers = Pacers(given.rate_per_second, outage_limit_seconds=60, shared=False)
        unused: Any = None
        pipeline = Pipeline(
            unused, unused, lanes_of(pacers, Verb.RUN), clock, Silence(),
            holds=None, concurrency=9, grace_seconds=1,
        )  # fmt: skip
        helm = Helm(
            book, pipeline, lambda: bridge.progress, clock, settings=given, run_dir="my runs/r"
        )
        bridge = Bridge(book, pipeline, pacers, helm, clock)
        return await main(bridge)

    return run_virtually(steer())


async def some_calls_out(bridge: Bridge, count: int) -> list[asyncio.Task[None]]:
    """Calls that have departed and are not answered."""
    pacer = bridge.pacers.of("DeleteFaces")

    async def call() -> None:
        await pacer.clearance()
        await pacer.slot()
        await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(call()) for _ in range(count)]
    await asyncio.sleep(5)
    return tasks


def test_a_pause_says_what_is_still_in_flight() -> None:
    async def main(bridge: Bridge) -> list[str]:
        said = [await bridge.said(Ask.PAUSE), await bridge.said(Ask.PAUSE)]
        assert list(bridge.pipeline.pauses) == ["order"]
        said.append(await bridge.said(Ask.UNPAUSE))
        assert list(bridge.pipeline.pauses) == []
        tasks = await some_calls_out(bridge, 3)
        said += [await bridge.said(Ask.PAUSE), await bridge.said(Ask.STOP)]
        for task in tasks:
            task.cancel()
        return said

    assert on_the_bridge(main) == [
        "paused; no call is in flight",
        "it was paused already; no call is in flight",
        "unpaused; calls go on at 19.8 calls/s",
        "paused; 3 calls in flight being finished",
        "stopping: no further call begins; 3 calls in flight being finished",
    ]


def test_an_unpause_names_what_else_pauses() -> None:
    async def main(bridge: Bridge) -> list[str]:
        said = [await bridge.said(Ask.UNPAUSE)]
        bridge.pipeline.pause("window")
        bridge.pipeline.pause("file")
        await bridge.order(Ask.PAUSE)
        said.append(await bridge.said(Ask.UNPAUSE))
        assert bridge.pipeline.pauses == ("window", "file")
        said.append(await bridge.said(Ask.UNPAUSE))
        bridge.pipeline.unpause("file")
        bridge.pipeline.unpause("window")
        said.append(await bridge.said(Ask.UNPAUSE))
        return said

    assert on_the_bridge(main) == [
        "it was not paused",
        "the order to pause is lifted; still paused by: window, file",
        "no order to pause was in force, so none is lifted; paused by: window, file",
        "it was not paused",
    ]


def test_an_order_that_was_withdrawn_is_not_taken() -> None:
    async def main(bridge: Bridge) -> None:
        bridge.book.withdrawn.add(1)
        bridge.book.give(Ask.STOP)
        await bridge.helm.look()
        assert not bridge.pipeline.stopping
        assert bridge.book.taken == []
        await bridge.helm.look()
        assert not bridge.pipeline.stopping

    on_the_bridge(main)


def test_a_rate_counts_for_every_lane() -> None:
    async def main(bridge: Bridge) -> list[str]:
        said = [await bridge.said(Ask.RATE, 5.0)]
        for operation in ("DeleteFaces", "GetPerson", "DeletePerson"):
            assert bridge.pacers.of(operation).rate_allowed_per_second == 5.0
        bridge.pipeline.pause("window")
        said.append(await bridge.said(Ask.RATE, 12.5))
        bridge.pipeline.unpause("window")
        bridge.pacers.of("GetPerson").throttled(None, 0.0)
        said.append(await bridge.said(Ask.RATE, 20.0))
        said.append(await bridge.said(Ask.UNPAUSE))
        return said

    first, paused, throttled, unpaused = on_the_bridge(main)
    assert first == "the rate is 5 calls/s from the next call on (it was 19.8)"
    assert paused.endswith("(it was 5); it is paused by: window")
    assert throttled.startswith(
        "the rate is 20 calls/s from the next call on (it was 12.5), and 10"
    )
    assert throttled.endswith(" at present, because of throttles")
    assert unpaused == "it was not paused"


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (20.0, ", but the reserve leaves it 5 of this session's 10 calls/s, whatever is ordered"),
        (5.0, ""),
        (4.0, ""),
    ],
)
def test_no_rate_takes_from_the_reserve(
    monkeypatch: pytest.MonkeyPatch, rate: float, said: str
) -> None:
    least = min(rate, 5.0)  # as its pacers say once their trial is over
    monkeypatch.setattr(Pipeline, "rate_allowed_per_second", property(lambda _: least))

    async def main(bridge: Bridge) -> str:
        return await bridge.said(Ask.RATE, rate)

    told = on_the_bridge(main, rate_per_second=10.0, reserve_per_second=5.0)
    assert told == f"the rate is {rate:g} calls/s from the next call on (it was 10){said}"


def test_a_rate_is_checked_without_looking_at_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looking up a time zone takes as long as the calls that would wait for it."""
    looked_at: list[str] = []
    monkeypatch.setattr(timetable, "parse_zone", lambda name, *_: looked_at.append(name))

    async def main(bridge: Bridge) -> Taken:
        return await bridge.order(Ask.RATE, 5.0)

    assert not on_the_bridge(main, window="22:00-06:00", time_zone="Asia/Tokyo").refused
    assert not looked_at


@pytest.mark.parametrize(
    ("rate", "raised_quota", "refused"),
    [(20.0, False, False), (20.1, False, True), (25.0, True, False), (0.0, True, True),
     (1e9, True, True), (float("nan"), True, True), (float("inf"), True, True)],
)  # fmt: skip
def test_a_rate_obeys_the_same_gates_as_the_flag(
    *, rate: float, raised_quota: bool, refused: bool
) -> None:
    """Whatever some other program may have put into the ledger."""

    async def main(bridge: Bridge) -> Taken:
        taken = await bridge.order(Ask.RATE, rate)
        now = bridge.pacers.of("DeleteFaces").rate_allowed_per_second
        assert now == (19.8 if refused else rate)
        return taken

    taken = on_the_bridge(main, raised_quota=raised_quota)
    assert taken.refused is refused
    assert bool(taken.remedy) is refused


def test_after_a_stop_no_other_order_is_taken() -> None:
    async def main(bridge: Bridge) -> list[Taken]:
        bridge.pipeline.stop(Stop(StopReason.SIGTERM))
        return [await bridge.order(Ask.PAUSE), await bridge.order(Ask.RATE, 5.0)]

    for taken in on_the_bridge(main):
        assert taken.refused
        assert "stopping already" in taken.said
        assert taken.remedy.endswith("facepurge resume 'my runs/r'")


def test_a_stop_says_who_asked_for_it() -> None:
    async def main(bridge: Bridge) -> Stop:
        await bridge.order(Ask.STOP)
        return await bridge.pipeline.run()

    assert on_the_bridge(main) == Stop(StopReason.REQUEST, "it was told to stop by ann@here")


def test_orders_of_two_are_taken_in_their_order_and_the_later_one_wins() -> None:
    async def main(bridge: Bridge) -> tuple[float, int]:
        bridge.book.give(Ask.RATE, 5.0)
        bridge.book.give(Ask.RATE, 3.0)
        await bridge.helm.look()
        await bridge.helm.look()
        return bridge.pipeline.rate_allowed_per_second, len(bridge.book.taken)

    assert on_the_bridge(main) == (3.0, 2)


def test_it_looks_many_times_a_second_and_beats_seldom() -> None:
    async def main(bridge: Bridge) -> tuple[float, list[float], list[Pulse]]:
        follower = asyncio.ensure_future(bridge.helm.follow())
        loop = asyncio.get_running_loop()
        await asyncio.sleep(60.05)  # nothing changes
        looks = bridge.book.looks
        for number in range(100):
            bridge.progress = replace(PROGRESS, calls_sent=number)
            await asyncio.sleep(0.1)
        began = loop.time()
        bridge.book.give(Ask.PAUSE)
        while not bridge.book.taken:  # noqa: ASYNC110 (it is what is measured)
            await asyncio.sleep(0.01)
        delay = loop.time() - began
        await asyncio.sleep(0)
        follower.cancel()
        return delay, [looks / 60], bridge.book.beats

    delay, (looks,), beats = on_the_bridge(main)
    assert looks >= 5
    assert delay <= LOOK_SECONDS + 0.02 <= 0.2
    seconds = [(pulse.beat_us - beats[0].beat_us) / 1e6 for pulse in beats]
    quiet = [x for x in seconds if x < 60]
    assert quiet == pytest.approx([QUIET_SECONDS * n for n in range(len(quiet))], abs=1.0)
    busy = [x for x in seconds if x >= 60.05][:-1]
    assert 9 <= len(busy) <= 10 / BEAT_SECONDS + 1
    assert beats[-1].condition is Condition.PAUSED, "an order is seen at once"


def test_the_pulse_says_how_it_is() -> None:
    async def main(bridge: Bridge) -> list[Pulse]:
        await bridge.helm.look()
        bridge.pipeline.pause("window")
        await bridge.helm.look()
        await bridge.order(Ask.RATE, 5.0)
        bridge.progress = replace(PROGRESS, eta_seconds=None)
        bridge.pipeline.stop(Stop(StopReason.SIGTERM))
        await bridge.helm.look()
        return bridge.book.beats

    running, paused, slower, draining = on_the_bridge(main)
    assert running.condition is Condition.RUNNING
    assert (running.rate_now_per_second, running.calls_sent, running.waiting) == (19.77, 7, "quota")
    assert running.rate_configured_per_second == running.rate_allowed_per_second == 19.8
    assert running.ends_us == running.beat_us + 60_000_000
    assert (paused.condition, paused.paused_by) == (Condition.PAUSED, "window")
    assert slower.rate_configured_per_second == slower.rate_allowed_per_second == 5.0
    assert (draining.condition, draining.ends_us) == (Condition.DRAINING, None)


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    async def main(bridge: Bridge) -> int:
        await bridge.helm.look()
        bridge.clock.set_back(3600)
        await bridge.helm.look()
        return len(bridge.book.beats)

    assert on_the_bridge(main) == 2


def test_a_ledger_that_fails_is_the_pipelines_to_tell() -> None:
    async def main(bridge: Bridge) -> None:
        bridge.book.broken = True
        await bridge.helm.follow()

    assert on_the_bridge(main) is None
