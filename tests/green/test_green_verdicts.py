from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.green.replies import (
    DELETION,
    EACH_OPERATION,
    FACES,
    LOOKUP,
    PERSON,
    envelope,
    gateway,
    judged,
    reply,
)
from worker.green.codes import (
    GATEWAY_CODES,
    RETRYABLE_CODES,
    SERVICE_CODES,
    clock_is_skewed,
    credential_may_be_stale,
    gateway_meaning,
    not_found_codes,
)
from worker.green.interface import Reply
from worker.green.verdicts import judge
from worker.model import Evidence, Kind, Request

# Other work on the machine must not fail a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

each_operation = pytest.mark.parametrize(
    "request_", EACH_OPERATION, ids=lambda request: request.operation
)


def verdict(document: Any, status: int = 200, **headers: str) -> Evidence:
    return judged(DELETION, document, status, **headers)


def good(**changes: Any) -> dict[str, Any]:
    data = {"code": 200, "personId": PERSON, "faceIds": list(FACES), "deleteCount": 2}
    data.update(changes)
    return envelope(data)


def test_listed() -> None:
    evidence = verdict(good())
    assert evidence == Evidence(
        Kind.LISTED,
        ended_us=2,
        sent_us=1,
        http_status=200,
        code="200",
        request_id="36D384DA-1",
        listed=FACES,
    )


def test_listed_may_name_fewer_faces_and_none() -> None:
    assert verdict(good(faceIds=[FACES[1]], deleteCount=1)).listed == (FACES[1],)
    nothing = verdict(good(faceIds=[], deleteCount=0))
    assert (nothing.kind, nothing.listed) == (Kind.LISTED, ())


def test_integer_faces_are_compared_digit_by_digit() -> None:
    evidence = verdict(good(faceIds=[1244453323565, 31842550077981745]))
    assert (evidence.kind, evidence.listed) == (Kind.LISTED, FACES)
    # The neighbour that a trip through a double would give.
    assert verdict(good(faceIds=[31842550077981744], deleteCount=1)).kind is Kind.SWAPPED


@pytest.mark.parametrize(
    "changes",
    [
        {"personId": "person2"},
        {"personId": "Person1"},
        {"personId": "person1 "},
        {"faceIds": [*FACES, "3"], "deleteCount": 3},
        {"faceIds": ["01244453323565"], "deleteCount": 1},
        {"personId": "person2", "code": 500},
        {"personId": None, "faceIds": ["3"]},
    ],
)
def test_swapped(changes: dict[str, Any]) -> None:
    evidence = verdict(good(**changes))
    assert evidence.kind is Kind.SWAPPED
    assert evidence.remedy
    assert "person2" not in evidence.message


@pytest.mark.parametrize(
    "changes",
    [
        {"deleteCount": 1},
        {"deleteCount": 3},
        {"deleteCount": "2"},
        {"deleteCount": 2.0},
        {"deleteCount": True},
        {"deleteCount": None},
        {"faceIds": [FACES[0]]},
        {"faceIds": [FACES[0], FACES[0]]},
        {"faceIds": [FACES[0], 1244453323565]},
        {"faceIds": [1244453323565.0], "deleteCount": 1},
        {"faceIds": [True], "deleteCount": 1},
        {"faceIds": [None], "deleteCount": 1},
        {"faceIds": [[FACES[0]]], "deleteCount": 1},
        {"faceIds": None, "deleteCount": 0},
        {"faceIds": {}, "deleteCount": 0},
        {"faceIds": FACES[0], "deleteCount": 1},
        {"personId": None},
        {"personId": 1},
        {"code": None},
        {"code": "200"},
        {"code": 200.0},
        {"code": True},
        {"code": 500},
        {"code": 400},
    ],
    ids=repr,
)
def test_nearly_good_is_ambiguous(changes: dict[str, Any]) -> None:
    assert verdict(good(**changes)).kind is Kind.AMBIGUOUS


def test_a_count_that_does_not_fit_is_named() -> None:
    for count in (1, 3, "2", None):
        assert verdict(good(deleteCount=count)).code == "count_mismatch"


@pytest.mark.parametrize("missing", ["code", "personId", "faceIds", "deleteCount"])
def test_a_missing_member_is_ambiguous(missing: str) -> None:
    document = good()
    del document["data"][missing]
    assert verdict(document).kind is Kind.AMBIGUOUS


@pytest.mark.parametrize(
    "document",
    [
        {**good(), "code": "200"},
        {**good(), "code": True},
        {**good(), "code": 200.0},
        {**good(), "code": None},
        {**good(), "code": 500},
        {**good(), "code": 400},
        {**good(), "code": 588},
        {**good(), "code": 596},
        {**good(), "Code": "InternalError"},
        {**good(), "data": None},
        {**good(), "data": []},
        {"code": 200, "msg": "OK"},
        {"msg": "OK", "data": good()["data"]},
        {},
        [],
        [good()],
        None,
        200,
        "OK",
        {"code": 31842550077981745},
        {"Code": 400},
        {"Code": "Forbidden.RAM", "code": 596},
        {"Code": None},
        {"code": "Throttling.User"},
    ],
    ids=repr,
)
def test_other_documents_are_ambiguous(document: Any) -> None:
    assert verdict(document).kind is Kind.AMBIGUOUS


GOOD = json.dumps(good()).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>Bad Gateway</html>",
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b"OK", b"\xff"),
        GOOD.replace(b"OK", b"\xc0\xaf"),
        GOOD.replace(b'"code": 200', b'"code": 500, "code": 200'),
        GOOD.replace(b'"deleteCount": 2', b'"deleteCount": NaN'),
        GOOD.replace(b'"deleteCount": 2', b'"deleteCount": ' + b"2" * 10_000),
        GOOD.replace(b'"OK"', b"[" * 100_000),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("status", [200, 400, 404, 500, 502, 503, 504])
def test_unreadable_bodies_are_ambiguous(body: bytes, status: int) -> None:
    for request in EACH_OPERATION:
        assert judged(request, body, status).kind is Kind.AMBIGUOUS


@each_operation
@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 307, 400, 404, 429, 500, 503])
def test_a_good_body_needs_status_200(request_: Request, status: int) -> None:
    best = {"DeleteFaces": Kind.LISTED, "GetPerson": Kind.SHOWN, "DeletePerson": Kind.REMOVED}
    assert judged(request_, good()).kind is best[request_.operation]
    evidence = judged(request_, good(), status)
    assert (evidence.kind, evidence.code) == (Kind.AMBIGUOUS, "contradictory_answer")


def test_html_and_encoded_answers_are_not_read() -> None:
    assert verdict(good(), content_type="text/html; charset=utf-8").kind is Kind.AMBIGUOUS
    assert verdict(good(), content_encoding="gzip").kind is Kind.AMBIGUOUS
    assert verdict(good(), content_encoding="identity").kind is Kind.LISTED
    assert verdict(good(), content_encoding="").kind is Kind.LISTED


def test_what_cannot_be_read_is_described() -> None:
    assert verdict(b"", 502).message == "HTTP 502 with an empty body."
    assert verdict(b"{", 502).message == "HTTP 502 with not one complete JSON document."
    assert verdict(b"[]", 502).message == "HTTP 502 with JSON, but not an object."


def test_redirect_is_named() -> None:
    for status in (300, 307, 399):
        evidence = verdict(b"", status)
        assert (evidence.kind, evidence.code) == (Kind.AMBIGUOUS, "redirect")
    for status in (299, 400):
        assert verdict(b"", status).code == "unreadable_answer"


@each_operation
@pytest.mark.parametrize("words", [7, None, [], ["m"], {"m": 1}, True, 1.5], ids=repr)
def test_words_that_are_no_text_are_left_out(words: Any, request_: Request) -> None:
    for document in ({"code": 400, "msg": words}, {"Code": "InternalError", "Message": words}):
        assert judged(request_, document).message == ""


# --- The code table, cell by cell -----------------------------------------------------------------

# Written down a second time, from the documentation, so that a slip in the table shows.
REFUSED = {400, 401, 403, 404, 480, 589, 590, 592, 594, 595}
MAYBE_APPLIED = {280, 500, 503, 580, 581, 585, 586, 587, 591}


def test_every_documented_code_is_in_the_table_and_no_other() -> None:
    assert set(SERVICE_CODES) == REFUSED | MAYBE_APPLIED | {588, 596}


def expected_kind(code: int) -> Kind:
    if code in REFUSED:
        return Kind.REFUSED
    if code in MAYBE_APPLIED:
        return Kind.AMBIGUOUS
    return {588: Kind.THROTTLED, 596: Kind.FATAL}[code]


@each_operation
@pytest.mark.parametrize("status", [200, 400, 500, "same"])
@pytest.mark.parametrize("code", SERVICE_CODES)
def test_service_code(code: int, status: int | str, request_: Request) -> None:
    http_status = code if status == "same" else int(status)
    expected = expected_kind(code)
    if request_ is LOOKUP and code == 404 and status not in {400, 500}:
        expected = Kind.NO_PERSON
    data: dict[str, Any]
    for data in ({}, {"data": None}, {"data": {}}, {"data": {"code": code}}):
        document = {"code": code, "msg": "m", "requestId": "r", **data}
        outer = judged(request_, document, http_status)
        assert (outer.kind, outer.code, outer.listed) == (expected, str(code), ())
    inner = judged(request_, {"code": 200, "msg": "m", "data": {"code": code}}, http_status)
    assert (inner.kind, inner.code) == (expected, str(code))
    assert bool(inner.remedy) == (inner.kind is Kind.FATAL)


@each_operation
@pytest.mark.parametrize("code", SERVICE_CODES)
@pytest.mark.parametrize(
    "data", [{"faceIds": [FACES[0]]}, {"deleteCount": 1}, {"code": 200}, {"code": "200"}]
)
def test_an_error_that_also_claims_success_is_ambiguous(
    code: int, data: dict[str, Any], request_: Request
) -> None:
    assert judged(request_, {"code": code, "data": data}).kind is Kind.AMBIGUOUS


@each_operation
def test_a_number_that_is_no_code_is_not_read_as_one(request_: Request) -> None:
    for code in (100, 999):
        for document in ({"code": code}, envelope({"code": code})):
            evidence = judged(request_, document)
            assert (evidence.kind, evidence.code) == (Kind.AMBIGUOUS, str(code))
            assert judged(request_, document, 429).kind is Kind.THROTTLED
    for number in (99, 1000, -404, 0):
        assert judged(request_, {"code": number}).code == "unreadable_answer"
        inner = judged(request_, {"code": 200, "data": {"code": number}})
        assert (inner.kind, inner.code) == (Kind.AMBIGUOUS, "incomplete_answer")


@each_operation
def test_two_different_errors_are_ambiguous(request_: Request) -> None:
    assert judged(request_, {"code": 400, "data": {"code": 500}}).kind is Kind.AMBIGUOUS
    assert judged(request_, {"code": 400, "data": {"code": 404}}).kind is Kind.REFUSED
    assert judged(request_, {"code": 404, "data": {"code": 400}}).kind is Kind.REFUSED


GATEWAY = {
    "Throttling": Kind.THROTTLED,
    "Throttling.User": Kind.THROTTLED,
    "Throttling.Api": Kind.THROTTLED,
    "ServiceUnavailable": Kind.AMBIGUOUS,
    "InternalError": Kind.AMBIGUOUS,
    "SignatureNonceUsed": Kind.AMBIGUOUS,
    "SomethingNew.Entirely": Kind.AMBIGUOUS,
    "SignatureDoesNotMatch": Kind.FATAL,
    "IncompleteSignature": Kind.FATAL,
    "InvalidAccessKeyId.NotFound": Kind.FATAL,
    "InvalidAccessKeyId.Inactive": Kind.FATAL,
    "InvalidSecurityToken.Expired": Kind.FATAL,
    "InvalidSecurityToken.Malformed": Kind.FATAL,
    "InvalidSecurityToken.MismatchWithAccessKey": Kind.FATAL,
    "MissingSecurityToken": Kind.FATAL,
    "InvalidTimeStamp.Expired": Kind.FATAL,
    "InvalidTimeStamp.Format": Kind.FATAL,
    "Forbidden.RAM": Kind.FATAL,
    "Forbidden.RiskControl": Kind.FATAL,
    "NoPermission": Kind.FATAL,
    "InvalidAction.NotFound": Kind.FATAL,
    "InvalidProduct.NotFound": Kind.FATAL,
    "InvalidProtocol.NeedSsl": Kind.FATAL,
}


@each_operation
@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 503])
@pytest.mark.parametrize("code", GATEWAY)
def test_gateway_code(code: str, status: int, request_: Request) -> None:
    evidence = judged(request_, gateway(code), status)
    assert (evidence.kind, evidence.code, evidence.request_id) == (GATEWAY[code], code, "R")
    assert bool(evidence.remedy) == (evidence.kind is Kind.FATAL)


def test_every_gateway_code_of_the_table_is_in_this_test() -> None:
    families = {code.partition(".")[0] for code in GATEWAY} | set(GATEWAY)
    assert set(GATEWAY_CODES) <= families
    assert (
        gateway_meaning("Forbidden.RiskControl").remedy != gateway_meaning("Forbidden.RAM").remedy
    )


def test_which_codes_the_client_may_correct() -> None:
    assert [code for code in GATEWAY if credential_may_be_stale(code)] == [
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId.NotFound",
        "InvalidAccessKeyId.Inactive",
        "InvalidSecurityToken.Expired",
        "InvalidSecurityToken.Malformed",
        "InvalidSecurityToken.MismatchWithAccessKey",
        "MissingSecurityToken",
    ]
    assert [code for code in GATEWAY if clock_is_skewed(code)] == ["InvalidTimeStamp.Expired"]


def test_which_refused_deletions_may_mean_that_nothing_is_there() -> None:
    for unknown_person in ("", "code-404", "empty-data", "empty-list"):
        assert not_found_codes(unknown_person) == {"404"}
    assert not_found_codes("code-400") == {"404", "400"}


def test_which_refused_deletions_may_be_allowed_later() -> None:
    assert sorted(RETRYABLE_CODES) == ["401", "403"]


def test_429_is_a_throttle_unless_the_answer_says_something_else() -> None:
    for body in (b"", b"<html>", b"{}", b'{"code":429}', b'{"Code":"TooManyRequests"}'):
        assert verdict(body, 429).kind is Kind.THROTTLED
    assert verdict(b"<html>slow down", 429, content_type="text/html").kind is Kind.THROTTLED
    assert verdict(b"", 429).code == "http_429"
    assert verdict(gateway("InvalidAccessKeyId.NotFound"), 429).kind is Kind.FATAL
    assert verdict(good(), 429).kind is Kind.AMBIGUOUS
    # 500 may have been applied, whatever status something on the way gave it.
    assert verdict({"code": 500}, 429).kind is Kind.AMBIGUOUS


def test_only_throttles_carry_a_hint() -> None:
    assert verdict(gateway("Throttling.User"), 400, retry_after="7").retry_after_seconds == 7
    assert verdict({"code": 588}, 200, x_acs_retry_after="1500").retry_after_seconds == 1.5
    assert verdict(gateway("InternalError"), 503, retry_after="7").retry_after_seconds is None


# --- What must not leak ---------------------------------------------------------------------------


def test_what_may_pass_for_a_code_or_a_request_id() -> None:
    longest = "x" * 100
    for code in ("X", "Forbidden.RAM", longest):
        assert verdict(gateway(code), 400).code == code
    for code in ("1", ".X", "X-1", "X Y", longest + "x"):
        assert verdict(gateway(code), 400).code == "unknown_code"
    for request_id in ("R", "36D384DA-1.2:3_4", longest):
        assert verdict({"code": 400, "requestId": request_id}).request_id == request_id
    for request_id in ("", "R R", "R\n", longest + "x"):
        assert verdict({"code": 400, "requestId": request_id}).request_id == ""


def test_ids_and_secrets_are_not_in_evidence() -> None:
    echo = (
        "Specified signature is not matched with our calculation. server string to sign is:POST\n"
        "x-acs-security-token:CAISsecretToken\n/green/sface/face/delete"
    )
    evidence = verdict(gateway("SignatureDoesNotMatch", echo), 400)
    assert "CAIS" not in repr(evidence)
    assert evidence.message.endswith("string to sign is: <redacted>")
    evidence = verdict({"code": 404, "msg": f"face {FACES[0]} of {PERSON} is unknown"})
    assert evidence.message == "face <face> of <person> is unknown"
    for code in (PERSON, FACES[0], "a b", "x" * 200):
        assert verdict(gateway(code), 400).code == "unknown_code"
    assert verdict({"code": int(FACES[0])}).code == "unreadable_answer"
    assert verdict({"code": 404, "requestId": PERSON}).request_id == ""
    assert verdict({"code": 404, "requestId": "\ud800"}).request_id == ""
    assert verdict({"code": 404}, x_acs_request_id="H-1").request_id == "H-1"
    for code in (PERSON, FACES[1]):
        assert judged(LOOKUP, gateway(code), 400).code == "unknown_code"


@each_operation
def test_nor_are_ids_that_only_the_answer_speaks_of(request_: Request) -> None:
    document = {"code": 500, "requestId": "777", "msg": "777 or 42, x y; 7 and 8 of 99 stay"}
    data = {"personId": 99, "faceIds": ["777", 42, "x y", None, ""]}
    evidence = judged(request_, {**document, "data": {**data}})
    kept = f"{evidence.code} {evidence.message} {evidence.request_id}"
    assert not {"777", "42", "99"} & set(kept.replace(",", "").split())
    if request_ is not DELETION:
        assert evidence.message.endswith("<face> or <face>, <face>; 7 and 8 of <person> stay")


# --- Anything at all ------------------------------------------------------------------------------


def independently_listed(body: bytes, status: int) -> bool:
    """T1 again, written from its definition."""
    pairs_seen: list[bool] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs_seen.append(len({key for key, _ in pairs}) == len(pairs))
        return dict(pairs)

    try:
        document = json.loads(body.decode(), object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return False
    if status != 200 or not isinstance(document, dict) or not all(pairs_seen):
        return False
    data = document.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("faceIds"), list):
        return False
    exact = [document.get("code"), data.get("code"), data.get("deleteCount")]
    if any(type(number) is not int for number in exact):
        return False
    faces = [str(face) if type(face) is int else face for face in data["faceIds"]]
    return (
        exact == [200, 200, len(faces)]
        and data.get("personId") == PERSON
        and all(isinstance(face, str) and face in FACES for face in faces)
        and len(set(faces)) == len(faces)
    )


scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([200, 200.0, "200", 0, 1, 2, 400, 500, 588, 596, int(FACES[0])])
    | st.sampled_from([PERSON, "person2", *FACES, "Throttling", "InternalError", "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["code", "Code", "data", "personId", "faceIds", "deleteCount", "msg", "requestId"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
near_data = st.fixed_dictionaries(
    {},
    optional={
        "code": st.just(200) | scalars,
        "personId": st.just(PERSON) | scalars,
        "faceIds": st.lists(st.sampled_from([*FACES, int(FACES[0])]) | scalars, max_size=3),
        "deleteCount": st.integers(0, 3) | scalars,
    },
)
near_documents = st.fixed_dictionaries(
    {}, optional={"code": st.just(200) | scalars, "data": near_data | values, "msg": values}
)
nearly_good = st.builds(
    lambda faces, off, person, code: good(
        faceIds=faces, deleteCount=len(faces) + off, personId=person, code=code
    ),
    st.lists(st.sampled_from([*FACES, int(FACES[0])]), max_size=3),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([PERSON, PERSON, "person2", None]),
    st.sampled_from([200, 200, 200, True, 400]),
)
bodies = st.binary(max_size=60) | (values | near_documents | nearly_good).map(
    lambda v: json.dumps(v).encode()
)


@unhurried
@given(bodies, st.sampled_from([200, 200, 200, 204, 302, 400, 404, 429, 500, 503]))
@example(GOOD, 200)
@example(b'{"code":200,"data":{"code":200,"personId":"person1","faceIds":[],"deleteCount":0}}', 200)
def test_judge_never_raises_and_lists_only_by_the_definition(body: bytes, status: int) -> None:
    evidence = judge(
        DELETION, reply(body, status), retry_after_cap_seconds=300, unknown_person="empty-data"
    )
    listed = independently_listed(body, status)
    assert (evidence.kind is Kind.LISTED) == (listed and b'"Code"' not in body)
    assert set(evidence.listed) <= set(FACES)
    assert len(evidence.message) <= 300
    evidence.message.encode()


@unhurried
@given(st.dictionaries(st.sampled_from(["retry-after", "x-acs-retry-after", "date"]), st.text()))
def test_judge_never_raises_over_headers(headers: dict[str, str]) -> None:
    evidence = judge(
        DELETION, Reply(429, headers, b"", 1, 2), retry_after_cap_seconds=300, unknown_person=""
    )
    hint = evidence.retry_after_seconds
    assert hint is None or 0 <= hint <= 300
