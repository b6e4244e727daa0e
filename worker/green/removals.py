"""What a good answer to DeletePerson proves.

"delete-person" documents ``data.personId`` and ``data.deleteCount``, without saying whether that
counts persons or their faces: no number is held against the answer.
"""

from __future__ import annotations

from worker.green.answers import ServiceAnswer
from worker.green.codes import OK
from worker.green.findings import Finding, incomplete
from worker.model import Kind, Request


def judge_removal(_request: Request, answer: ServiceAnswer) -> Finding:
    """``REMOVED``; the rest of ``answer`` is known to be good."""
    count = answer.data.get("deleteCount", 0)
    if type(count) is not int or count < 0:
        return incomplete("data.deleteCount is not a count.")
    return Finding(Kind.REMOVED, str(OK))
