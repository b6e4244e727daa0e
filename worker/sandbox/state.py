"""The world a sandbox begins with: from a file, generated, or empty."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from worker.errors import InputRefused, UsageRefused
from worker.sandbox.world import World


class StateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``{"persons": {"personId": ["faceId", ...]}}``; IDs are opaque text."""

    persons: dict[str, list[str]]


class Generated(msgspec.Struct, frozen=True):
    """A world made up from a seed."""

    persons: int
    faces_per_person: int = 3
    seed: int = 0


def parse_generated(text: str, seed: int) -> Generated:
    """``PERSONS[:FACES]``. Raises ``UsageRefused``."""
    words = text.split(":")
    if 1 <= len(words) <= 2 and all(word.isascii() and word.isdigit() for word in words):
        return msgspec.structs.replace(Generated(*map(int, words)), seed=seed)
    raise UsageRefused(
        f"--generate {text!r} is not a number of persons",
        "write PERSONS or PERSONS:FACES, e.g. 1200:5",
    )


def load_world(
    state: Path | Generated | Mapping[str, Sequence[str]] | None,
) -> tuple[World, str]:
    """The world and a digest by which a request log recognises it.

    Raises ``InputRefused`` for a state file that is missing or is not what ``StateFile`` says.
    """
    match state:
        case None:
            return World(), _digest(b"empty")
        case Generated():
            return _generate(state), _digest(msgspec.json.encode(state))
        case Path():
            return _read(state)
        case persons:
            return World(persons), _digest(msgspec.json.encode(dict(persons)))


def _read(path: Path) -> tuple[World, str]:
    remedy = 'write {"persons": {"personId": ["faceId", ...]}} with every ID as text'
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputRefused(
            f"{path}: the state cannot be read ({error.strerror})",
            "name a readable file, or leave --state out to begin with an empty library",
        ) from error
    try:
        persons = msgspec.json.decode(raw, type=StateFile).persons
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputRefused(f"{path}: not a sandbox state: {error}", remedy) from error
    for number, (person_id, face_ids) in enumerate(persons.items(), start=1):
        if not person_id or not all(face_ids):
            raise InputRefused(f"{path}: person number {number} has an empty ID", remedy)
        if len(set(face_ids)) < len(face_ids):
            raise InputRefused(f"{path}: person number {number} has a face twice", remedy)
    return World(persons), _digest(raw)


def _generate(state: Generated) -> World:
    rng = random.Random(state.seed)  # noqa: S311 (a reproducible world, not a secret)
    face = 31_842_550_000_000_000
    persons: dict[str, tuple[str, ...]] = {}
    for number in range(1, state.persons + 1):
        faces = []
        for _ in range(state.faces_per_person):
            face += rng.randrange(1, 1000)
            faces.append(str(face))
        persons[f"person{number}"] = tuple(faces)
    return World(persons)


def write_state(path: Path, persons: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write a state file readable by its owner only, one person at a time: memory stays flat.

    Each person must come once. Raises ``OSError``; ``path`` then is what it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b'{"persons":{')
            separator = b""
            for person_id, face_ids in persons:
                key, faces = msgspec.json.encode(person_id), msgspec.json.encode(list(face_ids))
                file.write(separator + key + b":" + faces)
                separator = b",\n"
            file.write(b"}}")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
