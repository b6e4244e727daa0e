"""An answer of the service itself, in the envelope that all its operations share.

``{"code", "msg", "requestId", "data": {"code", ...}}``, documented on "Common response parameters"
of Content Moderation: ``code`` says how the request fared, ``data.code`` how the operation did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from worker.green.codes import OK
from worker.green.findings import Finding, contradictory, incomplete


class ServiceAnswer(msgspec.Struct, frozen=True):
    """One JSON object with a lower-case integer ``code``; see ``of``."""

    status: int
    """Of HTTP."""
    code: int
    message: str
    stated: Any
    """``data`` as it came; None also where there is none."""
    data: Mapping[str, Any]
    """``data`` where it is an object, otherwise an empty one."""
    inner: int | None
    """``data.code``, where it is a code."""
    named_faces: tuple[str, ...]
    """Whatever ``data.faceIds`` holds that could be an ID."""

    @classmethod
    def of(cls, status: int, code: int, message: str, stated: Any) -> Self:
        """The answer that has ``stated`` for its ``data``."""
        data = as_object(stated)
        inner, faces = as_code(data.get("code")), id_texts(data.get("faceIds"))
        return cls(status, code, message, stated, data, inner, faces)

    @property
    def decisive(self) -> int:
        """The code that says what became of the request: an error, wherever it is."""
        inner = self.inner
        return self.code if self.code != OK or inner is None else inner

    @property
    def good(self) -> bool:
        """Whether both codes report success."""
        return self.code == OK and self.inner == OK

    def face_list(self) -> tuple[str, ...] | Finding:
        """``data.faceIds`` where it is a list of IDs, each of them once; or what it is instead."""
        faces, named = self.data.get("faceIds"), self.named_faces
        if not isinstance(faces, list):
            return incomplete("data.faceIds is not a list.")
        if len(named) != len(faces):
            return incomplete("data.faceIds holds more than IDs.")
        if len(set(named)) != len(named):
            return contradictory("data.faceIds lists a face twice.")
        return named


def as_code(value: object) -> int | None:
    """A service code, and nothing that could be an ID."""
    return value if type(value) is int and 100 <= value <= 999 else None


def as_object(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def id_texts(value: object) -> tuple[str, ...]:
    """Every member of a list that could be an ID; none of anything else."""
    if not isinstance(value, list):
        return ()
    if set(map(type, value)) <= {str}:
        return tuple(value)
    return tuple(text for text in map(id_text, value) if text is not None)


def id_text(value: object) -> str | None:
    """An ID as text; integers digit by digit, because other operations return face IDs as such."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None
