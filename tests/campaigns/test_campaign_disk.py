"""The disk sweep's short version."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from tests.campaigns.disk import (
    FULL_IS_THERE,
    LEDGER,
    REPORT,
    Failure,
    fail,
    fill_under_report,
    write_to_full,
)
from tests.campaigns.lanes import Job, in_lanes

JOB = Job(8, concurrency=4)


def violated(failures: list[Failure]) -> list[Failure]:
    return [failure for failure in failures if failure.violations]


@pytest.mark.campaign
async def test_after_a_failed_ledger_write_nothing_is_sent_and_resume_completes() -> None:
    """`make disk` does this at some hundred points."""
    fates = [
        msgspec.structs.replace(LEDGER, point=point, stroke=stroke, lasting=lasting)
        for point, stroke, lasting in (
            (10, "ENOSPC", True),
            (66, "EIO", False),
            (90, "ENOSPC", False),
            (100, "EIO", True),
            (110, "ENOSPC", True),
            (120, "EIO", False),
        )
    ]
    failures = await in_lanes(fates, partial(fail, job=JOB))
    assert not violated(failures)
    assert {failure.code for failure in failures} >= {3, 7}


@pytest.mark.campaign
async def test_a_disk_that_fills_under_the_report_leaves_a_whole_ledger() -> None:
    fates = [msgspec.structs.replace(REPORT, point=point) for point in (1, 12, 17)]
    failures = await in_lanes(fates, partial(fill_under_report, job=JOB))
    assert not violated(failures)
    assert {failure.code for failure in failures} == {1}
    assert len({failure.struck for failure in failures}) > 1


@pytest.mark.skipif(not FULL_IS_THERE, reason="/dev/full is a device of Linux")
@pytest.mark.campaign
async def test_a_result_that_cannot_be_written_is_no_success() -> None:
    asked = (None, ("report", "r"))
    failures = await in_lanes(asked, partial(write_to_full, job=JOB))
    assert not violated(failures)
    assert [failure.code for failure in failures] == [1, 1]
