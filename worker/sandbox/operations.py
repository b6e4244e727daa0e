"""The operations of the face library: what each answers and what it would change.

Paths, bodies and data are documented on the Content Moderation pages delete-face, get-person,
get-face, delete-person, addPerson and addFaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from worker.sandbox.answers import Reply
from worker.sandbox.facts import Facts
from worker.sandbox.world import Change, Profile, World

FACES_PER_PERSON = 20
"""Documented on addFaces."""

_PERSON_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NUMBER = re.compile(r"0|[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about, as far as its body can be read."""

    person_id: str = ""
    face_ids: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    """None where the body is no JSON object."""


class Effect(NamedTuple):
    """The answer to a request and what it would change; nothing has changed yet."""

    reply: Reply
    change: Change


Plan = Callable[[World, Subject, Facts], Effect]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service; all are POST with a JSON body."""

    action: str
    path: str
    plan: Plan


def read_subject(body: bytes) -> Subject:
    """Never raises: what cannot be read is left empty, and the operation refuses it."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Subject()
    if not isinstance(document, dict):
        return Subject()
    person_id, face_ids = document.get("personId"), document.get("faceIds")
    faces = face_ids if isinstance(face_ids, list) else []
    return Subject(
        person_id if isinstance(person_id, str) else "",
        tuple(face for face in faces if isinstance(face, str)),
        document,
    )


def _bad(person_id: str, msg: str = "BAD_REQUEST") -> Effect:
    return Effect(Reply(400, msg), Change(person_id))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _unknown_person(person_id: str, facts: Facts, empty_list: dict[str, Any]) -> Effect:
    nothing = Change(person_id)
    match facts.unknown_person:
        case "code-404":
            return Effect(Reply(404), nothing)
        case "code-400":
            return Effect(Reply(400), nothing)
        case "empty-data":
            return Effect(Reply(data={}), nothing)
        case "empty-list":
            return Effect(Reply(data=empty_list), nothing)


def _delete_faces(world: World, subject: Subject, facts: Facts) -> Effect:
    person_id, asked = subject.person_id, subject.face_ids
    stated = (subject.body or {}).get("faceIds")
    if not person_id or (stated is not None and not _is_texts(stated)):
        return _bad(person_id)
    if facts.max_faces_per_call and len(asked) > facts.max_faces_per_call:
        return _bad(person_id)
    if len(set(asked)) < len(asked) and facts.repeated_faces == "code-400":
        return _bad(person_id)
    if not asked and facts.empty_face_list == "code-400":
        return _bad(person_id)
    if person_id not in world:
        return _unknown_person(person_id, facts, _delete_data(person_id, ()))
    held = world.faces(person_id)
    if not asked and facts.empty_face_list == "all-faces":
        asked = held
    if facts.unknown_faces == "code-404" and not set(asked).issubset(held):
        return Effect(Reply(404), Change(person_id))
    deleted = tuple(face for face in dict.fromkeys(asked) if face in held)
    named = asked if facts.repeated_faces == "each" else tuple(dict.fromkeys(asked))
    listed = named if facts.unknown_faces == "listed" else tuple(f for f in named if f in held)
    if facts.answer_order == "reversed":
        listed = listed[::-1]
    return Effect(Reply(data=_delete_data(person_id, listed)), Change(person_id, deleted=deleted))


def _delete_data(person_id: str, listed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "code": 200,
        "personId": person_id,
        "faceIds": list(listed),
        "deleteCount": len(listed),
    }


def _get_person(world: World, subject: Subject, facts: Facts) -> Effect:
    person_id = subject.person_id
    if not person_id:
        return _bad(person_id)
    profile = world.profile(person_id)
    data = {
        "code": 200,
        "personId": person_id,
        "name": profile.name,
        "groupIds": list(profile.group_ids),
        "faceIds": list(world.faces(person_id)),
        "note": profile.note,
    }
    if person_id not in world:
        return _unknown_person(person_id, facts, data)
    return Effect(Reply(data=data), Change(person_id))


def _get_faces(world: World, subject: Subject, facts: Facts) -> Effect:
    person_id = subject.person_id
    stated = (subject.body or {}).get("faceIds")
    if not person_id or (stated is not None and not _is_texts(stated)):
        return _bad(person_id)
    if person_id not in world:
        empty = {"code": 200, "personId": person_id, "faceImageItems": []}
        return _unknown_person(person_id, facts, empty)
    held = world.faces(person_id)
    items: list[dict[str, Any]] = []
    for face in held if stated is None else subject.face_ids:
        if face in held:
            url = f"https://sandbox.invalid/faces/{face}.jpg"
            items.append({"success": True, "faceId": _long(face), "url": url})
        elif facts.unlisted_faces == "success-false":
            items.append({"success": False, "faceId": _long(face)})
    data = {"code": 200, "personId": person_id, "faceImageItems": items}
    return Effect(Reply(data=data), Change(person_id))


def _add_person(world: World, subject: Subject, facts: Facts) -> Effect:
    del facts
    body, person_id = subject.body or {}, subject.person_id
    groups, name, note = body.get("groupIds"), body.get("name", ""), body.get("note", "")
    if (
        not _PERSON_ID.fullmatch(person_id)
        or not isinstance(name, str)
        or not isinstance(note, str)
    ):
        return _bad(person_id)
    if not isinstance(groups, list) or not groups or not _is_texts(groups):
        return _bad(person_id)
    if not all(_PERSON_ID.fullmatch(group) for group in groups):
        return _bad(person_id)
    if person_id in world:
        return _bad(person_id, "person already exists")
    profile = Profile(name, note, tuple(groups))
    data = {"code": 200, "personId": person_id, "name": name, "groupIds": groups, "note": note}
    return Effect(Reply(data=data), Change(person_id, person="added", profile=profile))


def _add_faces(world: World, subject: Subject, facts: Facts) -> Effect:
    person_id, urls = subject.person_id, (subject.body or {}).get("urls")
    if not person_id or not isinstance(urls, list) or not urls or not _is_texts(urls):
        return _bad(person_id)
    if person_id not in world:
        return _unknown_person(person_id, facts, {"code": 200, "faceImageItems": []})
    room = max(0, FACES_PER_PERSON - len(world.faces(person_id)))
    added = world.new_face_ids(min(room, len(urls)))
    items: list[dict[str, Any]] = [
        {"faceId": _float(face, facts), "success": True} for face in added
    ]
    items += [{"success": False}] * (len(urls) - len(added))
    data = {
        "code": 200,
        "personId": person_id,
        "groupIds": list(world.profile(person_id).group_ids),
        "faceImageItems": items,
    }
    return Effect(Reply(data=data), Change(person_id, added=added))


def _delete_person(world: World, subject: Subject, facts: Facts) -> Effect:
    person_id = subject.person_id
    if not person_id:
        return _bad(person_id)
    if person_id not in world:
        empty = {"code": 200, "personId": person_id, "deleteCount": 0}
        return _unknown_person(person_id, facts, empty)
    data = {"code": 200, "personId": person_id, "deleteCount": 1}
    change = Change(person_id, deleted=world.faces(person_id), person="deleted")
    return Effect(Reply(data=data), change)


def _long(face_id: str) -> msgspec.Raw | str:
    """A JSON number of any length; text where a number would lose leading zeros or letters."""
    return msgspec.Raw(face_id.encode()) if _NUMBER.fullmatch(face_id) else face_id


def _float(face_id: str, facts: Facts) -> msgspec.Raw | str:
    if facts.added_face_number == "exponent":
        return msgspec.Raw(f"{face_id[0]}.{face_id[1:]}E{len(face_id) - 1}".encode())
    return _long(face_id)


OPERATIONS = {
    operation.path: operation
    for operation in (
        Operation("DeleteFaces", "/green/sface/face/delete", _delete_faces),
        Operation("GetPerson", "/green/sface/person", _get_person),
        Operation("GetFaces", "/green/sface/faces", _get_faces),
        Operation("AddPerson", "/green/sface/person/add", _add_person),
        Operation("AddFaces", "/green/sface/face/add", _add_faces),
        Operation("DeletePerson", "/green/sface/person/delete", _delete_person),
    )
}
"""Every operation by its path; ``action`` is the SDKs' name."""
