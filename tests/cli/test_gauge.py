"""What a run tells of itself while it works: the real pipeline, ledger and pacing, on a fast clock."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from msgspec.structs import replace

from tests.core.rig import draft_run, persons, rows
from tests.core.test_pipeline import Answer, FakeService, all_listed, at_first, says
from tests.core.virtual_time import LoopClock, run_virtually
from worker import telemetry
from worker.cli.gauge import AttemptLog, Gauge, Pace
from worker.cli.progress import Progress
from worker.cli.purge import lanes_of
from worker.ledger.database import open_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Call, Evidence, Kind, StopReason, Verb
from worker.pacing import Pacers
from worker.pipeline import Pipeline, Stop
from worker.telemetry import configure

CALL = Call(1, "person-0815", ("31842550077981745", "7"), ("in.csv:2", "in.csv:3"))


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    telemetry._sink.write_line = telemetry._nowhere


@dataclass
class AtWork:
    pipeline: Pipeline
    gauge: Gauge
    ledger: Ledger

    async def seen(self) -> Progress:
        await self.gauge.look(self.ledger)
        return self.gauge()


def watched(
    run_dir: Path,
    answer: Answer,
    watch: Callable[[AtWork], Awaitable[None]],
    verb: Verb = Verb.RUN,
) -> None:
    """Work on 400 persons with two faces each while ``watch`` looks on, then stop."""
    if verb is Verb.RUN:
        draft_run(run_dir, [rows(persons(400, 2))])

    async def session() -> None:
        ledger = Ledger(open_ledger(run_dir), InlineWriter)
        pacers = Pacers(19.8, outage_limit_seconds=900.0, shared=False)
        lanes = lanes_of(pacers, verb)
        clock = LoopClock()
        log = AttemptLog()
        service = FakeService(pacers, answer, clock=clock, _nonces=itertools.count())
        pipeline = Pipeline(
            ledger, service, lanes, clock, log, holds=None, concurrency=64, grace_seconds=30.0
        )
        gauge = Gauge(800, pipeline, lanes, log)
        await ledger.begin_session(verb, clock.now_us())
        work = asyncio.create_task(pipeline.run())
        try:
            await watch(AtWork(pipeline, gauge, ledger))
        finally:
            pipeline.stop(Stop(StopReason.SIGTERM))
            await work
            await ledger.close()

    run_virtually(session())


def test_a_run_at_full_pace(tmp_path: Path) -> None:
    async def watch(run: AtWork) -> None:
        first = run.gauge()
        assert run.gauge.deleted is None
        assert (first.faces_done, first.faces_total) == (0, 800)
        assert first.eta_seconds is None
        await run.seen()
        await asyncio.sleep(5.02)
        seen = await run.seen()
        assert seen.waiting == "quota"
        assert seen.rate_per_second == pytest.approx(19.8, abs=0.3)
        assert seen.mean_rate_per_second == pytest.approx(19.8, abs=0.5)
        assert seen.elapsed_seconds == pytest.approx(5.02)
        assert seen.lanes[0].quota_share == pytest.approx(1.0, abs=0.02)
        assert seen.faces_done == seen.outcomes["deleted"] == 2 * seen.calls_sent
        # 39.6 faces a second.
        assert seen.eta_seconds == pytest.approx((800 - seen.faces_done) / 39.6, rel=0.05)
        # Lookups and removals made no call, and take no room.
        assert [lane.name for lane in seen.lanes] == ["deletions"]
        assert (seen.repeats, seen.throttles, seen.troubles) == (0, 0, [])

    watched(tmp_path / "r", all_listed, watch)


def test_a_verification_is_told_by_its_lookups(tmp_path: Path) -> None:
    async def finish(run: AtWork) -> None:
        await asyncio.sleep(60)
        seen = await run.seen()
        assert (seen.faces_done, seen.lookups_asked) == (800, 0)

    async def watch(run: AtWork) -> None:
        first = await run.seen()
        assert (first.faces_done, first.lookups_answered, first.lookups_left) == (800, 0, 400)
        assert first.share == 0.0
        await asyncio.sleep(5.02)
        seen = await run.seen()
        assert seen.lookups_answered == pytest.approx(99, abs=3)
        assert seen.lookups_asked == 400
        assert seen.share == seen.lookups_answered / 400
        assert seen.eta_seconds == pytest.approx(seen.lookups_left / 19.8, rel=0.05)

    watched(tmp_path / "r", all_listed, finish)
    watched(tmp_path / "r", all_listed, watch, Verb.VERIFY)


def test_a_pause_is_told_with_its_reason_and_does_not_delay_the_end(tmp_path: Path) -> None:
    async def watch(run: AtWork) -> None:
        await run.seen()
        await asyncio.sleep(5)
        before = await run.seen()
        run.pipeline.pause("order")
        run.pipeline.pause("file: /run/pause exists")
        await asyncio.sleep(1)
        paused = await run.seen()
        assert paused.waiting == "paused"
        assert paused.eta_seconds is None
        assert paused.why == (
            "facepurge pause was typed; facepurge unpause goes on; file: /run/pause exists"
        )
        await asyncio.sleep(3600)
        await run.seen()
        run.pipeline.unpause("order")
        run.pipeline.unpause("file: /run/pause exists")
        await asyncio.sleep(1)
        after = await run.seen()
        assert after.why == ""
        assert before.eta_seconds is not None
        assert after.eta_seconds is not None
        assert after.eta_seconds == pytest.approx(before.eta_seconds - 1, rel=0.1)
        run.pipeline.set_rate(1.98)
        await asyncio.sleep(0.1)
        slower = (await run.seen()).eta_seconds
        assert slower == pytest.approx(10 * after.eta_seconds, rel=0.1)

    watched(tmp_path / "r", all_listed, watch)


def test_the_pace_is_that_of_the_last_minutes() -> None:
    pace, done = Pace(), 0
    for second in range(3 * 3600):
        done += 40 if second < 2 * 3600 else 4
        pace.look(1000.0 + second, done, 20.0)
    assert pace.faces_per_call(done) == pytest.approx(0.2)
    assert len(pace._samples) == Pace.SAMPLES


def test_neither_a_pause_nor_another_rate_changes_the_pace() -> None:
    pace = Pace()
    assert pace.faces_per_call(0) == 0.0
    pace.look(0.0, 0, 20.0)
    assert pace.faces_per_call(0) == 0.0
    pace.look(10.0, 600, 20.0)
    for second in range(11, 5_000):
        pace.look(float(second), 600, 0.0)
    pace.look(5_009.0, 750, 5.0)
    assert pace.faces_per_call(750) == pytest.approx(3.0)


def test_a_run_that_is_being_stopped_says_so(tmp_path: Path) -> None:
    async def watch(run: AtWork) -> None:
        await asyncio.sleep(3.02)
        run.pipeline.stop(Stop(StopReason.REQUEST))
        seen = await run.seen()
        assert seen.why.startswith("the run is being stopped")
        assert seen.eta_seconds is None
        assert run.gauge.deleted == seen.outcomes["deleted"]

    watched(tmp_path / "r", all_listed, watch)


def test_throttles_and_repeats_are_counted_and_grouped(tmp_path: Path) -> None:
    answer = at_first(Kind.THROTTLED, Kind.AMBIGUOUS, http_status=500)

    async def watch(run: AtWork) -> None:
        await asyncio.sleep(60)
        seen = await run.seen()
        assert seen.throttles > 0
        names = [trouble.name for trouble in seen.troubles]
        assert sorted(names) == ["ambiguous c", "throttled c"]
        assert seen.repeats == sum(trouble.count for trouble in seen.troubles)
        assert all(trouble.place.startswith("s0.csv:") for trouble in seen.troubles)
        assert [lane.name for lane in seen.lanes] == ["deletions", "lookups"]
        assert seen.latency is not None
        assert seen.latency.p99 == pytest.approx(0.05, rel=0.03)

    watched(tmp_path / "r", answer, watch)


def told(*evidence: Evidence, verbosity: int = 0) -> tuple[AttemptLog, list[dict[str, object]]]:
    """What is logged when a call ends so again and again, a millisecond apart."""
    stream = io.StringIO()
    configure("json", verbosity, stream)

    async def tell() -> AttemptLog:
        log = AttemptLog()
        for one in evidence:
            log.attempt_ended(CALL, one)
            await asyncio.sleep(0.001)
        return log

    log = run_virtually(tell())
    return log, [json.loads(text) for text in stream.getvalue().splitlines()]


def test_a_failure_is_shown_as_it_happens_and_then_counted() -> None:
    refused = says(Kind.REFUSED, code="400", message="BAD_REQUEST", request_id="7A1C", sent_us=1)
    log, lines = told(*[replace(refused, ended_us=n) for n in range(1, 2_001)])
    assert [line.get("seen") for line in lines] == [None, 10, 100, 1000]
    assert {line["level"] for line in lines} == {"warning"}
    assert lines[0]["event"] == "refused"
    assert (lines[0]["code"], lines[0]["place"]) == ("400", "in.csv:2")
    assert (lines[0]["message"], lines[0]["request_id"]) == ("BAD_REQUEST", "7A1C")
    assert log.repeats == 0
    assert log.calls_sent == 2_000


def test_a_flood_of_made_up_codes_is_cut_and_the_cut_is_told() -> None:
    flood = [says(Kind.AMBIGUOUS, code=str(n), sent_us=1) for n in range(500)]
    _, lines = told(*flood)
    assert len(lines) == 12
    assert "lines_left_out" not in lines[-1]


def test_no_line_names_a_person_or_a_face() -> None:
    kinds = [says(kind, sent_us=1, listed=CALL.face_ids) for kind in Kind]
    _, lines = told(*kinds, verbosity=1)
    assert len(lines) == len(Kind)
    text = json.dumps(lines)
    assert CALL.person_id not in text
    assert CALL.face_ids[0] not in text


def test_what_the_program_kept_back_itself_is_no_trouble() -> None:
    log, lines = told(*[says(Kind.NOT_SENT, code=code) for code in ("held", "stopped")])
    assert lines == []
    assert log.troubles.most_first == []
    assert (log.repeats, log.calls_sent) == (0, 0)
