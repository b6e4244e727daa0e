"""What reading one answer came to, before it becomes evidence."""

from __future__ import annotations

import msgspec

from worker.model import Kind


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A kind with its code; the message is not redacted yet."""

    kind: Kind
    code: str
    message: str = ""
    listed: tuple[str, ...] = ()
    remedy: str = ""


def incomplete(message: str) -> Finding:
    """A good answer that lacks something which makes it believable."""
    return Finding(Kind.AMBIGUOUS, "incomplete_answer", message)


def contradictory(message: str) -> Finding:
    """A good answer of which one part cannot be true beside another."""
    return Finding(Kind.AMBIGUOUS, "contradictory_answer", message)
