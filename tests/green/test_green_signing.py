import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from worker.green.interface import Credential, Unsigned
from worker.green.operations import DELETE_FACES, delete_faces_body
from worker.green.signing import (
    RoaSigner,
    V3Signer,
    content_md5,
    roa_signature,
    roa_string_to_sign,
    signer_for,
    v3_canonical_request,
    v3_signature,
    v3_string_to_sign,
)

Vector = dict[str, Any]

VECTORS: list[Vector] = json.loads(
    (Path(__file__).parent / "signature_vectors.json").read_text(encoding="utf-8")
)["vectors"]
NOON_US = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z, the vectors' frozen clock
ROA = [vector for vector in VECTORS if vector["scheme"] == "ROA-HMAC-SHA1"]
V3 = [vector for vector in VECTORS if vector["scheme"] == "ACS3-HMAC-SHA256"]


def named(vectors: list[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


def lowered(vector: Vector) -> dict[str, str]:
    return {name.lower(): value for name, value in vector["expected"]["headers"].items()}


def received_query(vector: Vector) -> list[tuple[str, str]]:
    split = urlsplit(vector["expected"]["request_target"])
    return parse_qsl(split.query, keep_blank_values=True)


def received_path(vector: Vector) -> str:
    return unquote(urlsplit(vector["expected"]["request_target"]).path)


def credential_of(vector: Vector) -> Credential:
    given = vector["input"]
    return Credential(
        given["access_key_id"], given["access_key_secret"], given["security_token"] or ""
    )


def test_all_official_vectors_are_here() -> None:
    assert (len(ROA), len(V3)) == (18, 11)


@named(ROA)
def test_roa_vector(vector: Vector) -> None:
    given, expected = vector["input"], vector["expected"]
    text = roa_string_to_sign(
        given["method"],
        received_path(vector),
        received_query(vector),
        lowered(vector),
        empty_value_sign=not vector["name"].startswith("tea-"),
    )
    assert text == expected["string_to_sign"]
    signature = roa_signature(text, given["access_key_secret"])
    assert f"acs {given['access_key_id']}:{signature}" == expected["authorization"]
    sent_md5 = lowered(vector).get("content-md5")
    assert sent_md5 in (None, content_md5((given["body"] or "").encode()))


@named(V3)
def test_v3_vector(vector: Vector) -> None:
    given, expected = vector["input"], vector["expected"]
    found = re.search(r"SignedHeaders=([^,]*),", expected["authorization"])
    assert found
    canonical = v3_canonical_request(
        given["method"],
        received_path(vector),
        received_query(vector),
        lowered(vector),
        found[1].split(";"),
        hashlib.sha256((given["body"] or "").encode()).hexdigest(),
    )
    assert canonical == expected["canonical_request"]
    text = v3_string_to_sign(canonical)
    assert text == expected["string_to_sign"]
    assert expected["authorization"].endswith(
        f"Signature={v3_signature(text, given['access_key_secret'])}"
    )


def signed_headers(vector: Vector) -> dict[str, str]:
    given = vector["input"]
    signer = signer_for("roa" if vector in ROA else "v3")
    unsigned = Unsigned(
        DELETE_FACES,
        given["host"],
        tuple(given["query"].items()),
        delete_faces_body("person1", ["1244453323565", "1345345466455"]),
        given["nonce"],
    )
    return signer.sign(unsigned, credential_of(vector), NOON_US)


@named([vector for vector in VECTORS if vector["name"].startswith("minimal-v3")])
def test_v3_signer_sends_exactly_the_minimal_headers_and_accept(vector: Vector) -> None:
    assert signed_headers(vector) == {
        **vector["expected"]["headers"],
        "Accept": "application/json",
    }


@named([vector for vector in VECTORS if vector["name"] == "minimal-roa-action-sts"])
def test_roa_signer_sends_exactly_the_minimal_headers(vector: Vector) -> None:
    assert signed_headers(vector) == vector["expected"]["headers"]


@named([vector for vector in VECTORS if vector["name"].startswith("minimal-roa-doc")])
def test_roa_signer_adds_nothing_but_the_action_to_the_documented_headers(vector: Vector) -> None:
    headers = signed_headers(vector)
    assert headers.pop("x-acs-action") == "DeleteFaces"
    assert headers.pop("Authorization") != vector["expected"]["headers"].pop("Authorization")
    assert headers == vector["expected"]["headers"]


def test_settings_choose_the_signer() -> None:
    assert isinstance(signer_for("roa"), RoaSigner)
    assert isinstance(signer_for("v3"), V3Signer)


def test_a_signed_header_that_is_missing_cannot_match() -> None:
    kept = v3_canonical_request("POST", "/", [], {"host": "h"}, ["host"], "0")
    missing = v3_canonical_request("POST", "/", [], {"host": "h"}, ["host", "x-acs-date"], "0")
    assert kept != missing
