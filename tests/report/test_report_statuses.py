from __future__ import annotations

import pytest

from worker.green.codes import RETRYABLE_CODES, SERVICE_CODES
from worker.model import WANTED, Kind, Outcome
from worker.report.remedies import Remedy, remedy_for
from worker.report.statuses import Status, kinds_of_outcomes, status_of


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
    assert status_of(union(outcomes, WANTED)) is status


def union(outcomes: list[str], wanted: frozenset[str]) -> int:
    kind_of = kinds_of_outcomes(wanted)
    kinds = 0
    for outcome in outcomes:
        kinds |= kind_of[outcome]
    return kinds


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["no_person"], Status.SUCCEEDED),
        (["no_person", "deleted", "held"], Status.SUCCEEDED),
        (["no_person", "refused"], Status.PARTIAL),
        (["refused"], Status.FAILED),
    ],
)
def test_a_job_succeeds_by_what_is_wanted(outcomes: list[str], status: Status) -> None:
    assert status_of(union(outcomes, WANTED | {Outcome.NO_PERSON})) is status


def test_every_outcome_has_a_kind() -> None:
    assert set(kinds_of_outcomes(WANTED)) == set(Outcome)


@pytest.mark.parametrize(
    ("outcome", "code", "remedy"),
    [
        ("unknown", "read_timeout", "resume"),
        ("unsent", "", "resume"),
        ("unknown", "not_listed", "resume"),
        ("unknown", "person_empty", "resume"),
        ("present", "still_listed", "retry"),
        ("present", "reappeared", "retry"),
        ("present", "not_removed", "retry"),
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


def test_what_retry_takes_up_and_what_the_remedy_says_agree() -> None:
    refusals = {
        str(code) for code, meaning in SERVICE_CODES.items() if meaning.kind is Kind.REFUSED
    }
    assert refusals >= RETRYABLE_CODES
    takes_up = {Remedy.RETRY, Remedy.PERMISSION}
    assert {x for x in refusals if remedy_for("refused", x) in takes_up} == RETRYABLE_CODES
