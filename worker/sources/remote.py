"""Objects in stores as sources: ``s3://bucket/key`` and ``oss://bucket/key``, with globs and folders."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from worker.errors import InputRefused, UsageRefused
from worker.sources.folder import is_dataset, parts_of
from worker.sources.stores import NoSuchObject, Store, StoreRefused, Version, store_of

SCHEMES = ("s3", "oss")
PIECE_BYTES = 8 * 1024 * 1024
"""How much is asked for at a time: enough that waiting for the first byte does not matter."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)

_store = lru_cache(maxsize=None)(store_of)
"""One for each scheme: it keeps connections and credentials."""


class Address(NamedTuple):
    """Where an object is."""

    scheme: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def store(self) -> Store:
        """Raises ``UsageRefused`` where what it needs is not installed."""
        return _store(self.scheme)


def is_remote(spec: str) -> bool:
    """Whether a source is named by a URL."""
    return _URL.match(spec) is not None


def address_of(spec: str) -> Address:
    """Raises ``UsageRefused`` for a URL that names no object of a store that is known here."""
    match = _URL.fullmatch(spec)
    assert match is not None
    scheme, (bucket, _, key) = match[1].lower(), match[2].partition("/")
    if scheme not in SCHEMES:
        # A signed URL is a secret: it is not repeated.
        raise UsageRefused(
            f"{scheme}://...: nothing is read from there",
            "name an object as s3://BUCKET/KEY or oss://BUCKET/KEY, or download it to a file",
        )
    if "@" in bucket or ":" in bucket:
        raise UsageRefused(
            f"{scheme}://...: credentials and hosts do not belong into the name of a source",
            "write s3://BUCKET/KEY or oss://BUCKET/KEY; credentials come from the environment or a "
            "profile",
        )
    if not bucket or not key:
        raise UsageRefused(
            f"{spec}: it names no object", f"name one: {scheme}://{bucket or 'BUCKET'}/KEY"
        )
    return Address(scheme, bucket, key)


def objects_of(spec: str) -> Iterator[tuple[str, str]]:
    """What a URL names, as (URL of an object, ``""`` or the URL of the folder it is a part of).

    An object under that very name comes first, then a glob's matches, then the parts of a folder,
    all sorted. What is none of these is given back, for ``version_of`` to say so. Raises
    ``UsageRefused``.
    """
    address = address_of(spec)
    if not address.key.endswith("/") and _exists(address):
        yield spec, ""
    elif glob.has_magic(address.key):
        yield from ((url, "") for url in _matches(address, spec))
    else:
        folder = address._replace(key=address.key.rstrip("/") + "/")
        files = [key.removeprefix(folder.key) for key in _keys(folder, spec)]
        if not is_dataset({file.partition("/")[0] for file in files}):
            if files:
                raise UsageRefused(
                    f"{spec}: it is a folder, not an object with jobs",
                    f"name the objects in it, e.g. '{folder.url}*.csv'",
                )
            yield spec, ""
            return
        # An object whose name ends with / is how consoles make an empty folder.
        named = [file for file in files if file and not file.endswith("/")]
        yield from ((folder.url + part, folder.url) for part in parts_of(folder.url, named))


def version_of(url: str) -> Version:
    """What is under ``url`` now; raises ``UsageRefused``."""
    address = address_of(url)
    try:
        return address.store.version(address.bucket, address.key)
    except StoreRefused as refused:
        raise UsageRefused(f"{url}: {refused.cause}", refused.remedy) from None


class ObjectStream(io.RawIOBase):
    """The bytes of one version of an object, from the first to the last.

    Reading raises ``InputRefused`` for anything that keeps it from the end, and for an object that is
    not the same any more.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._address = address_of(url)
        self._version: Version | None = None
        self._piece = memoryview(b"")
        self._at = 0

    @property
    def name(self) -> str:
        return self._address.url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what read() gives
        if not self._piece:
            self._piece = memoryview(self._next())
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _next(self) -> bytes:
        bucket, key = self._address.bucket, self._address.key
        store = self._address.store
        try:
            if self._version is None:
                self._version = store.version(bucket, key)
            stop = min(self._at + PIECE_BYTES, self._version.size)
            if self._at == stop:
                if store.version(bucket, key) != self._version:
                    raise _refused(self.name, "the object changed while it was being read")
                return b""
            piece = store.read(bucket, key, self._version, self._at, stop)
        except StoreRefused as refused:
            raise InputRefused(f"{self.name}: {refused.cause}", refused.remedy) from None
        if len(piece) != stop - self._at:
            raise _refused(self.name, "the store gave less than the whole object")
        self._at = stop
        return piece


def _refused(url: str, cause: str) -> InputRefused:
    return InputRefused(f"{url}: {cause}", "run again when whatever writes it has finished")


def _exists(address: Address) -> bool:
    try:
        address.store.version(address.bucket, address.key)
    except NoSuchObject:
        return False
    except StoreRefused as refused:
        raise UsageRefused(f"{address.url}: {refused.cause}", refused.remedy) from None
    return True


def _keys(address: Address, spec: str) -> list[str]:
    try:
        return sorted(address.store.keys(address.bucket, address.key))
    except StoreRefused as refused:
        raise UsageRefused(f"{spec}: {refused.cause}", refused.remedy) from None


def _matches(address: Address, spec: str) -> list[str]:
    plain = re.match(r"[^*?\[]*", address.key)
    assert plain is not None
    found = [
        address._replace(key=key).url
        for key in _keys(address._replace(key=plain[0]), spec)
        if _is_match(key.split("/"), address.key.split("/"))
    ]
    if not found:
        raise UsageRefused(
            f"{spec}: no object matches this pattern", "check the pattern and the bucket"
        )
    return found


def _is_match(names: list[str], patterns: list[str]) -> bool:
    """As ``glob`` does for files: ``**`` stands for any folders, and ``*`` for no hidden name."""
    if not patterns or not names:
        return not patterns and not names
    name, pattern = names[0], patterns[0]
    if pattern == "**" and len(patterns) > 1:
        return _is_match(names, patterns[1:]) or (
            not name.startswith(".") and _is_match(names[1:], patterns)
        )
    if pattern == "**":
        return bool(names[-1]) and not any(name.startswith(".") for name in names)
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatchcase(name, pattern) and _is_match(names[1:], patterns[1:])
