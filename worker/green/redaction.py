"""What may be kept of a text that somebody else wrote: one line, no secrets, no IDs."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

MESSAGE_CHARACTERS = 300

EXAMINED_CHARACTERS = 10_000
"""What is longer is cut before it is looked at: an answer may bring a megabyte of text, and
thousands of IDs to be taken out of it."""

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
_WORD = re.compile(f"{_ID_CHARACTER}+")
_OF_A_WORD_OR_TOKEN = string.ascii_letters + string.digits + "_-+/="


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
    if len(text) > EXAMINED_CHARACTERS:
        # Not in the middle of an ID or a secret, which nothing would recognise then.
        text = text[:EXAMINED_CHARACTERS].rstrip(_OF_A_WORD_OR_TOKEN)
    text = _ECHO.sub(r"\1 <redacted>", text)
    text = _ROA_SIGNATURE.sub("acs <redacted>", text)
    text = _CREDENTIALS.sub(r"\1\2<redacted>", text)
    text = _without(text, faces, "<face>")
    text = _without(text, persons, "<person>")
    text = _LONG_TOKEN.sub("<redacted>", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _without(text: str, ids: Iterable[str], stand_in: str) -> str:
    wanted = {i for i in ids if i}
    words = {i for i in wanted if _WORD.fullmatch(i)}
    others = sorted((i for i in wanted - words if i in text), key=len, reverse=True)
    if others:
        alternatives = "|".join(map(re.escape, others))
        bounded = f"(?<!{_ID_CHARACTER})(?:{alternatives})(?!{_ID_CHARACTER})"
        text = re.sub(bounded, stand_in, text)
    if not words:
        return text
    return _WORD.sub(lambda found: stand_in if found[0] in words else found[0], text)
