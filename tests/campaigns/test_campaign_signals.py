"""The signal sweep's short version."""

from __future__ import annotations

from functools import partial

import pytest

from tests.campaigns.lanes import Job, in_lanes
from tests.campaigns.signals import LATEST_REQUEST_SECONDS, Told, be_told

JOB = Job(40, rate_per_second=100, latency_seconds=0.05)


@pytest.mark.campaign
async def test_after_sigterm_nothing_begins_and_resume_completes() -> None:
    """`make signals` does this at some hundred times."""
    told = [
        Told(0.0, after_requests=1),
        Told(0.03, after_requests=10),
        Told(0.02, after_requests=20, times=2),
    ]
    stops = await in_lanes(told, partial(be_told, job=JOB), lanes=len(told))
    assert not [stop.violations for stop in stops if stop.violations]
    assert {stop.struck for stop in stops} == {"drained"}
    for stop in stops:
        assert stop.request_seconds is not None
        assert stop.request_seconds <= LATEST_REQUEST_SECONDS
