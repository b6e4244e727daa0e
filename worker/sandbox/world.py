"""The face library that the sandbox holds: persons with their faces, groups, names and notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

FIRST_ADDED_FACE = 23_088_737_259_260_929
"""The sample number of the documented addFaces answer: 17 digits, above 2**53."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one request did to the world; enough to do it again after a restart."""

    person_id: str
    deleted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    person: Literal["", "added", "deleted"] = ""
    profile: Profile | None = None
    """Of an added person."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a person besides faces."""

    name: str = ""
    note: str = ""
    group_ids: tuple[str, ...] = ()


NO_PROFILE = Profile()


class World:
    """Persons and faces; IDs are opaque text.

    Faces are kept as tuples and profiles apart, because there may be millions of persons and most
    have no profile.
    """

    def __init__(self, persons: Mapping[str, Sequence[str]] | None = None) -> None:
        self._faces = {person: tuple(faces) for person, faces in (persons or {}).items()}
        self._profiles: dict[str, Profile] = {}
        self._next_face = FIRST_ADDED_FACE

    def __len__(self) -> int:
        return len(self._faces)

    def __contains__(self, person_id: object) -> bool:
        return person_id in self._faces

    def __iter__(self) -> Iterator[str]:
        return iter(self._faces)

    def faces(self, person_id: str) -> tuple[str, ...]:
        """The person's faces in the order they were added; empty for an unknown person."""
        return self._faces.get(person_id, ())

    def profile(self, person_id: str) -> Profile:
        return self._profiles.get(person_id, NO_PROFILE)

    def face_count(self) -> int:
        return sum(map(len, self._faces.values()))

    def as_dict(self) -> dict[str, list[str]]:
        """A copy to compare with: person to faces."""
        return {person: list(faces) for person, faces in self._faces.items()}

    def new_face_ids(self, count: int) -> tuple[str, ...]:
        """IDs for faces about to be added; they are not taken before ``apply``."""
        return tuple(str(self._next_face + offset) for offset in range(count))

    def apply(self, change: Change) -> None:
        """Make a change real. Faces and persons that are not there (any more) are passed over."""
        person_id = change.person_id
        if change.person == "deleted":
            self._faces.pop(person_id, None)
            self._profiles.pop(person_id, None)
            return
        if change.person == "added":
            self._faces.setdefault(person_id, ())
            self._profiles[person_id] = change.profile or NO_PROFILE
        if change.deleted and person_id in self._faces:
            gone = set(change.deleted)
            self._faces[person_id] = tuple(f for f in self._faces[person_id] if f not in gone)
        if change.added and person_id in self._faces:
            self._faces[person_id] += change.added
            self._next_face = max(self._next_face, int(change.added[-1]) + 1)
