from __future__ import annotations

import json

import pytest

from worker.green.operations import (
    DELETE_FACES,
    DELETE_PERSON,
    GET_PERSON,
    OPERATIONS,
    body_of,
    delete_faces_body,
    operation_of,
    person_body,
)
from worker.model import Step
from worker.sandbox.operations import OPERATIONS as EMULATED


def test_every_step_has_its_operation() -> None:
    assert {step: operation_of(step).action for step in Step} == {
        Step.DELETE: "DeleteFaces",
        Step.LOOKUP: "GetPerson",
        Step.VERIFY: "GetPerson",
        Step.REMOVE: "DeletePerson",
    }


def test_paths_are_those_of_the_documentation() -> None:
    assert {operation.action: operation.path for operation in OPERATIONS.values()} == {
        "DeleteFaces": "/green/sface/face/delete",
        "GetPerson": "/green/sface/person",
        "DeletePerson": "/green/sface/person/delete",
    }
    for action, operation in OPERATIONS.items():
        assert EMULATED[operation.path].action == action


def test_bodies_are_compact_utf8_and_ids_stay_as_they_are() -> None:
    assert body_of(DELETE_FACES, "p", ("1", "02")) == b'{"personId":"p","faceIds":["1","02"]}'
    odd = 'Jürgen ✓ "\\'
    for operation in (GET_PERSON, DELETE_PERSON):
        # Faces never leave with these: the second would delete all of them anyway.
        assert body_of(operation, "p", ("1", "02")) == person_body("p") == b'{"personId":"p"}'
        body = body_of(operation, odd, ())
        assert json.loads(body) == {"personId": odd}
        assert "Jürgen ✓".encode() in body


@pytest.mark.parametrize("faces", [(), ("1", "1"), ("1", "2", "1")])
def test_a_deletion_that_is_not_of_distinct_faces_is_never_serialised(
    faces: tuple[str, ...],
) -> None:
    with pytest.raises(ValueError, match="each of them once"):
        delete_faces_body("p", faces)
