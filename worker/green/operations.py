"""The operations that this program uses, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from worker.model import Step

API_VERSION = "2018-05-09"
"""Older versions are switched off (documented on "Common parameters" of Content Moderation)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One action; all are POSTs, and those of Content Moderation have a JSON body."""

    action: str
    """The action name, as ``x-acs-action`` and the SDKs spell it."""
    path: str
    version: str = API_VERSION


DELETE_FACES = Operation("DeleteFaces", "/green/sface/face/delete")
"""Documented on "delete-face"."""
GET_PERSON = Operation("GetPerson", "/green/sface/person")
"""Documented on "get-person" as getPersonInfo: reads a person with all their faces."""
DELETE_PERSON = Operation("DeletePerson", "/green/sface/person/delete")
"""Documented on "delete-person": deletes the person **and every face of theirs**."""

GET_CALLER_IDENTITY = Operation("GetCallerIdentity", "/", "2015-04-01")
"""Documented on "GetCallerIdentity" of Security Token Service, which is another service than this
one: it has no body, needs no permission, and says which account a key is of."""

OPERATIONS = {
    operation.action: operation for operation in (DELETE_FACES, GET_PERSON, DELETE_PERSON)
}

_OF_STEP = {
    Step.DELETE: DELETE_FACES,
    Step.LOOKUP: GET_PERSON,
    Step.VERIFY: GET_PERSON,
    Step.REMOVE: DELETE_PERSON,
}

_COMPACT = msgspec.json.Encoder()


def operation_of(step: Step) -> Operation:
    """What a call that waits for ``step`` asks of the service."""
    return _OF_STEP[step]


def body_of(operation: Operation, person_id: str, face_ids: Sequence[str]) -> bytes:
    """The body of one of ``OPERATIONS``: compact JSON, UTF-8.

    ``face_ids`` leave this machine with DeleteFaces only; a lookup compares its answer with them.
    """
    if operation == DELETE_FACES:
        return delete_faces_body(person_id, face_ids)
    return person_body(person_id)


def delete_faces_body(person_id: str, face_ids: Sequence[str]) -> bytes:
    """The body of DeleteFaces. Raises ``ValueError`` for no face, or one named twice.

    What the service makes of an empty list is not documented; it might mean every face.
    """
    if not face_ids or len(set(face_ids)) != len(face_ids):
        raise ValueError("DeleteFaces needs faces, and each of them once")
    return _encoded({"personId": person_id, "faceIds": face_ids})


def person_body(person_id: str) -> bytes:
    """The body of GetPerson and of DeletePerson."""
    return _encoded({"personId": person_id})


def _encoded(document: dict[str, object]) -> bytes:
    return _COMPACT.encode(document)
