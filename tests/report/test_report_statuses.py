from __future__ import annotations

import pytest

from worker.model import Outcome
from worker.report.remedies import remedy_for
from worker.report.statuses import KIND_OF, Status, status_of


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["deleted", "absent"], Status.SUCCEEDED),
        (["deleted", "held"], Status.SUCCEEDED),
        (["held"], Status.SUCCEEDED),
        (["person_empty", "person_deleted"], Status.SUCCEEDED),
        (["deleted", "refused"], Status.PARTIAL),
        (["deleted", "unsent"], Status.PARTIAL),
        (["deleted", "invalid"], Status.PARTIAL),
        (["unsent"], Status.UNSENT),
        (["unsent", "held"], Status.UNSENT),
        (["unsent", "invalid"], Status.UNSENT),
        (["unsent", "unknown"], Status.FAILED),
        (["unknown"], Status.FAILED),
        (["present", "held"], Status.FAILED),
        (["invalid", "conflict"], Status.FAILED),
        (["no_person"], Status.FAILED),
    ],
)
def test_the_status_of_a_job(outcomes: list[str], status: Status) -> None:
    kinds = 0
    for outcome in outcomes:
        kinds |= KIND_OF[outcome]
    assert status_of(kinds) is status


def test_every_outcome_has_a_kind() -> None:
    assert set(KIND_OF) == set(Outcome)


@pytest.mark.parametrize(
    ("outcome", "code", "remedy"),
    [
        ("unknown", "read_timeout", "resume"),
        ("unsent", "", "resume"),
        ("present", "reappeared", "retry"),
        ("no_person", "404", "data"),
        ("refused", "400", "data"),
        ("refused", "586", "support"),
        ("refused", "596", "permission"),
        ("refused", "580", "retry"),
        ("refused", "Forbidden.RAM", "permission"),
        ("refused", "InvalidAccessKeyId.NotFound", "permission"),
        ("refused", "Throttling.User", "retry"),
        ("refused", "NeverHeardOf", "support"),
    ],
)
def test_the_remedy_of_a_line(outcome: str, code: str, remedy: str) -> None:
    assert remedy_for(outcome, code) == remedy
