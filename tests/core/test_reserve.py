"""A batch beside a production client on the same quota, on a virtual clock.

With real sockets the same is shown by ``make pace``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.core.virtual_time import run_virtually
from worker.departure import NotDeparted
from worker.pacing import Pacer, Pacers
from worker.reserve import (
    ReservingPacer,
    open_rate_per_second,
    quiet_rate_per_second,
    trial_rate_per_second,
)
from worker.sandbox.quota import CalendarSecond, SlidingSecond, TokenBucket, Window

QUOTA = 20
RATE = 19.80
RESERVE = 5.0
LATENCY_SECONDS = 0.05


def sliding() -> Window:
    return SlidingSecond(QUOTA, count_throttled=False)


def greedy_sliding() -> Window:
    return SlidingSecond(QUOTA, count_throttled=True)


def bucket() -> Window:
    return TokenBucket(QUOTA, QUOTA, count_throttled=False)


def small_bucket() -> Window:
    return TokenBucket(QUOTA, 2, count_throttled=False)


def calendar() -> Window:
    return CalendarSecond(QUOTA, count_throttled=False)


@dataclass
class Account:
    """What the service lets through, and who met a throttle; times from the batch's first call."""

    window: Window
    began: float = 0.0
    batch: list[float] = field(default_factory=list)
    """Accepted calls of the batch."""
    batch_throttles: list[float] = field(default_factory=list)
    production_throttles: list[float] = field(default_factory=list)

    def admits(self) -> bool:
        return self.window.admit(now()) == 0


def now() -> float:
    return asyncio.get_running_loop().time()


async def production(
    account: Account, rate: Callable[[], float], seed: int, jitter_seconds: float
) -> None:
    """Evenly spaced calls, each early or late by up to the jitter."""
    chance = random.Random(seed)
    at = now() + chance.random() * 0.2
    while True:
        at += 1 / rate()
        await asyncio.sleep(max(0.0, at + chance.uniform(-jitter_seconds, jitter_seconds) - now()))
        if not account.admits():
            account.production_throttles.append(now() - account.began)


async def batch(account: Account, pacer: Pacer, seconds: float, loops: int = 12) -> None:
    async def one() -> None:
        while now() < account.began + seconds:
            await pacer.clearance()
            try:
                await pacer.slot()
            except NotDeparted:
                continue
            await asyncio.sleep(LATENCY_SECONDS / 2)
            good = account.admits()
            arrived = now() - account.began
            (account.batch if good else account.batch_throttles).append(arrived)
            await asyncio.sleep(LATENCY_SECONDS / 2)
            if good:
                pacer.answered()
            else:
                pacer.throttled(None, LATENCY_SECONDS)
            pacer.withdraw()

    async with asyncio.TaskGroup() as group:
        for _ in range(loops):
            group.create_task(one())


def side_by_side(
    window: Window,
    *,
    seconds: float = 60.0,
    seed: int = 0,
    jitter_seconds: float = 0.02,
    rate: Callable[[], float] = lambda: RESERVE,
) -> Account:
    async def main() -> Account:
        account = Account(window)
        client = asyncio.create_task(production(account, rate, seed, jitter_seconds))
        # The batch may begin at any place in a second of the clock.
        await asyncio.sleep(3 + seed * 0.29 % 1)
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        account.began = now()
        await batch(account, pacer, seconds)
        client.cancel()
        return account

    return run_virtually(main())


def mean_rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])


def most_in_any_second(times: list[float]) -> int:
    most = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return most


@pytest.mark.parametrize("window", [sliding, greedy_sliding, calendar])
@pytest.mark.parametrize("jitter_seconds", [0.0, 0.02, 0.1])
def test_where_each_second_counts_the_others_are_left_alone(
    window: Callable[[], Window], jitter_seconds: float
) -> None:
    for seed in range(3):
        account = side_by_side(window(), seed=seed, jitter_seconds=jitter_seconds)
        assert [x for x in account.production_throttles if x > 2] == []
        assert mean_rate(account.batch) >= 12.5
        assert most_in_any_second(sorted(account.batch + account.batch_throttles)) <= QUOTA


@pytest.mark.parametrize("jitter_seconds", [0.0, 0.02, 0.1])
def test_where_unused_calls_are_saved_up_nobody_is_ever_throttled(jitter_seconds: float) -> None:
    for seed in range(3):
        account = side_by_side(bucket(), seed=seed, jitter_seconds=jitter_seconds)
        assert account.production_throttles == account.batch_throttles == []
        assert mean_rate(account.batch) >= 14


@pytest.mark.parametrize(("window", "least"), [(sliding, 12.5), (bucket, 14.0)])
def test_answers_that_take_a_second_change_nothing(
    monkeypatch: pytest.MonkeyPatch, window: Callable[[], Window], least: float
) -> None:
    monkeypatch.setitem(globals(), "LATENCY_SECONDS", 1.0)

    async def main() -> Account:
        account = Account(window())
        client = asyncio.create_task(production(account, lambda: RESERVE, 1, 0.02))
        await asyncio.sleep(3)
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        account.began = now()
        await batch(account, pacer, 60, loops=40)
        client.cancel()
        return account

    account = run_virtually(main())
    assert [x for x in account.production_throttles if x > 2] == []
    assert mean_rate(account.batch) >= least


def test_who_needs_more_than_was_left_gets_it_and_the_batch_climbs_back_slowly() -> None:
    busy_until = 120.0

    def wanted() -> float:
        return 10.0 if now() < 1000.0 + busy_until else RESERVE

    account = side_by_side(sliding(), seconds=240, seed=3, rate=wanted)
    settled = [x for x in account.production_throttles if 10 < x < busy_until]
    assert len(settled) <= 0.01 * 10 * busy_until
    busy = [x for x in account.batch if 10 < x < busy_until]
    assert 6 <= mean_rate(busy) <= 10
    assert mean_rate([x for x in account.batch if x > 200]) >= 12.5
    assert not [x for x in account.production_throttles if x > busy_until]


def test_a_cut_is_deep_and_its_way_back_is_slow() -> None:
    async def main() -> list[float]:
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        quiet = quiet_rate_per_second(RATE, RESERVE)
        pacer.throttled(None, 0.0)
        seen = [pacer.rate_allowed_per_second]
        await asyncio.sleep(5)
        pacer.throttled(None, 0.0)
        for seconds in (0, 10, 50):
            await asyncio.sleep(seconds)
            await pacer.clearance()
            await pacer.slot()
            pacer.answered()
            pacer.withdraw()
            seen.append(pacer.rate_allowed_per_second)
        return [rate / quiet for rate in seen]

    first, cut, soon, later = run_virtually(main())
    # The first throttle only tells what kind of quota it is.
    assert first == pytest.approx(1)
    assert cut == pytest.approx(0.75, abs=0.01)
    assert soon < 0.77
    assert later == pytest.approx(1)


def test_what_meets_the_crowd_of_the_trial_says_nothing_about_the_others() -> None:
    async def main() -> tuple[float, float]:
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        pacer.throttled(None, 0.05)
        await asyncio.sleep(0.9)
        pacer.throttled(None, 0.05)
        soon = pacer.rate_allowed_per_second
        await asyncio.sleep(0.9)
        pacer.throttled(None, 0.05)
        return soon, pacer.rate_allowed_per_second

    quiet = quiet_rate_per_second(RATE, RESERVE)
    assert run_virtually(main()) == pytest.approx((quiet, 0.75 * quiet))


def test_a_trial_needs_calls_and_the_next_one_waits_for_a_minute() -> None:
    async def main() -> list[float]:
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        allowed = []
        for pause in (0.0, 5.0, 10.0, 60.0):
            await asyncio.sleep(pause)
            for _ in range(2):
                await pacer.clearance()
                await pacer.slot()
                pacer.answered()
                pacer.withdraw()
            allowed.append(pacer.rate_allowed_per_second)
        return allowed

    quiet = quiet_rate_per_second(RATE, RESERVE)
    assert run_virtually(main()) == pytest.approx([19 / 1.005, quiet, quiet, 19 / 1.005])


def test_a_rate_that_is_ordered_limits_the_batch_and_not_the_reserve() -> None:
    async def main() -> tuple[float, float, list[float]]:
        account = Account(bucket())
        pacer = ReservingPacer(RATE, reserve_per_second=RESERVE, outage_limit_seconds=3600)
        pacer.set_rate(3.0)
        account.began = now()
        await batch(account, pacer, 20)
        ordered = pacer.rate_allowed_per_second
        pacer.set_rate(500.0)
        return ordered, pacer.rate_allowed_per_second, account.batch

    ordered, after, times = run_virtually(main())
    assert ordered == 3.0
    assert most_in_any_second(times[1:]) <= 3
    assert after == pytest.approx(quiet_rate_per_second(RATE, RESERVE))


@pytest.mark.parametrize(
    ("rate", "reserve", "open_rate", "quiet_calls"),
    [
        (19.8, 5.0, 14.8, 14),
        (20.0, 5.0, 15.0, 14),
        (19.8, 0.5, 19.3, 18),
        (19.8, 17.0, 2.8, 2),
        (19.8, 17.8, 2.0, 1),
        (3.0, 1.0, 2.0, 1),
        (2.5, 0.5, 2.0, 1),
        (100.0, 30.0, 70.0, 69),
    ],
)
def test_what_is_left_to_the_batch(
    rate: float, reserve: float, open_rate: float, quiet_calls: int
) -> None:
    assert open_rate_per_second(rate, reserve) == pytest.approx(open_rate)
    assert quiet_rate_per_second(rate, reserve) == pytest.approx(quiet_calls / 1.05)


@pytest.mark.parametrize(("rate", "calls"), [(19.8, 19), (20.0, 19), (20.5, 20), (3.0, 2)])
def test_a_trial_keeps_a_call_away_from_what_is_allowed(rate: float, calls: int) -> None:
    assert trial_rate_per_second(rate) == pytest.approx(calls / 1.005)


def test_each_bucket_of_the_quota_has_a_reserve_of_its_own() -> None:
    async def main() -> tuple[Pacer, Pacer, Pacer]:
        pacers = Pacers(
            RATE,
            outage_limit_seconds=3600,
            shared=False,
            make=lambda rate, **more: ReservingPacer(rate, reserve_per_second=RESERVE, **more),
        )
        return pacers.of("DeleteFaces"), pacers.of("GetPerson"), pacers.of("DeleteFaces")

    deletions, lookups, again = run_virtually(main())
    assert isinstance(deletions, ReservingPacer)
    assert deletions is again
    assert deletions is not lookups
