"""What an answer to GetPerson proves: what the service has of a person, or that it knows nobody.

"get-person" documents ``data.faceIds`` as all faces of the person. What the service answers about
a person whom it does not know is not documented; ``Settings.unknown_person`` says what this account
was seen to get, and ``facepurge doctor --calibrate`` asks.

===============  ===============================================  =========
unknown_person   the service itself answers                       proves
===============  ===============================================  =========
any              200 outside and inside, the person echoed, a     shown
                 list of IDs (perhaps empty: ``empty-list``)
any              404, and nothing of a person beside it           no_person
``code-400``     400, and nothing of a person beside it           no_person
``empty-data``   200 with ``data`` missing, null or ``{}``        no_person
===============  ===============================================  =========

Everything else is judged like an answer of any operation, and establishes nothing.
"""

from __future__ import annotations

from typing import Final

from worker.green.answers import ServiceAnswer
from worker.green.codes import BAD_REQUEST, NOT_FOUND, OK
from worker.green.findings import Finding, incomplete
from worker.model import Kind, Request

EVERY_FORM: Final = "every-form"
"""In place of a setting: every form counts. For finding out which one it is."""

EMPTY_DATA: Final = "empty_data"
"""Our code for a good answer without data."""

_EMPTY_DATA_COUNTS = frozenset({"empty-data", EVERY_FORM})
_CODE_400_COUNTS = frozenset({"code-400", EVERY_FORM})


def judge_lookup(request: Request, answer: ServiceAnswer) -> Finding:
    """``SHOWN``, if the list is there; the rest of ``answer`` is known to be good.

    Faces that nobody asked about are the person's others. Where no face was asked about, what is
    listed here may be sent on in a deletion: every text has to be one that could be.
    """
    has = answer.face_list()
    if isinstance(has, Finding):
        return has
    if not all(face and face.isprintable() for face in has):
        return incomplete("data.faceIds holds a text that is no ID.")
    if request.face_ids:
        held = frozenset(has)
        has = tuple(face for face in request.face_ids if face in held)
    return Finding(Kind.SHOWN, str(OK), listed=has)


def no_person_code(request: Request, answer: ServiceAnswer, unknown_person: str) -> str:
    """By which code ``answer`` says that there is no such person; ``""`` where it does not.

    ``unknown_person`` is the setting, or ``EVERY_FORM``.
    """
    if answer.stated in (None, {}) and answer.status == answer.code == OK:
        return EMPTY_DATA if unknown_person in _EMPTY_DATA_COUNTS else ""
    code = answer.decisive
    if code != NOT_FOUND and not (code == BAD_REQUEST and unknown_person in _CODE_400_COUNTS):
        return ""
    # Documented: the code is "the same as the HTTP status code"; 200 is what SDKs would accept.
    if answer.status not in (OK, code):
        return ""
    return str(code) if _holds_nothing(request, answer, code) else ""


def _holds_nothing(request: Request, answer: ServiceAnswer, code: int) -> bool:
    """Whether ``data`` is empty, or repeats no more than the code and the person."""
    if answer.stated is None:
        return True
    repeated = {"code": code, "personId": request.person_id}
    return isinstance(answer.stated, dict) and all(
        name in repeated and type(value) is type(repeated[name]) and value == repeated[name]
        for name, value in answer.stated.items()
    )
