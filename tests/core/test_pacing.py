"""Spacing on a virtual clock; what a server really sees is measured by ``make pace``."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.virtual_time import run_virtually, stall
from worker.departure import NotDeparted
from worker.pacing import Contact, Pacer, Pacers

RATE = 19.80


def most_in_any_second(times: list[float]) -> int:
    most = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return most


def pacer(rate: float = RATE, outage_limit_seconds: float = 3600.0) -> Pacer:
    return Pacer(rate, outage_limit_seconds=outage_limit_seconds)


async def depart(paced: Pacer, times: list[float], calls: int) -> None:
    for _ in range(calls):
        await paced.clearance()
        await paced.slot()
        times.append(asyncio.get_running_loop().time())
        paced.answered()


async def crowd(paced: Pacer, loops: int, calls: int) -> list[float]:
    times: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(loops):
            group.create_task(depart(paced, times, calls))
    return times


@pytest.mark.parametrize("loops", [1, 7, 40])
def test_never_more_than_twenty_in_a_second_and_hardly_fewer(loops: int) -> None:
    async def main() -> list[float]:
        return await crowd(pacer(), loops, 400 // loops)

    times = run_virtually(main())
    assert most_in_any_second(times) <= 20
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.985 * 20


def test_no_burst_after_an_idle_pause() -> None:
    async def main() -> list[float]:
        paced = pacer()
        times = await crowd(paced, 5, 20)
        await asyncio.sleep(300)
        return times + await crowd(paced, 40, 3)

    assert most_in_any_second(run_virtually(main())) <= 20


def test_no_burst_after_a_stalled_loop() -> None:
    async def main() -> list[float]:
        paced = pacer()
        times: list[float] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(depart(paced, times, 20))
            await asyncio.sleep(2)
            stall(7)
        return times

    times = run_virtually(main())
    assert len(times) == 200
    assert most_in_any_second(times) <= 20


def test_a_raised_quota_is_used() -> None:
    async def main() -> list[float]:
        return await crowd(pacer(5000), 50, 200)

    times = run_virtually(main())
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.95 * 5000


def test_a_throttle_holds_everybody_for_as_long_as_it_says() -> None:
    async def main() -> tuple[float, list[float]]:
        paced = pacer()
        await crowd(paced, 2, 5)
        throttled_at = asyncio.get_running_loop().time()
        paced.throttled(9.0, 0.01)
        assert paced.waiting_for == "throttled"
        return throttled_at, await crowd(paced, 20, 1)

    throttled_at, times = run_virtually(main())
    assert times[0] >= throttled_at + 9.0
    assert most_in_any_second(times) <= 20


def test_whoever_stands_in_line_when_a_hold_begins_sends_nothing() -> None:
    async def main() -> list[str]:
        paced = pacer(4.0)
        reasons: list[str] = []

        async def one() -> None:
            await paced.clearance()
            try:
                await paced.slot()
            except NotDeparted as refused:
                reasons.append(refused.reason)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(one())
            await asyncio.sleep(0.1)
            paced.throttled(60.0, 0.1)
        return reasons

    assert run_virtually(main()) == ["held"] * 3


def test_the_rate_settles_at_what_the_service_accepts_and_climbs_back() -> None:
    """A service that takes 10 a second, then 20 again."""

    async def main() -> tuple[int, float, float]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        accepted: list[float] = []
        throttles = 0
        quota = 10

        async def worker() -> None:
            nonlocal throttles
            while loop.time() < end:
                try:
                    await paced.clearance()
                    await paced.slot()
                except NotDeparted:
                    continue
                now = loop.time()
                await asyncio.sleep(0.05)
                if sum(time > now - 1.0 for time in accepted) >= quota:
                    throttles += 1
                    paced.throttled(None, 0.05)
                else:
                    accepted.append(now)
                    paced.answered()

        async def crew() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(worker())

        end = loop.time() + 300
        await crew()
        settled = sum(time > loop.time() - 240 for time in accepted) / 240
        quota, end = 20, loop.time() + 180
        await crew()
        return throttles, settled, paced.rate_allowed_per_second

    throttles, settled, recovered = run_virtually(main())
    assert settled >= 9.3
    assert throttles < 60
    assert recovered == pytest.approx(RATE)


def test_an_outage_is_probed_once_a_second_at_most_and_then_it_goes_on() -> None:
    async def main() -> tuple[list[float], list[float]]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        back = loop.time() + 120
        probes: list[float] = []
        good: list[float] = []

        async def worker() -> None:
            while len(good) < 200:
                try:
                    await paced.clearance()
                    await paced.slot()
                except NotDeparted:
                    continue
                if loop.time() < back:
                    probes.append(loop.time())
                    paced.failed(0.0)
                else:
                    good.append(loop.time())
                    paced.answered()

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(worker())
        return probes, good

    probes, good = run_virtually(main())
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(probes[3:]))
    assert len(probes) >= 5
    assert good[0] - probes[-1] <= 31
    assert most_in_any_second(good) <= 20


def test_trouble_without_end_becomes_an_outage() -> None:
    async def main() -> tuple[bool, bool, bool]:
        paced = pacer(outage_limit_seconds=60)
        paced.failed(0.0)
        await asyncio.sleep(59)
        before = paced.outage
        await asyncio.sleep(2)
        after = paced.outage
        paced.answered()
        return before, after, paced.outage

    assert run_virtually(main()) == (False, True, False)


def test_stop_sends_everybody_away_at_once() -> None:
    async def main() -> tuple[list[str], float]:
        paced = pacer(0.1)
        reasons: list[str] = []
        loop = asyncio.get_running_loop()

        async def one() -> None:
            try:
                await paced.clearance()
                await paced.slot()
            except NotDeparted as refused:
                reasons.append(refused.reason)

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(one())
            await asyncio.sleep(1)
            stopped = loop.time()
            paced.stop()
        return reasons, loop.time() - stopped

    reasons, seconds = run_virtually(main())
    assert reasons == ["stopped"] * 4
    assert seconds < 0.1


def test_stop_reaches_everybody_in_line() -> None:
    """The one at the head has waited for its slot already, and two stand behind it."""

    async def main() -> tuple[list[str], float]:
        paced = pacer(4.0)
        ends: list[str] = []
        loop = asyncio.get_running_loop()

        async def one() -> None:
            try:
                await paced.clearance()
                await paced.slot()
                ends.append("departed")
            except NotDeparted as refused:
                ends.append(refused.reason)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(one())
            await asyncio.sleep(0.1)
            assert paced.line >= 3
            stopped = loop.time()
            paced.stop()
        return ends, loop.time() - stopped

    ends, seconds = run_virtually(main())
    assert ends == ["departed"] + ["stopped"] * 7
    assert seconds < 0.01


def test_stop_ends_the_waiting_for_a_hold() -> None:
    async def main() -> float:
        paced = pacer()
        paced.throttled(300.0, 0.0)
        asyncio.get_running_loop().call_later(2, paced.stop)
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotDeparted, match="stopped"):
            await paced.clearance()
        return asyncio.get_running_loop().time() - began

    assert run_virtually(main()) == pytest.approx(2)


def test_an_empty_line_asks_for_more_callers() -> None:
    async def main() -> list[int]:
        asked: list[int] = []
        paced = Pacer(RATE, outage_limit_seconds=60, starved=asked.append)
        await crowd(paced, 1, 3)
        return asked

    assert run_virtually(main()) == [1, 1, 1]


def test_a_long_way_to_the_line_asks_for_as_many_callers_as_fill_it() -> None:
    """150 ms for a connection at 20 calls/s: three on their way, and one in line."""

    async def main() -> list[int]:
        asked: list[int] = []
        paced = Pacer(20.0, outage_limit_seconds=60, starved=asked.append)
        await paced.clearance()
        await asyncio.sleep(0.149)
        await paced.slot()
        return asked

    assert run_virtually(main()) == [4]


def test_a_caller_that_withdraws_is_no_longer_counted_on() -> None:
    async def main() -> list[int]:
        asked: list[int] = []
        paced = Pacer(RATE, outage_limit_seconds=60, starved=asked.append)

        async def leave() -> None:
            await paced.clearance()
            paced.withdraw()

        await asyncio.gather(leave(), leave())
        await crowd(paced, 1, 1)
        return asked

    assert run_virtually(main()) == [1]


@pytest.mark.parametrize(("shared", "most"), [(False, 40), (True, 20)])
def test_operations_have_buckets_of_their_own_unless_they_share_the_quota(
    *, shared: bool, most: int
) -> None:
    async def main() -> list[float]:
        pacers = Pacers(RATE, outage_limit_seconds=60, shared=shared)
        both = await asyncio.gather(
            crowd(pacers.of("DeleteFaces"), 3, 30), crowd(pacers.of("GetPerson"), 3, 30)
        )
        return sorted(both[0] + both[1])

    assert most_in_any_second(run_virtually(main())) == most


async def journey(paced: Pacer, connection_seconds: float, sent: list[float]) -> None:
    """One attempt on its way out, with a connection that takes its time."""
    await paced.clearance()
    await asyncio.sleep(connection_seconds)
    try:
        await paced.slot()
    except NotDeparted:
        return
    sent.append(asyncio.get_running_loop().time())


@pytest.mark.parametrize("connection_seconds", [0.0, 1.1, 3.0])
@pytest.mark.parametrize("rate", [0.5, 0.8, RATE])
def test_probing_ends_however_long_the_way_to_the_slot_is(
    connection_seconds: float, rate: float
) -> None:
    async def main() -> int:
        paced = pacer(rate)
        for _ in range(4):
            paced.failed(0.0)
        sent: list[float] = []

        async def worker() -> None:
            for _ in range(12):
                before = len(sent)
                await journey(paced, connection_seconds, sent)
                if len(sent) > before:
                    await asyncio.sleep(1.5)
                    paced.answered()

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(worker())
        return len(sent)

    assert run_virtually(main()) >= 50


def test_throttles_with_slow_answers_end_in_probing_that_recovers() -> None:
    """Answers after 1.5 s: late throttles must not displace the probe for ever."""

    async def main() -> tuple[float, float]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        healthy = loop.time() + 45
        answered: list[float] = []

        async def worker() -> None:
            while len(answered) < 100:
                sent: list[float] = []
                await journey(paced, 0.01, sent)
                if not sent:
                    continue
                await asyncio.sleep(1.5)
                if sent[0] < healthy:
                    paced.throttled(None, 1.5)
                else:
                    answered.append(loop.time())
                    paced.answered()

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(worker())
        return healthy, answered[0]

    healthy, first = run_virtually(main())
    assert first - healthy < 40


def test_a_probe_that_withdraws_lets_another_one_go() -> None:
    async def main() -> bool:
        paced = pacer()
        for _ in range(4):
            paced.failed(0.0)

        async def leave() -> None:
            await paced.clearance()
            await asyncio.sleep(5)
            paced.withdraw()

        async def follow() -> None:
            await asyncio.sleep(3)
            await paced.clearance()

        async with asyncio.timeout(60):
            await asyncio.gather(leave(), follow())
        return True

    assert run_virtually(main())


def test_an_outage_ends_the_waiting_even_for_a_long_hold() -> None:
    async def main() -> float:
        paced = pacer(outage_limit_seconds=60)
        began = asyncio.get_running_loop().time()
        paced.throttled(3000.0, 0.0)
        with pytest.raises(NotDeparted, match="outage"):
            await paced.clearance()
        return asyncio.get_running_loop().time() - began

    assert run_virtually(main()) == pytest.approx(60, abs=0.1)


def test_a_departure_that_was_late_does_not_crowd_those_behind_it() -> None:
    """The machine hands a request to the socket 40 ms after its slot, and the rest in time."""

    async def main() -> list[float]:
        paced = pacer()
        times: list[float] = []
        for number in range(60):
            await paced.clearance()
            await paced.slot()
            if number == 10:
                stall(0.04)
            paced.departed()
            times.append(asyncio.get_running_loop().time())
        return times

    times = run_virtually(main())
    assert all(later - earlier >= 1.005 for earlier, later in zip(times, times[20:], strict=False))


def test_nobody_takes_a_connection_long_before_its_slot() -> None:
    async def main() -> float:
        paced = pacer(0.2)
        await crowd(paced, 1, 1)
        longest = 0.0

        async def worker() -> None:
            nonlocal longest
            await paced.clearance()
            cleared = asyncio.get_running_loop().time()
            await paced.slot()
            longest = max(longest, asyncio.get_running_loop().time() - cleared)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(worker())
        return longest

    assert run_virtually(main()) <= 1.01


def test_whoever_was_sent_away_is_not_counted_on_while_it_waits() -> None:
    async def main() -> int:
        paced = pacer(4.0)

        async def held() -> None:
            await paced.clearance()
            with pytest.raises(NotDeparted, match="held"):
                await paced.slot()
            await paced.clearance()
            paced.withdraw()

        await crowd(paced, 1, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(held())
            await asyncio.sleep(0.1)
            paced.throttled(30.0, 60.0)
            await asyncio.sleep(20)
            return len(paced._approaching)

    assert run_virtually(main()) == 0


# Steering


async def steered(
    paced: Pacer, orders: list[tuple[float, Callable[[], None]]], seconds: float, loops: int = 40
) -> list[float]:
    """Departures of a crowd that never ends, while ``orders`` come after so many seconds each."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    times: list[float] = []

    async def worker() -> None:
        while True:
            try:
                await paced.clearance()
                await paced.slot()
            except NotDeparted as refused:
                if refused.reason != "held":
                    return
                continue
            paced.departed()
            times.append(loop.time() - began)
            await asyncio.sleep(0.05)
            paced.answered()

    for after, order in orders:
        loop.call_later(after, order)
    loop.call_later(seconds, paced.stop)
    async with asyncio.TaskGroup() as group:
        for _ in range(loops):
            group.create_task(worker())
    return times


def most_in_a_second_that_ends_after(times: list[float], moment: float) -> int:
    """The most departures in a second whose last one came after ``moment``."""
    return max(sum(end - 1.0 < time <= end for time in times) for end in times if end > moment)


def test_a_lower_rate_counts_from_the_next_call_on() -> None:
    async def main() -> list[float]:
        paced = pacer()
        return await steered(paced, [(10.3, lambda: paced.set_rate(5.0))], 30)

    times = run_virtually(main())
    assert most_in_a_second_that_ends_after(times, 10.3) == 5
    later = [time for time in times if time > 11.4]
    assert (len(later) - 1) / (later[-1] - later[0]) == pytest.approx(5.0, rel=0.02)


def test_a_higher_rate_is_there_within_a_second() -> None:
    async def main() -> list[float]:
        paced = pacer(5.0)
        return await steered(paced, [(10.11, lambda: paced.set_rate(RATE))], 30)

    times = run_virtually(main())
    assert sum(10.11 < time <= 11.11 for time in times) >= 19
    assert most_in_any_second(times) <= 20


def test_lower_and_back_within_a_second_is_no_way_around_the_limit() -> None:
    async def main() -> list[float]:
        paced = pacer()
        orders = [(10.3, lambda: paced.set_rate(1.0)), (10.4, lambda: paced.set_rate(20.0))]
        return await steered(paced, orders, 20)

    assert most_in_any_second(run_virtually(main())) <= 20


@pytest.mark.parametrize("rates", [(20.0,), (19.9,), (5.0, 20.0)])
@pytest.mark.parametrize("late_seconds", [0.1, 0.6, 0.9])
def test_another_rate_forgets_no_departure_that_was_late(
    rates: tuple[float, ...], late_seconds: float
) -> None:
    async def main() -> list[float]:
        paced = pacer(20.0)
        departed = paced.departed
        loop = asyncio.get_running_loop()
        began = loop.time()
        was_late = False

        def late() -> None:
            nonlocal was_late
            if not was_late and loop.time() - began >= 5:
                was_late = True
                stall(late_seconds)
            departed()

        paced.departed = late  # type: ignore[method-assign]
        orders: list[tuple[float, Callable[[], None]]] = [
            (5.1 + late_seconds, functools.partial(paced.set_rate, rate)) for rate in rates
        ]
        return await steered(paced, orders, 12)

    assert most_in_any_second(run_virtually(main())) <= 20


def test_a_departure_so_late_that_it_was_forgotten_still_counts() -> None:
    async def main() -> int:
        paced = pacer()
        await paced.clearance()
        await paced.slot()
        await asyncio.sleep(11)
        assert paced.rate_now_per_second == 0
        paced.departed()
        return len(paced._departures)

    assert run_virtually(main()) == 1


@pytest.mark.parametrize(("rate", "departs_after"), [(20.0, 1.0), (0.1, 10.0), (0.5, 2.0)])
def test_whoever_stands_at_the_head_waits_by_the_new_rate(
    rate: float, departs_after: float
) -> None:
    """At 0.2 calls/s the second caller would leave 5 s after the first; after 1 s that changes."""

    async def main() -> float:
        paced = pacer(0.2)
        loop = asyncio.get_running_loop()
        await paced.slot()
        began = loop.time()
        loop.call_later(1.0, paced.set_rate, rate)
        try:
            await paced.slot()
        except NotDeparted:
            await paced.clearance()
            await paced.slot()
        return loop.time() - began

    assert run_virtually(main()) == pytest.approx(departs_after, abs=0.06)


def test_nobody_keeps_a_connection_for_as_long_as_a_far_lower_rate_takes() -> None:
    async def main() -> float:
        paced = pacer()
        loop = asyncio.get_running_loop()
        longest = 0.0

        async def worker() -> None:
            nonlocal longest
            while True:
                await paced.clearance()
                cleared = loop.time()
                with suppress(NotDeparted):
                    await paced.slot()
                longest = max(longest, loop.time() - cleared)

        loop.call_later(3.0, paced.set_rate, 0.05)
        loop.call_later(300.0, paced.stop)
        with pytest.RaisesGroup(*[NotDeparted] * 8):
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(worker())
        return longest

    assert run_virtually(main()) <= 1.01


def test_a_pause_sends_back_who_stands_in_line_and_clears_nobody() -> None:
    async def main() -> tuple[list[float], list[str], str, float]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        began = loop.time()
        times: list[float] = []
        ends: list[str] = []

        async def worker() -> None:
            for _ in range(60):
                await paced.clearance()
                try:
                    await paced.slot()
                    times.append(loop.time() - began)
                except NotDeparted as refused:
                    ends.append(f"{refused.reason} after {loop.time() - began:.2f}")

        async with asyncio.TaskGroup() as group:
            for _ in range(7):
                group.create_task(worker())
            await asyncio.sleep(5.02)
            assert paced.line == 7
            paced.pause()
            await asyncio.sleep(0)
            await asyncio.sleep(100)
            assert (paced.line, paced.waiting_for, paced.paused) == (0, "paused", True)
            waited = paced.waits_seconds["paused"]
            paced.unpause()
            await asyncio.sleep(0.2)
            word = paced.waiting_for
        return times, ends, word, waited

    times, ends, word, waited = run_virtually(main())
    assert ends == ["held after 5.02"] * 7
    assert not [time for time in times if 5.02 < time < 105.02]
    assert most_in_any_second(times) <= 20
    assert sum(105.02 <= time < 106.02 for time in times) >= 19
    assert (word, round(waited, 3)) == ("quota", 100.0)


def test_a_pause_reaches_whoever_is_on_the_way_to_the_line() -> None:
    """Cleared and connecting when the pause begins, and in line only when it is over or not."""

    async def main(pause_seconds: float) -> str:
        paced = pacer()
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, paced.pause)
        loop.call_later(0.5 + pause_seconds, paced.unpause)
        await paced.clearance()
        await asyncio.sleep(1.0)
        try:
            await paced.slot()
        except NotDeparted as refused:
            return refused.reason
        return "departed"

    assert run_virtually(main(10.0)) == "held"
    assert run_virtually(main(0.2)) == "departed"


@pytest.mark.parametrize("where", ["clearance", "slot"])
def test_a_stop_counts_at_once_while_paused(where: str) -> None:
    async def main() -> tuple[str, float]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        await paced.clearance()
        paced.pause()
        loop.call_later(2.0, paced.stop)
        began = loop.time()
        with pytest.raises(NotDeparted) as refused:
            await getattr(paced, where)()
        if where == "slot":
            assert refused.value.reason == "held"
            with pytest.raises(NotDeparted) as refused:
                await paced.clearance()
        return refused.value.reason, loop.time() - began

    reason, seconds = run_virtually(main())
    assert (reason, round(seconds, 3)) == ("stopped", 2.0)


def test_orders_may_come_faster_than_the_head_can_act() -> None:
    async def main() -> tuple[str, float]:
        paced = pacer(0.1)
        await paced.slot()

        def all_at_once() -> None:
            paced.set_rate(5.0)
            paced.pause()
            paced.set_rate(0.3)
            paced.pause()
            paced.unpause()
            paced.unpause()
            paced.set_rate(20.0)

        asyncio.get_running_loop().call_later(1.0, all_at_once)
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotDeparted, match="held"):
            await paced.slot()
        await paced.clearance()
        await paced.slot()
        return paced.waiting_for, asyncio.get_running_loop().time() - began

    word, seconds = run_virtually(main())
    assert (word, round(seconds, 2)) == ("", 1.0)


def test_the_clock_of_an_outage_stands_still_in_a_pause() -> None:
    async def main() -> list[bool]:
        paced = pacer(outage_limit_seconds=60)
        paced.failed(0.0)
        await asyncio.sleep(50)
        paced.pause()
        await asyncio.sleep(500)
        seen = [paced.outage]
        paced.unpause()
        await asyncio.sleep(9)
        seen.append(paced.outage)
        await asyncio.sleep(2)
        seen.append(paced.outage)
        return seen

    assert run_virtually(main()) == [False, False, True]


def test_a_pause_is_no_outage_of_a_lane_with_little_to_do() -> None:
    """Its only call failed hours ago, and others were answered until the pause."""

    async def main() -> list[bool]:
        contact = Contact()
        idle, busy = (Pacer(RATE, outage_limit_seconds=3600, contact=contact) for _ in range(2))
        idle.failed(0.0)
        for _ in range(10 * 60):
            await asyncio.sleep(60)
            busy.answered()
        for paced in (idle, busy):
            paced.pause()
        await asyncio.sleep(2 * 3600)
        for paced in (idle, busy):
            paced.unpause()
        seen = []
        for _ in range(2):
            await asyncio.sleep(1801)
            seen.append(idle.outage)
        return seen

    assert run_virtually(main()) == [False, True]


def test_an_answer_within_a_pause_is_where_an_outage_counts_from() -> None:
    async def main() -> list[bool]:
        contact = Contact()
        idle, busy = (Pacer(RATE, outage_limit_seconds=60, contact=contact) for _ in range(2))
        idle.failed(0.0)
        idle.pause()
        await asyncio.sleep(30)
        busy.answered()
        await asyncio.sleep(500)
        idle.unpause()
        seen = []
        for _ in range(2):
            await asyncio.sleep(31)
            seen.append(idle.outage)
        return seen

    assert run_virtually(main()) == [False, True]


def test_trouble_that_shows_in_a_pause_counts_from_its_end() -> None:
    async def main() -> list[bool]:
        paced = pacer(outage_limit_seconds=60)
        paced.pause()
        await asyncio.sleep(100)
        paced.failed(3.0)
        await asyncio.sleep(100)
        paced.unpause()
        seen = []
        for _ in range(2):
            await asyncio.sleep(31)
            seen.append(paced.outage)
        return seen

    assert run_virtually(main()) == [False, True]


def test_a_pause_in_the_middle_of_probing_leaves_one_probe() -> None:
    async def main() -> list[float]:
        paced = pacer()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(4):
            paced.failed(0.0)
        probes: list[float] = []
        on_its_way = asyncio.Event()

        async def worker() -> None:
            while loop.time() - began < 200:
                await paced.clearance()
                on_its_way.set()
                await asyncio.sleep(0.3)
                on_its_way.clear()
                try:
                    await paced.slot()
                except NotDeparted:
                    continue
                probes.append(loop.time() - began)
                paced.failed(0.0)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(worker())
            # In the middle of a probe's way to its slot.
            await asyncio.sleep(5)
            await on_its_way.wait()
            paused = loop.time() - began
            paced.pause()
            await asyncio.sleep(60)
            paced.unpause()
        return [paused, *probes]

    paused, *probes = run_virtually(main())
    assert not [time for time in probes if paused < time < paused + 60]
    assert len([time for time in probes if time > paused + 60]) >= 4
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(probes))


def test_a_hold_within_a_pause_is_counted_as_the_pause() -> None:
    async def main() -> dict[str, float]:
        paced = pacer()
        paced.throttled(10.0, 0.0)
        await asyncio.sleep(4)
        paced.pause()
        await asyncio.sleep(20)
        paced.unpause()
        paced.throttled(10.0, 0.0)
        await asyncio.sleep(30)
        return dict(paced.waits_seconds)

    waits = run_virtually(main())
    assert waits == pytest.approx({"quota": 0, "throttled": 14, "backoff": 0, "paused": 20})


def test_an_order_while_throttled_moves_the_aim_and_not_the_cut() -> None:
    async def main() -> tuple[list[float], list[float]]:
        paced = pacer()
        seen: list[float] = []

        def look() -> None:
            seen.append(paced.rate_allowed_per_second)

        orders = [
            (5.0, lambda: paced.throttled(None, 0.05)),
            (8.0, lambda: paced.set_rate(5.0)),
            (12.0, look),
            (14.0, lambda: paced.set_rate(20.0)),
            (14.5, look),
            (90.0, look),
        ]
        return await steered(paced, orders, 91, loops=6), seen

    times, (slow, climbing, recovered) = run_virtually(main())
    assert slow == 5.0
    assert 15.0 < climbing < 19.6
    assert recovered == 20.0
    assert most_in_any_second(times) <= 20


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.05, 4.0),
            st.sampled_from(["pause", "unpause", 0.3, 1.0, 4.2, 5.0, 12.5, 19.8, 20.0]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_is_ordered_no_second_holds_more_than_the_rate_in_force(
    orders: list[tuple[float, str | float]],
) -> None:
    async def main() -> tuple[list[float], list[tuple[float, float]]]:
        paced = pacer()
        rates: list[tuple[float, float]] = [(0.0, RATE)]
        timed: list[tuple[float, Callable[[], None]]] = []
        moment = 2.0
        for after, order in orders:
            moment += after
            if isinstance(order, float):
                rates.append((moment, order))
                timed.append((moment, functools.partial(paced.set_rate, order)))
            else:
                timed.append((moment, getattr(paced, order)))
        timed.append((moment + 1.0, paced.unpause))
        return await steered(paced, timed, moment + 8.0, loops=8), rates

    times, rates = run_virtually(main())
    for number, time in enumerate(times):
        (*_, rate) = [rate for since, rate in rates if since < time]
        within = sum(time - 1.0 < earlier for earlier in times[: number + 1])
        assert within <= math.ceil(rate), (time, within, rate)
    assert times[-1] > rates[-1][0] + 1.0
