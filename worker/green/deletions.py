"""What a good answer to DeleteFaces proves.

"delete-face" documents ``data.faceIds`` as the faces that were deleted and ``data.deleteCount`` as
their number. A face that was not deleted is only told by its omission.
"""

from __future__ import annotations

from worker.green.answers import ServiceAnswer
from worker.green.codes import OK
from worker.green.findings import Finding
from worker.model import Kind, Request


def names_unasked_face(request: Request, answer: ServiceAnswer) -> bool:
    """Whether an answer speaks of a face that was not to be deleted, whatever its codes."""
    return not frozenset(request.face_ids).issuperset(answer.named_faces)


def judge_deletion(_request: Request, answer: ServiceAnswer) -> Finding:
    """``LISTED``, if list and count are there and fit; the rest of ``answer`` is known to be good."""
    listed = answer.face_list()
    if isinstance(listed, Finding):
        return listed
    count = answer.data.get("deleteCount")
    if type(count) is not int or count != len(listed):
        return Finding(
            Kind.AMBIGUOUS,
            "count_mismatch",
            f"data.deleteCount is not the number of listed faces ({len(listed)}).",
        )
    return Finding(Kind.LISTED, str(OK), listed=listed)
