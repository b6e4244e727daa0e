from __future__ import annotations

from typing import Any

import pytest

from tests.green.replies import PERSON, REMOVAL, envelope, judged
from worker.model import Evidence, Kind


def good(**changes: Any) -> dict[str, Any]:
    return envelope({"code": 200, "personId": PERSON, "deleteCount": 1, **changes})


def without(member: str) -> dict[str, Any]:
    document = good()
    del document["data"][member]
    return document


def test_removed() -> None:
    assert judged(REMOVAL, good()) == Evidence(
        Kind.REMOVED,
        ended_us=2,
        sent_us=1,
        http_status=200,
        code="200",
        request_id="36D384DA-1",
    )


@pytest.mark.parametrize("count", [0, 1, 21, 10**6])
def test_any_count_will_do(count: int) -> None:
    # Persons or faces: the documentation does not say what is counted.
    assert judged(REMOVAL, good(deleteCount=count)).kind is Kind.REMOVED


def test_no_count_will_do() -> None:
    assert judged(REMOVAL, without("deleteCount")).kind is Kind.REMOVED


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (good(deleteCount=-1), "incomplete_answer"),
        (good(deleteCount=None), "incomplete_answer"),
        (good(deleteCount="1"), "incomplete_answer"),
        (good(deleteCount=1.0), "incomplete_answer"),
        (good(deleteCount=True), "incomplete_answer"),
        (good(personId=None), "incomplete_answer"),
        (good(personId=1), "incomplete_answer"),
        (without("personId"), "incomplete_answer"),
        (without("code"), "incomplete_answer"),
        ({**good(), "data": None}, "incomplete_answer"),
        ({**good(), "data": {}}, "incomplete_answer"),
        ({**good(), "data": [good()["data"]]}, "incomplete_answer"),
        (good(code="200"), "incomplete_answer"),
        (good(code=500), "500"),
        (good(code=404), "404"),
        ({**good(), "code": 500}, "500"),
        ({**good(), "code": "200"}, "unreadable_answer"),
        ({**good(), "Code": "OK"}, "unreadable_answer"),
    ],
    ids=repr,
)
def test_nearly_good_is_ambiguous(document: dict[str, Any], code: str) -> None:
    evidence = judged(REMOVAL, document)
    assert (evidence.kind, evidence.code) == (Kind.AMBIGUOUS, code)


@pytest.mark.parametrize("person", ["person2", "Person1", "person1 ", ""])
@pytest.mark.parametrize("code", [200, 404, 500])
def test_another_person_is_swapped(person: str, code: int) -> None:
    evidence = judged(REMOVAL, good(personId=person, code=code))
    assert (evidence.kind, evidence.code) == (Kind.SWAPPED, "swapped_answer")
    assert evidence.remedy


@pytest.mark.parametrize("unknown_person", ["", "code-404", "code-400", "empty-data", "empty-list"])
def test_only_a_lookup_tells_that_nobody_is_known(unknown_person: str) -> None:
    for document, kind in (
        ({"code": 404, "msg": "NOT_FOUND"}, Kind.REFUSED),
        ({"code": 400, "data": {}}, Kind.REFUSED),
        ({"code": 200, "data": {}}, Kind.AMBIGUOUS),
    ):
        assert judged(REMOVAL, document, unknown_person=unknown_person).kind is kind
