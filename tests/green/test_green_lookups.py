from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.green.replies import (
    FACES,
    LOOKUP,
    PERSON,
    VERIFICATION,
    WHOLE_LOOKUP,
    envelope,
    gateway,
    judged,
)
from worker.green.codes import SERVICE_CODES
from worker.green.lookups import EVERY_FORM
from worker.model import Evidence, Kind, Request

# Other work on the machine must not fail a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

OTHER = "23088737259260929"
each_lookup = pytest.mark.parametrize("lookup", [LOOKUP, WHOLE_LOOKUP, VERIFICATION])


def good(**changes: Any) -> dict[str, Any]:
    data = {
        "code": 200,
        "personId": PERSON,
        "name": "n",
        "groupIds": ["g"],
        "faceIds": list(FACES),
        "note": "",
    }
    return envelope({**data, **changes})


def without(member: str) -> dict[str, Any]:
    document = good()
    del document["data"][member]
    return document


# --- What the service has -------------------------------------------------------------------------


def test_shown() -> None:
    assert judged(LOOKUP, good()) == Evidence(
        Kind.SHOWN,
        ended_us=2,
        sent_us=1,
        http_status=200,
        code="200",
        request_id="36D384DA-1",
        listed=FACES,
    )


@pytest.mark.parametrize(
    ("has", "of_those_asked", "of_all"),
    [
        ([], (), ()),
        ([FACES[1], FACES[0]], FACES, (FACES[1], FACES[0])),
        ([OTHER], (), (OTHER,)),
        ([OTHER, FACES[1]], (FACES[1],), (OTHER, FACES[1])),
        # Other operations return face IDs as numbers, and this one is above 2**53.
        ([31842550077981745], (FACES[1],), (FACES[1],)),
        # The neighbour that a trip through a double would give, and a zero too many.
        ([31842550077981744], (), ("31842550077981744",)),
        (["01244453323565"], (), ("01244453323565",)),
        ([FACES[0] + " "], (), (FACES[0] + " ",)),
    ],
)
def test_what_was_asked_about_in_its_order_or_all_in_the_answers(
    has: list[Any], of_those_asked: tuple[str, ...], of_all: tuple[str, ...]
) -> None:
    for lookup, listed in (
        (LOOKUP, of_those_asked),
        (VERIFICATION, of_those_asked),
        (WHOLE_LOOKUP, of_all),
    ):
        evidence = judged(lookup, good(faceIds=has))
        assert (evidence.kind, evidence.code, evidence.listed) == (Kind.SHOWN, "200", listed)


@each_lookup
@pytest.mark.parametrize("member", ["name", "groupIds", "note"])
def test_what_else_is_known_of_a_person_does_not_matter(member: str, lookup: Request) -> None:
    assert judged(lookup, without(member)).kind is Kind.SHOWN
    assert judged(lookup, good(**{member: 7})).kind is Kind.SHOWN


@each_lookup
@pytest.mark.parametrize(
    ("document", "code"),
    [
        (without("faceIds"), "incomplete_answer"),
        (without("personId"), "incomplete_answer"),
        (without("code"), "incomplete_answer"),
        (good(faceIds=None), "incomplete_answer"),
        (good(faceIds={}), "incomplete_answer"),
        (good(faceIds=FACES[0]), "incomplete_answer"),
        (good(faceIds=[None]), "incomplete_answer"),
        (good(faceIds=[True]), "incomplete_answer"),
        (good(faceIds=[1244453323565.0]), "incomplete_answer"),
        (good(faceIds=[[FACES[0]]]), "incomplete_answer"),
        (good(faceIds=[*FACES, {}]), "incomplete_answer"),
        (good(faceIds=[*FACES, ""]), "incomplete_answer"),
        (good(faceIds=["1\n"]), "incomplete_answer"),
        (good(faceIds=["\ud800"]), "incomplete_answer"),
        (good(faceIds=["1\u00a0"]), "incomplete_answer"),
        (good(faceIds=["1\u200b"]), "incomplete_answer"),
        (good(faceIds=[FACES[0], FACES[0]]), "contradictory_answer"),
        (good(faceIds=[FACES[0], 1244453323565]), "contradictory_answer"),
        (good(faceIds=[OTHER, OTHER]), "contradictory_answer"),
        (good(personId=None), "incomplete_answer"),
        (good(personId=1), "incomplete_answer"),
        (good(code="200"), "incomplete_answer"),
        (good(code=200.0), "incomplete_answer"),
        (good(code=True), "incomplete_answer"),
        (good(code=None), "incomplete_answer"),
        (good(code=500), "500"),
        (good(code=404), "404"),
        ({**good(), "code": 500}, "500"),
        ({**good(), "code": 404}, "404"),
        ({**good(), "code": 588}, "588"),
        ({**good(), "code": "200"}, "unreadable_answer"),
        ({**good(), "code": True}, "unreadable_answer"),
        ({**good(), "Code": "OK"}, "unreadable_answer"),
        ({**good(), "data": [good()["data"]]}, "incomplete_answer"),
        ({**good(), "data": json.dumps(good()["data"])}, "incomplete_answer"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("unknown_person", ["", EVERY_FORM])
def test_nearly_good_is_ambiguous(
    document: dict[str, Any], code: str, lookup: Request, unknown_person: str
) -> None:
    evidence = judged(lookup, document, unknown_person=unknown_person)
    assert (evidence.kind, evidence.code, evidence.listed) == (Kind.AMBIGUOUS, code, ())


@each_lookup
@pytest.mark.parametrize("person", ["person2", "Person1", "person1 ", ""])
@pytest.mark.parametrize("code", [200, 404, 500])
def test_another_person_is_swapped(person: str, code: int, lookup: Request) -> None:
    for document in (good(personId=person, code=code), {**good(personId=person), "code": code}):
        evidence = judged(lookup, document, unknown_person=EVERY_FORM)
        assert (evidence.kind, evidence.code) == (Kind.SWAPPED, "swapped_answer")
        assert evidence.listed == ()
        assert evidence.remedy


# --- That it knows nobody -------------------------------------------------------------------------

SETTINGS = ["", "code-404", "code-400", "empty-data", "empty-list", EVERY_FORM]

NOT_FOUND: dict[str, Any] = {"outer": {"code": 404}, "inner": {"code": 200, "data": {"code": 404}}}
BAD_REQUEST: dict[str, Any] = {
    "outer": {"code": 400},
    "inner": {"code": 200, "data": {"code": 400}},
}
EMPTY: dict[str, Any] = {
    "missing": {"code": 200},
    "null": {"code": 200, "data": None},
    "{}": envelope({}),
}

FORMS: dict[str, tuple[dict[str, Any], set[str], Kind, str]] = {
    **{f"404 {k}": (v, set(SETTINGS), Kind.REFUSED, "404") for k, v in NOT_FOUND.items()},
    **{
        f"400 {k}": (v, {"code-400", EVERY_FORM}, Kind.REFUSED, "400")
        for k, v in BAD_REQUEST.items()
    },
    **{
        f"empty {k}": (v, {"empty-data", EVERY_FORM}, Kind.AMBIGUOUS, "incomplete_answer")
        for k, v in EMPTY.items()
    },
}
"""Form of the answer: itself, the settings under which nobody is known, and what it is otherwise."""


@each_lookup
@pytest.mark.parametrize("unknown_person", SETTINGS)
@pytest.mark.parametrize("form", FORMS)
def test_which_answer_says_that_nobody_is_known(
    form: str, unknown_person: str, lookup: Request
) -> None:
    document, settings_of, otherwise, code = FORMS[form]
    evidence = judged(lookup, document, unknown_person=unknown_person)
    if unknown_person in settings_of:
        expected = (Kind.NO_PERSON, "empty_data" if form.startswith("empty") else code)
    else:
        expected = (otherwise, code)
    assert (evidence.kind, evidence.code, evidence.listed) == (*expected, ())


@pytest.mark.parametrize("unknown_person", SETTINGS)
@pytest.mark.parametrize("code", [*SERVICE_CODES, 100, 405, 999])
def test_no_other_code_says_so(code: int, unknown_person: str) -> None:
    meant = {404} | ({400} if unknown_person in {"code-400", EVERY_FORM} else set())
    for document in ({"code": code}, envelope({"code": code})):
        for status in (200, code):
            evidence = judged(LOOKUP, document, status, unknown_person=unknown_person)
            assert (evidence.kind is Kind.NO_PERSON) == (code in meant)


@pytest.mark.parametrize("unknown_person", SETTINGS)
def test_an_empty_list_is_a_person_without_faces_to_everybody(unknown_person: str) -> None:
    evidence = judged(WHOLE_LOOKUP, good(faceIds=[]), unknown_person=unknown_person)
    assert (evidence.kind, evidence.listed) == (Kind.SHOWN, ())


@pytest.mark.parametrize("code", [404, 400])
@pytest.mark.parametrize("place", ["outer", "inner"])
def test_the_status_of_http_has_to_agree(code: int, place: str) -> None:
    document = {"code": code} if place == "outer" else envelope({"code": code})
    for status in (200, 201, 204, 400, 404, 429, 500, 503):
        evidence = judged(LOOKUP, document, status, unknown_person=EVERY_FORM)
        agrees = status in {200, code}
        assert evidence.kind is (Kind.NO_PERSON if agrees else Kind.REFUSED), status
        assert evidence.http_status == status


@pytest.mark.parametrize("document", EMPTY.values(), ids=EMPTY)
def test_a_good_answer_without_data_needs_status_200(document: dict[str, Any]) -> None:
    assert judged(LOOKUP, document, unknown_person=EVERY_FORM).kind is Kind.NO_PERSON
    for status in (201, 204, 400, 404, 500, 503):
        evidence = judged(LOOKUP, document, status, unknown_person=EVERY_FORM)
        assert evidence.kind is Kind.AMBIGUOUS, status


@pytest.mark.parametrize("code", [404, 400])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({}, Kind.NO_PERSON),
        ({"personId": PERSON}, Kind.NO_PERSON),
        ({"code": "same"}, Kind.NO_PERSON),
        ({"code": 404.0}, Kind.AMBIGUOUS),
        ({"code": 400.0}, Kind.AMBIGUOUS),
        ({"code": "same", "personId": PERSON}, Kind.NO_PERSON),
        ({"personId": None}, Kind.REFUSED),
        ({"personId": 1}, Kind.REFUSED),
        ({"code": None}, Kind.REFUSED),
        ({"code": 401}, Kind.REFUSED),
        ({"code": True}, Kind.AMBIGUOUS),
        ({"code": 500}, Kind.AMBIGUOUS),
        ({"code": 200}, Kind.AMBIGUOUS),
        ({"faceIds": []}, Kind.REFUSED),
        ({"faceIds": [FACES[0]]}, Kind.AMBIGUOUS),
        ({"deleteCount": 0}, Kind.REFUSED),
        ({"name": "n"}, Kind.REFUSED),
        ({"name": ""}, Kind.REFUSED),
        ({"personId": "person2"}, Kind.SWAPPED),
        ([], Kind.REFUSED),
        ("", Kind.REFUSED),
        (0, Kind.REFUSED),
        (False, Kind.REFUSED),
        ("not found", Kind.REFUSED),
    ],
    ids=repr,
)
def test_nothing_of_a_person_may_stand_beside_the_code(code: int, data: Any, kind: Kind) -> None:
    if isinstance(data, dict) and data.get("code") == "same":
        data = {**data, "code": code}
    evidence = judged(LOOKUP, envelope(data, code), unknown_person="code-400")
    assert evidence.kind is kind


@pytest.mark.parametrize(
    "data",
    [
        {"code": None},
        {"personId": PERSON},
        {"faceIds": []},
        {"name": ""},
        [],
        "",
        0,
        False,
        {"code": "404"},
    ],
    ids=repr,
)
def test_only_no_data_at_all_is_empty(data: Any) -> None:
    evidence = judged(LOOKUP, envelope(data), unknown_person="empty-data")
    assert (evidence.kind, evidence.code) == (Kind.AMBIGUOUS, "incomplete_answer")


@pytest.mark.parametrize("unknown_person", SETTINGS)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.AMBIGUOUS),
        (b"<html><body>404 Not Found</body></html>", Kind.AMBIGUOUS),
        (b"null", Kind.AMBIGUOUS),
        (b"404", Kind.AMBIGUOUS),
        (b"{}", Kind.AMBIGUOUS),
        (b'{"code":"404","msg":"NOT_FOUND"}', Kind.AMBIGUOUS),
        (b'{"code":404.0,"msg":"NOT_FOUND"}', Kind.AMBIGUOUS),
        (b'{"status":404,"error":"Not Found"}', Kind.AMBIGUOUS),
        (b'{"code":404,"Code":"NotFound"}', Kind.AMBIGUOUS),
        (b'{"code":404,"code":404}', Kind.AMBIGUOUS),
        (b'{"code":404', Kind.AMBIGUOUS),
        (b'{"code":404}{"code":404}', Kind.AMBIGUOUS),
        (b'{"code":4040}', Kind.AMBIGUOUS),
        (b'{"code":403}', Kind.REFUSED),
        (json.dumps(gateway("InvalidAccessKeyId.NotFound")).encode(), Kind.FATAL),
        (json.dumps(gateway("InvalidAction.NotFound")).encode(), Kind.FATAL),
        (json.dumps(gateway("PersonNotFound")).encode(), Kind.AMBIGUOUS),
        (json.dumps(gateway("404")).encode(), Kind.AMBIGUOUS),
    ],
    ids=repr,
)
def test_an_http_404_that_is_not_the_services_own_never_is(
    body: bytes, kind: Kind, unknown_person: str
) -> None:
    assert judged(LOOKUP, body, 404, unknown_person=unknown_person).kind is kind


def test_pages_and_encoded_answers_are_not_read() -> None:
    document = {"code": 404}
    assert judged(LOOKUP, document, content_type="text/html").kind is Kind.AMBIGUOUS
    assert judged(LOOKUP, document, content_encoding="gzip").kind is Kind.AMBIGUOUS
    assert judged(LOOKUP, document).kind is Kind.NO_PERSON


def test_what_nobody_is_known_by_carries_its_words_without_ids() -> None:
    evidence = judged(LOOKUP, {"code": 404, "msg": f"no {PERSON} with {FACES[0]}"})
    assert evidence.message == "no <person> with <face>"
    assert evidence.remedy == ""


# --- Long answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{:08d}", "é{:d}"])
def test_a_long_answer_with_many_ids_does_not_stop_the_loop(form: str) -> None:
    faces = [form.format(number) for number in range(30_000)]
    began = time.process_time()
    evidence = judged(
        WHOLE_LOOKUP, {"code": 500, "msg": " ".join(faces), "data": {"faceIds": faces}}
    )
    assert time.process_time() - began < 2
    assert evidence.kind is Kind.AMBIGUOUS
    assert evidence.message.startswith("The answer contradicts itself. <face> <face>")
    assert not any(character.isdigit() for character in evidence.message)


# --- Anything at all ------------------------------------------------------------------------------


def independently_read(body: bytes) -> dict[str, Any]:
    """The document of an answer of the service, or an empty one."""
    repeated: list[bool] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.append(len({key for key, _ in pairs}) < len(pairs))
        return dict(pairs)

    try:
        document = json.loads(body.decode(), object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return {}
    own = isinstance(document, dict) and type(document.get("code")) is int
    return document if own and "Code" not in document and not any(repeated) else {}


def independently_shown(document: dict[str, Any], status: int) -> list[str] | None:
    data = document.get("data")
    if status != 200 or document.get("code") != 200 or not isinstance(data, dict):
        return None
    if type(data.get("code")) is not int or data["code"] != 200 or data.get("personId") != PERSON:
        return None
    faces = data.get("faceIds")
    if not isinstance(faces, list) or any(type(face) not in (int, str) for face in faces):
        return None
    texts = [str(face) for face in faces]
    if len(set(texts)) < len(texts) or any(not text.isalnum() for text in texts):
        return None
    return texts


def independently_unknown(document: dict[str, Any], status: int) -> bool:
    """For ``EVERY_FORM``."""
    code, data = document.get("code"), document.get("data")
    if code == 200 and data in (None, {}) and not isinstance(data, (int, str, list)):
        return status == 200
    stated = data.get("code") if isinstance(data, dict) else None
    if code == 200:
        code = stated
    if type(code) is not int or code not in {400, 404} or status not in {200, code}:
        return False
    if data is None:
        return True
    wanted = [{}, {"code": code}, {"personId": PERSON}, {"code": code, "personId": PERSON}]
    return isinstance(data, dict) and data in wanted and type(stated) in (int, type(None))


scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([200, 200.0, "200", 0, 1, 400, 404, 404.0, 500, int(FACES[0])])
    | st.sampled_from([PERSON, "person2", *FACES, OTHER, "", "\ud800"])
)
faces = st.lists(st.sampled_from([*FACES, OTHER, int(FACES[0])]) | scalars, max_size=3)
data = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 200, 404, 400]) | scalars,
        "personId": st.just(PERSON) | scalars,
        "faceIds": faces,
        "name": scalars,
    },
)
near = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 200, 404, 400]) | scalars,
        "data": data | st.just({}) | scalars | st.lists(scalars, max_size=1),
        "msg": scalars,
        "Code": scalars,
    },
)
nearly_good = st.builds(
    lambda faces, person, code: good(faceIds=faces, personId=person, code=code),
    st.lists(st.sampled_from([*FACES, OTHER, int(FACES[0])]), max_size=3),
    st.sampled_from([PERSON, PERSON, "person2", None]),
    st.sampled_from([200, 200, 200, True, 404]),
)
bodies = st.binary(max_size=40) | (near | nearly_good).map(lambda v: json.dumps(v).encode())


@unhurried
@given(bodies, st.sampled_from([200, 200, 200, 204, 302, 400, 404, 429, 500]))
@example(json.dumps(good()).encode(), 200)
@example(b'{"code":404}', 404)
@example(b'{"code":200,"data":{}}', 200)
def test_judge_never_raises_and_claims_only_by_the_definition(body: bytes, status: int) -> None:
    document = independently_read(body)
    shown = independently_shown(document, status)
    for lookup in (LOOKUP, WHOLE_LOOKUP):
        evidence = judged(lookup, body, status, unknown_person=EVERY_FORM)
        assert (evidence.kind is Kind.SHOWN) == (shown is not None)
        assert (evidence.kind is Kind.NO_PERSON) == independently_unknown(document, status)
        if shown is not None:
            asked = [face for face in FACES if face in shown]
            assert list(evidence.listed) == (asked if lookup is LOOKUP else shown)
        else:
            assert evidence.listed == ()
        assert len(evidence.message) <= 300
        evidence.message.encode()
