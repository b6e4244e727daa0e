"""A refusal as a document, for programs that have asked for one and read stdout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from worker.cli import stdout
from worker.errors import FacepurgeError


@contextmanager
def document_of_refusal(*, asked: bool) -> Iterator[None]:
    """Write what is refused in this block to stdout as well, if it is ``asked`` for, and raise it on.

    One line of JSON: ``refused`` (true), ``said`` and ``remedy``. Interruptions are no refusals.
    """
    try:
        yield
    except FacepurgeError as refused:
        if asked:
            document = {"refused": True, "said": refused.cause, "remedy": refused.remedy}
            stdout.write(msgspec.json.encode(document).decode())
        raise
