from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from worker.errors import UsageRefused
from worker.sandbox.arrival import Arrival, arrival
from worker.sandbox.facts import Facts
from worker.sandbox.gateway import Gateway
from worker.sandbox.keys import SANDBOX_KEY, AccessKey, Keyring, key_from_environment
from worker.sandbox.nonces import Nonces

VECTOR_FILE = Path(__file__).parent.parent / "green" / "signature_vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(VECTOR_FILE.read_text("utf-8"))["vectors"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}
DELETIONS = [vector for vector in VECTORS if vector["input"]["path"] != "/"]


def received(vector: dict[str, Any], **changes: Any) -> Arrival:
    given, expected = vector["input"], vector["expected"]
    headers = {"host": given["host"], **{k.lower(): v for k, v in expected["headers"].items()}}
    target = changes.pop("target", expected["request_target"])
    body = changes.pop("body", (given["body"] or "").encode())
    headers.update(changes)
    return arrival(given["method"], target, headers.items(), body, 0.0)


def key_of(vector: dict[str, Any]) -> AccessKey:
    given = vector["input"]
    return AccessKey(
        given["access_key_id"], given["access_key_secret"], given["security_token"] or ""
    )


def seconds_of(vector: dict[str, Any]) -> float:
    date = vector["input"]["date"]
    if date.endswith("Z"):
        return datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    return parsedate_to_datetime(date).timestamp()


def gateway(*keys: AccessKey, **facts: Any) -> Gateway:
    return Gateway(Keyring(keys), Nonces(), Facts(**facts))


def verdict(vector: dict[str, Any], request: Arrival, **facts: Any) -> str:
    refusal = gateway(key_of(vector), **facts).authenticate(request, seconds_of(vector))
    return refusal.code if refusal else "accepted"


def test_all_the_vectors_are_here() -> None:
    assert len(VECTORS) == 29


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_what_the_official_packages_sign_is_accepted(vector: dict[str, Any]) -> None:
    assert verdict(vector, received(vector)) == "accepted"


@pytest.mark.parametrize("vector", DELETIONS, ids=lambda vector: vector["name"])
def test_the_parameters_of_a_deletion_are_accepted(vector: dict[str, Any]) -> None:
    assert gateway(key_of(vector)).check_parameters(received(vector)) is None


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_another_secret_is_refused_and_the_string_to_sign_is_echoed(vector: dict[str, Any]) -> None:
    forger = replace(key_of(vector), access_key_secret="guessed")
    refusal = gateway(forger).authenticate(received(vector), seconds_of(vector))
    assert refusal is not None
    assert refusal.code == "SignatureDoesNotMatch"
    assert "server string to sign is:" in refusal.detail


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_a_key_nobody_issued_is_not_found(vector: dict[str, Any]) -> None:
    refusal = gateway(SANDBOX_KEY).authenticate(received(vector), seconds_of(vector))
    assert refusal is not None
    assert (refusal.code, refusal.status) == ("InvalidAccessKeyId.NotFound", 404)


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_date_sixteen_minutes_off_has_expired(vector: dict[str, Any], minutes: int) -> None:
    refusal = gateway(key_of(vector)).authenticate(
        received(vector), seconds_of(vector) + minutes * 60
    )
    assert refusal is not None
    assert refusal.code == "InvalidTimeStamp.Expired"


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_an_added_query_parameter_breaks_the_signature(vector: dict[str, Any]) -> None:
    target = vector["expected"]["request_target"]
    target += ("&" if "?" in target else "?") + "extra=1"
    assert verdict(vector, received(vector, target=target)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("vector", DELETIONS, ids=lambda vector: vector["name"])
def test_another_body_breaks_the_signature_where_it_is_protected(vector: dict[str, Any]) -> None:
    request = received(vector, body=b'{"personId":"other","faceIds":["1"]}')
    protected = {"content-md5", "x-acs-content-sha256"} & set(request.headers)
    assert verdict(vector, request) == ("SignatureDoesNotMatch" if protected else "accepted")


def test_a_body_may_not_be_smuggled_in_with_its_own_digest() -> None:
    vector, body = BY_NAME["minimal-v3"], b"{}"
    digest = hashlib.sha256(body).hexdigest()
    request = received(vector, body=body, **{"x-acs-content-sha256": digest})
    assert verdict(vector, request) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_a_nonce_is_good_once(vector: dict[str, Any]) -> None:
    service, request = gateway(key_of(vector)), received(vector)
    now = seconds_of(vector)
    assert service.authenticate(request, now) is None
    again = service.authenticate(request, now)
    if "x-acs-signature-nonce" in request.headers:
        assert again is not None
        assert again.code == "SignatureNonceUsed"
    else:  # the legacy client sends none
        assert again is None


def test_a_bad_signature_does_not_use_up_the_nonce() -> None:
    vector = BY_NAME["minimal-roa-doc"]
    service = gateway(key_of(vector))
    forged = received(vector, body=b"forged")
    assert service.authenticate(forged, seconds_of(vector)) is not None
    assert service.authenticate(received(vector), seconds_of(vector)) is None


def test_nonces_are_forgotten_when_their_date_can_no_longer_be_good() -> None:
    nonces = Nonces()
    assert nonces.use("key", "n", 0.0)
    assert not nonces.use("key", "n", 1800.0)
    assert nonces.use("other key", "n", 1800.0)
    assert nonces.use("key", "n", 1800.1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda key: replace(key, security_token=""), "InvalidSecurityToken.MismatchWithAccessKey"),
        (
            lambda key: replace(key, security_token="x"),
            "InvalidSecurityToken.MismatchWithAccessKey",
        ),
        (lambda key: replace(key, state="expired"), "InvalidSecurityToken.Expired"),
        (lambda key: replace(key, state="inactive"), "InvalidAccessKeyId.Inactive"),
    ],
)
@pytest.mark.parametrize("name", ["legacy-json-sts", "minimal-v3-clientinfo-sts"])
def test_a_token_belongs_to_its_key(
    name: str, change: Callable[[AccessKey], AccessKey], code: str
) -> None:
    vector = BY_NAME[name]
    refusal = gateway(change(key_of(vector))).authenticate(received(vector), seconds_of(vector))
    assert refusal is not None
    assert refusal.code == code


def test_a_key_issued_with_a_token_needs_it() -> None:
    vector = BY_NAME["minimal-roa-doc"]
    service = gateway(replace(key_of(vector), security_token="token"))
    refusal = service.authenticate(received(vector), seconds_of(vector))
    assert refusal is not None
    assert refusal.code == "MissingSecurityToken"


@pytest.mark.parametrize(
    "authorization",
    ["", "acs", "acs key", "Bearer x", "ACS3-HMAC-SHA256 Credential=x", "acs a:b c"],
)
def test_an_authorization_that_cannot_be_read_is_incomplete(authorization: str) -> None:
    vector = BY_NAME["minimal-roa-doc"]
    request = received(vector, authorization=authorization)
    assert verdict(vector, request) == "IncompleteSignature"
    code = "MissingAuthorization"
    assert verdict(vector, request, missing_authorization=code) == code


@pytest.mark.parametrize(
    ("name", "header"), [("minimal-roa-doc", "date"), ("minimal-v3", "x-acs-date")]
)
@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23 12:00"])
def test_a_date_that_cannot_be_read_is_a_format_error(name: str, header: str, text: str) -> None:
    vector = BY_NAME[name]
    assert verdict(vector, received(vector, **{header: text})) == "InvalidTimeStamp.Format"


def test_an_unsigned_header_of_the_service_is_refused_by_v3_unless_told_otherwise() -> None:
    vector = BY_NAME["minimal-v3"]
    request = received(vector, **{"x-acs-extra": "1"})
    assert verdict(vector, request) == "IncompleteSignature"
    assert verdict(vector, request, signed_headers="any") == "accepted"


@pytest.mark.parametrize(
    ("name", "facts", "code"),
    [
        ("minimal-v3", {"v3": "refused"}, "IncompleteSignature"),
        ("legacy-doc-sample", {"nonce": "required"}, "MissingSignatureNonce"),
        ("tea-v2-body", {"content_md5": "required"}, "IncompleteSignature"),
        ("legacy-empty-clientinfo", {"empty_value": "with-sign"}, "accepted"),
        ("legacy-empty-clientinfo", {"empty_value": "without-sign"}, "SignatureDoesNotMatch"),
        ("tea-v2-empty-clientinfo", {"empty_value": "without-sign"}, "accepted"),
        ("tea-v2-empty-clientinfo", {"empty_value": "with-sign"}, "SignatureDoesNotMatch"),
    ],
)
def test_switches_of_the_signature(name: str, facts: dict[str, Any], code: str) -> None:
    vector = BY_NAME[name]
    assert verdict(vector, received(vector), **facts) == code


@pytest.mark.parametrize(
    ("name", "facts", "code"),
    [
        ("legacy-doc-sample", {"content_type": "json"}, "InvalidContentType"),
        ("minimal-roa-doc", {"content_type": "json"}, None),
        (
            "minimal-roa-doc-clientinfo-lower",
            {"client_info_key": "ClientInfo"},
            "InvalidClientInfo",
        ),
        ("minimal-roa-doc-clientinfo-lower", {"client_info_key": "clientInfo"}, None),
        ("minimal-roa-doc-clientinfo", {"client_info_key": "clientInfo"}, "InvalidClientInfo"),
        ("official-doc-v3-runinstances", {}, "InvalidAction.NotFound"),
    ],
)
def test_switches_of_the_parameters(name: str, facts: dict[str, Any], code: str | None) -> None:
    vector = BY_NAME[name]
    refusal = gateway(key_of(vector), **facts).check_parameters(received(vector))
    assert (refusal.code if refusal else None) == code


def test_a_wrong_digest_of_the_body_has_the_code_it_was_given() -> None:
    vector = BY_NAME["minimal-roa-doc"]
    request = received(vector, body=b"{}")
    assert (
        verdict(vector, request, bad_content_md5="ContentMD5NotMatched") == "ContentMD5NotMatched"
    )


def test_keys_come_from_the_environment_or_are_the_documented_pair() -> None:
    assert key_from_environment({}) is SANDBOX_KEY
    pair = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "a", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b"}
    assert key_from_environment(pair) == AccessKey("a", "b")
    token = {"ALIBABA_CLOUD_SECURITY_TOKEN": "t"}
    assert key_from_environment(pair | token) == AccessKey("a", "b", "t")
    assert key_from_environment(token) is SANDBOX_KEY


@pytest.mark.parametrize("half", ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"])
def test_half_a_pair_is_refused(half: str) -> None:
    with pytest.raises(UsageRefused, match=f"has {half} but no "):
        key_from_environment({half: "x"})


def test_secrets_are_not_in_the_repr() -> None:
    assert "b-secret" not in repr(AccessKey("a", "b-secret", "b-secret-token"))
