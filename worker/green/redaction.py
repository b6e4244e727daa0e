"""What may be kept of a text that somebody else wrote: one line, no secrets, no IDs."""

from __future__ import annotations

import re
from collections.abc import Iterable

MESSAGE_CHARACTERS = 300

# SignatureDoesNotMatch echoes the text that was signed, and an STS token is part of it.
_ECHO = re.compile(r"(string\s*to\s*sign\b\s*(?:is)?\s*:?).*", re.IGNORECASE | re.DOTALL)
_CREDENTIALS = re.compile(
    r"(x-acs-security-token|x-acs-signature-nonce|authorization|signature|security_?token"
    r"|access_?key_?secret)(\W{0,3}[:=]\s*)\S+",
    re.IGNORECASE,
)
_ROA_SIGNATURE = re.compile(r"\bacs\s+[^\s:]+:\S+")
# HMAC-SHA1 in base64 is 27 characters and a pad; tokens and SHA-256 digests are longer still.
_LONG_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{27}=|[A-Za-z0-9+/=_-]{40,}")
_ID_CHARACTER = "[A-Za-z0-9_-]"


def redacted(
    text: str,
    *,
    persons: Iterable[str] = (),
    faces: Iterable[str] = (),
    limit: int = MESSAGE_CHARACTERS,
) -> str:
    """One printable line of at most ``limit`` characters, without secrets and without these IDs."""
    if not text:
        return ""
    text = _ECHO.sub(r"\1 <redacted>", text)
    text = _ROA_SIGNATURE.sub("acs <redacted>", text)
    text = _CREDENTIALS.sub(r"\1\2<redacted>", text)
    text = _without(text, faces, "<face>")
    text = _without(text, persons, "<person>")
    text = _LONG_TOKEN.sub("<redacted>", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _without(text: str, ids: Iterable[str], stand_in: str) -> str:
    alternatives = "|".join(re.escape(i) for i in sorted(ids, key=len, reverse=True) if i)
    if not alternatives:
        return text
    return re.sub(f"(?<!{_ID_CHARACTER})(?:{alternatives})(?!{_ID_CHARACTER})", stand_in, text)
