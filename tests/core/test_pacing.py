"""Spacing on a virtual clock; what a server really sees is measured by ``make pace``."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.core.virtual_time import run_virtually, stall
from worker.departure import NotDeparted
from worker.pacing import Pacer, Pacers

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
