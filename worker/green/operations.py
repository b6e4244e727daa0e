"""The service's operations that this program uses, in one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

API_VERSION = "2018-05-09"
"""Older versions are switched off (documented on "Common parameters" of Content Moderation)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One action of the service; all are POSTs with a JSON body."""

    action: str
    """The action name, as ``x-acs-action`` and the SDKs spell it."""
    path: str


DELETE_FACES = Operation("DeleteFaces", "/green/sface/face/delete")

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

OPERATIONS = {operation.action: operation for operation in (DELETE_FACES,)}


def delete_faces_body(person_id: str, face_ids: Sequence[str]) -> bytes:
    """The body of DeleteFaces (documented on "delete-face"): compact JSON, UTF-8."""
    document = {"personId": person_id, "faceIds": list(face_ids)}
    return _COMPACT.encode(document).encode()
